//! The record of a decision, for logs, metrics, Envoy and watchers.

mod fields;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use fields::{Field, fields, json, line};

use crate::gate::{
    AdmittedRequest, CallerInfo, EarlyDecision, Gate, ListFilter, Obligation, Refusal,
    RefusalCause, RequestDecision, TraceContext, shortened,
};
use crate::mcp::TargetKind;
use crate::policy::{Evaluation, Label, Policy};
use crate::proto::{self, v1};

/// The action that mcp-authz took on a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The request continues.
    Allow,
    /// mcp-authz answered the request itself.
    Deny,
    /// The request continues only because the policy is in Shadow.
    ShadowDeny,
}

impl Verdict {
    /// All verdicts.
    pub const ALL: [Self; 3] = [Self::Allow, Self::Deny, Self::ShadowDeny];

    /// Returns the verdict in one word, for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::ShadowDeny => "shadow_deny",
        }
    }

    /// Reads the verdict of a decision.
    pub fn of(decision: &v1::Decision) -> Self {
        match decision.verdict.as_str() {
            ALLOW => Self::Allow,
            _ if decision.shadow => Self::ShadowDeny,
            _ => Self::Deny,
        }
    }
}

const ALLOW: &str = "Allow";
const DENY: &str = "Deny";

/// The reason of a request that continues because rules decide about nothing in it.
pub const NOT_GOVERNED: &str = "not_governed";

/// A decision with the values that metrics count.
#[derive(Debug)]
pub struct Record {
    /// The decision to report. The caller that has a clock sets its time and duration.
    pub decision: v1::Decision,
    /// The action that mcp-authz took.
    pub verdict: Verdict,
    /// The party that caused the refusal, if there is one.
    pub blame: Option<RefusalCause>,
    /// The reason in one word.
    pub reason: &'static str,
    /// The policy that decided.
    pub policy: Option<Arc<Policy>>,
    /// The policy's label for the target.
    pub label: Label,
    /// The trace that the request is a part of.
    pub trace: Option<TraceContext>,
    /// The change that an operator has to make; for the log only.
    pub hint: Option<String>,
    /// The time that the decision took.
    pub took: Option<Duration>,
}

impl Record {
    /// Returns the record of the decision about an admitted request.
    pub fn judged(
        gate: &Gate,
        admitted: &AdmittedRequest,
        judgement: &RequestDecision<'_, '_>,
    ) -> Self {
        let mut record = Self::new(gate, Some(admitted.policy()), admitted.origin(), judgement);
        // If the target is unknown, the refusal already states that.
        if let Some(judged) = judgement.deciding_call()
            && let Ok(subject) = admitted.subject(&judged.call)
        {
            let policy = admitted.policy();
            record.label = policy.rules.labels().of(&policy.backend, &subject);
            record.decision.backend = shortened(subject.backend.name().unwrap_or_default());
            let name = subject.name.to_owned();
            match subject.feature {
                TargetKind::Tool => record.decision.tool = name,
                TargetKind::Prompt => record.decision.prompt = name,
                TargetKind::Resource | TargetKind::ResourceTemplate => {
                    record.decision.resource = without_data(&name);
                }
                // A method as target is already recorded as the method.
                TargetKind::Method => {}
            }
        }
        record
    }

    /// Returns the record of a response that could not be filtered.
    pub fn unreadable_list(gate: &Gate, filter: &ListFilter, refusal: &Refusal) -> Self {
        let admitted = filter.admitted();
        let method = match filter.obligation() {
            Obligation::FilterList { listing, .. } => Some(listing.method().into()),
            Obligation::FilterReplay => None,
        };
        let judgement = RequestDecision { method, ..Err(refusal.clone()).into() };
        Self::new(gate, Some(admitted.policy()), admitted.origin(), &judgement)
    }

    /// Returns the record of a request that was answered before its body was read.
    pub fn turned_away(gate: &Gate, turned_away: &EarlyDecision) -> Self {
        let EarlyDecision { origin, policy, judgement } = turned_away;
        Self::new(gate, policy.as_ref(), origin, judgement)
    }

