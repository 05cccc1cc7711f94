//! The response, where Envoy sends it.

use super::{End, Misconfiguration, Parts, Session, State, Step};
use crate::extproc::message::{Answer, BodyMode, Chunk, ResponsePart};
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
    ) -> Step {
        match part {
            ResponsePart::Headers(Some(head)) => match filter.on_headers(&head) {
                Disposition::PassThrough => {
                    self.list_outcome = Some(outcome(&filter, ListOutcome::NoList));
                    self.pass_response(self.released(), ResponsePart::Headers(None))
                }
                Disposition::Filter { cache_control } => Step::Go {
                    to: State::Filtering(filter),
                    answers: one(Answer::FilteredResponseHeaders { cache_control }),
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
                    Answer::StreamResponseBody(Chunk { bytes, end_of_stream })
                } else {
                    Answer::ReplaceResponseBody(bytes)
                };
                self.filtered(gate, filter, error, (one(answer), end_of_stream))
            }
            ResponsePart::Trailers => {
                let FilteredPart { bytes, error } = filter.on_body(&[], true);
                // In other modes, no bytes can be put before the trailers.
                let has_rest = self.streams_response() && !bytes.is_empty();
                let rest = Chunk { bytes: bytes.into(), end_of_stream: false };
                let rest = has_rest.then_some(Answer::StreamResponseBody(rest));
                let answers = [rest, Some(Answer::ResponseTrailers), None];
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
    ) -> Step {
        let Some(error) = error else {
            if is_last && !filter.is_broken() {
                self.list_outcome = Some(outcome(&filter, ListOutcome::Filtered));
            }
            let to = if is_last { State::Done } else { State::Filtering(filter) };
            return Step::Go { to, answers };
        };
        if error.id.is_none() {
            // The body contains no error message, and the client must not wait for more.
            return self.reject(gate, &filter, error);
        }
        self.list_outcome = Some(ListOutcome::Unreadable);
        let record = Box::new(Record::unreadable_list(gate, &filter, &error));
        let to = if is_last { State::Done } else { State::Filtering(filter) };
        Step::Decide { end: End::Replace { answers, to }, record }
    }

    /// Returns the step that ends a response which cannot be filtered.
    fn reject(&mut self, gate: &Gate, filter: &ListFilter, refusal: Refusal) -> Step {
        self.list_outcome = Some(ListOutcome::Unreadable);
        let record = Box::new(Record::unreadable_list(gate, filter, &refusal));
        Step::Decide { end: End::Refuse(refusal), record }
    }

    /// Forwards a part of a response without an obligation, because Envoy waits for an answer.
    pub(super) fn pass_response(&self, to: State, part: ResponsePart) -> Step {
        let answer = match part {
            ResponsePart::Headers(_) => Answer::ResponseHeaders,
            ResponsePart::Body(chunk) if self.streams_response() => {
                Answer::StreamResponseBody(chunk)
            }
            ResponsePart::Body(_) => Answer::ResponseBody,
            ResponsePart::Trailers => Answer::ResponseTrailers,
        };
        Step::Go { to, answers: one(answer) }
    }

    fn streams_response(&self) -> bool {
        self.response_body == BodyMode::FullDuplexStreamed
    }
}

/// Returns the outcome of a list, unless the server sends it on another stream.
fn outcome(filter: &ListFilter, here: ListOutcome) -> ListOutcome {
    if filter.is_elsewhere() { ListOutcome::Elsewhere } else { here }
}

fn one(answer: Answer) -> Parts {
    [Some(answer), None, None]
}
