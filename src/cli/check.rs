//! `mcp-authz check`

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use crate::claims::Claims;
use crate::config;
use crate::gate::{Blame, ClaimsFrom, Head, Judgement, Refusal};
use crate::policy::{Action, RequiredClaim, RuleTrace, TargetTrace};

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
            eprintln!("{message}");
            ExitCode::from(UNDECIDED)
        }
    }
}

fn check(args: &Args) -> Result<ExitCode, String> {
    let mut gate = config::load(&args.policy).map_err(|error| error.to_string())?;
    // What Envoy would have verified, or the token itself, is given here.
    gate.claims_from = ClaimsFrom::Metadata { namespace: String::new(), key: None };
    let claims = claims(args)?;
    let body = body(&args.request)?;
    let head = Head {
        method: args.http_method.clone(),
        host: args.host.clone().unwrap_or_default(),
        path: args.path.clone().unwrap_or_default(),
        route: args.route.clone(),
        headers: headers(args)?,
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

fn report(policy: Option<&str>, judgement: &Judgement<'_, '_>, output: Output) -> ExitCode {
    let report = Report::new(policy, judgement);
    match output {
        Output::Text => print!("{}", report.text()),
        Output::Json => println!("{:#}", report.json()),
    }
    match &judgement.answer {
        Ok(_) => ExitCode::SUCCESS,
        Err(Refusal { blame: Blame::Policy, .. }) => ExitCode::FAILURE,
        Err(Refusal { blame: Blame::Request | Blame::Operator, .. }) => ExitCode::from(UNDECIDED),
    }
}

/// What is said about a judgement, in either format.
struct Report<'r> {
    /// `None` if no policy is for the request.
    policy: Option<&'r str>,
    refusal: Option<&'r Refusal>,
    reason: &'static str,
    rule: Option<String>,
    rules: Vec<RuleTrace<'r>>,
}

impl<'r> Report<'r> {
    fn new(policy: Option<&'r str>, judgement: &'r Judgement<'_, '_>) -> Self {
        let refusal = judgement.answer.as_ref().err();
        let (reason, rule, rules) = match &judgement.decided {
            Some((call, evaluation)) => {
                let decision = &evaluation.decision;
                let rules = evaluation.explain(call);
                let rule = rules.iter().find(|rule| rule.decided).map(rule_name);
                (decision.reason().as_str(), rule, rules)
            }
            None => (refusal.map_or("not_governed", |refusal| refusal.reason), None, Vec::new()),
        };
        Self { policy, refusal, reason, rule, rules }
    }

    fn decision(&self) -> &'static str {
        if self.refusal.is_some() { "Deny" } else { "Allow" }
    }

    fn json(&self) -> Value {
        json!({
            "decision": self.decision(),
            "httpStatus": self.refusal.map_or(200, |refusal| refusal.status),
            "reason": self.reason,
            "policy": self.policy,
            "rule": self.rule,
            "requiredScopes": self.refusal.map(|refusal| &refusal.required_scopes[..]).unwrap_or_default(),
            "wwwAuthenticate": self.refusal.and_then(|refusal| refusal.www_authenticate.as_deref()),
            "rules": self.rules.iter().map(rule_json).collect::<Vec<_>>(),
        })
    }

    fn text(&self) -> String {
        let mut text = format!("{}: {}\n", self.decision(), self.because());
        if let Some(refusal) = self.refusal {
            line(&mut text, &format!("answer: HTTP {}", refusal.status));
            if let Some(challenge) = &refusal.www_authenticate {
                line(&mut text, &format!("WWW-Authenticate: {challenge}"));
            }
            line(&mut text, &format!("body: {}", refusal.body));
        }
        if !self.rules.is_empty() {
            line(&mut text, "rules, in order:");
        }
        for rule in &self.rules {
            rule_text(&mut text, rule);
        }
        text
    }

    fn because(&self) -> String {
        let Some(policy) = self.policy else {
            return format!("{}: no policy is for it", self.reason);
        };
        let by = match &self.rule {
            Some(rule) => format!("rule {rule} of policy `{policy}`"),
            None if self.rules.is_empty() => format!("policy `{policy}`"),
            None => format!("the default action of policy `{policy}`"),
        };
        match self.reason {
            "not_governed" => "the request calls no tool".to_owned(),
            reason => format!("{reason}, by {by}"),
        }
    }
}

/// A rule as people find it in the file.
fn rule_name(rule: &RuleTrace<'_>) -> String {
    rule.name.map_or_else(|| format!("rules[{}]", rule.index), str::to_owned)
}

fn action(action: Action) -> &'static str {
    match action {
        Action::Allow => "Allow",
        Action::Deny => "Deny",
    }
}

fn rule_json(rule: &RuleTrace<'_>) -> Value {
    json!({
        "rule": rule_name(rule),
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

fn line(text: &mut String, content: &str) {
    // Writing to a `String` cannot fail.
    let _written = writeln!(text, "{content}");
}

fn mark(matched: bool) -> char {
    if matched { '✓' } else { '✗' }
}

fn rule_text(text: &mut String, rule: &RuleTrace<'_>) {
    let decides = if rule.decided { ", decides" } else { "" };
    line(
        text,
        &format!("  {} {} ({}{decides})", mark(rule.decided), rule_name(rule), action(rule.action)),
    );
    match &rule.targets {
        None => line(text, "      ✓ every tool"),
        Some(targets) => targets.iter().for_each(|target| target_text(text, target)),
    }
    for (claim, holds) in &rule.claims {
        let RequiredClaim { name, values, .. } = claim;
        line(text, &format!("      {} claim {name}: {}", mark(*holds), values.join(" or ")));
    }
    for scope in rule.scopes {
        let missing = rule.missing_scopes.contains(&scope.as_str());
        let granted = if missing { "not granted" } else { "granted" };
        line(text, &format!("      {} scope {scope}: {granted}", mark(!missing)));
    }
}

fn target_text(text: &mut String, target: &TargetTrace<'_>) {
    let backend =
        target.backend.map(|backend| format!(" of backend {backend}")).unwrap_or_default();
    line(text, &format!("      {} tool {}{backend}", mark(target.selected), target.tool));
    let Some(when) = target.when else { return };
    let (matched, outcome) = match &target.outcome {
        Some(Ok(value)) => (*value, format!(": {value}")),
        Some(Err(error)) => (false, format!(": {error}")),
        None => return,
    };
    line(text, &format!("        {} when {when}{outcome}", mark(matched)));
}
