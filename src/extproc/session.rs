//! The state machine of one stream.
//!
//! Envoy holds the request while it waits for us, and goes on without us if the
//! stream ends cleanly. So a stream has one of three ends: a [`Clearance`] was
//! given, a refusal was sent, or a [`Violation`] fails the stream, which Envoy
//! answers with a 500. Nothing else lets a request go on.

use std::fmt;

use super::message::{
    Answer, BodyMode, Chunk, Encodings, Event, Message, ResponsePart, Setup, Violation,
};
use crate::claims::VerifiedClaims;
use crate::gate::{
    Admitted, AwaitedList, Clearance, Coming, FilteredPart, Gate, Judgement, Refusal, TurnedAway,
    Unread,
};
use crate::record::Record;

/// A set-up of Envoy in which calls could go on unjudged, with its remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Misconfiguration {
    BodyMode(BodyMode),
    NoHeaders,
    NoSetup,
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
            Self::NoSetup => f.write_str(
                "Envoy does not tell its processing mode (protocol_config), so it cannot be known \
                 whether bodies are sent: use a newer Envoy",
            ),
        }
    }
}

#[derive(Debug)]
pub(super) struct Session {
    state: State,
    request_body: BodyMode,
    response_body: BodyMode,
    /// There are too many others, so that it is not to hold anything.
    is_one_too_many: bool,
}

#[derive(Debug)]
enum State {
    /// Nothing came yet.
    Start,
    /// Envoy collects the body and will send it at once.
    Buffering { admitted: Admitted, whole: Whole },
    /// Headers and body come as they are, and are held back here.
    Holding { admitted: Admitted, body: Vec<u8>, parts: usize },
    /// The request may go on, and has. Perhaps its answer is filtered.
    Released { list: Option<Box<AwaitedList>> },
    /// The request may go on, though parts of its body are still to come.
    Passing,
    /// The request was answered.
    Refused,
}

/// How to know that a buffered body is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whole {
    /// It always is; what is larger than Envoy's buffer, Envoy refuses.
    Always,
    /// If it ends the stream.
    AtEndOfStream,
}

/// What a message leads to.
#[derive(Debug)]
enum Step {
    /// Nothing is decided by it.
    Go { to: State, answer: Option<Answer> },
    /// The request is decided.
    Decide { end: End, record: Box<Record> },
}

/// What becomes of a request.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once a request, and a box costs each")]
enum End {
    /// It may go on, with what was held of it. It takes a proof.
    Release {
        #[expect(dead_code, reason = "a proof, to be had and not looked at")]
        proof: Clearance,
        held: Held,
        /// Whether parts of the body are still to come.
        more: bool,
        /// What its answer is filtered by.
        list: Option<Box<AwaitedList>>,
    },
    /// It is answered here.
    Refuse(Refusal),
    /// What the server answers is replaced from here on.
    Replace { answer: Answer, list: Option<Box<AwaitedList>> },
}

/// What was held of a request: its parts in the order in which they go on.
type Held = [Option<Answer>; 3];

const RELEASED: State = State::Released { list: None };
const REQUEST_HEADERS: Answer = Answer::RequestHeaders(Encodings::Accepted);

impl Session {
    /// One that is not yet begun; perhaps one too many.
    pub(super) fn new(is_one_too_many: bool) -> Self {
        let (request_body, response_body) = (BodyMode::None, BodyMode::None);
        Self { state: State::Start, request_body, response_body, is_one_too_many }
    }

    /// Whether anything came yet.
    pub(super) fn is_begun(&self) -> bool {
        !matches!(self.state, State::Start)
    }

    /// Whether the stream may end now.
    pub(super) fn is_decided(&self) -> bool {
        matches!(self.state, State::Released { .. } | State::Passing | State::Refused)
    }

