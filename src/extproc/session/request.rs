//! The request: its buffered part, and the decision.

use super::{
    Effect, Misconfiguration, NO_PARTS, Parts, REQUEST_HEADERS, Session, State, Transition, Whole,
};
use crate::claims::VerifiedClaims;
use crate::extproc::message::{
    AcceptEncoding, BodyMode, Chunk, Event, ProcessingModes, ProtocolError, Reply,
};
use crate::gate::{
    AdmittedRequest, BodyFailure, Clearance, EarlyDecision, Gate, Refusal, RequestDecision,
};
use crate::record::Record;

impl Session {
    /// Handles the first message.
    pub(super) fn start(
        &self,
        gate: &Gate,
        event: Event,
        setup: Option<ProcessingModes>,
        verified: VerifiedClaims,
    ) -> Result<Transition, ProtocolError> {
        let whole = match setup.map(|setup| setup.request_body) {
            Some(BodyMode::Buffered) => Some(Whole::Always),
            Some(BodyMode::BufferedPartial) => Some(Whole::AtEndOfStream),
            Some(BodyMode::FullDuplexStreamed) => None,
            Some(mode) => return Ok(misconfigured(gate, Misconfiguration::BodyMode(mode))),
            None => return Ok(misconfigured(gate, Misconfiguration::NoSetup)),
        };
        let (head, end_of_stream) = match event {
            Event::RequestHeaders { head, end_of_stream } => (head, end_of_stream),
            Event::RequestBody(_) | Event::RequestTrailers => {
                return Ok(misconfigured(gate, Misconfiguration::NoHeaders));
            }
            // A filter in front of mcp-authz answered the request itself.
            Event::Response(part) => return Ok(self.pass_response(State::Responding, part)),
            Event::Unknown => return Err(ProtocolError("the first message is of an unknown kind")),
        };
        let admitted = match gate.admit(head, verified) {
            Ok(admitted) => admitted,
            Err(turned_away) => return Ok(turn_away(gate, *turned_away, !end_of_stream)),
        };
        let headers = |encodings| [Some(Reply::RequestHeaders(encodings)), None, None];
        if end_of_stream {
            let outcome = Outcome::of(gate, &admitted, gate.authorize_without_body(&admitted));
            return Ok(outcome.end(gate, admitted, false, headers));
        }
        if !self.has_room {
            let judgement = gate.reject_body(&admitted, BodyFailure::Overloaded, &[]);
            let outcome = Outcome::of(gate, &admitted, judgement);
            return Ok(outcome.end(gate, admitted, true, headers));
        }
        Ok(match whole {
            // Envoy's filter holds the headers back until it has the answer to the body.
            Some(whole) => Transition::Continue {
                to: State::AwaitingBody { admitted, whole },
                answers: headers(AcceptEncoding::Accepted),
            },
            None => Transition::Continue {
                to: State::Buffering { admitted, body: Vec::new(), chunks: 0 },
                answers: NO_PARTS,
            },
        })
    }

    /// Forwards the rest of a request that may continue, in `FULL_DUPLEX_STREAMED`.
    pub(super) fn forward(&self, event: Event) -> Result<Transition, ProtocolError> {
        let (answer, is_last) = match event {
            Event::RequestBody(chunk) => {
                let is_last = chunk.end_of_stream;
                (Reply::StreamRequestBody(chunk), is_last)
            }
            Event::RequestTrailers => (Reply::RequestTrailers, true),
            Event::RequestHeaders { .. } => {
                return Err(ProtocolError("request headers came twice"));
            }
            Event::Response(_) | Event::Unknown => {
                return Err(ProtocolError("a message of an unknown kind"));
            }
        };
        let to = if is_last { self.released() } else { State::Forwarding };
        Ok(Transition::Continue { to, answers: [Some(answer), None, None] })
    }
}

/// Handles the part of a request that comes after its headers.
pub(super) fn continued(
    gate: &Gate,
    state: State,
    event: Event,
) -> Result<Transition, ProtocolError> {
    Ok(match (state, event) {
        (State::AwaitingBody { admitted, whole }, Event::RequestBody(chunk)) => {
            let is_cut_off = whole == Whole::AtEndOfStream && !chunk.end_of_stream;
            let judgement = if is_cut_off {
                gate.reject_body(&admitted, BodyFailure::CutOff, &chunk.bytes)
            } else {
                gate.authorize(&admitted, &chunk.bytes)
            };
            let outcome = Outcome::of(gate, &admitted, judgement);
            outcome.end(gate, admitted, is_cut_off, |encodings| {
                [Some(Reply::RequestBody(encodings)), None, None]
            })
        }
        (State::AwaitingBody { admitted, .. }, Event::RequestTrailers) => {
            let outcome = Outcome::of(gate, &admitted, gate.authorize_without_body(&admitted));
            outcome
                .end(gate, admitted, false, |_encodings| [Some(Reply::RequestTrailers), None, None])
        }
        (State::Buffering { admitted, body, chunks }, Event::RequestBody(chunk)) => {
            buffer(gate, (admitted, body, chunks + 1), chunk)
        }
        (State::Buffering { admitted, body, .. }, Event::RequestTrailers) => {
            let judgement = gate.reject_body(&admitted, BodyFailure::Trailers, &body);
            let outcome = Outcome::of(gate, &admitted, judgement);
            outcome.end(gate, admitted, false, |encodings| {
                let headers = Some(Reply::RequestHeaders(encodings));
                [headers, unless_empty(body), Some(Reply::RequestTrailers)]
            })
        }
        // In BUFFERED, trailers come after the body.
        (state @ (State::Filtering(_) | State::Responding), Event::RequestTrailers) => {
            Transition::Continue { to: state, answers: [Some(Reply::RequestTrailers), None, None] }
        }
        // A second end of stream has no meaning (envoyproxy/envoy#46237).
        (
            state @ (State::Filtering(_) | State::Responding),
            Event::RequestBody(Chunk { bytes, end_of_stream: true }),
        ) if bytes.is_empty() => Transition::Continue { to: state, answers: NO_PARTS },
        (State::Filtering(_) | State::Responding, Event::RequestBody(_)) => {
            return Err(ProtocolError("a part of the body came after the decision"));
        }
        (_, Event::RequestHeaders { .. }) => {
            return Err(ProtocolError("request headers came twice"));
        }
        (_, Event::Unknown) => return Err(ProtocolError("a message of an unknown kind")),
        _ => return Err(ProtocolError("a message out of order")),
    })
}

