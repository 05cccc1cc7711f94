//! One request, from its head to the answer: everything between the protocol of
//! Envoy and the policy. `serve` and `check` ask the same gate.
//!
//! A request goes on only with a [`Clearance`], and only the gate makes one:
//! from a [`Permit`], from the proof that a message calls no tool, or because
//! there is no message. Every other path ends in a [`Refusal`].

mod refusal;

pub use refusal::{Blame, Refusal};

use std::sync::Arc;

use crate::claims::{Claims, is_bearer};
use crate::mcp::{self, Malformed, Message, MirroredHeaders, NotGoverned};
use crate::policy::{Evaluation, Permit, Policy, Route, Unauthenticated};

/// Where claims are taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimsFrom {
    /// What Envoy's `jwt_authn` verified, in dynamic metadata.
    Metadata {
        /// The metadata namespace, usually `envoy.filters.http.jwt_authn`.
        namespace: String,
        /// The provider's `payload_in_metadata`; `None`: the only payload.
        key: Option<String>,
    },
    /// The bearer token of the request, without a look at its signature.
    AuthorizationHeader,
}

/// What a request may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest body that is judged, in bytes.
    pub max_body_bytes: usize,
    /// The deepest nesting of arrays and objects in it.
    pub max_json_depth: usize,
}

/// All that a policy file says.
#[derive(Debug)]
pub struct Gate {
    /// Where claims are taken from.
    pub claims_from: ClaimsFrom,
    /// What a request may cost.
    pub limits: Limits,
    /// The first that matches a request judges it; without one it is refused.
    pub policies: Vec<Arc<Policy>>,
}

/// The head of an HTTP request.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// The method, such as `POST`.
    pub method: String,
    /// The `:authority` or `Host`.
    pub host: String,
    /// The path with its query.
    pub path: String,
    /// Envoy's name of the route (attribute `xds.route_name`), if it was sent.
    pub route: Option<String>,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Head {
    fn values<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'h [u8]> {
        self.headers
            .iter()
            .filter(move |(header, _)| header == name)
            .map(|(_, value)| value.as_slice())
    }

    fn authorization(&self) -> impl Iterator<Item = &[u8]> {
        self.values("authorization")
    }
}

/// A request whose head was accepted and whose body is still to be judged.
#[derive(Debug)]
pub struct Admitted {
    policy: Arc<Policy>,
    head: Head,
    claims: Option<Claims>,
}

impl Admitted {
    /// The policy that judges it.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }
}

/// Proof that a request may go on.
#[derive(Debug)]
#[expect(dead_code, reason = "the fields are the proofs; nobody has to look at them")]
pub struct Clearance(Proof);

#[derive(Debug)]
enum Proof {
    Permit(Permit),
    NotGoverned(NotGoverned),
    NoMessage,
}

/// The answer to a judged request and what is known about it.
#[derive(Debug)]
pub struct Judgement<'p, 'b> {
    /// Go on, or refuse.
    pub answer: Result<Clearance, Refusal>,
    /// The call with its evaluation, if it came to that.
    pub decided: Option<(mcp::ToolCall<'b>, Evaluation<'p>)>,
}

impl Gate {
    /// Judges a request by its head alone. `verified` are the claims of
    /// `jwt_authn`'s metadata; they count only if claims are taken from there.
    pub fn admit(&self, head: Head, verified: Option<Claims>) -> Result<Admitted, Refusal> {
        let route = Route { host: &head.host, path: &head.path, name: head.route.as_deref() };
        let policy = self.policies.iter().find(|policy| policy.matching.matches(&route));
        let Some(policy) = policy else { return Err(Refusal::no_policy()) };
        let policy = Arc::clone(policy);
        match self.admit_by(&policy, &head, verified) {
            Ok(claims) => Ok(Admitted { policy, head, claims }),
            Err(refusal) => Err(refusal.by(&policy)),
        }
    }

