//! The state machine of one stream.
//!
//! Envoy holds the request back while it waits for mcp-authz, and continues on its own if the
//! stream ends cleanly. So a stream ends in one of three ways:
//!
//! - The gate gives a [`Clearance`](crate::gate::Clearance).
//! - The session sends a refusal.
//! - A [`ProtocolError`] fails the stream, and Envoy responds with a 500.
//!
//! Only a clearance lets a request continue.
//!
//! The stream ends as soon as the complete request has been released and its clearance holds no
//! obligation. While the stream is open, Envoy breaks off the response if this process restarts.
//! Envoy also counts the stream against the cluster's `max_requests`.

mod request;
mod response;

use std::fmt;

use self::request::{Outcome, continued, unless_empty};
use super::message::{
    AcceptEncoding, BodyMode, Chunk, Event, Message, ProtocolError, Reply, ResponsePart,
};
use crate::gate::{AdmittedRequest, BodyFailure, Gate, ListFilter, Obligation, Refusal};
use crate::record::Record;
use crate::telemetry::ListOutcome;

/// A configuration of Envoy that could let calls continue without an evaluation. Its text names the
/// fix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Misconfiguration {
    BodyMode(BodyMode),
    NoHeaders,
    NoSetup,
    ResponseBodyMode(BodyMode),
    NoResponseHeaders,
}

impl fmt::Display for Misconfiguration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BodyMode(mode) => write!(
                f,
                "processing_mode.request_body_mode is {mode}, so calls would go on before they \
                 are judged: set it to BUFFERED or FULL_DUPLEX_STREAMED"
            ),
            Self::NoHeaders => f.write_str(
                "processing_mode.request_header_mode is SKIP, so headers and token go on before the \
                 body is judged: set it to SEND",
            ),
            Self::ResponseBodyMode(mode) => write!(
                f,
                "processing_mode.response_body_mode is {mode}, so a list that the policy filters \
                 would continue as it is: set it to STREAMED, and response_header_mode to SEND"
            ),
            Self::NoResponseHeaders => f.write_str(
                "processing_mode.response_header_mode is SKIP, so a list that the policy filters \
                 cannot be read: set it to SEND",
            ),
            Self::NoSetup => f.write_str(
                "Envoy does not tell its processing mode (protocol_config), so it cannot be known \
                 whether bodies are sent: use a newer Envoy",
            ),
        }
    }
}

impl From<Misconfiguration> for Refusal {
    fn from(what: Misconfiguration) -> Self {
        Self::misconfigured(&what.to_string())
    }
}

#[derive(Debug)]
pub(super) struct Session {
    state: State,
    request_body: BodyMode,
    response_body: BodyMode,
    /// True if fewer other streams than `--max-streams` are open. Otherwise a request with a body
    /// is refused before its body is read.
    has_room: bool,
    /// The outcome of a list, until metrics count it.
    list_outcome: Option<ListOutcome>,
}

#[derive(Debug)]
enum State {
    /// No message came yet.
    Start,
    /// Envoy buffers the body and will send it in one message.
    AwaitingBody { admitted: AdmittedRequest, whole: Whole },
    /// The headers and the body arrive in chunks, and the session holds them back.
    Buffering { admitted: AdmittedRequest, body: Vec<u8>, chunks: usize },
    /// The request may continue, and chunks of its body are still to come.
    Forwarding,
    /// The request has been released, and its response is filtered.
    Filtering(Box<ListFilter>),
    /// The request has been released without an obligation, but Envoy still sends the response
    /// through this stream. Ending the stream now could lose a part of the response.
    Responding,
    /// The request has been released, and nothing remains to be done.
    Done,
    /// The session refused the request.
    Refused,
}

/// The rule that decides if a buffered body is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whole {
    /// The body is always complete; Envoy refuses a body that is larger than its buffer.
    Always,
    /// The body is complete if it ends the stream.
    AtEndOfStream,
}

/// The effect of a message.
#[derive(Debug)]
enum Transition {
    /// The message decides nothing.
    Continue { to: State, answers: Parts },
    /// The message completes the decision about the request, or about its response.
    Decide { end: Effect, record: Box<Record> },
}

/// The consequence of a decision.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once a request, and a box costs each")]
enum Effect {
    /// The request continues.
    Release {
        parts: Parts,
        /// True if chunks of the body are still to come.
        more: bool,
        /// The filter that edits the response.
        filter: Option<Box<ListFilter>>,
    },
    /// mcp-authz answers the request, or ends its response.
    Refuse(Refusal),
    /// An error replaces the rest of the response.
    Replace { answers: Parts, to: State },
}

/// Answers, in the order that Envoy expects.
type Parts = [Option<Reply>; 3];

const NO_PARTS: Parts = [None, None, None];
const REQUEST_HEADERS: Reply = Reply::RequestHeaders(AcceptEncoding::Accepted);

/// The most bytes of a streamed body in one message. An operator may limit the messages that
/// Envoy's gRPC client accepts (`max_receive_message_length`).
const MAX_PART_BYTES: usize = 64 << 10;

