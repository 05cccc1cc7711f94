//! One request, from its head to the answer: everything between the protocol of
//! Envoy and the policy. `serve` and `check` ask the same gate.
//!
//! A request goes on only with a [`Clearance`], and only the gate makes one:
//! from [`Permit`](policy::Permit)s, from the proof that a message asks for nothing judged, because there
//! is no message, or because the policy is in Shadow. Every other path ends in a
//! [`Refusal`].

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
pub use origin::{Origin, TraceContext, shortened};
pub use refusal::{Blame, Content, Refusal};

use std::borrow::Cow;
use std::sync::Arc;

use self::clearance::Proof;
use crate::claims::{Claims, VerifiedClaims, is_bearer};
use crate::head::{Head, Header};
use crate::mcp::{self, Accept, Call, Malformed, MirroredHeaders, Problem, RequestId};
use crate::policy::{
    self, AcceptedTokens, Batches, Budget, Enforcement, Evaluation, Facts, NoSubject, Policy,
    Subject, Tasks, Unauthenticated, Unselectable,
};

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
    /// In how many parts it may come, if it comes in parts.
    pub max_body_parts: usize,
    /// The largest head that is looked at, in bytes of what Envoy sends of it.
    pub max_header_bytes: usize,
    /// The deepest nesting of arrays and objects in it.
    pub max_json_depth: usize,
    /// How many steps its conditions may take, all together.
    pub condition_cost: usize,
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
    /// The SHA-256 of the policy files, in hexadecimal.
    pub digest: Arc<str>,
}

/// A request whose head was accepted and whose body is still to be judged.
#[derive(Debug)]
pub struct Admitted {
    policy: Arc<Policy>,
    origin: Origin,
    head: Head,
    claims: Option<Claims>,
    budget: Budget,
    /// The refusal of a request without a token, which waits for the body to repeat its id.
    waiting: Option<Box<Refusal>>,
}

/// The reason why a request has no token that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoToken {
    /// No token came.
    Missing,
    /// A token came, and no claims of it.
    NotVerified,
    /// This claim, `iss` or `aud`, has no value that the policy accepts.
    NotAccepted(&'static str),
}

/// The largest body that a refusal waits for, in bytes.
const AWAITED_BODY_BYTES: usize = 64 << 10;

/// The HTTP method that asks for a tunnel ([RFC 9110, section 9.3.6]).
///
/// [RFC 9110, section 9.3.6]: https://www.rfc-editor.org/rfc/rfc9110#section-9.3.6
const CONNECT: &str = "CONNECT";

/// Why the body of a request that was let in was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// It is larger than the limit.
    TooLarge,
    /// It came in more parts than the limit.
    TooManyParts,
    /// Envoy sent only its beginning.
    CutOff,
    /// It did not come in time.
    TimedOut,
    /// It ended with trailers, where Envoy would send the body twice if it retried the request.
    Trailers,
    /// There is no room to hold it.
    Overloaded,
}

/// A request that was answered without a look at its body.
#[derive(Debug)]
pub struct TurnedAway {
    /// Whom it came from.
    pub origin: Origin,
    /// The policy that is for it, if there is one.
    pub policy: Option<Arc<Policy>>,
    /// The answer.
    pub judgement: Judgement<'static, 'static>,
}

/// Of a request of which nothing is known yet.
impl From<Refusal> for TurnedAway {
    fn from(refusal: Refusal) -> Self {
        Self { origin: Origin::default(), policy: None, judgement: Err(refusal).into() }
    }
}

impl TurnedAway {
    /// A request about which Envoy asks nothing, and only tells: it goes on.
    pub fn observed() -> Self {
        let judgement =
            Judgement { shadowed: Some(Refusal::observed()), ..Judgement::cleared(Proof::Shadow) };
        Self { origin: Origin::default(), policy: None, judgement }
    }
}

