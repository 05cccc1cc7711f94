//! What is said about a judgement, to people and to programs.

use serde_json::{Value, json};

use crate::gate::{Admitted, Blame, Judgement, Refusal};
use crate::policy::{Action, ConditionTrace, RequiredClaim, RuleTrace, Subject, TargetTrace};

/// What is said about a judgement, in either format.
pub(super) struct Report<'r> {
    /// `None` if no policy is for the request.
    policy: Option<&'r str>,
    refusal: Option<&'r Refusal>,
    /// Whether the request goes on although it is refused.
    is_shadow: bool,
    reason: &'static str,
    /// What the policy takes the call for.
    subject: Option<Subject<'r>>,
    rule: Option<String>,
    rules: Vec<RuleTrace<'r>>,
}

impl<'r> Report<'r> {
    pub(super) fn new(admitted: Option<&'r Admitted>, judgement: &'r Judgement<'_, '_>) -> Self {
        let refusal = judgement.refusal();
        let mut report = Self {
            policy: refusal.and_then(|refusal| refusal.policy.as_deref()),
            refusal,
            is_shadow: judgement.shadowed.is_some(),
            reason: refusal.map_or("not_governed", |refusal| refusal.reason),
            subject: None,
            rule: None,
            rules: Vec::new(),
        };
        let Some(admitted) = admitted else { return report };
        report.policy = Some(&admitted.policy().name);
        let Some(judged) = judgement.decisive() else { return report };
        if refusal.is_none() {
            report.reason = judged.evaluation.decision.reason().as_str();
        }
        // They were there when the call was decided.
        if let Ok(facts) = admitted.facts(&judged.call) {
            report.subject = Some(facts.subject);
            report.rule = judged.evaluation.rule_label();
            report.rules = judged.evaluation.explain(&facts);
        }
        report
    }

    pub(super) fn decision(&self) -> &'static str {
        if self.refusal.is_some() { "Deny" } else { "Allow" }
    }

    pub(super) fn json(&self) -> Value {
        let refusal = self.refusal;
        json!({
            "decision": self.decision(),
            "httpStatus": refusal.map_or(200, |refusal| refusal.status),
            "reason": self.reason,
            "policy": self.policy,
            "backend": self.subject.and_then(|subject| subject.backend),
            "tool": self.subject.map(|subject| subject.tool),
            "rule": self.rule,
            "requiredScopes": refusal.map(|refusal| &refusal.required_scopes[..]).unwrap_or_default(),
            "wwwAuthenticate": refusal.and_then(|refusal| refusal.www_authenticate.as_deref()),
            "shadow": self.is_shadow,
            "rules": self.rules.iter().map(rule_json).collect::<Vec<_>>(),
        })
    }

    pub(super) fn text(&self) -> String {
        let mut lines = vec![format!("{}: {}", self.decision(), self.because())];
        if let Some(subject) = self.subject {
            let backend = match subject.backend {
                Some(backend) => format!("of backend {backend}"),
                None => "of no backend".to_owned(),
            };
            lines.push(format!("call: tool {} {backend}", subject.tool.escape_debug()));
        }
        if let Some(refusal) = self.refusal {
            let but = if self.is_shadow { ", but it goes on: the policy is in Shadow" } else { "" };
            lines.push(format!("answer: HTTP {}{but}", refusal.status));
            if let Some(challenge) = &refusal.www_authenticate {
                lines.push(format!("WWW-Authenticate: {challenge}"));
            }
            lines.push(format!("body: {}", refusal.body));
        }
        if !self.rules.is_empty() {
            lines.push("rules, in order:".to_owned());
        }
        lines.extend(self.rules.iter().flat_map(rule_lines));
        lines.push(String::new());
        lines.join("\n")
    }

    fn because(&self) -> String {
        let reason = self.reason;
        let policy = match (self.policy, self.refusal) {
            (_, None) if self.subject.is_none() => return "the request calls no tool".to_owned(),
            (_, Some(Refusal { blame: Blame::Request | Blame::Operator, .. })) => {
                return format!("the request cannot be judged ({reason})");
            }
            (None, _) => return format!("{reason}: no policy is for it"),
            (Some(policy), _) => policy,
        };
        match &self.rule {
            Some(rule) => format!("{reason}, by rule {rule} of policy `{policy}`"),
            None if self.subject.is_none() => format!("{reason}, by policy `{policy}`"),
            None => format!("{reason}, by the default action of policy `{policy}`"),
        }
    }
}

