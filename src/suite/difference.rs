//! The differences between the expected and the actual decision of a case.

use super::{ALLOW, Case, DENY, Expected};
use crate::gate::{Gate, RefusalCause, RequestDecision};
use crate::policy::{Selector, Unselectable};

/// A difference between an expectation and the decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The part that differs.
    pub what: &'static str,
    /// The expected value.
    pub expected: String,
    /// The actual value.
    pub found: String,
}

impl Case {
    /// Returns the differences between the expectations of this case and a decision.
    pub fn differences(&self, gate: &Gate, judgement: &RequestDecision<'_, '_>) -> Vec<Difference> {
        let Expected { decision, scopes, rule, reason, status } = &self.expected;
        let refusal = judgement.refusal();
        let deciding_call = judgement.deciding_call().map(|judged| &judged.evaluation);
        let mut differences = Vec::new();
        let mut compare = |what, expected: String, found: String| {
            if expected != found {
                differences.push(Difference { what, expected, found });
            }
        };
        let found = if refusal.is_some() { DENY } else { ALLOW };
        compare("decision", (*decision).to_owned(), found.to_owned());
        // A mistake in the case itself must not count as the denial that the case expects.
        if let Some(refusal) = refusal
            && (refusal.blame != RefusalCause::Policy || refusal.policy.is_none())
            && reason.is_none()
            && status.is_none()
        {
            let expected = "a decision by the rules (or give `reason` or `status`)".to_owned();
            compare("reason", expected, refusal.reason.to_owned());
        }
        if let Some(expected) = rule {
            let name = |rule: Option<String>| match rule {
                Some(rule) => format!("`{rule}`"),
                None => "no rule".to_owned(),
            };
            let found = deciding_call.and_then(|evaluation| evaluation.rule_label());
            compare("rule", name(expected.clone()), name(found));
        }
        if let Some(expected) = reason {
            let allowed = || match deciding_call {
                Some(evaluation) => evaluation.decision.reason().as_str(),
                None => "not_governed",
            };
            let found = refusal.map_or_else(allowed, |refusal| refusal.reason);
            compare("reason", expected.clone(), found.to_owned());
        }
        if let Some(expected) = scopes {
            let found = refusal.map(|refusal| refusal.required_scopes.as_slice());
            let list = |scopes: &[String]| match scopes {
                [] => "no challenge".to_owned(),
                scopes => format!("`{}`", scopes.join(" ")),
            };
            compare("scopes", list(expected), list(found.unwrap_or_default()));
        }
        if let Some(expected) = status {
            let found = refusal.map_or(200, |refusal| refusal.status);
            compare("status", expected.to_string(), found.to_string());
        }
        // This difference explains the others, so it comes first.
        if !differences.is_empty()
            && let Err(Unselectable::NotSent(selector)) = gate.select(&self.head)
        {
            differences.insert(0, not_given(selector));
        }
        differences
    }
}

/// Returns the difference of a case that omits the input by which policies are selected.
fn not_given(selector: Selector) -> Difference {
    let (what, by) = match selector {
        Selector::Host => ("host", "match.hosts"),
        Selector::Path => ("path", "match.pathPrefixes"),
        Selector::Route => ("route", "match.routes"),
    };
    let expected = format!("one, because policies are selected by it (`{by}`)");
    Difference { what, expected, found: "none".to_owned() }
}
