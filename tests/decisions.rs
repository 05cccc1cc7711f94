//! The tests of decisions: they need neither Envoy nor a process of ours, so that they are
//! built fast and can be run for each mutant.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]
#![allow(unreachable_pub, dead_code, reason = "the fuzz targets share some of these modules")]

#[path = "../benches/stall/allocator.rs"]
mod allocator;
#[path = "../benches/stall/hostile.rs"]
mod hostile;

mod choices;
mod corpus;
mod differential;
mod doubts;
mod folding;
mod lenient;
mod mcproute_decisions;
mod memory;
mod model;
mod properties;
mod strictness;
mod templates;

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;
