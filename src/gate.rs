//! The decision about one request, from its headers to the answer. The gate stands between Envoy's
//! protocol and the policy. `serve` and `check` use the same gate.
//!
//! A request continues only with a [`Clearance`], and only the gate makes one. A clearance needs
//! one of these proofs:
//!
//! - [`Permit`](policy::Permit)s for all calls of the request
//! - the proof that rules decide about nothing in the message
//! - the absence of a message
//! - a policy in Shadow
//!
//! Every other path ends in a [`Refusal`].

mod calls;
mod clearance;
mod list_filter;
mod live;
mod messages;
mod needs;
mod origin;
mod refusal;

pub use clearance::{Clearance, Obligation};
pub use list_filter::{Disposition, FilteredPart, ListFilter, ResponseHead};
pub use live::LiveGate;
pub use origin::{CallerInfo, TraceContext, shortened};
pub use refusal::{Content, Refusal, RefusalCause};

use std::borrow::Cow;
use std::sync::Arc;

use self::clearance::Proof;
use crate::claims::{Claims, VerifiedClaims, is_bearer};
use crate::head::{Head, Header};
use crate::mcp::{self, Accept, Call, Malformed, MirroredHeaders, Problem, RequestId};
use crate::policy::{
    self, AcceptedTokens, Batches, Budget, CallTarget, Enforcement, EvalContext, Evaluation,
    Policy, Tasks, Unauthenticated, UnresolvedTarget, Unselectable,
};

/// The source of claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimsFrom {
    /// The claims that Envoy's `jwt_authn` verified, in dynamic metadata.
    Metadata {
        /// The metadata namespace, usually `envoy.filters.http.jwt_authn`.
        namespace: String,
        /// The provider's `payload_in_metadata`; `None` if the namespace holds one payload only.
        key: Option<String>,
    },
    /// The bearer token of the request. Its signature is not verified.
    AuthorizationHeader,
}

/// The limits of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest body that is read, in bytes.
    pub max_body_bytes: usize,
    /// The most chunks of a body that comes in chunks.
    pub max_body_parts: usize,
    /// The largest headers that are accepted, in bytes, counted over the headers that Envoy sends.
    pub max_header_bytes: usize,
    /// The deepest nesting of arrays and objects in the body, in levels.
    pub max_json_depth: usize,
    /// The most evaluation steps of all conditions together.
    pub condition_cost: usize,
}

/// The content of the policy files.
#[derive(Debug)]
pub struct Gate {
    /// The source of claims.
    pub claims_from: ClaimsFrom,
    /// The limits of a request.
    pub limits: Limits,
    /// The policies in order. The first one that matches a request decides about it; a request that
    /// none matches is refused.
    pub policies: Vec<Arc<Policy>>,
    /// The SHA-256 of the policy files, in hexadecimal.
    pub digest: Arc<str>,
}

/// A request with accepted headers, whose body is still to be evaluated.
#[derive(Debug)]
pub struct AdmittedRequest {
    policy: Arc<Policy>,
    origin: CallerInfo,
    head: Head,
    claims: Option<Claims>,
    budget: Budget,
    /// The refusal of a request without a token, which waits for the body to repeat the request's
    /// id.
    waiting: Option<Box<Refusal>>,
}

/// The reason why a request has no accepted token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoToken {
    /// The request has no token.
    Missing,
    /// The request has a token, but Envoy sent no claims of it, or it could not be decoded.
    NotVerified,
    /// The policy accepts no value of this claim, `iss` or `aud`.
    NotAccepted(&'static str),
}

/// The largest body that a waiting refusal reads, in bytes.
const AWAITED_BODY_BYTES: usize = 64 << 10;

/// The HTTP method that requests a tunnel ([RFC 9110, section 9.3.6]).
///
/// [RFC 9110, section 9.3.6]: https://www.rfc-editor.org/rfc/rfc9110#section-9.3.6
const CONNECT: &str = "CONNECT";

