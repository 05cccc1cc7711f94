//! `mcp-authz validate`

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use super::{complain, output};
use crate::config::{self, LoadError};
use crate::gate::Gate;
use crate::policy::Policy;

/// Check policy files and list every mistake
///
/// Each mistake is one line, `FILE:LINE:COLUMN: KEYS: what is wrong`, on
/// standard output.
///
/// Exits with 0 if every file is good and with 1 if one is not.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Policy files (YAML or JSON)
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let mut mistakes = 0;
    let mut text = String::new();
    for path in &args.paths {
        let found = match config::load(path) {
            Ok(gate) => format!("{}: good, {}", path.display(), described(&gate)),
            Err(error) => {
                mistakes += match &error {
                    LoadError::Unreadable { .. } => 1,
                    LoadError::Invalid { problems, .. } => problems.len(),
                };
                error.to_string()
            }
        };
        text.push_str(&found);
        text.push('\n');
    }
    let written = output(&text);
    if mistakes > 0 {
        complain(&format!("{mistakes} {}", if mistakes == 1 { "mistake" } else { "mistakes" }));
    }
    if mistakes == 0 && written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// "policy `a` with 3 rules, policy `b` with 1 rule"
fn described(gate: &Gate) -> String {
    let policy = |policy: &Arc<Policy>| {
        let rules = policy.rules.len();
        let noun = if rules == 1 { "rule" } else { "rules" };
        format!("policy `{}` with {rules} {noun}", policy.name)
    };
    gate.policies.iter().map(policy).collect::<Vec<_>>().join(", ")
}
