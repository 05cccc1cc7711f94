//! The number of instructions that a decision takes, compared with a budget.
//!
//! `cargo bench --bench instructions` needs Valgrind and `gungraun-runner` of the version in
//! `Cargo.lock`. Unlike time, the number of instructions is the same on a busy machine. A change
//! that takes more than [`LEEWAY_PERCENT`] above `budget.txt` fails. If there is a reason for the
//! increase, raise the number there and state the reason.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    reason = "a benchmark fails by panicking, shares modules, and is made by macros"
)]

#[path = "../authorize.rs"]
mod authorize;
#[path = "../converse.rs"]
mod converse;
#[path = "../inputs.rs"]
mod inputs;

use std::hint::black_box;

use converse::{Processor, messages};
use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::processing_mode::BodySendMode;
use gungraun::{
    Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};
use inputs::When;
use mcp_authz::gate::Gate;
use mcp_authz::head::Head;
use tonic::codegen::Bytes;

const BUDGET: &str = include_str!("budget.txt");
/// Compilers and libraries change a little with each version.
const LEEWAY_PERCENT: u64 = 3;

/// The limit of the benchmark with this name.
fn within_budget(name: &str) -> LibraryBenchmarkConfig {
    let line = BUDGET.lines().find_map(|line| line.split_once(' ').filter(|(at, _)| *at == name));
    let budget: u64 = match line.map(|(_, number)| number.trim().parse()) {
        Some(Ok(number)) => number,
        _ => panic!("benches/instructions/budget.txt has no line `{name} <instructions>`"),
    };
    let limit = budget + budget * LEEWAY_PERCENT / 100;
    let mut callgrind = Callgrind::with_args(["--cache-sim=no"]);
    callgrind.hard_limits([(EventKind::Ir, limit)]);
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(callgrind);
    config
}

/// The inputs of a decision: the policy and the request.
struct Case {
    gate: Gate,
    head: Head,
    payload: Vec<u8>,
    body: Vec<u8>,
}

impl Case {
    fn new(policy: &str, body: Vec<u8>) -> Self {
        let case = Self {
            gate: authorize::gate(policy),
            head: authorize::head(),
            payload: authorize::payload(),
            body,
        };
        // What is made once is there.
        authorize::decide(&case.gate, case.head.clone(), &case.payload, &case.body);
        case
    }
}

fn allowed(rules: usize) -> Case {
    Case::new(&inputs::policy(rules, When::Title), inputs::call(rules))
}

fn challenged(rules: usize) -> Case {
    let policy = inputs::policy_for(rules, When::Title, "issues:admin");
    Case::new(&policy, inputs::call(rules))
}

fn long(bytes: usize, when: When) -> Case {
    Case::new(&inputs::policy(50, when), inputs::long_call(50, bytes))
}

/// The case comes back so that its end is not counted.
fn decide(case: Case, allowed: bool) -> Case {
    let Case { gate, head, payload, body } = &case;
    let decided =
        authorize::decide(black_box(gate), head.clone(), black_box(payload), black_box(body));
    assert_eq!(decided, allowed);
    case
}

#[library_benchmark]
#[bench::rules_10(args = (10), setup = allowed, config = within_budget("allow.rules_10"))]
#[bench::rules_10000(args = (10_000), setup = allowed, config = within_budget("allow.rules_10000"))]
fn allow(case: Case) -> Case {
    decide(case, true)
}

#[library_benchmark]
#[bench::rules_10(args = (10), setup = challenged, config = within_budget("challenge.rules_10"))]
#[bench::rules_10000(
    args = (10_000), setup = challenged, config = within_budget("challenge.rules_10000")
)]
fn challenge(case: Case) -> Case {
    decide(case, false)
}

#[library_benchmark]
#[bench::unread(args = (64 << 10, When::Never), setup = long, config = within_budget("body.unread"))]
#[bench::read(args = (64 << 10, When::Title), setup = long, config = within_budget("body.read"))]
#[bench::looked_through(
    args = (64 << 10, When::EachFile), setup = long, config = within_budget("body.looked_through")
)]
fn body(case: Case) -> Case {
    decide(case, true)
}

fn stream(mode: BodySendMode) -> (Processor, Bytes) {
    let processor = Processor::new(authorize::gate(&inputs::policy(50, When::Title)));
    let messages = messages(mode, authorize::metadata(), inputs::call(50));
    processor.answer(messages.clone());
    (processor, messages)
}

#[library_benchmark]
#[bench::buffered(
    args = (BodySendMode::Buffered), setup = stream, config = within_budget("conversation.buffered")
)]
#[bench::duplex(
    args = (BodySendMode::FullDuplexStreamed),
    setup = stream,
    config = within_budget("conversation.duplex")
)]
fn conversation((processor, messages): (Processor, Bytes)) -> Processor {
    assert!(processor.answer(messages) > 0);
    processor
}

library_benchmark_group!(name = all, benchmarks = [allow, challenge, body, conversation]);
main!(library_benchmark_groups = all);