/// The reason why the body of an admitted request was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFailure {
    /// The body is larger than the limit.
    TooLarge,
    /// The body came in more chunks than the limit.
    TooManyParts,
    /// Envoy sent only the beginning of the body.
    CutOff,
    /// The body did not come in time.
    TimedOut,
    /// The body ended with trailers. Envoy would send such a body twice if it retried the request.
    Trailers,
    /// There is no room to buffer the body.
    Overloaded,
}

/// A request that was answered before its body was read.
#[derive(Debug)]
pub struct EarlyDecision {
    /// The caller and the ids of the request.
    pub origin: CallerInfo,
    /// The policy that matches the request, if there is one.
    pub policy: Option<Arc<Policy>>,
    /// The decision.
    pub judgement: RequestDecision<'static, 'static>,
}

/// Wraps the refusal of a request about which nothing is known yet.
impl From<Refusal> for EarlyDecision {
    fn from(refusal: Refusal) -> Self {
        Self { origin: CallerInfo::default(), policy: None, judgement: Err(refusal).into() }
    }
}

impl EarlyDecision {
    /// Returns the decision about a request that Envoy only reports (`observability_mode`): the
    /// request continues.
    pub fn observed() -> Self {
        let judgement = RequestDecision {
            shadowed: Some(Refusal::observed()),
            ..RequestDecision::cleared(Proof::Shadow)
        };
        Self { origin: CallerInfo::default(), policy: None, judgement }
    }
}

impl AdmittedRequest {
    /// Returns the caller and the ids of the request.
    pub fn origin(&self) -> &CallerInfo {
        &self.origin
    }

    /// Returns the policy that decides about the request.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Returns the target of a call of this request.
    ///
    /// # Errors
    /// If the backend of the call is unknown or unclear.
    pub fn subject<'f>(
        &'f self,
        call: &'f Call<'_>,
    ) -> Result<CallTarget<'f>, UnresolvedTarget<'f>> {
        let target = (call.feature, call.name.as_ref());
        self.policy.backend.subject(self.policy.dialect, target, &self.head)
    }

    /// Returns the inputs of the decision about a target, beside the call's parameters.
    pub fn facts<'f>(&'f self, subject: &'f CallTarget<'f>) -> EvalContext<'f> {
        let claims = self.claims.as_ref();
        EvalContext::new(self.policy.dialect, &self.head, claims, subject, &self.budget)
    }

    /// Returns true if the request is already refused and only waits for its id.
    pub fn is_refused(&self) -> bool {
        self.waiting.is_some()
    }

    /// Returns the obligation of a request by which a client resumes a stream. The server sends
    /// again what the client missed, which may include lists.
    fn replay(&self) -> Option<Obligation> {
        let resumes = || self.head.values_of(Header::LastEventId).next().is_some();
        (filters_lists(&self.policy) && resumes()).then_some(Obligation::FilterReplay)
    }

    /// Returns the refusal that waited for the body, with the id of the request in `came`, the
    /// bytes that came.
    fn answer_waiting<'p, 'b>(&self, came: &[u8]) -> Option<RequestDecision<'p, 'b>> {
        let refusal = Refusal::clone(self.waiting.as_deref()?).answering(RequestId::read(came));
        Some(Err(refusal.by(&self.policy)).into())
    }
}

/// The decision about a request, with its inputs.
#[derive(Debug)]
pub struct RequestDecision<'p, 'b> {
    /// The clearance to continue, or the refusal.
    pub answer: Result<Clearance, Refusal>,
    /// The refusal that the request would get if the policy were enforced.
    pub shadowed: Option<Refusal>,
    /// The method of the message that decided, if one was read.
    pub method: Option<Cow<'b, str>>,
    /// The evaluated calls, up to an error. A batch can hold several calls.
    pub calls: Vec<EvaluatedCall<'p, 'b>>,
}

