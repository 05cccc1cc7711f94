//! The decision.

use std::fmt;

use super::condition::Outcome;
use super::{Action, ConditionErrors, Policy, RequiredClaim, Rule, ScopeSet, Subject, Target};
use crate::claims::Claims;
use crate::mcp::{Problem, ToolCall};

/// Proof that a call was decided and may go on. Only a [`Decision`] gives one,
/// and only [`Policy::evaluate`] makes decisions.
#[derive(Debug)]
pub struct Permit {
    _given_by_decision: (),
}

/// What was decided, and why.
#[derive(Debug)]
pub struct Decision<'p> {
    verdict: Verdict<'p>,
    reason: Reason,
    rule: Option<usize>,
}

/// Whether a call may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict<'p> {
    Allow,
    Deny { remedy: Option<&'p [String]> },
}

impl<'p> Decision<'p> {
    /// The permit to go on; or, if the call is denied, the scopes with which it
    /// would be allowed. `Err(None)`: no scope can change it.
    pub fn permit(&self) -> Result<Permit, Option<&'p [String]>> {
        match self.verdict {
            Verdict::Allow => Ok(Permit { _given_by_decision: () }),
            Verdict::Deny { remedy } => Err(remedy),
        }
    }

    /// In one word.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The number of the rule that decided, from 0; `None` if it was the
    /// default action.
    pub fn rule(&self) -> Option<usize> {
        self.rule
    }
}

/// Why a call was allowed or denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// An Allow rule matched.
    AllowRule,
    /// No rule matched, and the default action is Allow.
    AllowDefault,
    /// More scopes would turn this denial into an allow.
    InsufficientScope,
    /// A Deny rule matched.
    DenyRule,
    /// The condition of a Deny rule could not be evaluated.
    ConditionError,
    /// No rule matched, and the default action is Deny.
    DenyDefault,
}

impl Reason {
    /// The word for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllowRule => "allow_rule",
            Self::AllowDefault => "allow_default",
            Self::InsufficientScope => "insufficient_scope",
            Self::DenyRule => "deny_rule",
            Self::ConditionError => "condition_error",
            Self::DenyDefault => "deny_default",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A decision with what was found on the way to it.
#[derive(Debug)]
pub struct Evaluation<'p> {
    /// What was decided.
    pub decision: Decision<'p>,
    policy: &'p Policy,
    claims: Option<&'p Claims>,
    granted: ScopeSet,
    looks: Vec<Look<'p>>,
}

/// What is known of a rule whose backend, tool and claims match the call.
#[derive(Debug)]
struct Look<'p> {
    policy: &'p Policy,
    index: usize,
    rule: &'p Rule,
    /// Whether the rule's scopes are granted.
    granted: bool,
    /// What the rule's conditions say, once they were asked.
    truth: Option<Truth>,
    /// What each condition said, by the number of its target.
    outcomes: Vec<(usize, Outcome)>,
}

/// What the conditions of a rule say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Truth {
    True,
    False,
    Failed,
}

impl Look<'_> {
    /// Asks the conditions of the targets that select the call, in order, until
    /// one is true. A target without a condition is true.
    fn ask(&mut self, subject: &Subject<'_>, call: &ToolCall<'_>) -> Result<Truth, Problem> {
        if let Some(truth) = self.truth {
            return Ok(truth);
        }
        let mut truth = if self.rule.targets.is_some() { Truth::False } else { Truth::True };
        for (number, target) in selecting(self.rule, subject) {
            let Some(when) = &target.when else {
                truth = Truth::True;
                break;
            };
            let outcome = when.condition.evaluate(call)?;
            let failed = matches!(outcome, Outcome::Failed(_));
            let holds = matches!(outcome, Outcome::True);
            self.outcomes.push((number, outcome));
            if holds {
                truth = Truth::True;
                break;
            }
            if failed {
                truth = Truth::Failed;
            }
        }
        self.truth = Some(truth);
        Ok(truth)
    }

    /// Whether the rule takes the call once its scopes are granted.
    fn takes(&self) -> bool {
        match self.truth {
            Some(Truth::True) => true,
            // It must not open what a Deny rule would close, unless the policy
            // says so.
            Some(Truth::Failed) => {
                self.rule.action == Action::Deny
                    && self.policy.condition_errors == ConditionErrors::Deny
            }
            Some(Truth::False) => false,
            // Not asked: the direction that opens nothing.
            None => self.rule.action == Action::Deny,
        }
    }
}

