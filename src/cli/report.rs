//! What is said about a judgement, to people and to programs.

use serde_json::{Value, json};

use crate::proto::v1::condition_trace::Outcome;
use crate::proto::v1::{
    CheckResponse, ClaimTrace, ConditionTrace, Decision, RuleTrace, TargetTrace,
};
use crate::record::Verdict;

/// What is said about a request, in either format.
pub(super) struct Report {
    decision: Decision,
    response: CheckResponse,
}

/// What is not given is empty.
fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

impl Report {
    pub(super) fn new(mut response: CheckResponse) -> Self {
        // A server without a decision has not allowed anything.
        let decision = response.decision.take().unwrap_or_default();
        Self { decision, response }
    }

    /// Whether nothing of it is refused, in Shadow either.
    pub(super) fn is_allowed(&self) -> bool {
        Verdict::of(&self.decision) == Verdict::Allow
    }

    /// Whether the request or Envoy is at fault.
    pub(super) fn is_undecided(&self) -> bool {
        self.response.undecided
    }

    pub(super) fn json(&self) -> Value {
        let Decision { verdict, shadow, reason, http_status, policy, rule, backend, tool, .. } =
            &self.decision;
        json!({
            "decision": verdict,
            "httpStatus": http_status,
            "reason": reason,
            "policy": given(policy),
            "backend": given(backend),
            "tool": given(tool),
            "rule": given(rule),
            "requiredScopes": self.decision.required_scopes,
            "wwwAuthenticate": given(&self.response.www_authenticate),
            "shadow": shadow,
            "rules": self.response.rules.iter().map(rule_json).collect::<Vec<_>>(),
        })
    }

    pub(super) fn text(&self) -> String {
        let Decision { verdict, shadow, http_status, backend, tool, .. } = &self.decision;
        let mut lines = vec![format!("{verdict}: {}", self.because())];
        if !tool.is_empty() {
            let backend = match given(backend) {
                Some(backend) => format!("of backend {backend}"),
                None => "of no backend".to_owned(),
            };
            lines.push(format!("call: tool {} {backend}", tool.escape_debug()));
        }
        if !self.is_allowed() {
            let but = if *shadow { ", but it goes on: the policy is in Shadow" } else { "" };
            lines.push(format!("answer: HTTP {http_status}{but}"));
            if let Some(challenge) = given(&self.response.www_authenticate) {
                lines.push(format!("WWW-Authenticate: {challenge}"));
            }
            lines.push(format!("body: {}", self.response.body));
        }
        if !self.response.rules.is_empty() {
            lines.push("rules, in order:".to_owned());
        }
        lines.extend(self.response.rules.iter().flat_map(rule_lines));
        lines.push(String::new());
        lines.join("\n")
    }

    fn because(&self) -> String {
        let Decision { reason, policy, rule, tool, .. } = &self.decision;
        if self.is_undecided() {
            return format!("the request cannot be judged ({reason})");
        }
        if self.is_allowed() && tool.is_empty() {
            return "the request calls no tool".to_owned();
        }
        match (given(policy), given(rule)) {
            (None, _) => format!("{reason}: no policy is for it"),
            (Some(policy), Some(rule)) => format!("{reason}, by rule {rule} of policy `{policy}`"),
            (Some(policy), None) if tool.is_empty() => format!("{reason}, by policy `{policy}`"),
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
        "claims": rule.claims.iter().map(|ClaimTrace { name, values, holds }| json!({
            "name": name, "values": values, "holds": holds,
        })).collect::<Vec<_>>(),
        "scopes": { "required": rule.required_scopes, "missing": rule.missing_scopes },
        "cel": rule.cel.as_ref().map(condition_json),
        "targets": (!rule.every_tool).then_some(targets),
    })
}

fn target_json(TargetTrace { backend, tool, selected, when }: &TargetTrace) -> Value {
    json!({
        "backend": given(backend),
        "tool": tool,
        "selected": selected,
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
    if rule.every_tool {
        lines.push("      ✓ every tool".to_owned());
    }
    lines.extend(rule.targets.iter().flat_map(|target| target_lines(target, rule)));
    for ClaimTrace { name, values, holds } in &rule.claims {
        lines.push(format!("      {} claim {name}: {}", mark(*holds), values.join(" or ")));
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
    let mut lines = vec![format!("      {} tool {}{backend}", mark(target.selected), target.tool)];
    if let (Some(when), true) = (&target.when, target.selected) {
        lines.push(format!("        {}", condition_line("when", when, rule)));
    }
    lines
}

fn condition_line(key: &str, condition: &ConditionTrace, rule: &RuleTrace) -> String {
    let ConditionTrace { condition: source, outcome } = condition;
    match outcome {
        Some(Outcome::Value(value)) => format!("{} {key} {source}: {value}", mark(*value)),
        // It decides only if it is a Deny rule.
        Some(Outcome::Error(error)) if rule.decided => {
            format!("✗ {key} {source}: {error}; what cannot be told is denied")
        }
        Some(Outcome::Error(error)) => format!("✗ {key} {source}: {error}"),
        None => format!("- {key} {source}: not asked"),
    }
}