/// The size above which another thread evaluates a body, in bytes.
const LARGE_BODY_BYTES: usize = 64 << 10;

impl Session {
    /// Returns a new session. `has_room` is false if too many other streams are open.
    pub(super) fn new(has_room: bool) -> Self {
        Self {
            state: State::Start,
            request_body: BodyMode::None,
            response_body: BodyMode::None,
            has_room,
            list_outcome: None,
        }
    }

    /// Returns true if a message came.
    pub(super) fn is_begun(&self) -> bool {
        !matches!(self.state, State::Start)
    }

    /// Returns true if the request was released or refused.
    pub(super) fn is_decided(&self) -> bool {
        match self.state {
            State::Start | State::AwaitingBody { .. } | State::Buffering { .. } => false,
            State::Forwarding
            | State::Filtering(_)
            | State::Responding
            | State::Done
            | State::Refused => true,
        }
    }

    /// Returns true if nothing remains to be done, so the stream can end.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Done | State::Refused)
    }

    /// Returns true if the session refused the request.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self.state, State::Refused)
    }

    /// Returns true if the request will be refused as soon as its id is known.
    pub(super) fn awaits_id(&self) -> bool {
        let (State::AwaitingBody { admitted, .. } | State::Buffering { admitted, .. }) =
            &self.state
        else {
            return false;
        };
        admitted.is_refused()
    }

    /// Returns the obligation that is not yet fulfilled.
    pub(super) fn obligation(&self) -> Option<&Obligation> {
        match &self.state {
            State::Filtering(filter) if !filter.is_broken() => Some(filter.obligation()),
            _ => None,
        }
    }

    /// Returns the number of buffered bytes of a body.
    pub(super) fn held_bytes(&self) -> usize {
        match &self.state {
            State::Buffering { body, .. } => body.len(),
            State::Filtering(filter) => filter.held_bytes(),
            State::Start
            | State::AwaitingBody { .. }
            | State::Forwarding
            | State::Responding
            | State::Done
            | State::Refused => 0,
        }
    }

    /// Returns true if a message causes work on a large body, which would delay other requests.
    pub(super) fn is_costly(&self, gate: &Gate, event: &Event) -> bool {
        let (bytes, is_decisive) = match (&self.state, event) {
            (State::AwaitingBody { .. }, Event::RequestBody(chunk)) => (chunk.bytes.len(), true),
            (State::Buffering { body, .. }, Event::RequestBody(chunk)) => {
                let bytes = body.len() + chunk.bytes.len();
                (bytes, chunk.end_of_stream || bytes > gate.limits.max_body_bytes)
            }
            (State::Buffering { body, .. }, Event::RequestTrailers) => (body.len(), true),
            (State::Filtering(filter), Event::Response(ResponsePart::Body(chunk))) => {
                (filter.held_bytes() + chunk.bytes.len(), true)
            }
            _ => return false,
        };
        is_decisive && bytes > LARGE_BODY_BYTES
    }

    /// Handles a message and appends the answers to it. Returns the record if the message leads to
    /// a decision. The record belongs to the first of these answers.
    pub(super) fn on(
        &mut self,
        gate: &Gate,
        message: Message,
        answers: &mut impl Extend<Reply>,
    ) -> Result<Option<Box<Record>>, ProtocolError> {
        let Message { event, setup, verified } = message;
        // After a violation the session stays refused.
        let step = match (std::mem::replace(&mut self.state, State::Refused), event) {
            // The stream has ended.
            (state @ (State::Done | State::Refused), _) => {
                self.state = state;
                return Ok(None);
            }
            (State::Start, event) => {
                self.request_body = setup.map_or(BodyMode::None, |setup| setup.request_body);
                self.response_body = setup.map_or(BodyMode::None, |setup| setup.response_body);
                self.start(gate, event, setup, verified)?
            }
            (State::Filtering(filter), Event::Response(part)) => {
                self.filter_response(gate, filter, part)
            }
            (state, Event::Response(part)) => {
                // The response is the server's, or that of a filter that answered while the session
                // waited.
                self.pass_response(state, part)
            }
            (State::Forwarding, event) => self.forward(event)?,
            (state, event) => continued(gate, state, event)?,
        };
        Ok(self.apply(gate, step, answers))
    }

    /// Decides about a request whose body did not come completely. Returns `None` if there is
    /// nothing to decide, or (in Shadow) if no answer could be sent to Envoy now.
    pub(super) fn give_up(
        &mut self,
        gate: &Gate,
        why: BodyFailure,
        answers: &mut impl Extend<Reply>,
    ) -> Option<Box<Record>> {
        match std::mem::replace(&mut self.state, State::Refused) {
            State::Buffering { admitted, body, .. } => {
                let outcome = Outcome::of(gate, &admitted, gate.reject_body(&admitted, why, &body));
                let parts = [Some(REQUEST_HEADERS), unless_empty(body), None];
                let step = outcome.end(gate, admitted, true, |_encodings| parts);
                self.apply(gate, step, answers)
            }
            State::AwaitingBody { admitted, whole } => {
                let judgement = gate.reject_body(&admitted, why, &[]);
                if judgement.answer.is_ok() {
                    self.state = State::AwaitingBody { admitted, whole };
                    return None;
                }
                let outcome = Outcome::of(gate, &admitted, judgement);
                let step = outcome.end(gate, admitted, false, |_encodings| NO_PARTS);
                self.apply(gate, step, answers)
            }
            State::Filtering(mut filter) => {
                filter.discard_body();
                self.state = State::Filtering(filter);
                None
            }
            state @ (State::Start
            | State::Forwarding
            | State::Responding
            | State::Done
            | State::Refused) => {
                self.state = state;
                None
            }
        }
    }

    fn apply(
        &mut self,
        gate: &Gate,
        step: Transition,
        answers: &mut impl Extend<Reply>,
    ) -> Option<Box<Record>> {
        let (to, parts, record) = match step {
            Transition::Continue { to, answers } => (to, answers, None),
            Transition::Decide { end: Effect::Release { parts, more, filter }, record } => {
                let to = match filter {
                    Some(filter) => match self.unfulfillable(&filter) {
                        Some(refusal) => return Some(self.refuse(gate, &filter, refusal, answers)),
                        None => State::Filtering(filter),
                    },
                    None if more && self.request_body == BodyMode::FullDuplexStreamed => {
                        State::Forwarding
                    }
                    // Envoy forwards the rest of the body itself.
                    None => self.released(),
                };
                (to, parts, Some(record))
            }
            Transition::Decide { end: Effect::Replace { answers, to }, record } => {
                (to, answers, Some(record))
            }
            Transition::Decide { end: Effect::Refuse(refusal), record } => {
                (State::Refused, [Some(Reply::Refuse(refusal)), None, None], Some(record))
            }
        };
        for answer in parts.into_iter().flatten() {
            extend_in_parts(answer, answers);
        }
        self.state = to;
        record
    }

    /// Returns a refusal if the response could not be filtered in Envoy's mode.
    fn unfulfillable(&self, filter: &ListFilter) -> Option<Refusal> {
        match self.response_body {
            BodyMode::Streamed | BodyMode::FullDuplexStreamed => None,
            mode => Some(filter.refusing(Misconfiguration::ResponseBodyMode(mode).into())),
        }
    }

    /// Refuses a request that has just been released, because there is no room to filter its
    /// response. No answer to the message has been sent yet.
    pub(super) fn refuse_filter(
        &mut self,
        gate: &Gate,
        answers: &mut impl Extend<Reply>,
    ) -> Option<Box<Record>> {
        match std::mem::replace(&mut self.state, State::Refused) {
            State::Filtering(filter) => {
                let refusal = filter.refusing(Refusal::overloaded());
                Some(self.refuse(gate, &filter, refusal, answers))
            }
            state => {
                self.state = state;
                None
            }
        }
    }

    /// Refuses a request, or the rest of its response.
    fn refuse(
        &mut self,
        gate: &Gate,
        filter: &ListFilter,
        refusal: Refusal,
        answers: &mut impl Extend<Reply>,
    ) -> Box<Record> {
        let record = Box::new(Record::unreadable_list(gate, filter, &refusal));
        self.state = State::Refused;
        answers.extend([Reply::Refuse(refusal)]);
        record
    }

    /// Returns the state of a released request without an obligation. In `FULL_DUPLEX_STREAMED`,
    /// ending the stream would lose the chunks of the response that Envoy has sent.
    fn released(&self) -> State {
        match self.response_body {
            BodyMode::FullDuplexStreamed => State::Responding,
            _ => State::Done,
        }
    }

    /// Returns the outcome of a list, once.
    pub(super) fn take_list_outcome(&mut self) -> Option<ListOutcome> {
        self.list_outcome.take()
    }
}

/// Appends an answer. Splits a large body into chunks that Envoy's gRPC client accepts.
fn extend_in_parts(answer: Reply, answers: &mut impl Extend<Reply>) {
    let (Chunk { mut bytes, end_of_stream }, streamed): (Chunk, fn(Chunk) -> Reply) = match answer {
        Reply::StreamRequestBody(chunk) if chunk.bytes.len() > MAX_PART_BYTES => {
            (chunk, Reply::StreamRequestBody)
        }
        Reply::StreamResponseBody(chunk) if chunk.bytes.len() > MAX_PART_BYTES => {
            (chunk, Reply::StreamResponseBody)
        }
        answer => return answers.extend([answer]),
    };
    while bytes.len() > MAX_PART_BYTES {
        let bytes = bytes.split_to(MAX_PART_BYTES);
        answers.extend([streamed(Chunk { bytes, end_of_stream: false })]);
    }
    answers.extend([streamed(Chunk { bytes, end_of_stream })]);
}

#[cfg(test)]
mod id_tests;
#[cfg(test)]
mod list_tests;
#[cfg(test)]
mod orders;
#[cfg(test)]
mod tests;
