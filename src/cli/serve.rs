//! `mcp-authz serve`

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::Duration;

use super::complain;
use crate::address::Address;
use crate::admin::Reach;
use crate::config;
use crate::server::{self, Drain, Options};
use crate::telemetry::{self, DecisionLog, Endpoint, LogFormat, Share};

/// Serve Envoy's external processing filter
///
/// Reads the policy, listens, and judges each request that Envoy asks about. Loads
/// the policy anew when its files change, and on SIGHUP; mistakes are logged, and
/// the last good policy stays in force.
///
/// Writes the decision log to standard output, a JSON object a line (for people on
/// a terminal): every denial, those of policies in Shadow too, and of what is
/// allowed as much as --log-allows says. Other logs go to standard error.
///
/// Stops on SIGTERM or SIGINT: says that it is not ready, serves on for
/// --drain-delay, and then gives open streams --drain-timeout to end.
///
/// Exits with 0 after a signal, and with 1 if the policy is not valid or an address
/// cannot be used.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  \
mcp-authz serve --policy policy.yaml --listen unix:/run/mcp-authz/mcp-authz.sock --admin 127.0.0.1:9002")]
pub(super) struct Args {
    /// The policy file (YAML or JSON), or a directory of them
    #[arg(long, env = "MCP_AUTHZ_POLICY", value_name = "PATH")]
    policy: PathBuf,

    /// Where to listen for Envoy: unix:PATH or HOST:PORT
    #[arg(
        long,
        env = "MCP_AUTHZ_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:9001"
    )]
    listen: Address,

    /// Where to answer people and Prometheus: unix:PATH or HOST:PORT [default: nowhere]
    ///
    /// Over HTTP /metrics, /healthz and /readyz, over gRPC the standard health
    /// service and mcp_authz.v1.Authorizer, which `check --server` and `tail` use.
    #[arg(long, env = "MCP_AUTHZ_ADMIN", value_name = "ADDRESS")]
    admin: Option<Address>,

    /// Let other hosts use `check --server` and `tail`, too
    ///
    /// They tell who called what, and the rules that were looked at. Without this they answer loopback and Unix
    /// sockets only; metrics and health answer everyone who reaches the port.
    #[arg(long, env = "MCP_AUTHZ_ADMIN_REMOTE", requires = "admin")]
    admin_remote: bool,

    /// The share of allowed calls that is logged, from 0 to 1
    #[arg(long, env = "MCP_AUTHZ_LOG_ALLOWS", value_name = "SHARE", default_value = "0")]
    log_allows: Share,

    /// How log lines look [default: text on a terminal, json elsewhere]
    ///
    /// RUST_LOG selects what is logged beside decisions: error, warn, info (the
    /// default), debug.
    #[arg(long, env = "MCP_AUTHZ_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<LogFormat>,

    /// Where to send a span for each decision: the URL of an OTLP/gRPC receiver
    /// [default: nowhere]
    #[arg(long, env = "MCP_AUTHZ_OTLP", value_name = "URL")]
    otlp: Option<Endpoint>,

    /// How long to serve on after a signal to stop, so that load balancers notice
    #[arg(
        long,
        env = "MCP_AUTHZ_DRAIN_DELAY",
        value_name = "SECONDS",
        default_value = "0",
        value_parser = seconds
    )]
    drain_delay: Duration,

    /// How long open streams may take to end after that
    #[arg(
        long,
        env = "MCP_AUTHZ_DRAIN_TIMEOUT",
        value_name = "SECONDS",
        default_value = "5",
        value_parser = seconds
    )]
    drain_timeout: Duration,

    /// Threads that serve Envoy, at most one a core [default: one a core]
    #[arg(long, env = "MCP_AUTHZ_THREADS", value_name = "N")]
    threads: Option<NonZeroUsize>,
}

/// An hour is longer than any orchestrator waits.
const LONGEST_DRAIN: u64 = 3600;

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if seconds <= LONGEST_DRAIN => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("not a whole number of seconds from 0 to {LONGEST_DRAIN}")),
    }
}

pub(super) fn run(args: &Args) -> ExitCode {
    // They write what is left to write when they are dropped.
    let _log = match telemetry::init(args.log_format) {
        Ok(guard) => guard,
        Err(error) => {
            complain(&format!("mcp-authz: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let gate = match config::load(&args.policy) {
        Ok(gate) => gate,
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    let (decisions, _decisions) = match DecisionLog::new(args.log_format, args.log_allows) {
        Ok(log) => log,
        Err(error) => {
            complain(&format!("mcp-authz: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let cores = available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let reach = if args.admin_remote { Reach::Everyone } else { Reach::ThisHost };
    let options = Options {
        policy: args.policy.clone(),
        listen: args.listen.clone(),
        admin: args.admin.clone().map(|address| (address, reach)),
        threads: args.threads.map_or(cores, |threads| threads.min(cores)),
        otlp: args.otlp.clone(),
        drain: Drain { delay: args.drain_delay, timeout: args.drain_timeout },
    };
    match server::serve(gate, &options, decisions) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("mcp-authz: {error}"));
            ExitCode::FAILURE
        }
    }
}