/// The targets of a rule that name the call's backend and tool.
fn selecting<'r>(
    rule: &'r Rule,
    subject: &Subject<'_>,
) -> impl Iterator<Item = (usize, &'r Target)> {
    let subject = *subject;
    rule.targets.iter().flatten().enumerate().filter(move |(_, target)| target.selects(&subject))
}

impl Policy {
    /// Decides a call. It is an error if what a condition reads of the
    /// arguments is ambiguous: then nothing is decided, and the call must not
    /// go on.
    pub fn evaluate<'p>(
        &'p self,
        call: &ToolCall<'_>,
        claims: Option<&'p Claims>,
    ) -> Result<Evaluation<'p>, Problem> {
        let subject = self.backend.subject(call);
        let granted = self.scopes.granted(claims.into_iter().flat_map(Claims::scopes));
        let none = ScopeSet::default();
        let mut looks = Vec::new();
        let mut decided = None;
        for (index, rule) in self.rules.iter().enumerate() {
            if rule.targets.is_some() && selecting(rule, &subject).next().is_none() {
                continue;
            }
            if !rule.claims.iter().all(|claim| claim.holds(claims)) {
                continue;
            }
            let mut look = Look {
                policy: self,
                index,
                rule,
                granted: rule.scopes.set.is_within(&granted, &none),
                truth: None,
                outcomes: Vec::new(),
            };
            // Conditions cost more than scopes: ask them only if they matter.
            let takes = look.granted && {
                look.ask(&subject, call)?;
                look.takes()
            };
            let truth = look.truth;
            looks.push(look);
            if takes {
                decided = Some((index, rule.action, truth));
                break;
            }
        }
        let (rule, action, reason) = match decided {
            Some((index, Action::Allow, _)) => (Some(index), Action::Allow, Reason::AllowRule),
            Some((index, Action::Deny, Some(Truth::Failed))) => {
                (Some(index), Action::Deny, Reason::ConditionError)
            }
            Some((index, Action::Deny, _)) => (Some(index), Action::Deny, Reason::DenyRule),
            None if self.default_action == Action::Allow => {
                (None, Action::Allow, Reason::AllowDefault)
            }
            None => (None, Action::Deny, Reason::DenyDefault),
        };
        let decision = match action {
            Action::Allow => Decision { verdict: Verdict::Allow, reason, rule },
            Action::Deny => {
                let remedy = challenge(&mut looks, &granted, &subject, call)?;
                let reason = if remedy.is_some() { Reason::InsufficientScope } else { reason };
                Decision { verdict: Verdict::Deny { remedy }, reason, rule }
            }
        };
        Ok(Evaluation { decision, policy: self, claims, granted, looks })
    }
}

/// The scopes that would turn a denial into an allow. The candidates are the
/// Allow rules that take the call but for their scopes; those of them whose
/// scopes, once granted, make an Allow rule the first to take the call, compete:
/// the fewest scopes win, the first among equals.
///
/// All of the rule's scopes, those that are granted already too: a client that
/// gets a token with just these can make the call.
///
/// Granting scopes makes more rules match, never fewer. So the rule that denied
/// still would, and only rules before it can be candidates: those in `looks`.
fn challenge<'p>(
    looks: &mut [Look<'p>],
    granted: &ScopeSet,
    subject: &Subject<'_>,
    call: &ToolCall<'_>,
) -> Result<Option<&'p [String]>, Problem> {
    for look in looks.iter_mut() {
        look.ask(subject, call)?;
    }
    let looks = &*looks;
    let decider = |more: &ScopeSet| {
        looks.iter().find(|look| look.takes() && look.rule.scopes.set.is_within(granted, more))
    };
    let best = looks
        .iter()
        .filter(|look| look.rule.action == Action::Allow && !look.granted && look.takes())
        .map(|look| &look.rule.scopes)
        .filter(|scopes| {
            decider(&scopes.granted).is_some_and(|look| look.rule.action == Action::Allow)
        })
        .min_by_key(|scopes| scopes.names.len());
    Ok(best.map(|scopes| scopes.names.as_slice()))
}

