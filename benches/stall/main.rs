//! The time that one caller keeps the others waiting, and the memory that one body takes.
//!
//! `cargo bench --bench stall` first decides on each hostile body in this process. Then four
//! callers send the slowest ones to `mcp-authz serve` without pause, while the benchmark measures
//! the calls of a neighbor on the same thread. `-- --mcp-authz PATH` measures another binary as
//! well.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a benchmark fails by panicking"
)]
#![allow(dead_code, unreachable_pub, reason = "the benchmarks share modules")]

mod allocator;
#[path = "../authorize.rs"]
mod authorize;
mod hostile;
#[path = "../inputs.rs"]
mod inputs;
mod neighbor;

use std::path::PathBuf;
use std::time::Duration;

use allocator::{Counting, most_allocated};
use clap::Parser;
use hostile::{NAMES, POLICIES, policy};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The number of turns in which each body is judged; the median counts.
const TURNS: usize = 5;

/// Measure the time that one caller keeps the others waiting
#[derive(Debug, Parser)]
struct Args {
    /// Another mcp-authz than the one that was built, to measure beside it
    #[arg(long)]
    mcp_authz: Vec<PathBuf>,
    /// Only bodies whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Time for which a neighbor is measured beside each body, in seconds
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Number of the slowest bodies that are sent beside the neighbor
    #[arg(long, default_value_t = 4)]
    slowest: usize,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    let names = NAMES.into_iter().filter(|name| name.contains(&args.only));
    let bodies: Vec<(&str, Vec<u8>)> = names.map(|name| (name, hostile::body(name))).collect();
    let mut slowest: Vec<(f64, &str, &str)> = Vec::new();
    let rules = POLICIES.map(|(name, _)| format!("{name:>17}")).join("");
    println!("milliseconds, and bytes of memory for each byte of the body\n{:25}{rules}", "");
    for (name, body) in &bodies {
        let mut line = format!("{name:25}");
        for (rule_name, rule) in POLICIES {
            let (milliseconds, ratio) = judged(rule, body);
            line += &format!("{milliseconds:10.1} {ratio:6.2}");
            slowest.push((milliseconds, name, rule_name));
        }
        println!("{line}");
    }
    slowest.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut binaries = vec![PathBuf::from(env!("CARGO_BIN_EXE_mcp-authz"))];
    binaries.extend(args.mcp_authz);
    let duration = Duration::from_secs_f64(args.seconds);
    println!("\na neighbor's calls in milliseconds, beside four callers; resident MiB at most");
    let small = hostile::small();
    for binary in &binaries {
        let alone = neighbor::measure(binary, &policy(POLICIES[0].1), None, &small, duration);
        println!("{:25}{:17}{alone}  {}", "(no other caller)", "", binary.display());
    }
    for (_, name, rule_name) in slowest.into_iter().take(args.slowest) {
        let body = bodies.iter().find(|(other, _)| *other == name).map(|(_, body)| body.as_slice());
        let rule = POLICIES.iter().find(|(other, _)| *other == rule_name).unwrap().1;
        for binary in &binaries {
            let beside = neighbor::measure(binary, &policy(rule), body, &small, duration);
            println!("{name:25}{rule_name:17}{beside}  {}", binary.display());
        }
    }
}

/// Returns the time that this thread has run: other processes make it wait, too.
fn processor_time() -> Duration {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(statistics.split(' ').next().unwrap().parse().unwrap())
}

/// Returns how long a body takes, in milliseconds of processor time, and how much memory for each of its bytes.
fn judged(rule: &str, body: &[u8]) -> (f64, f64) {
    let (gate, payload) = (authorize::gate(&policy(rule)), authorize::payload());
    let mut turns: Vec<(Duration, usize)> = (0..TURNS)
        .map(|_| {
            let head = authorize::head();
            let started = processor_time();
            let (_, most) = most_allocated(|| authorize::decide(&gate, head, &payload, body));
            (processor_time() - started, most)
        })
        .collect();
    turns.sort();
    let (took, most) = turns[TURNS / 2];
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    let ratio = (body.len() + most) as f64 / body.len() as f64;
    (took.as_secs_f64() * 1e3, ratio)
}