    /// Whether the request was answered here.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self.state, State::Refused)
    }

    /// Whether the request is refused once its id is known.
    pub(super) fn awaits_id(&self) -> bool {
        let (State::Buffering { admitted, .. } | State::Holding { admitted, .. }) = &self.state
        else {
            return false;
        };
        admitted.is_refused()
    }

    /// Whether the answer is to be filtered.
    pub(super) fn awaits_list(&self) -> bool {
        matches!(self.state, State::Released { list: Some(_) })
    }

    /// How many bytes of a body are held.
    pub(super) fn held_bytes(&self) -> usize {
        match &self.state {
            State::Holding { body, .. } => body.len(),
            State::Released { list } => list.as_ref().map_or(0, |list| list.held_bytes()),
            State::Start | State::Buffering { .. } | State::Passing | State::Refused => 0,
        }
    }

    /// Takes a message and appends the answers to it. If it decides, what is to be
    /// told of that comes back: it belongs to the first of these answers.
    pub(super) fn on(
        &mut self,
        gate: &Gate,
        message: Message,
        answers: &mut impl Extend<Answer>,
    ) -> Result<Option<Box<Record>>, Violation> {
        let Message { event, setup, verified } = message;
        // A violation leaves it refused.
        let step = match (std::mem::replace(&mut self.state, State::Refused), event) {
            (State::Refused, _) => return Ok(None),
            (State::Start, event) => {
                self.request_body = setup.map_or(BodyMode::None, |setup| setup.request_body);
                self.response_body = setup.map_or(BodyMode::None, |setup| setup.response_body);
                self.start(gate, event, setup, verified)?
            }
            (State::Released { list: Some(list) }, Event::Response(part)) => {
                self.list(gate, list, part)
            }
            (state, Event::Response(part)) => {
                // Of the server, or of a filter while we were waiting.
                Step::Go { to: state, answer: Some(self.response(part)) }
            }
            (State::Passing, event) => self.pass(event)?,
            (state, event) => continued(gate, state, event)?,
        };
        Ok(self.take(step, answers))
    }

    /// Decides a request whose body did not come. `None`: there is nothing to
    /// decide, or (in Shadow) nothing that could be sent to Envoy now.
    pub(super) fn give_up(
        &mut self,
        gate: &Gate,
        why: Unread,
        answers: &mut impl Extend<Answer>,
    ) -> Option<Box<Record>> {
        match std::mem::replace(&mut self.state, State::Refused) {
            State::Holding { admitted, body, .. } => {
                let judgement = gate.judge_unread(&admitted, why, &body);
                let part =
                    (!body.is_empty()).then_some(Chunk { bytes: body, end_of_stream: false });
                let part = part.map(Answer::StreamRequestBody);
                let held = [Some(REQUEST_HEADERS), part, None];
                let step = answer(gate, &admitted, judgement, held, true);
                self.take(step, answers)
            }
            State::Buffering { admitted, whole } => {
                let judgement = gate.judge_unread(&admitted, why, &[]);
                if judgement.answer.is_ok() {
                    self.state = State::Buffering { admitted, whole };
                    return None;
                }
                let step = answer(gate, &admitted, judgement, [None, None, None], false);
                self.take(step, answers)
            }
            State::Released { list: Some(mut list) } => {
                list.let_go();
                self.state = State::Released { list: Some(list) };
                None
            }
            state @ (State::Start
            | State::Released { list: None }
            | State::Passing
            | State::Refused) => {
                self.state = state;
                None
            }
        }
    }

    fn take(&mut self, step: Step, answers: &mut impl Extend<Answer>) -> Option<Box<Record>> {
        let (to, record) = match step {
            Step::Go { to, answer } => {
                answers.extend(answer);
                (to, None)
            }
            Step::Decide { end: End::Release { proof: _, held, more, list }, record } => {
                answers.extend(held.into_iter().flatten());
                (if more { State::Passing } else { State::Released { list } }, Some(record))
            }
            Step::Decide { end: End::Replace { answer, list }, record } => {
                answers.extend([answer]);
                (State::Released { list }, Some(record))
            }
            Step::Decide { end: End::Refuse(refusal), record } => {
                answers.extend([Answer::Refuse(refusal)]);
                (State::Refused, Some(record))
            }
        };
        self.state = to;
        record
    }

    fn start(
        &self,
        gate: &Gate,
        event: Event,
        setup: Option<Setup>,
        verified: VerifiedClaims,
    ) -> Result<Step, Violation> {
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
            // A filter in front of us answered the request itself.
            Event::Response(part) => {
                return Ok(Step::Go { to: RELEASED, answer: Some(self.response(part)) });
            }
            Event::Unknown => return Err(Violation("the first message is of an unknown kind")),
        };
        let admitted = match gate.admit(head, verified) {
            Ok(admitted) => admitted,
            Err(turned_away) => return Ok(turn_away(gate, *turned_away, !end_of_stream)),
        };
        let head = [Some(REQUEST_HEADERS), None, None];
        Ok(match whole {
            _ if end_of_stream => {
                answer(gate, &admitted, gate.judge_bodiless(&admitted), head, false)
            }
            _ if self.is_one_too_many => answer(
                gate,
                &admitted,
                gate.judge_unread(&admitted, Unread::Overloaded, &[]),
                head,
                true,
            ),
            // Envoy's filter holds the headers until it has the body's answer.
            Some(whole) => {
                Step::Go { to: State::Buffering { admitted, whole }, answer: Some(REQUEST_HEADERS) }
            }
            None => Step::Go {
                to: State::Holding { admitted, body: Vec::new(), parts: 0 },
                answer: None,
            },
        })
    }

    /// What is still to come of a request that may go on.
    fn pass(&self, event: Event) -> Result<Step, Violation> {
        let (answer, to) = match event {
            Event::RequestBody(chunk) => {
                let to = if chunk.end_of_stream { RELEASED } else { State::Passing };
                match self.request_body {
                    BodyMode::FullDuplexStreamed => (Answer::StreamRequestBody(chunk), to),
                    _ => (Answer::RequestBody(Encodings::Accepted), to),
                }
            }
            Event::RequestTrailers => (Answer::RequestTrailers, RELEASED),
            Event::RequestHeaders { .. } => return Err(Violation("request headers came twice")),
            Event::Response(_) | Event::Unknown => {
                return Err(Violation("a message of an unknown kind"));
            }
        };
        Ok(Step::Go { to, answer: Some(answer) })
    }

    /// A part of the answer to a list.
    fn list(&self, gate: &Gate, mut list: Box<AwaitedList>, part: ResponsePart) -> Step {
        let is_streamed = self.response_body == BodyMode::FullDuplexStreamed;
        match part {
            ResponsePart::Headers(Some(head)) => match list.begin(&head) {
                Coming::NoList => Step::Go { to: RELEASED, answer: Some(Answer::ResponseHeaders) },
                Coming::List => Step::Go {
                    to: State::Released { list: Some(list) },
                    answer: Some(Answer::FetchResponseBody),
                },
                Coming::Unreadable(refusal) => {
                    let record = Box::new(Record::unreadable_list(gate, &list, &refusal));
                    Step::Decide { end: End::Refuse(refusal), record }
                }
            },
            ResponsePart::Body(Chunk { bytes, end_of_stream }) => {
                let FilteredPart { bytes, broken } = list.push(&bytes, end_of_stream);
                let answer = match is_streamed {
                    true => Answer::StreamResponseBody(Chunk { bytes, end_of_stream }),
                    false => Answer::ReplaceResponseBody(bytes),
                };
                let record = broken.map(|refusal| Record::unreadable_list(gate, &list, &refusal));
                let list = (!end_of_stream).then_some(list);
                match record.map(Box::new) {
                    Some(record) => Step::Decide { end: End::Replace { answer, list }, record },
                    None => Step::Go { to: State::Released { list }, answer: Some(answer) },
                }
            }
            ResponsePart::Headers(None) | ResponsePart::Trailers => {
                Step::Go { to: RELEASED, answer: Some(self.response(part)) }
            }
        }
    }

    /// Responses are none of our business, but Envoy waits for an answer.
    fn response(&self, part: ResponsePart) -> Answer {
        match part {
            ResponsePart::Headers(_) => Answer::ResponseHeaders,
            ResponsePart::Body(chunk) if self.response_body == BodyMode::FullDuplexStreamed => {
                Answer::StreamResponseBody(chunk)
            }
            ResponsePart::Body(_) => Answer::ResponseBody,
            ResponsePart::Trailers => Answer::ResponseTrailers,
        }
    }
}