/// A call with its evaluation.
#[derive(Debug)]
pub struct EvaluatedCall<'p, 'b> {
    /// The call as it came.
    pub call: Call<'b>,
    /// The evaluation of the call.
    pub evaluation: Evaluation<'p>,
}

impl<'p, 'b> RequestDecision<'p, 'b> {
    fn cleared(proof: Proof) -> Self {
        Ok(Clearance::new(proof)).into()
    }

    /// Refuses a request if the policy is enforced. In Shadow, the request continues and the
    /// refusal is recorded.
    fn refused(policy: &Policy, refusal: Refusal) -> Self {
        let refusal = refusal.by(policy);
        match policy.enforcement {
            Enforcement::Enforce => Err(refusal).into(),
            Enforcement::Shadow => Self { shadowed: Some(refusal), ..Self::cleared(Proof::Shadow) },
        }
    }

    /// Returns the refusal, enforced or not.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.answer.as_ref().err().or(self.shadowed.as_ref())
    }

    /// Returns the decision with an obligation, if the request may continue.
    fn obliged(self, obligation: Option<Obligation>) -> Self {
        Self { answer: self.answer.map(|clearance| clearance.obliged(obligation)), ..self }
    }

    /// Returns the call that decided: the first denied call, or else the first call.
    pub fn deciding_call(&self) -> Option<&EvaluatedCall<'p, 'b>> {
        let denied = self.calls.iter().find(|judged| judged.evaluation.decision.permit().is_err());
        denied.or(self.calls.first())
    }
}

impl From<Result<Clearance, Refusal>> for RequestDecision<'_, '_> {
    fn from(answer: Result<Clearance, Refusal>) -> Self {
        Self { answer, shadowed: None, method: None, calls: Vec::new() }
    }
}

impl Gate {
    /// Decides about a request by its headers alone. `verified` are the claims from the metadata of
    /// `jwt_authn`; they count only if claims are taken from there.
    ///
    /// # Errors
    /// The decision about a request that is answered before its body is read.
    pub fn admit(
        &self,
        head: Head,
        verified: impl Into<VerifiedClaims>,
    ) -> Result<AdmittedRequest, Box<EarlyDecision>> {
        let (claims, unclear) = self.claims(&head, verified.into());
        let policy = match self.select(&head) {
            Ok(Some(policy)) => Ok(Arc::clone(policy)),
            Ok(None) => Err(Refusal::no_policy(head.policy.as_deref())),
            Err(why) => Err(Refusal::unselectable(why)),
        };
        let policy = match policy {
            Ok(policy) => policy,
            Err(refusal) => {
                let origin = CallerInfo::of(&head, claims.as_ref());
                let judgement = Err(refusal).into();
                return Err(Box::new(EarlyDecision { origin, policy: None, judgement }));
            }
        };
        let (claims, missing) = match claims {
            Some(claims) => match policy.accepted_tokens.check(&claims) {
                Ok(()) => (Some(claims), None),
                Err(claim) => (None, Some(NoToken::NotAccepted(claim))),
            },
            None if head.authorization().any(is_bearer) => (None, Some(NoToken::NotVerified)),
            None => (None, Some(NoToken::Missing)),
        };
        let origin = CallerInfo::of(&head, claims.as_ref());
        let admitted = match unclear {
            Some(refusal) => Err(refusal),
            None => self.check_admission(&policy, &head, missing),
        };
        match admitted {
            Ok(waiting) => {
                let waiting = waiting.map(Box::new);
                let budget = Budget::of(self.limits.condition_cost);
                Ok(AdmittedRequest { policy, origin, head, claims, budget, waiting })
            }
            Err(refusal) => {
                let judgement = RequestDecision::refused(&policy, refusal);
                Err(Box::new(EarlyDecision { origin, policy: Some(policy), judgement }))
            }
        }
    }

