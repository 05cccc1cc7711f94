//! The command line: one file for each subcommand. This module makes no decisions of its own.

mod check;
mod envoy_config;
mod findings;
mod health;
mod report;
mod schema;
mod serve;
mod tail;
mod test;
mod validate;

use std::ffi::OsString;
use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

use annotate_snippets::Renderer;
use anstream::{AutoStream, ColorChoice};
use clap::{Parser, Subcommand, ValueEnum};

/// Decides which MCP tool calls a caller may make, as an external processor
/// (ext_proc) of Envoy.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Check(check::Args),
    Tail(tail::Args),
    Health(health::Args),
    Test(test::Args),
    Validate(validate::Args),
    EnvoyConfig(envoy_config::Args),
    Schema(schema::Args),
}

/// Runs the command that the arguments name. The first argument is the name of the program.
pub fn run<I, T>(arguments: I) -> ExitCode
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(message) => {
            // Help goes to standard output, error messages to standard error.
            let _nowhere_to_tell = message.print();
            return if message.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Tail(args) => tail::run(&args),
        Command::Health(args) => health::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Validate(args) => validate::run(&args),
        Command::EnvoyConfig(args) => envoy_config::run(&args),
        Command::Schema(args) => schema::run(&args),
    }
}

/// The format of a command's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Returns a renderer. It uses colors on a terminal, unless the environment has `NO_COLOR`.
fn renderer() -> Renderer {
    match AutoStream::choice(&std::io::stdout()) {
        ColorChoice::Never => Renderer::plain(),
        _ => Renderer::styled(),
    }
}

/// Writes to standard output. If that fails, reports the error and returns `Err`.
fn output(text: &str) -> Result<(), ()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        // The reader has closed the pipe, because it needs no more output.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => {
            complain(&format!("standard output: {error}"));
            Err(())
        }
    }
}

/// Runs a request to a server, and returns the error as a string.
fn asking<T, E: fmt::Display>(question: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    runtime.block_on(question).map_err(|error| error.to_string())
}

/// Writes a line to standard error. Ignores errors, because no other output is left.
fn complain(message: &str) {
    let _nobody_to_tell = writeln!(std::io::stderr().lock(), "{message}");
}