    fn new(
        gate: &Gate,
        policy: Option<&Arc<Policy>>,
        origin: &CallerInfo,
        judgement: &RequestDecision<'_, '_>,
    ) -> Self {
        let RequestDecision { answer: _, shadowed, method, calls } = judgement;
        let refusal = judgement.refusal();
        let verdict = match (refusal, shadowed) {
            (None, _) => Verdict::Allow,
            (Some(_), None) => Verdict::Deny,
            (Some(_), Some(_)) => Verdict::ShadowDeny,
        };
        let evaluation = judgement.deciding_call().map(|judged| &judged.evaluation);
        let reason = match (refusal, evaluation) {
            (Some(refusal), _) => refusal.reason,
            (None, Some(evaluation)) => evaluation.decision.reason().as_str(),
            (None, None) => NOT_GOVERNED,
        };
        let errors = calls.iter().flat_map(|judged| judged.evaluation.condition_errors());
        let CallerInfo { subject, client_id, request_id, trace } = origin.clone();
        let batch = if calls.len() > 1 { calls.len() } else { 0 };
        let decision = v1::Decision {
            time: None,
            verdict: if refusal.is_none() { ALLOW } else { DENY }.to_owned(),
            shadow: verdict == Verdict::ShadowDeny,
            reason: reason.to_owned(),
            http_status: refusal.map_or(200, |refusal| refusal.status.into()),
            policy: policy.map(|policy| policy.name.clone()).unwrap_or_default(),
            policy_sha256: gate.digest.to_string(),
            rule: evaluation.and_then(Evaluation::rule_label).unwrap_or_default(),
            method: method.as_deref().map(shortened).unwrap_or_default(),
            backend: String::new(),
            tool: String::new(),
            prompt: String::new(),
            resource: String::new(),
            calls: u32::try_from(batch).unwrap_or(u32::MAX),
            required_scopes: refusal
                .map(|refusal| refusal.required_scopes.clone())
                .unwrap_or_default(),
            subject: subject.unwrap_or_default(),
            client_id: client_id.unwrap_or_default(),
            condition_errors: errors.collect(),
            request_id: request_id.unwrap_or_default(),
            trace_id: trace.map(|trace| format!("{:032x}", trace.trace_id)).unwrap_or_default(),
            span_id: trace.map(|trace| format!("{:016x}", trace.span_id)).unwrap_or_default(),
            duration: None,
        };
        Self {
            decision,
            verdict,
            blame: refusal.map(|refusal| refusal.blame),
            reason,
            policy: policy.cloned(),
            label: Label::default(),
            trace,
            hint: refusal.and_then(|refusal| refusal.hint.clone()),
            took: None,
        }
    }

    /// Returns the record with the time of the decision and its duration.
    #[must_use]
    pub fn made(mut self, at: SystemTime, took: Duration) -> Self {
        self.decision.time = Some(timestamp(at));
        self.decision.duration = Some(duration(took));
        self.took = Some(took);
        self
    }
}

/// Returns a URI without its query and fragment, which can hold data that the caller sends. Also
/// removes a user and password.
fn without_data(uri: &str) -> String {
    let uri = uri.split(['?', '#']).next().unwrap_or_default();
    if uri.starts_with("data:") {
        return "data:".to_owned();
    }
    let Some((scheme, rest)) = uri.split_once("://") else { return uri.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

fn timestamp(time: SystemTime) -> proto::Timestamp {
    let proto::Duration { seconds, nanos } =
        duration(time.duration_since(UNIX_EPOCH).unwrap_or_default());
    proto::Timestamp { seconds, nanos }
}

#[expect(clippy::cast_possible_wrap, reason = "nanoseconds of a second")]
fn duration(duration: Duration) -> proto::Duration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    proto::Duration { seconds, nanos: duration.subsec_nanos() as i32 }
}

#[cfg(test)]
mod tests {
    use super::without_data;

    #[test]
    fn a_uri_is_told_without_what_is_asked_of_the_resource() {
        for (uri, told) in [
            ("file:///a/b", "file:///a/b"),
            ("db://user:secret@host/table?ssn=1#row", "db://host/table"),
            ("db://host?ssn=1", "db://host"),
            ("urn:a:b?q", "urn:a:b"),
            ("data:text/plain,secret", "data:"),
        ] {
            assert_eq!(without_data(uri), told);
        }
    }
}
