//! The state machine of one stream.
//!
//! Envoy holds the request while it waits for us, and goes on without us if the
//! stream ends cleanly. So a stream has one of three ends: a [`Clearance`] was
//! given, a refusal was sent, or a [`Violation`] fails the stream, which Envoy
//! answers with a 500. Nothing else lets a request go on.

use std::fmt;

use crate::claims::Claims;
use crate::gate::{Admitted, Blame, Clearance, Gate, Head, Judgement, Refusal};

/// How Envoy is set to send bodies (`processing_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyMode {
    None,
    Streamed,
    Buffered,
    BufferedPartial,
    FullDuplexStreamed,
    /// One that this version does not know.
    Other(i32),
}

/// As Envoy's configuration spells it.
impl fmt::Display for BodyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("NONE"),
            Self::Streamed => f.write_str("STREAMED"),
            Self::Buffered => f.write_str("BUFFERED"),
            Self::BufferedPartial => f.write_str("BUFFERED_PARTIAL"),
            Self::FullDuplexStreamed => f.write_str("FULL_DUPLEX_STREAMED"),
            Self::Other(number) => write!(f, "{number}, which this version does not know"),
        }
    }
}

/// What Envoy tells about itself in the first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Setup {
    pub(super) request_body: BodyMode,
    pub(super) response_body: BodyMode,
}

/// A message of Envoy.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) event: Event,
    /// Comes with the first message; old Envoys leave it out.
    pub(super) setup: Option<Setup>,
    /// The claims that `jwt_authn` verified.
    pub(super) verified: Option<Claims>,
}

#[derive(Debug)]
pub(super) enum Event {
    RequestHeaders {
        head: Head,
        end_of_stream: bool,
    },
    RequestBody(Chunk),
    RequestTrailers,
    ResponseHeaders,
    ResponseBody(Chunk),
    ResponseTrailers,
    /// None of those that this version knows.
    Unknown,
}

/// A part of a body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) bytes: Vec<u8>,
    pub(super) end_of_stream: bool,
}

/// A message to Envoy.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    RequestHeaders,
    RequestBody,
    StreamRequestBody(Chunk),
    RequestTrailers,
    ResponseHeaders,
    ResponseBody,
    StreamResponseBody(Chunk),
    ResponseTrailers,
    Refuse(Refusal),
}

/// A message that cannot come from a correct Envoy in this state. It fails the
/// stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Violation(&'static str);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

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
    response_body: BodyMode,
}

#[derive(Debug)]
enum State {
    /// Nothing came yet.
    Start,
    /// Envoy collects the body and will send it at once.
    Buffering { admitted: Admitted, whole: Whole },
    /// Headers and body come as they are, and are held back here.
    Holding { admitted: Admitted, body: Vec<u8> },
    /// The request may go on.
    Released,
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

impl Session {
    pub(super) fn new() -> Self {
        Self { state: State::Start, response_body: BodyMode::None }
    }

    /// Whether the stream may end now.
    pub(super) fn is_decided(&self) -> bool {
        matches!(self.state, State::Released | State::Refused)
    }

    /// Takes a message and appends the answers to it.
    pub(super) fn on(
        &mut self,
        gate: &Gate,
        message: Message,
        answers: &mut impl Extend<Answer>,
    ) -> Result<(), Violation> {
        let Message { event, setup, verified } = message;
        match std::mem::replace(&mut self.state, State::Refused) {
            State::Start => {
                if let Some(setup) = setup {
                    self.response_body = setup.response_body;
                }
                self.start(gate, event, setup, verified, answers)
            }
            State::Refused => Ok(()),
            state => self.continued(gate, state, event, answers),
        }
    }

