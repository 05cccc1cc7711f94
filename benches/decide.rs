//! The cost of a decision without Envoy: reading, deciding, challenging, and the conversation with
//! Envoy in memory.
//!
//! `cargo bench --bench decide`

#![allow(clippy::panic, clippy::unwrap_used, reason = "a benchmark fails by panicking")]
#![allow(dead_code, unreachable_pub, reason = "the benchmarks share modules")]

#[path = "authorize.rs"]
mod authorize;
#[path = "converse.rs"]
mod converse;
#[path = "inputs.rs"]
mod inputs;

use authorize::{decide, gate, head, metadata, payload};
use converse::{Processor, messages};
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::processing_mode::BodySendMode;
use inputs::When;
use mcp_authz::gate::Gate;
use mcp_authz::mcp::{self, Accept, MirroredHeaders};

fn main() {
    assert_eq!(inputs::call(50).len(), 274);
    assert_eq!(serde_json::Value::Object(inputs::claims()).to_string().len(), 513);
    divan::main();
}

const RULES: [usize; 3] = [10, 1_000, 10_000];
const BODIES: [usize; 3] = [4 << 10, 64 << 10, 1 << 20];

fn bench_decide(bencher: Bencher<'_, '_>, gate: &Gate, body: &[u8], allowed: bool) {
    let (head, payload) = (head(), payload());
    assert_eq!(decide(gate, head.clone(), &payload, body), allowed);
    bencher
        .with_inputs(|| head.clone())
        .bench_values(|head| decide(gate, head, black_box(&payload), black_box(body)));
}

/// 274 bytes of body, 513 bytes of claims, one condition with a regular expression;
/// the last of so many rules allows.
#[divan::bench(args = RULES, sample_size = 100)]
fn allow(bencher: Bencher<'_, '_>, rules: usize) {
    let gate = gate(&inputs::policy(rules, When::Title));
    bench_decide(bencher, &gate, &inputs::call(rules), true);
}

/// The same call without the scope: the challenge names it.
#[divan::bench(args = RULES, sample_size = 100)]
fn challenge(bencher: Bencher<'_, '_>, rules: usize) {
    let gate = gate(&inputs::policy_for(rules, When::Title, "issues:admin"));
    bench_decide(bencher, &gate, &inputs::call(rules), false);
}

/// All that is done about a call but HTTP/2: 50 rules, from Envoy's messages to the
/// answers.
#[divan::bench(
    args = [BodySendMode::Buffered, BodySendMode::FullDuplexStreamed],
    sample_size = 100,
)]
fn conversation(bencher: Bencher<'_, '_>, mode: BodySendMode) {
    let processor = Processor::new(gate(&inputs::policy(50, When::Title)));
    let messages = messages(mode, metadata(), inputs::call(50));
    assert!(processor.answer(messages.clone()) > 0);
    bencher.bench_local(|| processor.answer(messages.clone()));
}

/// A tool that no rule names.
#[divan::bench(args = RULES, sample_size = 100)]
fn no_rule(bencher: Bencher<'_, '_>, rules: usize) {
    let gate = gate(&inputs::policy(rules, When::Title));
    bench_decide(bencher, &gate, &inputs::call(rules + 1), false);
}

/// The answer to a list of so many tools, filtered by 10,000 rules of which each tool has
/// one.
#[divan::bench(args = [200, 1_000])]
fn list(bencher: Bencher<'_, '_>, tools: usize) {
    let gate = gate(&inputs::policy_listing(10_000, "Reachable"));
    let answer = inputs::list(tools);
    assert!(authorize::filtered(&gate, &payload(), &answer).len() > answer.len());
    bencher.bench(|| authorize::filtered(&gate, black_box(&payload()), black_box(&answer)));
}

/// The strict reader alone.
#[divan::bench(sample_size = 100)]
fn read(bencher: Bencher<'_, '_>) {
    let body = inputs::call(10);
    read_body(bencher, &body);
}

#[divan::bench(args = BODIES)]
fn read_long(bencher: Bencher<'_, '_>, bytes: usize) {
    let body = inputs::long_call(10, bytes);
    read_body(bencher, &body);
}

fn read_body(bencher: Bencher<'_, '_>, body: &[u8]) {
    let accept = Accept { max_depth: 64, batches: false, ..Accept::USUAL };
    let headers = MirroredHeaders::default();
    bencher
        .counter(BytesCount::of_slice(body))
        .bench(|| mcp::read(black_box(body), &headers, accept).is_ok());
}

/// Long arguments that no condition reads.
#[divan::bench(args = BODIES)]
fn long_unread(bencher: Bencher<'_, '_>, bytes: usize) {
    long(bencher, bytes, When::Never);
}

/// Long arguments that are read because a condition looks at the title among them.
#[divan::bench(args = BODIES)]
fn long_read(bencher: Bencher<'_, '_>, bytes: usize) {
    long(bencher, bytes, When::Title);
}

/// Long arguments of which a condition looks at each element.
#[divan::bench(args = BODIES)]
fn long_looked_through(bencher: Bencher<'_, '_>, bytes: usize) {
    long(bencher, bytes, When::EachFile);
}

fn long(bencher: Bencher<'_, '_>, bytes: usize, when: When) {
    let gate = gate(&inputs::policy(50, when));
    let body = inputs::long_call(50, bytes);
    bench_decide(bencher.counter(BytesCount::of_slice(&body)), &gate, &body, true);
}
