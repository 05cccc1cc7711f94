//! The messages of `proto/`, and the messages of protobuf that they share with Envoy's.
//!
//! The code is generated from the files in `proto/`, so a build needs no protobuf compiler. A test
//! generates the code again and compares it.

mod values;

pub use envoy_types::pb::google::protobuf::value::Kind;
pub use envoy_types::pb::google::protobuf::{Duration, ListValue, Struct, Timestamp, Value};
pub use values::{json, object, value};

/// The package `mcp_authz.v1`: decisions, and the service that streams them.
#[allow(
    clippy::all,
    clippy::allow_attributes,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    reason = "generated; what proto/ says of it is repeated"
)]
pub mod v1 {
    include!("proto/mcp_authz.v1.rs");
}
