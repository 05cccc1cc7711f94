//! The response, where Envoy sends it.

use super::{Effect, Misconfiguration, Parts, Session, State, Transition};
use crate::extproc::message::{BodyMode, Chunk, Reply, ResponsePart};
use crate::gate::{Disposition, FilteredPart, Gate, ListFilter, Refusal};
use crate::record::Record;
use crate::telemetry::ListOutcome;

impl Session {
    /// Filters a chunk, the headers or the trailers of the response.
    pub(super) fn filter_response(
        &mut self,
        gate: &Gate,
        mut filter: Box<ListFilter>,
        part: ResponsePart,
    ) -> Transition {
        match part {
            ResponsePart::Headers(Some(head)) => match filter.on_headers(&head) {
                Disposition::PassThrough => {
                    self.list_outcome = Some(outcome(&filter, ListOutcome::NoList));
                    self.pass_response(self.released(), ResponsePart::Headers(None))
                }
                Disposition::Filter { cache_control } => Transition::Continue {
                    to: State::Filtering(filter),
                    answers: one(Reply::FilteredResponseHeaders { cache_control }),
                },
                Disposition::Reject(refusal) => self.reject(gate, &filter, refusal),
            },
            ResponsePart::Body(_) if filter.awaits_headers() => {
                let refusal = filter.refusing(Misconfiguration::NoResponseHeaders.into());
                self.reject(gate, &filter, refusal)
            }
            ResponsePart::Body(Chunk { bytes, end_of_stream }) => {
                let FilteredPart { bytes, error } = filter.on_body(&bytes, end_of_stream);
                let bytes = bytes.into();
                let answer = if self.streams_response() {
                    Reply::StreamResponseBody(Chunk { bytes, end_of_stream })
                } else {
                    Reply::ReplaceResponseBody(bytes)
                };
                self.filtered(gate, filter, error, (one(answer), end_of_stream))
            }
            ResponsePart::Trailers => {
                let FilteredPart { bytes, error } = filter.on_body(&[], true);
                // In other modes, no bytes can be put before the trailers.
                let has_rest = self.streams_response() && !bytes.is_empty();
                let rest = Chunk { bytes: bytes.into(), end_of_stream: false };
                let rest = has_rest.then_some(Reply::StreamResponseBody(rest));
                let answers = [rest, Some(Reply::ResponseTrailers), None];
                self.filtered(gate, filter, error, (answers, true))
            }
            ResponsePart::Headers(None) => self.pass_response(State::Filtering(filter), part),
        }
    }

    /// Returns the step after a filtered chunk of the body, which may be the last one.
    fn filtered(
        &mut self,
        gate: &Gate,
        filter: Box<ListFilter>,
        error: Option<Refusal>,
        (answers, is_last): (Parts, bool),
    ) -> Transition {
        let Some(error) = error else {
            if is_last && !filter.is_broken() {
                self.list_outcome = Some(outcome(&filter, ListOutcome::Filtered));
            }
            let to = if is_last { State::Done } else { State::Filtering(filter) };
            return Transition::Continue { to, answers };
        };
        if error.id.is_none() {
            // The body contains no error message, and the client must not wait for more.
            return self.reject(gate, &filter, error);
        }
        self.list_outcome = Some(ListOutcome::Unreadable);
        let record = Box::new(Record::unreadable_list(gate, &filter, &error));
        let to = if is_last { State::Done } else { State::Filtering(filter) };
        Transition::Decide { end: Effect::Replace { answers, to }, record }
    }

    /// Returns the step that ends a response which cannot be filtered.
    fn reject(&mut self, gate: &Gate, filter: &ListFilter, refusal: Refusal) -> Transition {
        self.list_outcome = Some(ListOutcome::Unreadable);
        let record = Box::new(Record::unreadable_list(gate, filter, &refusal));
        Transition::Decide { end: Effect::Refuse(refusal), record }
    }

    /// Forwards a part of a response without an obligation, because Envoy waits for an answer.
    pub(super) fn pass_response(&self, to: State, part: ResponsePart) -> Transition {
        let answer = match part {
            ResponsePart::Headers(_) => Reply::ResponseHeaders,
            ResponsePart::Body(chunk) if self.streams_response() => {
                Reply::StreamResponseBody(chunk)
            }
            ResponsePart::Body(_) => Reply::ResponseBody,
            ResponsePart::Trailers => Reply::ResponseTrailers,
        };
        Transition::Continue { to, answers: one(answer) }
    }

    fn streams_response(&self) -> bool {
        self.response_body == BodyMode::FullDuplexStreamed
    }
}

/// Returns the outcome of a list, unless the server sends it on another stream.
fn outcome(filter: &ListFilter, here: ListOutcome) -> ListOutcome {
    if filter.is_elsewhere() { ListOutcome::Elsewhere } else { here }
}

fn one(answer: Reply) -> Parts {
    [Some(answer), None, None]
}
