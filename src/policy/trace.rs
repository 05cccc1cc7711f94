//! The trace of an evaluation: explains each rule's part in a decision to people.

use super::condition::Outcome;
use super::decide::{Evaluation, Reason};
use super::search::{Candidate, ConditionRef, suffices};
use super::{Action, Condition, EvalContext, OutcomeSet, RequiredClaim, Rule, Target};
use crate::mcp::TargetKind;

/// The trace of one rule.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleTrace<'p> {
    /// The name of the rule, or its place in the list.
    pub label: String,
    /// The effect of the rule.
    pub action: Action,
    /// True if this rule decided the call.
    pub decided: bool,
    /// The trace of each target. `None` if the rule has no targets, and so matches any.
    pub targets: Option<Vec<TargetTrace<'p>>>,
    /// The trace of the rule's own condition, if the rule has one.
    pub cel: Option<ConditionTrace<'p>>,
    /// The required claims, each with the result of its evaluation.
    pub claims: Vec<(&'p RequiredClaim, OutcomeSet)>,
    /// The required scopes.
    pub scopes: &'p [String],
    /// The required scopes that are not granted.
    pub missing_scopes: Vec<&'p str>,
}

/// The trace of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetTrace<'p> {
    /// The backend, as the rule writes it.
    pub backend: Option<&'p str>,
    /// The kind of target.
    pub feature: TargetKind,
    /// The name or URI, as the rule writes it.
    pub name: &'p str,
    /// True if backend and name match the call's target closely enough for the rule to apply.
    pub selected: bool,
    /// False if the target names a backend and the call's backend is unknown.
    pub is_backend_known: bool,
    /// The trace of the target's condition, if the target has one.
    pub when: Option<ConditionTrace<'p>>,
}

/// The trace of one condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConditionTrace<'p> {
    /// The expression, as the policy writes it.
    pub source: &'p str,
    /// The boolean result, or the reason that the condition cannot be evaluated. `None` if the
    /// condition was not evaluated. The reason may repeat arguments of the call.
    pub outcome: Option<Result<bool, String>>,
}

impl<'p> Evaluation<'p> {
    /// Returns the label of the rule that decided.
    pub fn rule_label(&self) -> Option<String> {
        let index = self.decision.rule()?;
        self.policy.rules.get(index).map(|rule| rule.label(index))
    }

    /// Returns the labels of the rules that have an evaluation error.
    pub fn condition_errors(&self) -> impl Iterator<Item = String> {
        let label = |candidate: &Candidate<'_>| {
            let index = candidate.index;
            Some(self.policy.rules.get(index)?.label(index))
        };
        let failed = self.candidates.iter().filter(|candidate| candidate.has_failed());
        failed.filter_map(label)
    }

    /// Returns traces of the rules in order, up to the rule that decided. Returns none if a
    /// selector decided.
    ///
    /// `facts` must be the facts of this evaluation.
    pub fn explain(&self, facts: &EvalContext<'_>) -> Vec<RuleTrace<'p>> {
        let is_by_selector =
            matches!(self.decision.reason(), Reason::Selected | Reason::NotSelected);
        let all = if is_by_selector { 0 } else { self.policy.rules.len() };
        let end = self.decision.rule().map_or(all, |index| index + 1);
        let rules = self.policy.rules.iter().take(end).enumerate();
        rules.map(|(index, rule)| self.trace(index, rule, facts)).collect()
    }

    fn trace(&self, index: usize, rule: &'p Rule, facts: &EvalContext<'_>) -> RuleTrace<'p> {
        let candidate = self.candidates.iter().find(|candidate| candidate.index == index);
        let target = |(number, target): (usize, &'p Target)| TargetTrace {
            is_backend_known: target.extent(facts.subject).1,
            backend: target.backend.as_deref(),
            feature: target.feature,
            name: target.name.as_str(),
            selected: suffices(rule, target.extent(facts.subject).0),
            when: target
                .when
                .as_ref()
                .map(|condition| condition_trace(condition, ConditionRef::When(number), candidate)),
        };
        let targets = rule.targets.as_ref();
        RuleTrace {
            label: rule.label(index),
            action: rule.action,
            decided: self.decision.rule() == Some(index),
            targets: targets.map(|targets| targets.iter().enumerate().map(target).collect()),
            cel: rule.cel.as_ref().map(|cel| condition_trace(cel, ConditionRef::Cel, candidate)),
            claims: rule.claims.iter().map(|claim| (claim, claim.holds(facts.claims))).collect(),
            scopes: rule.scopes.names(),
            missing_scopes: self.missing(rule),
        }
    }

    fn missing(&self, rule: &'p Rule) -> Vec<&'p str> {
        let missing = |name: &&String| !self.grants.contains(self.policy, name);
        rule.scopes.names().iter().filter(missing).map(String::as_str).collect()
    }
}

