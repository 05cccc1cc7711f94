//! The calls of a body: one, or those of a batch.

use super::{Admitted, Clearance, Judged, Judgement, Proof, Refusal};
use crate::mcp::{Malformed, Problem, TOOLS_CALL, ToolCall};
use crate::policy::{Facts, NoSubject, Policy, Reason};

/// Judges all calls of a body: they go on together or not at all.
pub(super) fn judge<'p, 'b>(
    admitted: &'p Admitted,
    calls: Vec<ToolCall<'b>>,
    is_batch: bool,
) -> Judgement<'p, 'b> {
    let policy = admitted.policy();
    // A batch may hold none.
    let method = (!calls.is_empty()).then_some(TOOLS_CALL.into());
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
        [first, ..] if is_batch => {
            Judgement::refused(policy, denied_batch(admitted, &judged, first, &denied))
        }
        [only, ..] => Judgement::refused(policy, only.refusal(policy, only.remedy)),
    };
    Judgement { method, calls: judged, ..judgement }
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

/// The refusal of a batch of which some calls are denied.
fn denied_batch(
    admitted: &Admitted,
    calls: &[Judged<'_, '_>],
    first: &Denied<'_, '_, '_>,
    denied: &[Denied<'_, '_, '_>],
) -> Refusal {
    let policy = admitted.policy();
    let mut scopes: Vec<String> = Vec::new();
    for call in denied {
        let Some(remedy) = call.remedy else { return call.refusal(policy, None) };
        let new =
            remedy.iter().filter(|scope| !scopes.contains(scope)).cloned().collect::<Vec<_>>();
        scopes.extend(new);
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