/// What comes of the request after its headers.
fn continued(gate: &Gate, state: State, event: Event) -> Result<Step, Violation> {
    Ok(match (state, event) {
        (State::Buffering { admitted, whole }, Event::RequestBody(chunk)) => {
            if whole == Whole::AtEndOfStream && !chunk.end_of_stream {
                let judgement = gate.judge_unread(&admitted, Unread::CutOff, &chunk.bytes);
                let held = [Some(Answer::RequestBody(Encodings::Accepted)), None, None];
                return Ok(answer(gate, &admitted, judgement, held, true));
            }
            judge(gate, admitted, chunk.bytes, |_, encodings| {
                [Some(Answer::RequestBody(encodings)), None, None]
            })
        }
        (State::Buffering { admitted, .. }, Event::RequestTrailers) => {
            let held = [Some(Answer::RequestTrailers), None, None];
            answer(gate, &admitted, gate.judge_bodiless(&admitted), held, false)
        }
        (State::Holding { admitted, mut body, parts }, Event::RequestBody(chunk)) => {
            let (most, parts) = (gate.most_body_bytes(&admitted), parts + 1);
            let unread = if body.len() + chunk.bytes.len() > most {
                Some(Unread::TooLarge)
            } else if parts > gate.limits.max_body_parts {
                Some(Unread::TooManyParts)
            } else {
                None
            };
            if body.is_empty() {
                body = chunk.bytes;
            } else {
                body.extend_from_slice(&chunk.bytes);
            }
            if let Some(why) = unread {
                let judgement = gate.judge_unread(&admitted, why, &body);
                let end_of_stream = chunk.end_of_stream;
                let body = Answer::StreamRequestBody(Chunk { bytes: body, end_of_stream });
                let held = [Some(REQUEST_HEADERS), Some(body), None];
                return Ok(answer(gate, &admitted, judgement, held, !end_of_stream));
            }
            if !chunk.end_of_stream {
                let to = State::Holding { admitted, body, parts };
                return Ok(Step::Go { to, answer: None });
            }
            judge(gate, admitted, body, |bytes, encodings| {
                let body = Answer::StreamRequestBody(Chunk { bytes, end_of_stream: true });
                [Some(Answer::RequestHeaders(encodings)), Some(body), None]
            })
        }
        (State::Holding { admitted, body, .. }, Event::RequestTrailers) => {
            judge(gate, admitted, body, |bytes, encodings| {
                // Without a body Envoy waits for no part of it.
                let is_empty = bytes.is_empty();
                let body = Answer::StreamRequestBody(Chunk { bytes, end_of_stream: false });
                let body = if is_empty { None } else { Some(body) };
                [Some(Answer::RequestHeaders(encodings)), body, Some(Answer::RequestTrailers)]
            })
        }
        (state @ State::Released { .. }, Event::RequestTrailers) => {
            Step::Go { to: state, answer: Some(Answer::RequestTrailers) }
        }
        (State::Released { .. }, Event::RequestBody(_)) => {
            return Err(Violation("a part of the body came after the decision"));
        }
        (_, Event::RequestHeaders { .. }) => return Err(Violation("request headers came twice")),
        (_, Event::Unknown) => return Err(Violation("a message of an unknown kind")),
        // `on` takes care of all these.
        (State::Start | State::Refused | State::Passing, _) | (_, Event::Response(_)) => {
            return Err(Violation("a message out of order"));
        }
    })
}

