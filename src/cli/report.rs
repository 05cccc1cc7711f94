//! Reports about the decision on a request, for people and for programs.

use serde_json::{Value, json};

use crate::proto::v1::condition_trace::Outcome;
use crate::proto::v1::{
    CheckResponse, ClaimTrace, ConditionTrace, Decision, RuleTrace, TargetTrace,
};
use crate::record::{NOT_GOVERNED, Verdict};

/// A report about the decision on a request.
pub(super) struct Report {
    decision: Decision,
    response: CheckResponse,
}

/// Returns `None` for an empty string, which stands for a missing value.
fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

impl Report {
    pub(super) fn new(mut response: CheckResponse) -> Self {
        // A response without a decision counts as not allowed.
        let decision = response.decision.take().unwrap_or_default();
        Self { decision, response }
    }

    /// Returns true if the policy allows the whole request. Returns false for a denial in Shadow,
    /// too.
    pub(super) fn is_allowed(&self) -> bool {
        Verdict::of(&self.decision) == Verdict::Allow
    }

    /// Returns true if the policy did not decide, because the request or Envoy is at fault.
    pub(super) fn is_undecided(&self) -> bool {
        self.response.undecided
    }

    pub(super) fn json(&self) -> Value {
        let Decision {
            verdict,
            shadow,
            reason,
            http_status,
            policy,
            rule,
            method,
            backend,
            tool,
            ..
        } = &self.decision;
        json!({
            "decision": verdict,
            "httpStatus": http_status,
            "reason": reason,
            "policy": given(policy),
            "method": given(method),
            "backend": given(backend),
            "tool": given(tool),
            "prompt": given(&self.decision.prompt),
            "resource": given(&self.decision.resource),
            "rule": given(rule),
            "requiredScopes": self.decision.required_scopes,
            "wwwAuthenticate": given(&self.response.www_authenticate),
            "shadow": shadow,
            "filtersResponse": self.response.filters_response,
            "rules": self.response.rules.iter().map(rule_json).collect::<Vec<_>>(),
        })
    }

    pub(super) fn text(&self) -> String {
        let Decision { verdict, shadow, http_status, backend, .. } = &self.decision;
        let mut lines = vec![format!("{verdict}: {}", self.because())];
        if let Some((kind, name)) = self.target() {
            let backend = match given(backend) {
                Some(backend) => format!("of backend {backend}"),
                None => "of no backend".to_owned(),
            };
            lines.push(format!("call: {kind} {} {backend}", name.escape_debug()));
        } else if !self.response.rules.is_empty() {
            lines.push(format!("call: method {}", self.decision.method.escape_debug()));
        }
        if !self.is_allowed() {
            let but = if *shadow { ", but it goes on: the policy is in Shadow" } else { "" };
            lines.push(format!("answer: HTTP {http_status}{but}"));
            if let Some(challenge) = given(&self.response.www_authenticate) {
                lines.push(format!("WWW-Authenticate: {challenge}"));
            }
            lines.push(format!("body: {}", self.response.body));
        }
        if self.response.filters_response {
            lines.push("response: filtered, so that the caller sees what the policy shows".into());
        }
        if !self.response.rules.is_empty() {
            lines.push("rules, in order:".to_owned());
        }
        lines.extend(self.response.rules.iter().flat_map(rule_lines));
        lines.push(String::new());
        lines.join("\n")
    }

    /// Returns the kind and the name of the target, if the request names one.
    fn target(&self) -> Option<(&'static str, &str)> {
        let Decision { tool, prompt, resource, .. } = &self.decision;
        named([("tool", tool), ("prompt", prompt), ("resource", resource)])
    }

    fn because(&self) -> String {
        let Decision { reason, policy, rule, .. } = &self.decision;
        if self.is_undecided() {
            return format!("the request cannot be judged ({reason})");
        }
        if reason == NOT_GOVERNED {
            return "the request asks for nothing that the policy judges".to_owned();
        }
        match (given(policy), given(rule)) {
            (None, _) => format!("{reason}: no policy matches the host and path"),
            (Some(policy), None) if reason.ends_with("selected") => {
                format!("{reason}, by a selector of policy `{policy}`")
            }
            (Some(policy), Some(rule)) => format!("{reason}, by rule {rule} of policy `{policy}`"),
            (Some(policy), None) if self.response.rules.is_empty() => {
                format!("{reason}, by policy `{policy}`")
            }
            (Some(policy), None) => {
                format!("{reason}, by the default action of policy `{policy}`")
            }
        }
    }
}

