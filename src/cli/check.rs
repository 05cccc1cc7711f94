//! `mcp-authz check`

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::{complain, output};
use crate::claims::Claims;
use crate::config;
use crate::gate::{Blame, ClaimsFrom, Head, Judgement, Refusal};
use crate::policy::{Action, RequiredClaim, RuleTrace, Subject, TargetTrace};

/// Decide one request without Envoy and explain the decision
///
/// Says what `serve` would answer, and for each rule that was looked at, what
/// matched and what did not.
///
/// Exits with 0 if the request may go on, with 1 if it is denied, and with 2 if
/// it cannot be decided because the policy or the request is at fault.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  \
mcp-authz check --policy policy.yaml --request call.json --claims '{\"scope\":\"echo\"}'")]
pub(super) struct Args {
    /// The policy file (YAML or JSON)
    #[arg(long, env = "MCP_AUTHZ_POLICY", value_name = "PATH")]
    policy: PathBuf,

    /// The body of the request as it would come; - reads standard input
    #[arg(long, value_name = "FILE")]
    request: PathBuf,

    /// The caller's access token; it is decoded, its signature is not checked
    #[arg(long, value_name = "JWT", conflicts_with = "claims")]
    token: Option<String>,

    /// The caller's claims as a JSON object [default: no token]
    #[arg(long, value_name = "JSON")]
    claims: Option<String>,

    /// A header of the request, such as 'mcp-method: tools/call'; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,

    /// The HTTP method
    #[arg(long, value_name = "METHOD", default_value = "POST")]
    http_method: String,

    /// The host that the request is for (match.hosts)
    #[arg(long, value_name = "HOST")]
    host: Option<String>,

    /// The path that it is for (match.pathPrefixes)
    #[arg(long, value_name = "PATH")]
    path: Option<String>,

    /// Envoy's name of the route that it takes (match.routes)
    #[arg(long, value_name = "NAME")]
    route: Option<String>,

    /// For people or for programs
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// The exit code for "could not decide".
const UNDECIDED: u8 = 2;

pub(super) fn run(args: &Args) -> ExitCode {
    match check(args) {
        Ok(code) => code,
        Err(message) => {
            complain(&message);
            ExitCode::from(UNDECIDED)
        }
    }
}

fn check(args: &Args) -> Result<ExitCode, String> {
    let gate = config::load(&args.policy).map_err(|error| error.to_string())?;
    let mut headers = headers(args)?;
    let claims = match gate.claims_from {
        // What Envoy would have verified is given here.
        ClaimsFrom::Metadata { .. } => claims(args)?,
        ClaimsFrom::AuthorizationHeader => {
            if args.claims.is_some() {
                let message =
                    "--claims: the policy says `jwt.from: authorizationHeader`; give --token";
                return Err(message.to_owned());
            }
            let header =
                |token: &String| ("authorization".to_owned(), format!("Bearer {token}").into());
            headers.extend(args.token.as_ref().map(header));
            None
        }
    };
    let body = body(&args.request)?;
    let head = Head {
        method: args.http_method.clone(),
        host: args.host.clone().unwrap_or_default(),
        path: args.path.clone().unwrap_or_default(),
        route: args.route.clone(),
        headers,
    };

    let admitted = match gate.admit(head, claims) {
        Ok(admitted) => admitted,
        Err(refusal) => {
            let refused = Judgement { answer: Err(refusal), decided: None };
            let policy =
                refused.answer.as_ref().err().and_then(|refusal| refusal.policy.as_deref());
            return Ok(report(policy, &refused, args.output));
        }
    };
    let judgement = gate.judge(&admitted, &body);
    let policy = Some(admitted.policy().name.as_str());
    Ok(report(policy, &judgement, args.output))
}

fn claims(args: &Args) -> Result<Option<Claims>, String> {
    if let Some(token) = &args.token {
        return Claims::from_unverified_token(token)
            .map(Some)
            .map_err(|error| format!("--token: not a JSON Web Token: {error}"));
    }
    let Some(text) = &args.claims else {
        return Ok(None);
    };
    serde_json::from_str::<Map<String, Value>>(text)
        .map(|claims| Some(Claims::from_json(&claims)))
        .map_err(|error| format!("--claims: not a JSON object: {error}"))
}

fn body(path: &Path) -> Result<Vec<u8>, String> {
    if path == Path::new("-") {
        let mut body = Vec::new();
        return match std::io::stdin().read_to_end(&mut body) {
            Ok(_) => Ok(body),
            Err(error) => Err(format!("--request: standard input: {error}")),
        };
    }
    std::fs::read(path).map_err(|error| format!("--request: {}: {error}", path.display()))
}

fn headers(args: &Args) -> Result<Vec<(String, Vec<u8>)>, String> {
    let header = |header: &String| match header.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_ascii_lowercase(), value.trim().as_bytes().to_vec()))
        }
        _ => Err(format!("--header: `{header}` is not `NAME: VALUE`")),
    };
    args.headers.iter().map(header).collect()
}

