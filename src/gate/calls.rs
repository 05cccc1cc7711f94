//! The calls of a body: one, or those of a batch.

use super::{Admitted, Clearance, Judged, Judgement, Proof, Refusal};
use crate::mcp::{Malformed, Problem, ToolCall};
use crate::policy::{Facts, NoSubject, Permit, Policy, Reason};

/// Judges all calls of a body: they go on together or not at all.
pub(super) fn judge<'p, 'b>(
    admitted: &'p Admitted,
    calls: Vec<ToolCall<'b>>,
    is_batch: bool,
) -> Judgement<'p, 'b> {
    let policy = admitted.policy();
    let mut judged = Vec::with_capacity(calls.len());
    for call in calls {
        match evaluated(admitted, call) {
            Ok(call) => judged.push(call),
            Err(refusal) => {
                return Judgement { calls: judged, ..Judgement::refused(policy, refusal) };
            }
        }
    }
    let permits: Result<Vec<Permit>, _> =
        judged.iter().map(|judged| judged.evaluation.decision.permit()).collect();
    let judgement = match permits {
        Ok(permits) => Ok(Clearance(Proof::Calls(permits))).into(),
        Err(_) => Judgement::refused(policy, denial(admitted, &judged, is_batch)),
    };
    Judgement { calls: judged, ..judgement }
}

fn evaluated<'p, 'b>(
    admitted: &'p Admitted,
    call: ToolCall<'b>,
) -> Result<Judged<'p, 'b>, Refusal> {
    let malformed = |problem| {
        let id = call.id.map(str::to_owned);
        Refusal::malformed(&Malformed { problem, id })
    };
    let facts = admitted.facts(&call).map_err(|unclear| match unclear {
        NoSubject::UnclearHeader => malformed(Problem::UnclearBackend),
        NoSubject::NoAttribute(name) => Refusal::no_attribute(name),
    })?;
    let evaluation = admitted.policy().evaluate(&call, &facts).map_err(malformed)?;
    Ok(Judged { call, evaluation })
}

/// The refusal of calls of which one is denied at least.
fn denial(admitted: &Admitted, calls: &[Judged<'_, '_>], is_batch: bool) -> Refusal {
    let policy = admitted.policy();
    let denied = calls.iter().filter_map(|judged| {
        let decision = &judged.evaluation.decision;
        decision.permit().err().map(|remedy| (judged, decision.reason(), remedy))
    });
    let mut denied = denied.peekable();
    let Some((first, reason)) = denied.peek().map(|(judged, reason, _)| (*judged, *reason)) else {
        return Refusal::misconfigured("a call was denied and is not to be found".to_owned());
    };
    if !is_batch {
        let scopes = denied.next().and_then(|(_, _, remedy)| remedy);
        return Refusal::denied(policy, &first.call, reason, scopes);
    }
    let mut scopes: Vec<String> = Vec::new();
    for (judged, reason, remedy) in denied {
        let Some(remedy) = remedy else {
            return Refusal::denied(policy, &judged.call, reason, None);
        };
        let new =
            remedy.iter().filter(|scope| !scopes.contains(scope)).cloned().collect::<Vec<_>>();
        scopes.extend(new);
    }
    // What helps one call could, by a rule over scopes, close another.
    let all_help = calls.iter().all(|judged| is_allowed_with(policy, admitted, judged, &scopes));
    if all_help {
        Refusal::denied(policy, &first.call, reason, Some(&scopes))
    } else {
        Refusal::denied(policy, &first.call, Reason::DenyRule, None)
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
