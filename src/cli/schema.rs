//! The command `mcp-authz schema`.

use std::process::ExitCode;

use clap::ValueEnum;

use super::output;
use crate::{config, suite};

/// Print the JSON Schema of policy files or of test files
///
/// Editors complete and check files with it. With the YAML language server, put
/// this on the first line of a policy:
///
/// # yaml-language-server: $schema=policy.schema.json
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  mcp-authz schema > policy.schema.json")]
pub(super) struct Args {
    /// The kind of files that the schema is for
    #[arg(value_name = "FILES", default_value = "policy")]
    files: Files,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Files {
    /// Policy files
    Policy,
    /// Files of policy tests
    Tests,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let schema = match args.files {
        Files::Policy => config::schema(),
        Files::Tests => suite::schema(),
    };
    match output(&format!("{schema:#}\n")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(()) => ExitCode::FAILURE,
    }
}