/// What was found of one rule that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleTrace<'p> {
    /// Its name, or its place in the list.
    pub label: String,
    /// What it does.
    pub action: Action,
    /// Whether it decided.
    pub decided: bool,
    /// Whether it has targets, and what was found of each.
    pub targets: Option<Vec<TargetTrace<'p>>>,
    /// The claims that it requires, and whether they hold.
    pub claims: Vec<(&'p RequiredClaim, bool)>,
    /// The scopes that it requires.
    pub scopes: &'p [String],
    /// Those of them that are not granted.
    pub missing_scopes: Vec<&'p str>,
}

/// What was found of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetTrace<'p> {
    /// As written in the rule.
    pub backend: Option<&'p str>,
    /// As written in the rule.
    pub tool: &'p str,
    /// Whether backend and tool are the call's.
    pub selected: bool,
    /// The condition.
    pub when: Option<&'p str>,
    /// What it said: true, false, or why it has no value; `None` if it was not
    /// asked. May repeat arguments.
    pub outcome: Option<Result<bool, String>>,
}

impl<'p> Evaluation<'p> {
    /// What people call the rule that decided.
    pub fn rule_label(&self) -> Option<String> {
        let index = self.decision.rule?;
        self.policy.rules.get(index).map(|rule| rule.label(index))
    }

    /// What the policy takes a call for.
    pub fn subject<'c>(&'c self, call: &'c ToolCall<'_>) -> Subject<'c> {
        self.policy.backend.subject(call)
    }

    /// The rules that were looked at, in order: all up to the one that decided.
    pub fn explain(&self, call: &ToolCall<'_>) -> Vec<RuleTrace<'p>> {
        let subject = self.policy.backend.subject(call);
        let end = self.decision.rule.map_or(self.policy.rules.len(), |index| index + 1);
        self.policy
            .rules
            .iter()
            .take(end)
            .enumerate()
            .map(|(index, rule)| {
                let look = self.looks.iter().find(|look| look.index == index);
                RuleTrace {
                    label: rule.label(index),
                    action: rule.action,
                    decided: self.decision.rule == Some(index),
                    targets: rule.targets.as_ref().map(|targets| {
                        targets
                            .iter()
                            .enumerate()
                            .map(|(number, target)| target_trace(target, number, &subject, look))
                            .collect()
                    }),
                    claims: rule
                        .claims
                        .iter()
                        .map(|claim| (claim, claim.holds(self.claims)))
                        .collect(),
                    scopes: rule.scopes.names(),
                    missing_scopes: self.missing(rule),
                }
            })
            .collect()
    }

    fn missing(&self, rule: &'p Rule) -> Vec<&'p str> {
        let missing = |name: &&String| !self.policy.scopes.is_in(name, &self.granted);
        rule.scopes.names.iter().filter(missing).map(String::as_str).collect()
    }
}

fn target_trace<'p>(
    target: &'p Target,
    number: usize,
    subject: &Subject<'_>,
    look: Option<&Look<'_>>,
) -> TargetTrace<'p> {
    let outcome = look
        .and_then(|look| look.outcomes.iter().find(|(asked, _)| *asked == number))
        .map(|(_, outcome)| match outcome {
            Outcome::True => Ok(true),
            Outcome::False => Ok(false),
            Outcome::Failed(failure) => Err(failure.to_string()),
        });
    TargetTrace {
        backend: target.backend.as_deref(),
        tool: target.tool.as_str(),
        selected: target.selects(subject),
        when: target.when.as_ref().map(|when| when.source.as_str()),
        outcome,
    }
}
