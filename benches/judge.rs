//! A decision as the external processor makes it, without Envoy.

use mcp_authz::claims::Claims;
use mcp_authz::config;
use mcp_authz::gate::Gate;
use mcp_authz::head::Head;
use mcp_authz::proto::{self, Kind, Struct};

/// What Envoy hands over of a verified token.
pub fn payload() -> Struct {
    let Some(Kind::StructValue(payload)) = proto::value(crate::inputs::claims().into()).kind else {
        panic!("claims are an object")
    };
    payload
}

pub fn head() -> Head {
    Head { method: "POST".to_owned(), path: "/mcp".to_owned(), ..Head::default() }
}

pub fn gate(policy: &str) -> Gate {
    config::parse(policy).unwrap()
}

/// From the claims and the body to the answer.
pub fn decide(gate: &Gate, head: Head, payload: Struct, body: &[u8]) -> bool {
    let claims = Claims::new(proto::object(payload));
    let admitted = gate.admit(head, Some(claims)).unwrap();
    gate.judge(&admitted, body).answer.is_ok()
}