/// Judges a whole body; `held` is what goes on if it may, and in which encodings the
/// server may answer.
fn judge(
    gate: &Gate,
    admitted: Admitted,
    body: Vec<u8>,
    held: impl FnOnce(Vec<u8>, Encodings) -> Held,
) -> Step {
    let (record, answer, asked) = {
        let judgement = gate.judge(&admitted, &body);
        let record = Box::new(Record::judged(gate, &admitted, &judgement));
        (record, judgement.answer, judgement.list)
    };
    let end = match answer {
        Ok(proof) => {
            let list = asked.map(|asked| Box::new(gate.awaited(admitted, asked)));
            let encodings = if list.is_some() { Encodings::Identity } else { Encodings::Accepted };
            End::Release { proof, held: held(body, encodings), more: false, list }
        }
        Err(refusal) => End::Refuse(refusal),
    };
    Step::Decide { end, record }
}

/// Answers; `held` is what goes on if it may, and `more` whether parts of the
/// body are still to come then.
fn answer(
    gate: &Gate,
    admitted: &Admitted,
    judgement: Judgement<'_, '_>,
    held: Held,
    more: bool,
) -> Step {
    let record = Box::new(Record::judged(gate, admitted, &judgement));
    Step::Decide { end: end(judgement.answer, held, more), record }
}

/// Answers what was decided by the head alone.
fn turn_away(gate: &Gate, turned_away: TurnedAway, more: bool) -> Step {
    let record = Box::new(Record::turned_away(gate, &turned_away));
    let held = [Some(REQUEST_HEADERS), None, None];
    Step::Decide { end: end(turned_away.judgement.answer, held, more), record }
}

fn end(answer: Result<Clearance, Refusal>, held: Held, more: bool) -> End {
    match answer {
        Ok(proof) => End::Release { proof, held, more, list: None },
        Err(refusal) => End::Refuse(refusal),
    }
}

fn misconfigured(gate: &Gate, what: Misconfiguration) -> Step {
    turn_away(gate, Refusal::misconfigured(&what.to_string()).into(), false)
}

#[cfg(test)]
mod id_tests;
#[cfg(test)]
mod list_tests;
#[cfg(test)]
mod orders;
#[cfg(test)]
mod tests;
