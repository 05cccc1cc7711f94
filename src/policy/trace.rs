//! What was found on the way to a decision, for people who ask why.

use super::condition::Outcome;
use super::decide::{Evaluation, Reason};
use super::search::{Candidate, ConditionRef, suffices};
use super::{Action, Condition, Facts, Possible, RequiredClaim, Rule, Target};
use crate::mcp::Feature;

/// What was found of one rule that was looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleTrace<'p> {
    /// Its name, or its place in the list.
    pub label: String,
    /// What it does.
    pub action: Action,
    /// Whether it decided.
    pub decided: bool,
    /// Whether it has targets, and what was found of each.
    pub targets: Option<Vec<TargetTrace<'p>>>,
    /// Its own condition, and what it said.
    pub cel: Option<ConditionTrace<'p>>,
    /// The claims that it requires, and whether they hold.
    pub claims: Vec<(&'p RequiredClaim, Possible)>,
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
    /// What it is.
    pub feature: Feature,
    /// Its name or URI, as written in the rule.
    pub name: &'p str,
    /// Whether backend and name are the call's.
    pub selected: bool,
    /// Whether the backend of the call is known, if that matters.
    pub is_backend_known: bool,
    /// The condition, and what it said.
    pub when: Option<ConditionTrace<'p>>,
}

/// What was found of one condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConditionTrace<'p> {
    /// As written in the rule.
    pub source: &'p str,
    /// What it said: true, false, or why it has no value; `None` if it was not
    /// asked. May repeat arguments.
    pub outcome: Option<Result<bool, String>>,
}

impl<'p> Evaluation<'p> {
    /// What people call the rule that decided.
    pub fn rule_label(&self) -> Option<String> {
        let index = self.decision.rule()?;
        self.policy.rules.get(index).map(|rule| rule.label(index))
    }

    /// What people call the rules of which a condition could not be evaluated.
    pub fn condition_errors(&self) -> impl Iterator<Item = String> {
        let label = |candidate: &Candidate<'_>| {
            let index = candidate.index;
            Some(self.policy.rules.get(index)?.label(index))
        };
        let failed = self.candidates.iter().filter(|candidate| candidate.has_failed());
        failed.filter_map(label)
    }

    /// The rules that were looked at, in order: all up to the one that decided; none if a selector
    /// decided.
    /// `facts` are those that were decided by.
    pub fn explain(&self, facts: &Facts<'_>) -> Vec<RuleTrace<'p>> {
        let is_by_selector =
            matches!(self.decision.reason(), Reason::Selected | Reason::NotSelected);
        let all = if is_by_selector { 0 } else { self.policy.rules.len() };
        let end = self.decision.rule().map_or(all, |index| index + 1);
        let rules = self.policy.rules.iter().take(end).enumerate();
        rules.map(|(index, rule)| self.trace(index, rule, facts)).collect()
    }

    fn trace(&self, index: usize, rule: &'p Rule, facts: &Facts<'_>) -> RuleTrace<'p> {
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
    use crate::gate::Judged;
    use crate::head::Head;
    use crate::policy::Possible;

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
        let judgement = gate.judge(&admitted, body.as_bytes());
        let Judged { call, evaluation } = judgement.decisive().unwrap();
        assert_eq!(evaluation.rule_label().as_deref(), Some("decides"));
        assert_eq!(evaluation.condition_errors().collect::<Vec<_>>(), ["fails"]);

        let subject = admitted.subject(call).unwrap();
        let traces = evaluation.explain(&admitted.facts(&subject));
        let [fails, scopes, decides] = traces.as_slice() else { panic!("{traces:?}") };
        assert!(!fails.decided && !scopes.decided && decides.decided);
        let failed = fails.cel.as_ref().and_then(|cel| cel.outcome.clone());
        assert!(matches!(failed, Some(Err(_))), "{failed:?}");
        assert_eq!(scopes.missing_scopes, ["missing"]);
        assert!(matches!(scopes.claims.as_slice(), [(_, Possible::TRUE)]));
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
