//! The calls of a body: one, or all calls of a batch.

use super::{AdmittedRequest, EvaluatedCall, Proof, Refusal, RequestDecision};
use crate::claims::Claims;
use crate::mcp::{Call, Malformed, Problem};
use crate::policy::{EvalContext, Policy, Reason, UnresolvedTarget};

/// Decides about all calls of a body: all continue, or none.
pub(super) fn authorize<'p, 'b>(
    admitted: &'p AdmittedRequest,
    calls: Vec<Call<'b>>,
) -> RequestDecision<'p, 'b> {
    let (policy, are_several) = (admitted.policy(), calls.len() > 1);
    let mut judged = Vec::with_capacity(calls.len());
    for call in calls {
        let method = Some(call.method.clone());
        match evaluated(admitted, call) {
            Ok(call) => judged.push(call),
            Err(refusal) => {
                return RequestDecision {
                    method,
                    calls: judged,
                    ..RequestDecision::refused(policy, refusal)
                };
            }
        }
    }
    let (mut permits, mut denied) = (Vec::new(), Vec::new());
    for judged in &judged {
        match judged.evaluation.decision.permit() {
            Ok(permit) => permits.push(permit),
            Err(remedy) => denied.push(Denied { judged, remedy }),
        }
    }
    let judgement = match denied.as_slice() {
        [] => RequestDecision::cleared(Proof::Calls(permits)),
        [first, ..] if are_several => {
            RequestDecision::refused(policy, denied_some(admitted, &judged, first, &denied))
        }
        [only, ..] => RequestDecision::refused(policy, only.refusal(policy, only.remedy)),
    };
    let mut judgement = RequestDecision { calls: judged, ..judgement };
    // A batch may hold no call.
    judgement.method = judgement.deciding_call().map(|judged| judged.call.method.clone());
    judgement
}

/// A call that is denied.
struct Denied<'j, 'p, 'b> {
    judged: &'j EvaluatedCall<'p, 'b>,
    /// The scopes that would allow the call; `None` if no scopes would.
    remedy: Option<&'p [String]>,
}

impl Denied<'_, '_, '_> {
    fn refusal(&self, policy: &Policy, scopes: Option<&[String]>) -> Refusal {
        let EvaluatedCall { call, evaluation } = self.judged;
        Refusal::denied(policy, call, evaluation.decision.reason(), scopes)
    }
}

fn evaluated<'p, 'b>(
    admitted: &'p AdmittedRequest,
    call: Call<'b>,
) -> Result<EvaluatedCall<'p, 'b>, Refusal> {
    let malformed = |problem| Refusal::malformed(Malformed { problem, id: call.request_id() });
    let subject = admitted.subject(&call).map_err(|unclear| match unclear {
        UnresolvedTarget::Unclear => malformed(Problem::UnclearBackend),
        UnresolvedTarget::UnknownBackend { separator } => {
            malformed(Problem::unknown_backend(call.feature, separator))
        }
        UnresolvedTarget::NoAttribute(name) => {
            Refusal::no_attribute(name).answering(call.request_id())
        }
    })?;
    let facts = admitted.facts(&subject);
    let evaluation = admitted.policy().evaluate(&call, &facts).map_err(malformed)?;
    drop(subject);
    Ok(EvaluatedCall { call, evaluation })
}

/// Returns the refusal of several calls if some are denied.
fn denied_some(
    admitted: &AdmittedRequest,
    calls: &[EvaluatedCall<'_, '_>],
    first: &Denied<'_, '_, '_>,
    denied: &[Denied<'_, '_, '_>],
) -> Refusal {
    let policy = admitted.policy();
    if let Some(hopeless) = denied.iter().find(|call| call.remedy.is_none()) {
        return hopeless.refusal(policy, None);
    }
    let mut scopes: Vec<String> = Vec::new();
    for scope in denied.iter().flat_map(|call| call.remedy.unwrap_or_default()) {
        add(policy, scope, &mut scopes);
    }
    // The scopes that allow one call could make a Deny rule apply to another.
    let claims = admitted.claims.as_ref();
    if !calls.iter().all(|judged| is_allowed_with(admitted, judged, claims, &scopes)) {
        return Refusal::denied(policy, &first.judged.call, Reason::DenyRule, None);
    }
    // A token with only these scopes must also suffice for the calls that are already allowed.
    let nothing = claims.map(Claims::without_scopes);
    for judged in calls.iter().filter(|judged| judged.evaluation.decision.permit().is_ok()) {
        if !is_allowed_with(admitted, judged, nothing.as_ref(), &scopes) {
            for scope in judged.evaluation.required_scopes() {
                add(policy, scope, &mut scopes);
            }
        }
    }
    first.refusal(policy, Some(&scopes))
}

/// Adds a scope, unless another scope implies it.
fn add(policy: &Policy, scope: &str, scopes: &mut Vec<String>) {
    let implies =
        |broad: &str, narrow: &str| broad == narrow || policy.scopes.implies(broad, narrow);
    if !scopes.iter().any(|other| implies(other, scope)) {
        scopes.retain(|other| !implies(scope, other));
        scopes.push(scope.to_owned());
    }
}

fn is_allowed_with(
    admitted: &AdmittedRequest,
    judged: &EvaluatedCall<'_, '_>,
    claims: Option<&Claims>,
    scopes: &[String],
) -> bool {
    let Ok(subject) = admitted.subject(&judged.call) else { return false };
    let facts = EvalContext { claims, extra_scopes: scopes, ..admitted.facts(&subject) };
    let evaluation = admitted.policy().evaluate(&judged.call, &facts);
    evaluation.is_ok_and(|evaluation| evaluation.decision.permit().is_ok())
}
