//! The calls of a body: one, or those of a batch.

use super::{Admitted, Clearance, Judged, Judgement, Proof, Refusal};
use crate::mcp::{Call, Malformed, Problem};
use crate::policy::{Facts, NoSubject, Policy, Reason};

/// Judges all calls of a body: they go on together or not at all.
pub(super) fn judge<'p, 'b>(admitted: &'p Admitted, calls: Vec<Call<'b>>) -> Judgement<'p, 'b> {
    let (policy, are_several) = (admitted.policy(), calls.len() > 1);
    // A batch may hold none.
    let method = calls.first().map(|call| call.method.clone());
    let mut judged = Vec::with_capacity(calls.len());
    for call in calls {
        match evaluated(admitted, call) {
            Ok(call) => judged.push(call),
            Err(refusal) => {
                return Judgement { method, calls: judged, ..Judgement::refused(policy, refusal) };
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
        [] => Ok(Clearance(Proof::Calls(permits))).into(),
        [first, ..] if are_several => {
            Judgement::refused(policy, denied_some(admitted, &judged, first, &denied))
        }
        [only, ..] => Judgement::refused(policy, only.refusal(policy, only.remedy)),
    };
    let mut judgement = Judgement { calls: judged, ..judgement };
    judgement.method = judgement.decisive().map(|judged| judged.call.method.clone());
    judgement
}

/// A call that is denied.
struct Denied<'j, 'p, 'b> {
    judged: &'j Judged<'p, 'b>,
    /// The scopes that would help it.
    remedy: Option<&'p [String]>,
}

impl Denied<'_, '_, '_> {
    fn refusal(&self, policy: &Policy, scopes: Option<&[String]>) -> Refusal {
        let Judged { call, evaluation } = self.judged;
        Refusal::denied(policy, call, evaluation.decision.reason(), scopes)
    }
}

fn evaluated<'p, 'b>(admitted: &'p Admitted, call: Call<'b>) -> Result<Judged<'p, 'b>, Refusal> {
    let malformed = |problem| {
        let id = call.id.map(str::to_owned);
        Refusal::malformed(&Malformed { problem, id })
    };
    let facts = admitted.facts(&call).map_err(|unclear| match unclear {
        NoSubject::Unclear => malformed(Problem::UnclearBackend),
        NoSubject::NoAttribute(name) => Refusal::no_attribute(name),
    })?;
    let evaluation = admitted.policy().evaluate(&call, &facts).map_err(malformed)?;
    Ok(Judged { call, evaluation })
}

/// The refusal of several calls of which some are denied.
fn denied_some(
    admitted: &Admitted,
    calls: &[Judged<'_, '_>],
    first: &Denied<'_, '_, '_>,
    denied: &[Denied<'_, '_, '_>],
) -> Refusal {
    let policy = admitted.policy();
    let mut scopes: Vec<String> = Vec::new();
    for Judged { evaluation, .. } in calls {
        // A token with just these is enough for what is allowed already, too.
        let needed = match evaluation.decision.permit() {
            Ok(_) => evaluation.required_scopes(),
            Err(Some(remedy)) => remedy,
            Err(None) => continue,
        };
        let new = needed.iter().filter(|scope| !scopes.contains(scope)).cloned();
        scopes.extend(new.collect::<Vec<_>>());
    }
    if let Some(hopeless) = denied.iter().find(|call| call.remedy.is_none()) {
        return hopeless.refusal(policy, None);
    }
    // What helps one call could, by a rule over scopes, close another.
    let all_help = calls.iter().all(|judged| is_allowed_with(policy, admitted, judged, &scopes));
    if all_help {
        first.refusal(policy, Some(&scopes))
    } else {
        Refusal::denied(policy, &first.judged.call, Reason::DenyRule, None)
    }
}

fn is_allowed_with(
    policy: &Policy,
    admitted: &Admitted,
    judged: &Judged<'_, '_>,
    scopes: &[String],
) -> bool {
    let Ok(facts) = admitted.facts(&judged.call) else { return false };
    let facts = Facts { more_scopes: scopes, ..facts };
    let evaluation = policy.evaluate(&judged.call, &facts);
    evaluation.is_ok_and(|evaluation| evaluation.decision.permit().is_ok())
}
