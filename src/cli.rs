//! The command line: one file a subcommand, no decision of its own.

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

/// Runs the command that the arguments name; the first is the program's name.
pub fn run<I, T>(arguments: I) -> ExitCode
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(message) => {
            // Help goes to standard output, mistakes to standard error.
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

/// What a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// With colours on a terminal, unless NO_COLOR says otherwise.
fn renderer() -> Renderer {
    match AutoStream::choice(&std::io::stdout()) {
        ColorChoice::Never => Renderer::plain(),
        _ => Renderer::styled(),
    }
}

/// Writes to standard output. `Err`: it could not be written, and that was said.
fn output(text: &str) -> Result<(), ()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        // Whoever reads it has read enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => {
            complain(&format!("standard output: {error}"));
            Err(())
        }
    }
}

/// Asks a server, and says what went wrong if it did.
fn asking<T, E: fmt::Display>(question: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    runtime.block_on(question).map_err(|error| error.to_string())
}

/// Writes a line to standard error. If that fails there is nobody to tell.
fn complain(message: &str) {
    let _nobody_to_tell = writeln!(std::io::stderr().lock(), "{message}");
}
