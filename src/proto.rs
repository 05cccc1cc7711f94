//! The messages of `proto/`, and those of protobuf's own that they share with
//! Envoy's.
//!
//! The code is made from the files in `proto/`; a test makes it anew and
//! compares, so that building takes no protobuf compiler.

mod values;

pub use envoy_types::pb::google::protobuf::value::Kind;
pub use envoy_types::pb::google::protobuf::{Duration, ListValue, Struct, Timestamp, Value};
pub use values::{json, object, value};

/// `mcp_authz.v1`: decisions, and the service that tells them.
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
