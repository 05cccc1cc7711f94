//! The command `mcp-authz serve`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;

use super::complain;
use crate::address::Address;
use crate::admin::AdminAccess;
use crate::config;
use crate::extproc::Capacity;
use crate::server::{self, Access, Drain, Options};
use crate::telemetry::{self, DecisionLog, Endpoint, LogFormat, SampleRate};

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

    /// The permissions of the Unix socket of --listen, in octal [default: 666]
    ///
    /// Envoy usually runs as another user. A program that connects gets decisions only
    /// about requests that it makes up itself.
    #[arg(long, env = "MCP_AUTHZ_LISTEN_MODE", value_name = "MODE", value_parser = mode)]
    listen_mode: Option<u32>,

    /// The group of the Unix socket of --listen, by number [default: the one of the process]
    #[arg(long, env = "MCP_AUTHZ_LISTEN_GROUP", value_name = "GID", value_parser = group())]
    listen_group: Option<u32>,

    /// Where to answer people and Prometheus: unix:PATH or HOST:PORT [default: nowhere]
    ///
    /// Over HTTP /metrics, /healthz and /readyz, over gRPC the standard health
    /// service and mcp_authz.v1.Authorizer, which `check --server` and `tail` use.
    #[arg(long, env = "MCP_AUTHZ_ADMIN", value_name = "ADDRESS")]
    admin: Option<Address>,

    /// The permissions of the Unix socket of --admin, in octal [default: 600]
    #[arg(long, env = "MCP_AUTHZ_ADMIN_MODE", value_name = "MODE", value_parser = mode)]
    admin_mode: Option<u32>,

    /// The group of the Unix socket of --admin, by number [default: the one of the process]
    #[arg(long, env = "MCP_AUTHZ_ADMIN_GROUP", value_name = "GID", value_parser = group())]
    admin_group: Option<u32>,

    /// Let other hosts use `check --server` and `tail`, too
    ///
    /// They tell who called what, and the rules that were looked at. Without this they answer loopback and Unix
    /// sockets only; metrics and health answer everyone who reaches the port.
    #[arg(long, env = "MCP_AUTHZ_ADMIN_REMOTE", requires = "admin")]
    admin_remote: bool,

    /// The share of allowed calls that is logged, from 0 to 1
    #[arg(long, env = "MCP_AUTHZ_LOG_ALLOWS", value_name = "SHARE", default_value = "0")]
    log_allows: SampleRate,

    /// The format of log lines [default: text on a terminal, json elsewhere]
    ///
    /// RUST_LOG selects what is logged beside decisions: error, warn, info (the
    /// default), debug.
    #[arg(long, env = "MCP_AUTHZ_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<LogFormat>,

    /// Where to send a span for each decision: the URL of an OTLP/gRPC receiver
    /// [default: nowhere]
    #[arg(long, env = "MCP_AUTHZ_OTLP", value_name = "URL")]
    otlp: Option<Endpoint>,

    /// The time to go on serving after a signal to stop, so that load balancers notice
    #[arg(
        long,
        env = "MCP_AUTHZ_DRAIN_DELAY",
        value_name = "SECONDS",
        default_value = "0",
        value_parser = seconds
    )]
    drain_delay: Duration,

    /// The time that open streams may then take to end
    #[arg(
        long,
        env = "MCP_AUTHZ_DRAIN_TIMEOUT",
        value_name = "SECONDS",
        default_value = "5",
        value_parser = seconds
    )]
    drain_timeout: Duration,

    /// The most requests that are decided, and lists that are filtered, at once; more are
    /// answered with 503
    #[arg(
        long,
        env = "MCP_AUTHZ_MAX_STREAMS",
        value_name = "N",
        default_value_t = MAX_STREAMS,
        value_parser = RangedU64ValueParser::<usize>::new().range(1..)
    )]
    max_streams: usize,

    /// The most bytes of request bodies that are held at once; a request that would
    /// need more is answered with 503
    #[arg(
        long,
        env = "MCP_AUTHZ_MAX_HELD_BYTES",
        value_name = "BYTES",
        default_value = "67108864",
        value_parser = RangedU64ValueParser::<usize>::new().range(1..)
    )]
    max_held_bytes: usize,

    /// The time in which a request must arrive; later it is answered with 408
    #[arg(
        long,
        env = "MCP_AUTHZ_BODY_TIMEOUT",
        value_name = "SECONDS",
        default_value = "60",
        value_parser = seconds_from_1
    )]
    body_timeout: Duration,

    /// Threads that serve Envoy, at most one a core [default: one a core]
    #[arg(long, env = "MCP_AUTHZ_THREADS", value_name = "N")]
    threads: Option<NonZeroUsize>,
}

/// The default of `--max-streams`: the most requests that are decided at once. The circuit breakers
/// that `envoy-config` prints depend on this limit.
pub(super) const MAX_STREAMS: usize = 10_000;

/// The longest duration in seconds. No orchestrator or client waits longer than an hour.
const LONGEST: u64 = 3600;

fn seconds(text: &str) -> Result<Duration, String> {
    whole_seconds(text, 0)
}

fn seconds_from_1(text: &str) -> Result<Duration, String> {
    whole_seconds(text, 1)
}

fn whole_seconds(text: &str, least: u64) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (least..=LONGEST).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("not a whole number of seconds from {least} to {LONGEST}")),
    }
}

/// Parses the number of a group. Excludes the last number, by which `chown` means no change.
fn group() -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(..u64::from(u32::MAX))
}

/// Parses permissions in octal, as `chmod` reads them.
fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("not permissions in octal, such as 660".to_owned()),
    }
}

impl Args {
    /// Returns the access to `--listen` and the access to `--admin`.
    fn access(&self) -> Result<(Access, Access), String> {
        Ok((
            access("listen", Some(&self.listen), self.listen_mode, self.listen_group, 0o666)?,
            access("admin", self.admin.as_ref(), self.admin_mode, self.admin_group, 0o600)?,
        ))
    }
}

/// Returns the access to the address of a flag. A restriction that has no effect is a mistake,
/// because the operator relies on it.
fn access(
    flag: &str,
    address: Option<&Address>,
    mode: Option<u32>,
    group: Option<u32>,
    default: u32,
) -> Result<Access, String> {
    let given = [("mode", mode), ("group", group)].into_iter().find(|(_, value)| value.is_some());
    match (address, given) {
        (Some(Address::Unix(_)), _) | (_, None) => {
            Ok(Access { mode: mode.unwrap_or(default), group })
        }
        (address, Some((what, _))) => {
            let address = address.map_or("not given".to_owned(), ToString::to_string);
            Err(format!(
                "--{flag}-{what} is for Unix sockets, and --{flag} is {address}: \
                 give --{flag} unix:PATH, or leave --{flag}-{what} out"
            ))
        }
    }
}

pub(super) fn run(args: &Args) -> ExitCode {
    let (listen_access, admin_access) = match args.access() {
        Ok(access) => access,
        Err(error) => {
            complain(&format!("mcp-authz: {error}"));
            return ExitCode::FAILURE;
        }
    };
    // This guard and the next write the remaining log lines when they are dropped.
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
    let reach = if args.admin_remote { AdminAccess::Everyone } else { AdminAccess::ThisHost };
    let options = Options {
        policy: args.policy.clone(),
        listen: args.listen.clone(),
        listen_access,
        admin: args.admin.clone().map(|address| (address, reach)),
        admin_access,
        capacity: Capacity {
            streams: args.max_streams,
            held_bytes: args.max_held_bytes,
            body_timeout: args.body_timeout,
        },
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