impl Admitted {
    /// Whom it comes from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The policy that judges it.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Returns the target of a call of this request.
    ///
    /// # Errors
    /// If it cannot be known which backend the call is for.
    pub fn subject<'f>(&'f self, call: &'f Call<'_>) -> Result<Subject<'f>, NoSubject<'f>> {
        let target = (call.feature, call.name.as_ref());
        self.policy.backend.subject(self.policy.dialect, target, &self.head)
    }

    /// Returns what a call of this target is decided by, beside its parameters.
    pub fn facts<'f>(&'f self, subject: &'f Subject<'f>) -> Facts<'f> {
        let claims = self.claims.as_ref();
        Facts::new(self.policy.dialect, &self.head, claims, subject, &self.budget)
    }

    /// Whether the request is refused, and only its id is waited for.
    pub fn is_refused(&self) -> bool {
        self.waiting.is_some()
    }

    /// Returns the obligation of a request by which a client resumes a stream: the server sends
    /// again what the client missed, lists too.
    fn replay(&self) -> Option<Obligation> {
        let resumes = || self.head.values_of(Header::LastEventId).next().is_some();
        (filters_lists(&self.policy) && resumes()).then_some(Obligation::FilterReplay)
    }

    /// Returns the refusal that has waited for the body, as the answer to what came of it.
    fn answer_waiting<'p, 'b>(&self, came: &[u8]) -> Option<Judgement<'p, 'b>> {
        let refusal = Refusal::clone(self.waiting.as_deref()?).answering(RequestId::read(came));
        Some(Err(refusal.by(&self.policy)).into())
    }
}

/// The answer to a request and what is known about it.
#[derive(Debug)]
pub struct Judgement<'p, 'b> {
    /// Go on, or refuse.
    pub answer: Result<Clearance, Refusal>,
    /// What the answer would be if the policy were enforced.
    pub shadowed: Option<Refusal>,
    /// The method of the message that decided, if one was read.
    pub method: Option<Cow<'b, str>>,
    /// The calls with their evaluations, as far as it came to that: in a batch
    /// there can be several.
    pub calls: Vec<Judged<'p, 'b>>,
}

/// A call with its evaluation.
#[derive(Debug)]
pub struct Judged<'p, 'b> {
    /// As it came.
    pub call: Call<'b>,
    /// What was decided.
    pub evaluation: Evaluation<'p>,
}

impl<'p, 'b> Judgement<'p, 'b> {
    fn cleared(proof: Proof) -> Self {
        Ok(Clearance::new(proof)).into()
    }

    /// A refusal by a policy, if it is enforced.
    fn refused(policy: &Policy, refusal: Refusal) -> Self {
        let refusal = refusal.by(policy);
        match policy.enforcement {
            Enforcement::Enforce => Err(refusal).into(),
            Enforcement::Shadow => Self { shadowed: Some(refusal), ..Self::cleared(Proof::Shadow) },
        }
    }

    /// The refusal, whether it is enforced or not.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.answer.as_ref().err().or(self.shadowed.as_ref())
    }

    /// Returns the judgement with an obligation, if it lets the request continue.
    fn obliged(self, obligation: Option<Obligation>) -> Self {
        Self { answer: self.answer.map(|clearance| clearance.obliged(obligation)), ..self }
    }

    /// The call that decided: the first that was denied, or the first.
    pub fn decisive(&self) -> Option<&Judged<'p, 'b>> {
        let denied = self.calls.iter().find(|judged| judged.evaluation.decision.permit().is_err());
        denied.or(self.calls.first())
    }
}

impl From<Result<Clearance, Refusal>> for Judgement<'_, '_> {
    fn from(answer: Result<Clearance, Refusal>) -> Self {
        Self { answer, shadowed: None, method: None, calls: Vec::new() }
    }
}

