//! A hostile body takes memory only in proportion to its size.

use mcp_authz::config;
use mcp_authz::head::Head;

use crate::allocator::most_allocated;
use crate::hostile::{self, POLICIES};

/// Memory at most, in bytes for each byte of a body of 4 MiB, the body itself included.
const MOST: usize = 12;

/// Those that would take most if they were read without a look at the budget.
const BODIES: [&str; 10] = [
    "empty lists",
    "deep lists",
    "objects of one",
    "members",
    "arguments",
    "keys of other scripts",
    "params",
    "_meta",
    "batch of objects",
    "subscriptions",
];

#[test]
fn memory_is_proportional_to_the_body() {
    for name in BODIES {
        let body = hostile::body(name);
        assert!((hostile::BYTES - 1024..=hostile::BYTES).contains(&body.len()), "{name}");
        for (policy, rule) in POLICIES {
            let gate = config::parse(&hostile::policy(rule)).unwrap();
            let head = Head { method: "POST".into(), has_body: true, ..Head::default() };
            let admitted = gate.admit(head, None).unwrap();
            let (judgement, most) = most_allocated(|| gate.authorize(&admitted, &body));
            assert!(body.len() + most <= MOST * body.len(), "{name}, {policy}: {most}");
            // Nothing is built for a rule that is for others, or reads nothing of it.
            let is_unread = ["unread", "not theirs"].contains(&policy);
            let is_call = !judgement.calls.is_empty();
            assert!(!(is_unread && is_call) || most < 64 << 10, "{name}, {policy}: {most}");
        }
    }
}