    /// Returns the claims of a request. Also returns a refusal if the claims are unclear: without
    /// them, a Deny rule that requires a claim would not apply.
    fn claims(&self, head: &Head, verified: VerifiedClaims) -> (Option<Claims>, Option<Refusal>) {
        match (&self.claims_from, verified) {
            (ClaimsFrom::Metadata { .. }, VerifiedClaims::None) => (None, None),
            (ClaimsFrom::Metadata { .. }, VerifiedClaims::Token(claims)) => (Some(claims), None),
            (ClaimsFrom::Metadata { namespace, .. }, VerifiedClaims::Several(names)) => {
                (None, Some(Refusal::several_payloads(namespace, &names)))
            }
            (ClaimsFrom::AuthorizationHeader, _) if head.authorization().nth(1).is_some() => {
                (None, Some(Refusal::repeated_authorization()))
            }
            (ClaimsFrom::AuthorizationHeader, _) => {
                (Claims::from_unverified_headers(head.authorization()), None)
            }
        }
    }

    /// Returns the policy that Envoy names, or else the first that matches. Returns `None` if there
    /// is no such policy.
    ///
    /// # Errors
    /// If Envoy did not send the values by which policies are selected, or if these values are
    /// ambiguous.
    pub fn select(&self, head: &Head) -> Result<Option<&Arc<Policy>>, Unselectable> {
        match &head.policy {
            Some(name) => Ok(self.policies.iter().find(|policy| policy.name == *name)),
            None => policy::select(&self.policies, head),
        }
    }

    /// Checks the headers of a request against the policy and the limits. Returns a refusal that
    /// waits for the body, if there is one.
    fn check_admission(
        &self,
        policy: &Policy,
        head: &Head,
        missing: Option<NoToken>,
    ) -> Result<Option<Refusal>, Refusal> {
        if head.size() > self.limits.max_header_bytes {
            return Err(Refusal::headers_too_large(self.limits.max_header_bytes));
        }
        let readable = self.check_headers(head);
        // A CORS preflight cannot carry a token; it names no tool either, since it has no body.
        let is_preflight = head.method.is(messages::OPTIONS) && !head.has_body;
        let needs_token = policy.unauthenticated == Unauthenticated::Challenge && !is_preflight;
        let Some(missing) = missing.filter(|_| needs_token) else {
            return readable.map(|()| None);
        };
        let refusal = Refusal::unauthenticated(policy, missing);
        // In Shadow the refusal is not sent, so it need not wait.
        let waits = policy.enforcement == Enforcement::Enforce
            && head.method.is(messages::POST)
            && head.has_body
            && readable.is_ok()
            && !announces_more(head, AWAITED_BODY_BYTES);
        if waits { Ok(Some(refusal)) } else { Err(refusal) }
    }

    /// Checks that the headers announce a request over HTTP whose body can be read.
    fn check_headers(&self, head: &Head) -> Result<(), Refusal> {
        if head.method.is(CONNECT) || head.values_of(Header::Upgrade).next().is_some() {
            return Err(Refusal::upgrade());
        }
        let compressed = |value: &[u8]| !value.trim_ascii().eq_ignore_ascii_case(b"identity");
        if head.values_of(Header::ContentEncoding).any(compressed) {
            return Err(Refusal::compressed());
        }
        if head.values_of(Header::ContentType).any(is_not_utf8) {
            return Err(Refusal::unsupported_charset());
        }
        if announces_more(head, self.limits.max_body_bytes) {
            return Err(self.too_large());
        }
        Ok(())
    }

    /// Returns the largest body of a request that is read, in bytes.
    pub fn most_body_bytes(&self, admitted: &AdmittedRequest) -> usize {
        let most = self.limits.max_body_bytes;
        if admitted.is_refused() { most.min(AWAITED_BODY_BYTES) } else { most }
    }

    /// Decides about a request that has no body, and so no message.
    pub fn authorize_without_body<'p, 'b>(
        &self,
        admitted: &'p AdmittedRequest,
    ) -> RequestDecision<'p, 'b> {
        admitted.answer_waiting(&[]).unwrap_or_else(|| {
            messages::authorize_without_body(admitted).obliged(admitted.replay())
        })
    }

