//! The command `mcp-authz validate`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::builder::PossibleValuesParser;
use serde_json::json;

use super::{Output, complain, findings, output, renderer};
use crate::config::{self, Diagnostic, Lint, Severity};
use crate::gate::Gate;
use crate::policy::Policy;

/// Check policy files and list every mistake and every doubt
///
/// Each is shown with its place, the line of the file, and what is wrong with it.
/// Errors are what `serve` would refuse; warnings are what is probably not meant
/// so; notices are good to know.
///
/// Exits with 0 if every file is good and with 1 if one is not, or if there is a
/// warning and --deny-warnings is given.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example, for CI:\n  mcp-authz validate --deny-warnings policy.yaml")]
pub(super) struct Args {
    /// Policy files (YAML or JSON), or directories of them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Exit with 1 if there is a warning
    #[arg(long)]
    deny_warnings: bool,

    /// Do not mention these warnings; may be repeated
    #[arg(
        long,
        value_name = "CODE",
        value_parser = PossibleValuesParser::new(Lint::ALL.map(Lint::as_str))
    )]
    allow: Vec<String>,

    /// For people or for programs
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let mut found = Vec::new();
    let mut good = Vec::new();
    for path in &args.paths {
        let (gate, findings) = config::inspect(path);
        let is_allowed = |finding: &Diagnostic| {
            finding.lint.is_some_and(|lint| args.allow.iter().any(|code| code == lint.as_str()))
        };
        found.extend(findings.into_iter().filter(|finding| !is_allowed(finding)));
        good.extend(gate.map(|gate| (path, gate)));
    }
    let written = match args.output {
        Output::Text => {
            let mut text = findings::text(&found, &renderer());
            for (path, gate) in &good {
                text.push_str(&format!("{}: good, {}\n", path.display(), described(gate)));
            }
            output(&text)
        }
        Output::Json => {
            let findings: Vec<_> = found.iter().map(findings::json).collect();
            let good: Vec<_> = good.iter().map(|(path, _)| path.to_string_lossy()).collect();
            output(&format!("{:#}\n", json!({ "good": good, "findings": findings })))
        }
    };
    let summary = findings::summary(&found);
    if !summary.is_empty() {
        complain(&summary);
    }
    let bad = |finding: &Diagnostic| match finding.severity {
        Severity::Error => true,
        Severity::Warning => args.deny_warnings,
        Severity::Notice => false,
    };
    if written.is_ok() && !found.iter().any(bad) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Describes a gate: "policy `a` with 3 rules, policy `b` with 1 rule".
fn described(gate: &Gate) -> String {
    let policy = |policy: &Arc<Policy>| {
        let rules = policy.rules.len();
        let noun = if rules == 1 { "rule" } else { "rules" };
        format!("policy `{}` with {rules} {noun}", policy.name)
    };
    gate.policies.iter().map(policy).collect::<Vec<_>>().join(", ")
}
