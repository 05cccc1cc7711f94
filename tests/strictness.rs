//! The invariant "when in doubt, deny", over random policies with `conditionErrors: Deny`: a
//! request with a doubtful part is allowed only if it is allowed with each value that the part
//! could have. `doubts.rs` makes parts doubtful: repeated, re-encoded, mistyped, imprecise,
//! unreadable or withheld by Envoy.
//!
//! Exempt are
//!
//! - `has(args.x)` and `args.x == null`, where servers could take the value for an absent one or
//!   for null: these conditions ask for presence or type, and CEL answers for what came;
//! - `in` over an object where a list is expected, since CEL looks for a key in it, and null
//!   among the elements of a list, since `in` passes over it;
//! - `request.mcp.tool` and `request.mcp.backend`, which are as they were sent: `validate` points
//!   to targets, which fold names;
//! - letters' case of `request.path`, which matters in `match` only.
//!
//! Not generated are conditions that take values of several types, and so have an answer for each:
//! `type`, `size`, conversions (`int`, `string`, …), `"x" in args`, and macros, which iterate over
//! the keys of an object. `.?` is generated where an object is expected: it fails on anything
//! else.
//!
//! No doubts are parts that a request never had, or that Envoy does not forward: any header but the
//! one that names the backend, and the claims of the token. They count as absent. An attribute or
//! pseudo-header that Envoy does not send is a doubt.
//!
//! `STRICTNESS_CASES` sets the number of random requests.

use std::collections::BTreeMap;

use crate::choices::Choices;
use crate::doubts::{Doubt, doubt};
use crate::model::{document, engine, generate};

/// Numbers of requests with one kind of doubt.
#[derive(Debug, Default)]
pub struct Count {
    /// Not exempt.
    requests: u64,
    /// Requests that were allowed.
    allowed: u64,
    /// Requests that had to be denied.
    must_deny: u64,
    /// Requests that had to be denied though some of their values are allowed.
    divided: u64,
}

/// The number of kinds.
const KINDS: usize = 29;

/// Counts by kind.
pub type Tally = BTreeMap<&'static str, Count>;

/// Checks random requests under random policies. Returns the number of requests.
pub fn check(bytes: &[u8], tally: &mut Tally) -> Result<u64, String> {
    let mut choices = Choices::new(bytes);
    let mut policies = generate::policies(&mut choices);
    policies.iter_mut().for_each(|policy| policy.errors_deny = true);
    let gate = engine::gate(&mut policies)?;
    let mut checked = 0;
    for _ in 0..1 + choices.below(12) {
        let clear = generate::request(&mut choices, &policies);
        let Doubt { kind, request, readings, is_exempt } = doubt(&mut choices, &policies, &clear);
        if is_exempt {
            continue;
        }
        checked += 1;
        let given = engine::answer(&gate, &request).answer;
        let of_readings: Vec<_> =
            readings.iter().map(|reading| engine::answer(&gate, reading).answer).collect();
        let stricter = of_readings.iter().position(|answer| !answer.is_lenient());
        let count = tally.entry(kind).or_default();
        count.requests += 1;
        count.allowed += u64::from(given.is_lenient());
        count.must_deny += u64::from(stricter.is_some());
        let is_divided = stricter.is_some() && of_readings.iter().any(|answer| answer.is_lenient());
        count.divided += u64::from(is_divided);
        if let (true, Some(stricter)) = (given.is_lenient(), stricter) {
            let (answer, reading) = (of_readings[stricter], &readings[stricter]);
            let policies = document::text(&policies);
            return Err(format!(
                "{kind}: {given:?}, though a reading is {answer:?}\n{policies}\n{request:#?}\n\
                 the reading: {reading:#?}"
            ));
        }
    }
    Ok(checked)
}

#[test]
fn doubtful_request_is_decided_strictly() {
    let cases = crate::choices::setting("STRICTNESS_CASES").unwrap_or(8_000);
    let mut tally = Tally::new();
    crate::choices::check_many(cases, |bytes| check(bytes, &mut tally));
    for (kind, count) in &tally {
        println!("{kind:24} {count:?}");
        assert!(count.must_deny > 0, "{kind}");
    }
    assert_eq!(tally.len(), KINDS);
    let percent = |of: fn(&Count) -> u64| tally.values().map(of).sum::<u64>() * 100 / cases;
    assert!(percent(|count| count.allowed) >= 30);
    assert!(percent(|count| count.must_deny) >= 30);
    assert!(percent(|count| count.divided) >= 2);
}
