//! The step from a request and its message to the calls that rules decide about.

use std::borrow::Cow;

use super::{AdmittedRequest, Obligation, Proof, Refusal, RequestDecision, calls, filters_lists};
use crate::head::Unclear;
use crate::mcp::{Call, ListKind, Malformed, Message, RequestId, TargetKind};
use crate::policy::Policy;

/// The HTTP method of requests that carry messages.
pub(super) const POST: &str = "POST";
/// The HTTP method of a CORS preflight, which carries no token and reaches no MCP server's
/// session.
pub(super) const OPTIONS: &str = "OPTIONS";

/// Decides about a request without a message by its HTTP method.
pub(super) fn authorize_without_body<'p, 'b>(
    admitted: &'p AdmittedRequest,
) -> RequestDecision<'p, 'b> {
    match http_call(admitted, OPTIONS) {
        Ok(None) => RequestDecision::cleared(Proof::NoMessage),
        Ok(Some(call)) => calls::authorize(admitted, vec![call]),
        Err(refusal) => RequestDecision::refused(admitted.policy(), refusal),
    }
}

/// Decides about a request by its message. A server may act on an HTTP method, such as DELETE, even
/// if the request carries a message. Rules therefore decide about every method except POST, too.
pub(super) fn authorize<'p, 'b>(
    admitted: &'p AdmittedRequest,
    message: Message<'b>,
) -> RequestDecision<'p, 'b> {
    let policy = admitted.policy();
    let http = match http_call(admitted, POST) {
        Ok(http) => http,
        Err(refusal) => {
            return RequestDecision::refused(policy, refusal.answering(id_of(&message)));
        }
    };
    match message {
        Message::Calls(mut calls) => {
            let list = calls.first().and_then(|call| list_of(policy, call));
            if let Some(http) = http {
                let id = calls.first().and_then(|call| call.id);
                calls.insert(0, Call { id, ..http });
            }
            calls::authorize(admitted, calls).obliged(list)
        }
        Message::NotGoverned { proof, method, id } => {
            let is_response = method.is_none() && names_responses(policy);
            let response = is_response.then(Call::of_response);
            let calls: Vec<Call<'b>> = http.into_iter().chain(response).collect();
            if !calls.is_empty() {
                return calls::authorize(admitted, calls);
            }
            let list = method.as_deref().and_then(|method| filtered_list(policy, method, id));
            RequestDecision {
                method,
                ..RequestDecision::cleared(Proof::NotGoverned(proof)).obliged(list)
            }
        }
        Message::Task { method, id } => task(policy, method, id.and_then(RequestId::of)),
        Message::Batch(messages) => batch(admitted, messages, http),
    }
}

/// Returns the id of a message that is not a batch.
pub(super) fn id_of(message: &Message<'_>) -> Option<RequestId> {
    match message {
        Message::Calls(calls) => calls.first()?.request_id(),
        Message::NotGoverned { id, .. } | Message::Task { id, .. } => id.and_then(RequestId::of),
        Message::Batch(_) => None,
    }
}

/// Returns the call that an HTTP method stands for, if rules decide about methods.
///
/// # Errors
/// If the method is not known, or not clear.
fn http_call<'b>(admitted: &AdmittedRequest, except: &str) -> Result<Option<Call<'b>>, Refusal> {
    if !admitted.policy().governed.methods {
        return Ok(None);
    }
    let method = match admitted.head.method.value() {
        Ok(method) if method == except => return Ok(None),
        Ok(method) => method,
        Err(Unclear::NotSent) => return Err(Refusal::no_http_method()),
        Err(Unclear::Ambiguous(_)) => return Err(Refusal::unclear_http_method()),
    };
    let is_clear = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_lowercase();
    if !method.bytes().all(is_clear) {
        return Err(Refusal::unclear_http_method());
    }
    let malformed = |problem| Refusal::malformed(Malformed { problem, id: None });
    Call::without_message(method).map(Some).map_err(malformed)
}

/// Returns true if a rule names the responses that clients post. A tool call of the server waits
/// for them, so a denial by a rule for all methods would hang the tool call.
fn names_responses(policy: &Policy) -> bool {
    let mut targets = policy.rules.iter().flat_map(|rule| rule.targets.iter().flatten());
    policy.governed.methods
        && targets.any(|target| {
            target.feature == TargetKind::Method
                && target.name.is_exact()
                && target.name.as_str() == Call::RESPONSE
        })
}

/// Returns the obligation of a method that requests a list which the policy filters.
fn filtered_list(policy: &Policy, method: &str, id: Option<&str>) -> Option<Obligation> {
    let listing = ListKind::of_method(method).filter(|_| filters_lists(policy))?;
    policy
        .filters(listing.feature())
        .then(|| Obligation::FilterList { listing, id: id.and_then(RequestId::of) })
}

/// Returns the obligation of a call that requests a list which the policy filters.
fn list_of(policy: &Policy, call: &Call<'_>) -> Option<Obligation> {
    let may_list = call.feature == TargetKind::Method;
    if may_list { filtered_list(policy, &call.method, call.id) } else { None }
}

/// Refuses a request about a task.
fn task<'p, 'b>(
    policy: &Policy,
    method: Cow<'b, str>,
    id: Option<RequestId>,
) -> RequestDecision<'p, 'b> {
    let refused = RequestDecision::refused(policy, Refusal::of_task(id));
    RequestDecision { method: Some(method), ..refused }
}

/// Decides about several messages together. No error for a batch has an id: it would answer one
/// message, and leave the others without an answer.
fn batch<'p, 'b>(
    admitted: &'p AdmittedRequest,
    messages: Vec<Message<'b>>,
    http: Option<Call<'b>>,
) -> RequestDecision<'p, 'b> {
    let (policy, mut calls) = (admitted.policy(), Vec::from_iter(http));
    for message in messages {
        let list = match message {
            Message::Calls(more) => {
                let list = more.first().and_then(|call| list_of(policy, call));
                calls.extend(more.into_iter().map(|call| Call { id: None, ..call }));
                list
            }
            Message::NotGoverned { method: None, .. } => {
                calls.extend(names_responses(policy).then(Call::of_response));
                None
            }
            Message::NotGoverned { method: Some(method), .. } => {
                filtered_list(policy, &method, None)
            }
            Message::Task { method, .. } => return task(policy, method, None),
            // A batch holds no batch.
            Message::Batch(_) => None,
        };
        if let Some(Obligation::FilterList { listing, .. }) = list {
            return RequestDecision::refused(policy, Refusal::list_in_batch(listing));
        }
    }
    calls::authorize(admitted, calls)
}