/// Adds a chunk to a body that comes in chunks. Decides if the chunk is the last one, or exceeds a
/// limit.
fn buffer(
    gate: &Gate,
    (admitted, mut body, chunks): (AdmittedRequest, Vec<u8>, usize),
    chunk: Chunk,
) -> Transition {
    let unread = if body.len() + chunk.bytes.len() > gate.most_body_bytes(&admitted) {
        Some(BodyFailure::TooLarge)
    } else if chunks > gate.limits.max_body_parts {
        Some(BodyFailure::TooManyParts)
    } else {
        None
    };
    if body.is_empty() {
        body = chunk.bytes.into();
    } else {
        body.extend_from_slice(&chunk.bytes);
    }
    let end_of_stream = chunk.end_of_stream;
    let outcome = match unread {
        Some(why) => Outcome::of(gate, &admitted, gate.reject_body(&admitted, why, &body)),
        None if end_of_stream => Outcome::of(gate, &admitted, gate.authorize(&admitted, &body)),
        None => {
            let to = State::Buffering { admitted, body, chunks };
            return Transition::Continue { to, answers: NO_PARTS };
        }
    };
    outcome.end(gate, admitted, !end_of_stream, |encodings| {
        let body = Reply::StreamRequestBody(Chunk { bytes: body.into(), end_of_stream });
        [Some(Reply::RequestHeaders(encodings)), Some(body), None]
    })
}

/// Returns the buffered chunks of a body that has not ended. Returns `None` if there are none:
/// Envoy then waits for no chunk.
pub(super) fn unless_empty(body: Vec<u8>) -> Option<Reply> {
    let chunk = Chunk { bytes: body.into(), end_of_stream: false };
    (!chunk.bytes.is_empty()).then_some(Reply::StreamRequestBody(chunk))
}

/// A decision and its record, which borrow nothing from the request.
pub(super) struct Outcome {
    answer: Result<Clearance, Refusal>,
    record: Box<Record>,
}

impl Outcome {
    pub(super) fn of(
        gate: &Gate,
        admitted: &AdmittedRequest,
        judgement: RequestDecision<'_, '_>,
    ) -> Self {
        let record = Box::new(Record::judged(gate, admitted, &judgement));
        Self { answer: judgement.answer, record }
    }

    /// Returns the step with the decision. If the request continues, `parts` are released, with the
    /// encodings in which the server may respond. `more` is true if chunks of the body are still to
    /// come then.
    pub(super) fn end(
        self,
        gate: &Gate,
        admitted: AdmittedRequest,
        more: bool,
        parts: impl FnOnce(AcceptEncoding) -> Parts,
    ) -> Transition {
        let Self { answer, record } = self;
        let end = match answer {
            Ok(clearance) => {
                let filter = clearance.into_list_filter(gate, admitted);
                let encodings = if filter.is_some() {
                    AcceptEncoding::Identity
                } else {
                    AcceptEncoding::Accepted
                };
                Effect::Release { parts: parts(encodings), more, filter }
            }
            Err(refusal) => Effect::Refuse(refusal),
        };
        Transition::Decide { end, record }
    }
}

/// Returns the step of a request that was decided by its headers alone.
fn turn_away(gate: &Gate, turned_away: EarlyDecision, more: bool) -> Transition {
    let record = Box::new(Record::turned_away(gate, &turned_away));
    let end = match turned_away.judgement.answer {
        // The body was not read, so there is no obligation.
        Ok(_clearance) => {
            let parts = [Some(REQUEST_HEADERS), None, None];
            Effect::Release { parts, more, filter: None }
        }
        Err(refusal) => Effect::Refuse(refusal),
    };
    Transition::Decide { end, record }
}

fn misconfigured(gate: &Gate, what: Misconfiguration) -> Transition {
    turn_away(gate, Refusal::from(what).into(), false)
}
