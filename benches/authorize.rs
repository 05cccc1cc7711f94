//! A decision as the external processor makes it, without Envoy.

use envoy_types::pb::envoy::config::core::v3::Metadata;
use mcp_authz::config;
use mcp_authz::extproc::verified_claims;
use mcp_authz::gate::{Gate, ResponseHead};
use mcp_authz::head::Head;
use mcp_authz::proto::{self, Struct};
use prost::Message as _;
use serde_json::{Map, Value};

/// Returns the metadata that `jwt_authn` writes about a verified token.
pub fn metadata() -> Metadata {
    metadata_of(crate::inputs::claims())
}

fn metadata_of(claims: Map<String, Value>) -> Metadata {
    let claims = proto::value(claims.into());
    let namespace = Struct { fields: [("jwt_payload".to_owned(), claims)].into() };
    let filter_metadata = [("envoy.filters.http.jwt_authn".to_owned(), namespace)].into();
    Metadata { filter_metadata, ..Metadata::default() }
}

/// The same, as Envoy sends it.
pub fn payload() -> Vec<u8> {
    payload_of(crate::inputs::claims())
}

/// The same of other claims.
pub fn payload_of(claims: Map<String, Value>) -> Vec<u8> {
    metadata_of(claims).encode_to_vec()
}

pub fn head() -> Head {
    Head { method: "POST".into(), path: "/mcp".into(), has_body: true, ..Head::default() }
        .with_usual_headers()
}

pub fn gate(policy: &str) -> Gate {
    config::parse(policy).unwrap()
}

/// From the claims and the body to the answer.
pub fn decide(gate: &Gate, head: Head, payload: &[u8], body: &[u8]) -> bool {
    let claims = verified_claims(payload, gate).unwrap();
    let admitted = gate.admit(head, claims).unwrap();
    gate.authorize(&admitted, body).answer.is_ok()
}

/// The answer to a list without what the caller may not use, as one message.
pub fn filtered(gate: &Gate, payload: &[u8], answer: &[u8]) -> Vec<u8> {
    const LIST: &[u8] = br#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#;
    let claims = verified_claims(payload, gate).unwrap();
    let admitted = gate.admit(head(), claims).unwrap();
    let clearance = gate.authorize(&admitted, LIST).answer.unwrap();
    let mut filter = clearance.into_list_filter(gate, admitted).unwrap();
    let content_type = "application/json".to_owned();
    filter.on_headers(&ResponseHead { status: 200, content_type, ..ResponseHead::default() });
    filter.on_body(answer, true).bytes
}