impl Gate {
    /// Judges a request by its head alone. `verified` are the claims of
    /// `jwt_authn`'s metadata; they count only if claims are taken from there.
    ///
    /// # Errors
    /// What is answered without a look at the body.
    pub fn admit(
        &self,
        head: Head,
        verified: impl Into<VerifiedClaims>,
    ) -> Result<Admitted, Box<TurnedAway>> {
        let (claims, unclear) = self.claims(&head, verified.into());
        let policy = match self.select(&head) {
            Ok(Some(policy)) => Ok(Arc::clone(policy)),
            Ok(None) => Err(Refusal::no_policy(head.policy.as_deref())),
            Err(why) => Err(Refusal::unselectable(why)),
        };
        let policy = match policy {
            Ok(policy) => policy,
            Err(refusal) => {
                let origin = Origin::of(&head, claims.as_ref());
                let judgement = Err(refusal).into();
                return Err(Box::new(TurnedAway { origin, policy: None, judgement }));
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
        let origin = Origin::of(&head, claims.as_ref());
        let admitted = match unclear {
            Some(refusal) => Err(refusal),
            None => self.admit_by(&policy, &head, missing),
        };
        match admitted {
            Ok(waiting) => {
                let waiting = waiting.map(Box::new);
                let budget = Budget::of(self.limits.condition_cost);
                Ok(Admitted { policy, origin, head, claims, budget, waiting })
            }
            Err(refusal) => {
                let judgement = Judgement::refused(&policy, refusal);
                Err(Box::new(TurnedAway { origin, policy: Some(policy), judgement }))
            }
        }
    }

    /// Returns the claims of a request; and a refusal if they are not known, since without
    /// them a Deny rule that requires one would not apply.
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

    /// Returns the policy that Envoy names, or else the first that matches. `None`: there is
    /// none.
    ///
    /// # Errors
    /// If Envoy did not send what policies are selected by, or if it is ambiguous.
    pub fn select(&self, head: &Head) -> Result<Option<&Arc<Policy>>, Unselectable> {
        match &head.policy {
            Some(name) => Ok(self.policies.iter().find(|policy| policy.name == *name)),
            None => policy::select(&self.policies, head),
        }
    }

    /// Returns a refusal that waits for the body, if there is one, where the policy and the
    /// limits accept the headers of a request.
    fn admit_by(
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
        // In Shadow it is not sent, so that nothing has to wait for it.
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
    pub fn most_body_bytes(&self, admitted: &Admitted) -> usize {
        let most = self.limits.max_body_bytes;
        if admitted.is_refused() { most.min(AWAITED_BODY_BYTES) } else { most }
    }

    /// Judges a request that has no body, and so no message.
    pub fn judge_bodiless<'p, 'b>(&self, admitted: &'p Admitted) -> Judgement<'p, 'b> {
        admitted
            .answer_waiting(&[])
            .unwrap_or_else(|| messages::judge_bodiless(admitted).obliged(admitted.replay()))
    }

    /// Judges a request whose body was not read, but for its first part.
    pub fn judge_unread<'p, 'b>(
        &self,
        admitted: &'p Admitted,
        why: Unread,
        came: &[u8],
    ) -> Judgement<'p, 'b> {
        if let Some(judgement) = admitted.answer_waiting(came) {
            return judgement;
        }
        let refusal = match why {
            Unread::TooLarge => self.too_large(),
            Unread::TooManyParts => Refusal::too_many_parts(self.limits.max_body_parts),
            Unread::CutOff => Refusal::cut_off(),
            Unread::TimedOut => Refusal::timed_out(),
            Unread::Trailers => Refusal::request_trailers(),
            Unread::Overloaded => Refusal::overloaded(),
        };
        Judgement::refused(&admitted.policy, refusal.answering(RequestId::read(came)))
    }

    /// Judges a request by its whole body.
    pub fn judge<'p, 'b>(&'p self, admitted: &'p Admitted, body: &'b [u8]) -> Judgement<'p, 'b> {
        if body.is_empty() {
            return self.judge_bodiless(admitted);
        }
        if let Some(judgement) = admitted.answer_waiting(body) {
            return judgement;
        }
        if body.len() > self.limits.max_body_bytes {
            return self.judge_unread(admitted, Unread::TooLarge, body);
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
                Judgement::refused(policy, refusal)
            }
            Err(Malformed { problem: Problem::MissingHeader(_), id })
                if needs::lacks_headers(&admitted.head) =>
            {
                Judgement::refused(policy, Refusal::no_headers().answering(id))
            }
            Ok(message) => messages::judge(admitted, message).obliged(admitted.replay()),
            Err(malformed) => Judgement::refused(policy, Refusal::malformed(malformed)),
        }
    }

    /// Whether the answers to lists are filtered for some policy.
    pub fn filters_lists(&self) -> bool {
        self.policies.iter().any(|policy| filters_lists(policy))
    }

    /// Whether a decision can depend on claims other than scopes.
    pub fn reads_claims(&self) -> bool {
        self.policies.iter().any(|policy| {
            policy.rules.reads().claims || policy.accepted_tokens != AcceptedTokens::default()
        })
    }

    fn too_large(&self) -> Refusal {
        Refusal::too_large(self.limits.max_body_bytes)
    }
}

/// Whether the answers to some lists are filtered.
fn filters_lists(policy: &Policy) -> bool {
    policy.enforcement == Enforcement::Enforce && policy.filters_lists()
}

/// Returns true if a request announces a body of more than so many bytes.
fn announces_more(head: &Head, most: usize) -> bool {
    let announced = |value: &[u8]| std::str::from_utf8(value).ok()?.trim().parse::<u64>().ok();
    let mut lengths = head.values_of(Header::ContentLength).filter_map(announced);
    lengths.any(|length| length > most as u64)
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