    /// Decides about a request whose body was not read, except its first chunks in `came`.
    pub fn reject_body<'p, 'b>(
        &self,
        admitted: &'p AdmittedRequest,
        why: BodyFailure,
        came: &[u8],
    ) -> RequestDecision<'p, 'b> {
        if let Some(judgement) = admitted.answer_waiting(came) {
            return judgement;
        }
        let refusal = match why {
            BodyFailure::TooLarge => self.too_large(),
            BodyFailure::TooManyParts => Refusal::too_many_parts(self.limits.max_body_parts),
            BodyFailure::CutOff => Refusal::cut_off(),
            BodyFailure::TimedOut => Refusal::timed_out(),
            BodyFailure::Trailers => Refusal::request_trailers(),
            BodyFailure::Overloaded => Refusal::overloaded(),
        };
        RequestDecision::refused(&admitted.policy, refusal.answering(RequestId::read(came)))
    }

    /// Decides about a request by its complete body.
    pub fn authorize<'p, 'b>(
        &'p self,
        admitted: &'p AdmittedRequest,
        body: &'b [u8],
    ) -> RequestDecision<'p, 'b> {
        if body.is_empty() {
            return self.authorize_without_body(admitted);
        }
        if let Some(judgement) = admitted.answer_waiting(body) {
            return judgement;
        }
        if body.len() > self.limits.max_body_bytes {
            return self.reject_body(admitted, BodyFailure::TooLarge, body);
        }
        let policy = admitted.policy();
        let mut mirrored = MirroredHeaders::default();
        for (name, value) in &admitted.head.headers {
            mirrored.add(name, value);
        }
        let accept = Accept {
            max_depth: self.limits.max_json_depth,
            batches: policy.batches == Batches::Authorize,
            tasks: policy.tasks == Tasks::Continue,
            governed: policy.decides(),
        };
        match mcp::read(body, &mirrored, accept) {
            Ok(message) if needs::lacks_headers(&admitted.head) => {
                let refusal = Refusal::no_headers().answering(messages::id_of(&message));
                RequestDecision::refused(policy, refusal)
            }
            Err(Malformed { problem: Problem::MissingHeader(_), id })
                if needs::lacks_headers(&admitted.head) =>
            {
                RequestDecision::refused(policy, Refusal::no_headers().answering(id))
            }
            Ok(message) => messages::authorize(admitted, message).obliged(admitted.replay()),
            Err(malformed) => RequestDecision::refused(policy, Refusal::malformed(malformed)),
        }
    }

    /// Returns true if some policy filters the responses to list requests.
    pub fn filters_lists(&self) -> bool {
        self.policies.iter().any(|policy| filters_lists(policy))
    }

    /// Returns true if a decision can depend on claims other than scopes.
    pub fn reads_claims(&self) -> bool {
        self.policies.iter().any(|policy| {
            policy.rules.reads().claims || policy.accepted_tokens != AcceptedTokens::default()
        })
    }

    fn too_large(&self) -> Refusal {
        Refusal::too_large(self.limits.max_body_bytes)
    }
}

/// Returns true if an enforced policy filters the responses to list requests.
fn filters_lists(policy: &Policy) -> bool {
    policy.enforcement == Enforcement::Enforce && policy.filters_lists()
}

/// Returns true if a request announces a body of more than `most` bytes.
fn announces_more(head: &Head, most: usize) -> bool {
    let announced = |value: &[u8]| std::str::from_utf8(value).ok()?.trim().parse::<u64>().ok();
    let mut lengths = head.values_of(Header::ContentLength).filter_map(announced);
    lengths.any(|length| length > most as u64)
}

/// Returns true if a `Content-Type` names a charset other than UTF-8. JSON has no other encoding
/// ([RFC 8259, section 8.1]), but some servers believe the header. In UTF-7, other bytes are
/// quotes.
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