fn report(policy: Option<&str>, judgement: &Judgement<'_, '_>, format: Output) -> ExitCode {
    let report = Report::new(policy, judgement);
    let written = match format {
        Output::Text => output(&report.text()),
        Output::Json => output(&format!("{:#}\n", report.json())),
    };
    match (written, &judgement.answer) {
        (Err(()), _) => ExitCode::from(UNDECIDED),
        (Ok(()), Ok(_)) => ExitCode::SUCCESS,
        (Ok(()), Err(Refusal { blame: Blame::Policy, .. })) => ExitCode::FAILURE,
        (Ok(()), Err(Refusal { blame: Blame::Request | Blame::Operator, .. })) => {
            ExitCode::from(UNDECIDED)
        }
    }
}

/// What is said about a judgement, in either format.
struct Report<'r> {
    /// `None` if no policy is for the request.
    policy: Option<&'r str>,
    refusal: Option<&'r Refusal>,
    reason: &'static str,
    /// What the policy takes the call for.
    subject: Option<Subject<'r>>,
    rule: Option<String>,
    rules: Vec<RuleTrace<'r>>,
}

impl<'r> Report<'r> {
    fn new(policy: Option<&'r str>, judgement: &'r Judgement<'_, '_>) -> Self {
        let refusal = judgement.answer.as_ref().err();
        let reason = refusal.map_or("not_governed", |refusal| refusal.reason);
        match &judgement.decided {
            Some((call, evaluation)) => Self {
                policy,
                refusal,
                reason: evaluation.decision.reason().as_str(),
                subject: Some(evaluation.subject(call)),
                rule: evaluation.rule_label(),
                rules: evaluation.explain(call),
            },
            None => Self { policy, refusal, reason, subject: None, rule: None, rules: Vec::new() },
        }
    }

    fn decision(&self) -> &'static str {
        if self.refusal.is_some() { "Deny" } else { "Allow" }
    }

    fn json(&self) -> Value {
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
            "rules": self.rules.iter().map(rule_json).collect::<Vec<_>>(),
        })
    }

    fn text(&self) -> String {
        let mut lines = vec![format!("{}: {}", self.decision(), self.because())];
        if let Some(subject) = self.subject {
            let backend = match subject.backend {
                Some(backend) => format!("of backend {backend}"),
                None => "of no backend".to_owned(),
            };
            lines.push(format!("call: tool {} {backend}", subject.tool.escape_debug()));
        }
        if let Some(refusal) = self.refusal {
            lines.push(format!("answer: HTTP {}", refusal.status));
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
        "when": target.when,
        "outcome": target.outcome.as_ref().map(|outcome| match outcome {
            Ok(value) => json!(value),
            Err(error) => json!({ "error": error }),
        }),
    })
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
}

fn target_lines(target: &TargetTrace<'_>, rule: &RuleTrace<'_>) -> Vec<String> {
    let backend =
        target.backend.map(|backend| format!(" of backend {backend}")).unwrap_or_default();
    let mut lines = vec![format!("      {} tool {}{backend}", mark(target.selected), target.tool)];
    if let (Some(when), true) = (target.when, target.selected) {
        lines.push(match &target.outcome {
            Some(Ok(value)) => format!("        {} when {when}: {value}", mark(*value)),
            // It decides only if it is a Deny rule.
            Some(Err(error)) if rule.decided => {
                format!("        ✗ when {when}: {error}; what cannot be told is denied")
            }
            Some(Err(error)) => format!("        ✗ when {when}: {error}"),
            None => format!("        - when {when}: not asked"),
        });
    }
    lines
}
