//! The ext_proc conversation with Envoy
//! (`envoy.service.ext_proc.v3.ExternalProcessor`).
//!
//! Each HTTP request is one gRPC stream. [`session`] is the state machine of a stream and uses
//! neither protobuf nor async. [`convert`] turns Envoy's messages ([`wire`]) into events, and
//! answers into Envoy's messages. [`service`] moves both, within a [`Capacity`].

mod capacity;
mod convert;
mod message;
mod service;
mod session;
mod wire;

pub use capacity::Capacity;
pub use convert::verified_claims;
pub use message::ProtocolError;
pub use service::ExtProc;
