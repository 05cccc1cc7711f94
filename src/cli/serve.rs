//! `mcp-authz serve`

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::available_parallelism;

use super::complain;
use crate::config;
use crate::gate::ClaimsFrom;
use crate::server::{self, Address};
use crate::telemetry::{self, LogFormat};

/// Serve Envoy's external processing filter
///
/// Reads the policy, listens, and judges each request that Envoy asks about. Loads
/// the policy anew when its files change, and on SIGHUP; mistakes are logged, and
/// the last good policy stays in force. Stops on SIGTERM or SIGINT after the open
/// streams have ended.
///
/// Exits with 1 if the policy is not valid or the address cannot be used.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The policy file (YAML or JSON), or a directory of them
    #[arg(long, env = "MCP_AUTHZ_POLICY", value_name = "PATH")]
    policy: PathBuf,

    /// Where to listen: unix:PATH or HOST:PORT
    #[arg(
        long,
        env = "MCP_AUTHZ_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:9001"
    )]
    listen: Address,

    /// Threads that serve, at most one a core [default: one a core]
    #[arg(long, env = "MCP_AUTHZ_THREADS", value_name = "N")]
    threads: Option<NonZeroUsize>,

    /// How log lines look [default: text on a terminal, json elsewhere]
    ///
    /// RUST_LOG selects what is logged: error, warn, info (the default), debug.
    #[arg(long, env = "MCP_AUTHZ_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

pub(super) fn run(args: &Args) -> ExitCode {
    if let Err(error) = telemetry::init(args.log_format) {
        complain(&format!("mcp-authz: {error}"));
        return ExitCode::FAILURE;
    }
    let gate = match config::load(&args.policy) {
        Ok(gate) => gate,
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    if gate.claims_from == ClaimsFrom::AuthorizationHeader {
        tracing::warn!(
            "`jwt.from: authorizationHeader`: tokens are decoded without a look at their signature; \
             whoever can write a header can claim any scope unless Envoy verifies tokens before"
        );
    }
    for policy in &gate.policies {
        tracing::info!(
            policy = policy.name,
            rules = policy.rules.len(),
            sha256 = gate.digest,
            version = env!("CARGO_PKG_VERSION"),
            "policy loaded"
        );
    }
    let cores = available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let threads = args.threads.map_or(cores, |threads| threads.min(cores));
    match server::serve(gate, &args.policy, &args.listen, threads) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("mcp-authz: {error}"));
            ExitCode::FAILURE
        }
    }
}
