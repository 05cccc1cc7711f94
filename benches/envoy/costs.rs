//! The growth of the cost of a decision, without Envoy.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::authorize::{decide, gate, head, payload, payload_of};
use crate::inputs::{self, When};

/// The least time for which a round of decisions lasts.
const LONG_ENOUGH: Duration = Duration::from_millis(100);
const ROUNDS: usize = 5;

/// A size, and what a decision takes then, in nanoseconds.
pub type Point = (usize, f64);

/// Against the number of rules.
pub fn by_rules() -> Vec<Point> {
    let point = |rules| {
        let (policy, call) = (inputs::policy(rules, When::Title), inputs::call(rules));
        (rules, time(&policy, &payload(), &call))
    };
    [1, 10, 100, 1_000, 10_000].into_iter().map(point).collect()
}

/// Against the number of rules that are for any tool.
pub fn by_rules_for_any() -> Vec<Point> {
    let point = |rules| (rules, time(&inputs::policy_for_any(rules), &payload(), &inputs::call(1)));
    [1, 10, 100, 1_000, 10_000].into_iter().map(point).collect()
}

/// Against the number of claims beside the usual ones, which rules read or not.
pub fn by_claims(are_read: bool) -> Vec<Point> {
    let mut policy = inputs::policy(50, When::Title);
    if are_read {
        policy.push_str("  - {action: Deny, cel: 'request.auth.jwt.claims.acr == \"none\"'}\n");
    }
    let point = |claims| {
        (claims, time(&policy, &payload_of(inputs::more_claims(claims)), &inputs::call(50)))
    };
    [1, 10, 100, 1_000].into_iter().map(point).collect()
}

/// Against the size of the body, whose arguments are read or not.
pub fn by_bytes(when: When) -> Vec<Point> {
    let policy = inputs::policy(50, when);
    let point = |bytes| (bytes, time(&policy, &payload(), &inputs::long_call(50, bytes)));
    [1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20].into_iter().map(point).collect()
}

/// The median of some rounds.
fn time(policy: &str, payload: &[u8], body: &[u8]) -> f64 {
    let (gate, head) = (gate(policy), head());
    assert!(decide(&gate, head.clone(), payload, body), "the call is allowed");
    let round = || {
        let (started, mut count, mut spent) = (Instant::now(), 0_u32, Duration::ZERO);
        while started.elapsed() < LONG_ENOUGH {
            let heads = vec![head.clone(); 64];
            let begin = Instant::now();
            for head in heads {
                black_box(decide(&gate, head, black_box(payload), black_box(body)));
                count += 1;
            }
            spent += begin.elapsed();
        }
        spent.as_secs_f64() * 1e9 / f64::from(count)
    };
    let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| round()).collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}