fn action(action: Action) -> &'static str {
    match action {
        Action::Allow => "Allow",
        Action::Deny => "Deny",
    }
}

fn rule_json(rule: &RuleTrace<'_>) -> Value {
    json!({
        "rule": rule.label,
        "action": action(rule.action),
        "decided": rule.decided,
        "claims": rule.claims.iter().map(|(claim, holds)| json!({
            "name": claim.name, "values": claim.values, "holds": holds,
        })).collect::<Vec<_>>(),
        "scopes": { "required": rule.scopes, "missing": rule.missing_scopes },
        "cel": rule.cel.as_ref().map(condition_json),
        "targets": rule.targets.as_ref().map(|targets| {
            targets.iter().map(target_json).collect::<Vec<_>>()
        }),
    })
}

fn target_json(target: &TargetTrace<'_>) -> Value {
    json!({
        "backend": target.backend,
        "tool": target.tool,
        "selected": target.selected,
        "when": target.when.as_ref().map(condition_json),
    })
}

fn condition_json(ConditionTrace { source, outcome }: &ConditionTrace<'_>) -> Value {
    let outcome = outcome.as_ref().map(|outcome| match outcome {
        Ok(value) => json!(value),
        Err(error) => json!({ "error": error }),
    });
    json!({ "condition": source, "outcome": outcome })
}

fn mark(matched: bool) -> char {
    if matched { '✓' } else { '✗' }
}

fn rule_lines(rule: &RuleTrace<'_>) -> Vec<String> {
    let decides = if rule.decided { ", decides" } else { "" };
    let mut lines =
        vec![format!("  {} {} ({}{decides})", mark(rule.decided), rule.label, action(rule.action))];
    match &rule.targets {
        None => lines.push("      ✓ every tool".to_owned()),
        Some(targets) => lines.extend(targets.iter().flat_map(|target| target_lines(target, rule))),
    }
    for (RequiredClaim { name, values, .. }, holds) in &rule.claims {
        lines.push(format!("      {} claim {name}: {}", mark(*holds), values.join(" or ")));
    }
    for scope in rule.scopes {
        let missing = rule.missing_scopes.contains(&scope.as_str());
        let granted = if missing { "not granted" } else { "granted" };
        lines.push(format!("      {} scope {scope}: {granted}", mark(!missing)));
    }
    lines
        .extend(rule.cel.as_ref().map(|cel| format!("      {}", condition_line("cel", cel, rule))));
    lines
}

fn target_lines(target: &TargetTrace<'_>, rule: &RuleTrace<'_>) -> Vec<String> {
    let backend =
        target.backend.map(|backend| format!(" of backend {backend}")).unwrap_or_default();
    let mut lines = vec![format!("      {} tool {}{backend}", mark(target.selected), target.tool)];
    if let (Some(when), true) = (&target.when, target.selected) {
        lines.push(format!("        {}", condition_line("when", when, rule)));
    }
    lines
}

fn condition_line(key: &str, condition: &ConditionTrace<'_>, rule: &RuleTrace<'_>) -> String {
    let source = condition.source;
    match &condition.outcome {
        Some(Ok(value)) => format!("{} {key} {source}: {value}", mark(*value)),
        // It decides only if it is a Deny rule.
        Some(Err(error)) if rule.decided => {
            format!("✗ {key} {source}: {error}; what cannot be told is denied")
        }
        Some(Err(error)) => format!("✗ {key} {source}: {error}"),
        None => format!("- {key} {source}: not asked"),
    }
}