    fn start(
        &mut self,
        gate: &Gate,
        event: Event,
        setup: Option<Setup>,
        verified: Option<Claims>,
        answers: &mut impl Extend<Answer>,
    ) -> Result<(), Violation> {
        let whole = match setup.map(|setup| setup.request_body) {
            Some(BodyMode::Buffered) => Some(Whole::Always),
            Some(BodyMode::BufferedPartial) => Some(Whole::AtEndOfStream),
            Some(BodyMode::FullDuplexStreamed) => None,
            Some(mode) => return self.misconfigured(Misconfiguration::BodyMode(mode), answers),
            None => return self.misconfigured(Misconfiguration::NoSetup, answers),
        };
        let (head, end_of_stream) = match event {
            Event::RequestHeaders { head, end_of_stream } => (head, end_of_stream),
            Event::RequestBody(_) | Event::RequestTrailers => {
                return self.misconfigured(Misconfiguration::NoHeaders, answers);
            }
            // A filter in front of us answered the request itself.
            Event::ResponseHeaders | Event::ResponseBody(_) | Event::ResponseTrailers => {
                self.state = State::Released;
                return self.response(event, answers);
            }
            Event::Unknown => return Err(Violation("the first message is of an unknown kind")),
        };
        let admitted = match gate.admit(head, verified) {
            Ok(admitted) => admitted,
            Err(refusal) => return self.refuse(refusal, answers),
        };
        if end_of_stream {
            return self.release(gate.judge_bodiless(&admitted), [Answer::RequestHeaders], answers);
        }
        self.state = match whole {
            // The filter holds the headers until it has the body's answer too.
            Some(whole) => {
                answers.extend([Answer::RequestHeaders]);
                State::Buffering { admitted, whole }
            }
            None => State::Holding { admitted, body: Vec::new() },
        };
        Ok(())
    }

    fn continued(
        &mut self,
        gate: &Gate,
        state: State,
        event: Event,
        answers: &mut impl Extend<Answer>,
    ) -> Result<(), Violation> {
        match (state, event) {
            (
                state,
                event @ (Event::ResponseHeaders | Event::ResponseBody(_) | Event::ResponseTrailers),
            ) => {
                // The answer of the server, or of a filter while we were waiting.
                self.state = state;
                self.response(event, answers)
            }
            (State::Buffering { admitted, whole }, Event::RequestBody(chunk)) => {
                if whole == Whole::AtEndOfStream && !chunk.end_of_stream {
                    let refusal = Refusal::cut_off().by(admitted.policy());
                    return self.refuse(refusal, answers);
                }
                match self.judge(gate, &admitted, &chunk.bytes) {
                    Ok(clearance) => self.release(clearance, [Answer::RequestBody], answers),
                    Err(refusal) => self.refuse_logged(refusal, answers),
                }
            }
            (State::Buffering { admitted, .. }, Event::RequestTrailers) => {
                self.release(gate.judge_bodiless(&admitted), [Answer::RequestTrailers], answers)
            }
            (State::Holding { admitted, mut body }, Event::RequestBody(chunk)) => {
                if body.len() + chunk.bytes.len() > gate.limits.max_body_bytes {
                    let refusal = gate.too_large().by(admitted.policy());
                    return self.refuse(refusal, answers);
                }
                if body.is_empty() {
                    body = chunk.bytes;
                } else {
                    body.extend_from_slice(&chunk.bytes);
                }
                if !chunk.end_of_stream {
                    self.state = State::Holding { admitted, body };
                    return Ok(());
                }
                match self.judge(gate, &admitted, &body) {
                    Ok(clearance) => {
                        let body = Chunk { bytes: body, end_of_stream: true };
                        let held = [Answer::RequestHeaders, Answer::StreamRequestBody(body)];
                        self.release(clearance, held, answers)
                    }
                    Err(refusal) => self.refuse_logged(refusal, answers),
                }
            }
            (State::Holding { admitted, body }, Event::RequestTrailers) => {
                match self.judge(gate, &admitted, &body) {
                    Ok(clearance) => {
                        let body = Chunk { bytes: body, end_of_stream: false };
                        let held = [
                            Answer::RequestHeaders,
                            Answer::StreamRequestBody(body),
                            Answer::RequestTrailers,
                        ];
                        self.release(clearance, held, answers)
                    }
                    Err(refusal) => self.refuse_logged(refusal, answers),
                }
            }
            (State::Released, Event::RequestTrailers) => {
                self.state = State::Released;
                answers.extend([Answer::RequestTrailers]);
                Ok(())
            }
            (State::Released, Event::RequestBody(_)) => {
                Err(Violation("a part of the body came after the decision"))
            }
            (_, Event::RequestHeaders { .. }) => Err(Violation("request headers came twice")),
            (_, Event::Unknown) => Err(Violation("a message of an unknown kind")),
            // `on` takes care of these two.
            (State::Start | State::Refused, _) => Err(Violation("a message after the end")),
        }
    }