fn condition_trace<'p>(
    condition: &'p Condition,
    reference: ConditionRef,
    candidate: Option<&Candidate<'_>>,
) -> ConditionTrace<'p> {
    let outcomes = candidate.into_iter().flat_map(|candidate| &candidate.outcomes);
    let outcome = outcomes.into_iter().find(|(which, _)| *which == reference);
    let outcome = outcome.map(|(_, outcome)| match outcome {
        Outcome::True => Ok(true),
        Outcome::False => Ok(false),
        Outcome::Failed(failure) => Err(failure.to_string()),
    });
    ConditionTrace { source: condition.source(), outcome }
}

#[cfg(test)]
mod tests {
    use crate::claims::Claims;
    use crate::config;
    use crate::gate::EvaluatedCall;
    use crate::head::Head;
    use crate::policy::OutcomeSet;

    #[test]
    fn what_was_found_of_each_rule_is_told() {
        let policy = r#"
policies:
- name: p
  backend: {name: b}
  rules:
  - {name: fails, action: Allow, target: {tools: [{tool: t}]}, cel: args.nope}
  - name: scopes
    action: Allow
    source: {jwt: {scopes: [here, missing], claims: [{name: team, valueType: String, values: [x]}]}}
    target: {tools: [{tool: t}]}
  - name: decides
    action: Deny
    target: {tools: [{tool: other}, {tool: t, when: args.a == 2}, {tool: t, when: args.a == 1}]}
    cel: args.a > 0
  - {name: later, action: Allow}
"#;
        let gate = config::parse(policy).unwrap();
        let claims = r#"{"scope": "here", "team": "x"}"#;
        let claims = Claims::from_json(&serde_json::from_str(claims).unwrap());
        let admitted = gate
            .admit(Head { has_body: true, ..Head::default() }.with_usual_headers(), Some(claims))
            .unwrap();
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call",
            "params":{"name":"t","arguments":{"a":1}}}"#;
        let judgement = gate.authorize(&admitted, body.as_bytes());
        let EvaluatedCall { call, evaluation } = judgement.deciding_call().unwrap();
        assert_eq!(evaluation.rule_label().as_deref(), Some("decides"));
        assert_eq!(evaluation.condition_errors().collect::<Vec<_>>(), ["fails"]);

        let subject = admitted.subject(call).unwrap();
        let traces = evaluation.explain(&admitted.facts(&subject));
        let [fails, scopes, decides] = traces.as_slice() else { panic!("{traces:?}") };
        assert!(!fails.decided && !scopes.decided && decides.decided);
        let failed = fails.cel.as_ref().and_then(|cel| cel.outcome.clone());
        assert!(matches!(failed, Some(Err(_))), "{failed:?}");
        assert_eq!(scopes.missing_scopes, ["missing"]);
        assert!(matches!(scopes.claims.as_slice(), [(_, OutcomeSet::TRUE)]));
        assert!(decides.missing_scopes.is_empty());
        let cel = decides.cel.as_ref().unwrap();
        assert_eq!((cel.source, &cel.outcome), ("args.a > 0", &Some(Ok(true))));
        let targets = decides.targets.iter().flatten();
        let targets: Vec<_> = targets
            .map(|target| {
                let said = target.when.as_ref().and_then(|when| when.outcome.clone());
                (target.name, target.selected, said)
            })
            .collect();
        let expected =
            [("other", false, None), ("t", true, Some(Ok(false))), ("t", true, Some(Ok(true)))];
        assert_eq!(targets, expected);
    }
}
