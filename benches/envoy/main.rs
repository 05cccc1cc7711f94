//! The cost of mcp-authz beside a real Envoy, compared with the alternatives.
//!
//! `cargo bench --bench envoy` starts Envoy alone, with its own filters, with an external processor
//! that does nothing, and with mcp-authz. The benchmark loads these set-ups in turns, and prints
//! processor time, latency and throughput with their ratios. It writes `target/bench/envoy.json`
//! and plots in the same directory.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "a benchmark fails by panicking, and shares modules with the quickstart"
)]

#[path = "../authorize.rs"]
mod authorize;
mod costs;
#[path = "../../examples/quickstart/envoy.rs"]
mod envoy;
#[path = "../inputs.rs"]
mod inputs;
mod load;
mod noop;
mod report;
mod setups;
mod sidecar;
#[path = "../../examples/quickstart/tokens.rs"]
mod tokens;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use tokio::runtime::Runtime;

use inputs::When;
use report::{Report, Round};
use setups::{Running, SETUPS};
use tokens::{Error, Issuer};

/// Measure the cost of mcp-authz beside a real Envoy
#[derive(Debug, Parser)]
struct Args {
    /// Number of turns of each set-up
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Length of each turn, in seconds
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Numbers of connections in a turn, separated by commas
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16])]
    connections: Vec<usize>,
    /// Only set-ups whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Another mcp-authz than the one that was built
    #[arg(long)]
    mcp_authz: Option<PathBuf>,
    /// Flag that `cargo bench` gives every benchmark
    #[arg(long, hide = true)]
    bench: bool,
    /// A filter of `cargo bench`
    #[arg(hide = true)]
    filter: Option<String>,
}

fn main() -> Result<(), Error> {
    // The external processor that does nothing is a process of its own.
    if let Some(socket) = std::env::var_os(noop::SOCKET) {
        return noop::serve(&PathBuf::from(socket));
    }
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = run(&args, &runtime)?;
    print!("{}", report.table());
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    report.write(&dir)?;
    println!("\nwritten: {}", dir.display());
    Ok(())
}

fn run(args: &Args, runtime: &Runtime) -> Result<Report, Error> {
    let binary = envoy::find(|text| eprintln!("{text}"))?;
    let issuer = Issuer::new()?;
    let upstream = load::upstream()?;
    let built = PathBuf::from(env!("CARGO_BIN_EXE_mcp-authz"));
    let mcp_authz = args.mcp_authz.as_ref().unwrap_or(&built);
    let chosen = SETUPS.into_iter().filter(|setup| setup.name().contains(&args.only));
    let mut running = Vec::new();
    for setup in chosen {
        let started = Running::start(setup, &binary, &issuer, upstream, mcp_authz);
        running.push(runtime.block_on(started)?);
    }
    let idle = running.iter().map(Running::resident).collect::<Result<Vec<_>, _>>()?;
    let duration = Duration::from_secs_f64(args.seconds);
    let mut report = Report::default();
    for round in 0..args.rounds {
        for &connections in &args.connections {
            // Each begins once: what comes first has another machine than what comes last.
            for turn in 0..running.len() {
                let running = &running[(round + turn) % running.len()];
                eprint!("\rround {} of {}: {:<40}", round + 1, args.rounds, running.setup.name());
                let load = |duration| running.load(connections, duration);
                runtime.block_on(load(duration / 8))?;
                let before = running.cpu()?;
                let measured = runtime.block_on(load(duration))?;
                let cpu = running.cpu()?.since(before);
                report.add(Round { setup: running.setup, connections, measured, cpu });
            }
        }
    }
    eprintln!();
    for (running, idle) in running.iter().zip(idle) {
        if let (Some(idle), Some(loaded)) = (idle, running.resident()?) {
            report.resident.push((running.setup, idle, loaded));
        }
    }
    drop(running);
    report.sidecar = runtime.block_on(sidecar::measure(mcp_authz))?;
    report.by_rules = costs::by_rules();
    report.by_rules_for_any = costs::by_rules_for_any();
    report.by_claims_unread = costs::by_claims(false);
    report.by_claims_read = costs::by_claims(true);
    report.by_bytes_unread = costs::by_bytes(When::Never);
    report.by_bytes_read = costs::by_bytes(When::Title);
    Ok(report)
}