    fn judge(&self, gate: &Gate, admitted: &Admitted, body: &[u8]) -> Result<Clearance, Refusal> {
        let judgement = gate.judge(admitted, body);
        log(admitted, &judgement);
        judgement.answer
    }

    /// The only way out for a request: it takes a proof.
    fn release<const N: usize>(
        &mut self,
        _clearance: Clearance,
        held: [Answer; N],
        answers: &mut impl Extend<Answer>,
    ) -> Result<(), Violation> {
        self.state = State::Released;
        answers.extend(held);
        Ok(())
    }

    fn refuse(
        &mut self,
        refusal: Refusal,
        answers: &mut impl Extend<Answer>,
    ) -> Result<(), Violation> {
        tracing::info!(
            policy = refusal.policy,
            status = refusal.status,
            reason = refusal.reason,
            "request refused"
        );
        self.refuse_logged(refusal, answers)
    }

    fn refuse_logged(
        &mut self,
        refusal: Refusal,
        answers: &mut impl Extend<Answer>,
    ) -> Result<(), Violation> {
        self.state = State::Refused;
        answers.extend([Answer::Refuse(refusal)]);
        Ok(())
    }

    fn misconfigured(
        &mut self,
        what: Misconfiguration,
        answers: &mut impl Extend<Answer>,
    ) -> Result<(), Violation> {
        let refusal = Refusal::misconfigured();
        tracing::error!(
            reason = refusal.reason,
            "Envoy's ext_proc filter is misconfigured: {what}"
        );
        self.refuse_logged(refusal, answers)
    }

    /// Responses are none of our business, but Envoy waits for an answer.
    fn response(&self, event: Event, answers: &mut impl Extend<Answer>) -> Result<(), Violation> {
        answers.extend([match event {
            Event::ResponseHeaders => Answer::ResponseHeaders,
            Event::ResponseBody(chunk) if self.response_body == BodyMode::FullDuplexStreamed => {
                Answer::StreamResponseBody(chunk)
            }
            Event::ResponseBody(_) => Answer::ResponseBody,
            _ => Answer::ResponseTrailers,
        }]);
        Ok(())
    }
}

/// One line for a decision. It holds no argument, no claim and no token.
fn log(admitted: &Admitted, judgement: &Judgement<'_, '_>) {
    let policy = admitted.policy().name.as_str();
    let rule = judgement.decided.as_ref().and_then(|(_, evaluation)| evaluation.rule_label());
    let tool = judgement.decided.as_ref().map(|(call, _)| call.name.as_ref());
    match &judgement.answer {
        Ok(_) => tracing::debug!(policy, rule, tool, "request continues"),
        Err(refusal) => {
            let Refusal { status, reason, blame, required_scopes, .. } = refusal;
            let what = match blame {
                Blame::Policy => "call denied",
                Blame::Request | Blame::Operator => "request refused",
            };
            let required_scopes = required_scopes.join(" ");
            tracing::info!(policy, status, reason, rule, tool, required_scopes, "{what}");
        }
    }
}

#[cfg(test)]
mod tests;