fn rule_json(rule: &RuleTrace) -> Value {
    let targets = rule.targets.iter().map(target_json).collect::<Vec<_>>();
    json!({
        "rule": rule.rule,
        "action": rule.action,
        "decided": rule.decided,
        "claims": rule.claims.iter().map(|ClaimTrace { name, values, holds, error }| json!({
            "name": name, "values": values, "holds": holds, "error": given(error),
        })).collect::<Vec<_>>(),
        "scopes": { "required": rule.required_scopes, "missing": rule.missing_scopes },
        "cel": rule.cel.as_ref().map(condition_json),
        "targets": (!rule.every_call).then_some(targets),
    })
}

/// Returns the first name that is not empty, with its kind.
fn named<'n>(
    names: impl IntoIterator<Item = (&'static str, &'n String)>,
) -> Option<(&'static str, &'n str)> {
    let given = |(kind, name): (_, &'n String)| Some((kind, given(name)?));
    names.into_iter().find_map(given)
}

/// Returns the kind and the name of a target in a rule.
fn target_name(target: &TargetTrace) -> (&'static str, &str) {
    let TargetTrace { tool, prompt, resource, method, .. } = target;
    let names = [("tool", tool), ("prompt", prompt), ("resource", resource), ("method", method)];
    named(names).unwrap_or_default()
}

fn target_json(target: &TargetTrace) -> Value {
    let TargetTrace { backend, selected, when, error, .. } = target;
    let (kind, name) = target_name(target);
    json!({
        "backend": given(backend),
        kind: name,
        "selected": selected,
        "error": given(error),
        "when": when.as_ref().map(condition_json),
    })
}

fn condition_json(ConditionTrace { condition, outcome }: &ConditionTrace) -> Value {
    let outcome = outcome.as_ref().map(|outcome| match outcome {
        Outcome::Value(value) => json!(value),
        Outcome::Error(error) => json!({ "error": error }),
    });
    json!({ "condition": condition, "outcome": outcome })
}

fn mark(matched: bool) -> char {
    if matched { '✓' } else { '✗' }
}

fn rule_lines(rule: &RuleTrace) -> Vec<String> {
    let RuleTrace { rule: label, action, decided, .. } = rule;
    let decides = if *decided { ", decides" } else { "" };
    let mut lines = vec![format!("  {} {label} ({action}{decides})", mark(*decided))];
    if rule.every_call {
        lines.push("      ✓ every call".to_owned());
    }
    lines.extend(rule.targets.iter().flat_map(|target| target_lines(target, rule)));
    for ClaimTrace { name, values, holds, error } in &rule.claims {
        let values = values.join(" or ");
        let error = because(error, rule);
        lines.push(format!("      {} claim {name}: {values}{error}", mark(*holds)));
    }
    for scope in &rule.required_scopes {
        let missing = rule.missing_scopes.contains(scope);
        let granted = if missing { "not granted" } else { "granted" };
        lines.push(format!("      {} scope {scope}: {granted}", mark(!missing)));
    }
    lines
        .extend(rule.cel.as_ref().map(|cel| format!("      {}", condition_line("cel", cel, rule))));
    lines
}

fn target_lines(target: &TargetTrace, rule: &RuleTrace) -> Vec<String> {
    let backend =
        given(&target.backend).map(|backend| format!(" of backend {backend}")).unwrap_or_default();
    let (kind, name) = target_name(target);
    let error = because(&target.error, rule);
    let mut lines = vec![format!("      {} {kind} {name}{backend}{error}", mark(target.selected))];
    if let (Some(when), true) = (&target.when, target.selected) {
        lines.push(format!("        {}", condition_line("when", when, rule)));
    }
    lines
}

/// Returns the suffix for an error in a part of a rule. Only a Deny rule decides on an error.
fn because(error: &str, rule: &RuleTrace) -> String {
    match error {
        "" => String::new(),
        error if rule.decided => format!(": {error}; what cannot be compared is denied"),
        error => format!(": {error}"),
    }
}

fn condition_line(key: &str, condition: &ConditionTrace, rule: &RuleTrace) -> String {
    let ConditionTrace { condition: source, outcome } = condition;
    match outcome {
        Some(Outcome::Value(value)) => format!("{} {key} {source}: {value}", mark(*value)),
        // Only a Deny rule decides on an error.
        Some(Outcome::Error(error)) if rule.decided => {
            format!("✗ {key} {source}: {error}; what cannot be told is denied")
        }
        Some(Outcome::Error(error)) => format!("✗ {key} {source}: {error}"),
        None => format!("- {key} {source}: not asked"),
    }
}
