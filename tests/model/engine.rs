//! The answers of mcp-authz.

use std::fmt::Write as _;

use mcp_authz::claims::{Claims, VerifiedClaims};
use mcp_authz::config;
use mcp_authz::gate::{Gate, RequestDecision};
use mcp_authz::head::{Head, PseudoHeader};
use serde_json::json;

use super::{Answer, Part, Policy, Request, document};

/// An answer with the scopes of its challenge.
#[derive(Debug)]
pub struct Given {
    pub answer: Answer,
    pub scopes: Vec<String>,
}

/// Loads policies, without the last ones where others leave them no request: that is an error.
pub fn gate(policies: &mut Vec<Policy>) -> Result<Gate, String> {
    loop {
        let text = document::text(policies);
        match config::parse(&text) {
            Ok(gate) => return Ok(gate),
            Err(error) if policies.len() > 1 && error.to_string().contains("never applies") => {
                policies.pop();
            }
            Err(error) => return Err(format!("{error}\n{text}")),
        }
    }
}

/// Answers a request.
pub fn answer(gate: &Gate, request: &Request) -> Given {
    let claims = request.claims.as_ref().map(Claims::from_json);
    let verified = match claims {
        _ if request.has_second_payload => {
            VerifiedClaims::Several(vec!["jwt_payload".to_owned(), "jwt_header".to_owned()])
        }
        Some(claims) => VerifiedClaims::Token(claims),
        None => VerifiedClaims::None,
    };
    match gate.admit(head(request), verified) {
        Ok(admitted) => given(&gate.authorize(&admitted, body(request).as_bytes())),
        Err(turned_away) => given(&turned_away.judgement),
    }
}

fn given(judgement: &RequestDecision<'_, '_>) -> Given {
    let decision = judgement.deciding_call().map(|judged| &judged.evaluation.decision);
    let rule = decision.and_then(|decision| decision.rule());
    let Err(refusal) = &judgement.answer else {
        let answer = decision.map_or(Answer::NotCovered, |_| Answer::Allowed(rule));
        return Given { answer, scopes: Vec::new() };
    };
    let answer = match (refusal.status, refusal.reason) {
        (403, "no_policy") => Answer::NoPolicy,
        (403, _) => Answer::Denied(rule),
        (401, _) => Answer::NoToken,
        (400, _) => Answer::Ambiguous,
        (500, _) => Answer::Misconfigured,
        other => panic!("{other:?}"),
    };
    Given { answer, scopes: refusal.required_scopes.clone() }
}

fn head(request: &Request) -> Head {
    let cluster = request.cluster.map(|name| ("xds.cluster_name".to_owned(), name.to_owned()));
    let headers = request.headers.iter();
    Head {
        method: "POST".into(),
        host: pseudo_header(&request.host),
        path: pseudo_header(&request.path),
        headers: headers.map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        has_body: true,
        attributes: cluster.into_iter().collect(),
        policy: request.policy.map(str::to_owned),
        traceparent: None,
    }
    .with_usual_headers()
    .on_route(request.route)
}

fn pseudo_header(part: &Part) -> PseudoHeader {
    let mut header = PseudoHeader::default();
    match part {
        Part::NotSent => {}
        Part::Sent(text) => header.add(text.as_bytes()),
        Part::Twice(one, other) => {
            header.add(one.as_bytes());
            header.add(other.as_bytes());
        }
        Part::NotUtf8 => header.add(b"/mcp\xff"),
    }
    header
}

/// Writes the body from texts, so that it can hold a key twice and numbers with many digits.
fn body(request: &Request) -> String {
    let method = if request.is_prompt { "prompts/get" } else { "tools/call" };
    let mut arguments = String::new();
    for (number, (name, value)) in request.arguments.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        write!(arguments, "{comma}{}:{value}", json!(name)).expect("a string");
    }
    let name = json!(request.name);
    format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"name":{name},"arguments":{{{arguments}}}}}}}"#
    )
}
