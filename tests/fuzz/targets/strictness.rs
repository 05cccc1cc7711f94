//! Policies and requests: mcp-authz decides as a naive model of the language does, and what is
//! doubtful in a request never makes a decision more lenient.

#![no_main]
#![allow(dead_code, reason = "the tests of these modules need more of them")]

#[path = "../../choices.rs"]
mod choices;
#[path = "../../doubts.rs"]
mod doubts;
#[path = "../../model.rs"]
mod model;
#[path = "../../strictness.rs"]
mod strictness;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [choice, bytes @ ..] = input else { return };
    let checked = match choice % 2 {
        0 => model::check(bytes, &mut model::Tally::new()),
        _ => strictness::check(bytes, &mut strictness::Tally::new()),
    };
    if let Err(why) = checked {
        panic!("{why}");
    }
});
