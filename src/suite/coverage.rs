//! Coverage: the rules and the outcomes of their conditions that test cases have reached.

use std::collections::BTreeMap;

use crate::gate::{AdmittedRequest, Gate, RequestDecision};
use crate::policy::{Condition, ConditionTrace, Policy, Rule};

/// The coverage of a policy file by its cases.
#[derive(Debug)]
pub struct Coverage {
    policies: BTreeMap<String, Vec<Reached>>,
}

/// The coverage of a rule.
#[derive(Debug)]
struct Reached {
    label: String,
    decided: bool,
    /// The outcomes of the rule's own condition, then of those of its targets, in order.
    conditions: Vec<Outcomes>,
}

#[derive(Debug)]
struct Outcomes {
    source: String,
    is_true: bool,
    is_false: bool,
}

/// A part of a rule that no case has reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The name of the policy.
    pub policy: String,
    /// The label of the rule.
    pub rule: String,
    /// The event that never happened: `decided`, or an outcome of a condition.
    pub never: String,
}

impl Coverage {
    /// Creates the coverage of a gate before any case has run.
    pub fn new(gate: &Gate) -> Self {
        let reached = |policy: &Policy| {
            let rules = policy.rules.iter().enumerate();
            rules.map(|(index, rule)| Reached::new(index, rule)).collect()
        };
        let policies = gate.policies.iter();
        Self { policies: policies.map(|p| (p.name.clone(), reached(p))).collect() }
    }

    /// Adds the coverage of a case.
    pub fn add(&mut self, admitted: &AdmittedRequest, judgement: &RequestDecision<'_, '_>) {
        let Some(rules) = self.policies.get_mut(&admitted.policy().name) else { return };
        for judged in &judgement.calls {
            let Ok(subject) = admitted.subject(&judged.call) else { continue };
            let facts = admitted.facts(&subject);
            for (rule, trace) in rules.iter_mut().zip(judged.evaluation.explain(&facts)) {
                rule.decided |= trace.decided;
                let whens =
                    trace.targets.iter().flatten().filter_map(|target| target.when.as_ref());
                for (seen, ConditionTrace { outcome, .. }) in
                    rule.conditions.iter_mut().zip(trace.cel.iter().chain(whens))
                {
                    seen.is_true |= *outcome == Some(Ok(true));
                    seen.is_false |= *outcome == Some(Ok(false));
                }
            }
        }
    }

    /// Returns the number of points reached and the number of all points. A rule has a point for
    /// deciding, and two points for each condition: true and false.
    pub fn reached_of(&self) -> (usize, usize) {
        let points = self.policies.values().flatten().flat_map(|rule| {
            let conditions = rule.conditions.iter().flat_map(|seen| [seen.is_true, seen.is_false]);
            conditions.chain([rule.decided])
        });
        points.fold((0, 0), |(reached, all), point| (reached + usize::from(point), all + 1))
    }

    /// Returns the parts that no case has reached, in the order of the policies' names and rules.
    pub fn gaps(&self) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for (policy, rules) in &self.policies {
            for rule in rules {
                let mut gap = |never: String| {
                    gaps.push(Gap { policy: policy.clone(), rule: rule.label.clone(), never });
                };
                if !rule.decided {
                    gap("decided".to_owned());
                }
                for Outcomes { source, is_true, is_false } in &rule.conditions {
                    if !is_true {
                        gap(format!("true: {source}"));
                    }
                    if !is_false {
                        gap(format!("false: {source}"));
                    }
                }
            }
        }
        gaps
    }
}

impl Reached {
    fn new(index: usize, rule: &Rule) -> Self {
        let outcomes = |condition: &Condition| Outcomes {
            source: condition.source().to_owned(),
            is_true: false,
            is_false: false,
        };
        let whens = rule.targets.iter().flatten().filter_map(|target| target.when.as_deref());
        let conditions = rule.cel.as_deref().into_iter().chain(whens).map(outcomes).collect();
        Self { label: rule.label(index), decided: false, conditions }
    }
}