    /// The claims of the request, if its policy and the limits let it in.
    fn admit_by(
        &self,
        policy: &Policy,
        head: &Head,
        verified: Option<Claims>,
    ) -> Result<Option<Claims>, Refusal> {
        let claims = match self.claims_from {
            ClaimsFrom::Metadata { .. } => verified,
            ClaimsFrom::AuthorizationHeader => {
                Claims::from_unverified_headers(head.authorization())
            }
        };
        // A CORS preflight cannot carry a token; it names no tool either, since
        // a body of it would be judged like any other.
        if claims.is_none()
            && policy.unauthenticated == Unauthenticated::Challenge
            && head.method != "OPTIONS"
        {
            let token_came = head.authorization().any(is_bearer);
            return Err(Refusal::unauthenticated(policy, token_came));
        }
        let compressed = |value: &[u8]| !value.trim_ascii().eq_ignore_ascii_case(b"identity");
        if head.values("content-encoding").any(compressed) {
            return Err(Refusal::compressed());
        }
        if head.values("content-type").any(is_not_utf8) {
            return Err(Refusal::unsupported_charset());
        }
        let announced = |value: &[u8]| std::str::from_utf8(value).ok()?.trim().parse::<u64>().ok();
        if head
            .values("content-length")
            .filter_map(announced)
            .any(|length| length > self.limits.max_body_bytes as u64)
        {
            return Err(self.too_large());
        }
        Ok(claims)
    }

    /// Judges a request that has no body: there is no message in it.
    pub fn judge_bodiless(&self, _admitted: &Admitted) -> Clearance {
        Clearance(Proof::NoMessage)
    }

    /// Judges a request by its whole body.
    pub fn judge<'p, 'b>(&'p self, admitted: &'p Admitted, body: &'b [u8]) -> Judgement<'p, 'b> {
        let policy = admitted.policy.as_ref();
        let refused =
            |refusal: Refusal| Judgement { answer: Err(refusal.by(policy)), decided: None };
        if body.is_empty() {
            return Judgement { answer: Ok(self.judge_bodiless(admitted)), decided: None };
        }
        if body.len() > self.limits.max_body_bytes {
            return refused(self.too_large());
        }
        let mut mirrored = MirroredHeaders::default();
        for (name, value) in &admitted.head.headers {
            mirrored.add(name, value);
        }
        let call = match mcp::read(body, &mirrored, self.limits.max_json_depth) {
            Ok(Message::ToolCall(call)) => call,
            Ok(Message::NotGoverned(proof)) => {
                let answer = Ok(Clearance(Proof::NotGoverned(proof)));
                return Judgement { answer, decided: None };
            }
            Err(malformed) => return refused(Refusal::malformed(&malformed)),
        };
        let evaluation = match policy.evaluate(&call, admitted.claims.as_ref()) {
            Ok(evaluation) => evaluation,
            Err(problem) => {
                let id = call.id.map(str::to_owned);
                return refused(Refusal::malformed(&Malformed { problem, id }));
            }
        };
        let decision = &evaluation.decision;
        let answer = match decision.permit() {
            Ok(permit) => Ok(Clearance(Proof::Permit(permit))),
            Err(scopes) => {
                Err(Refusal::denied(policy, &call, decision.reason(), scopes).by(policy))
            }
        };
        Judgement { answer, decided: Some((call, evaluation)) }
    }

    /// Whether a decision can depend on claims other than scopes.
    pub fn reads_claims(&self) -> bool {
        self.policies.iter().any(|policy| policy.reads_claims())
    }

    /// The refusal of a body that is larger than the limit.
    pub fn too_large(&self) -> Refusal {
        Refusal::too_large(self.limits.max_body_bytes)
    }
}

/// Whether a Content-Type asks its reader to take the body for something else
/// than UTF-8. JSON has no other encoding ([RFC 8259, section 8.1]), but some
/// servers believe the header, and in UTF-7 other bytes are quotes.
///
/// [RFC 8259, section 8.1]: https://www.rfc-editor.org/rfc/rfc8259#section-8.1
fn is_not_utf8(content_type: &[u8]) -> bool {
    const CHARSET: &[u8] = b"charset";
    const UTF_8: [&[u8]; 2] = [b"utf-8", b"utf8"];

    let lower = content_type.to_ascii_lowercase();
    lower.split(|&byte| byte == b';' || byte == b',').any(|parameter| {
        let at = parameter.windows(CHARSET.len()).position(|window| window == CHARSET);
        let Some(after) = at.and_then(|at| parameter.get(at + CHARSET.len()..)) else {
            return false;
        };
        let value = after.trim_ascii().strip_prefix(b"=").unwrap_or_default().trim_ascii();
        let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        !UTF_8.contains(&quoted.unwrap_or(value))
    })
}

#[cfg(test)]
mod tests;
