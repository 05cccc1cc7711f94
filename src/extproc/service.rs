//! The gRPC service: a stream of Envoy's messages in, a stream of answers out.
//!
//! Polling the answers polls the requests directly. A task and a channel for each stream would cost
//! three times as much processor time as the complete decision. Only a large body is evaluated in
//! another thread, so small requests do not wait for it.

use std::collections::VecDeque;
use std::future::{self, Ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Once;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use futures_core::Stream;
use prost::bytes::Bytes;
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Sleep, sleep};
use tonic::body::Body;
use tonic::codec::{BufferSettings, Codec};
use tonic::codegen::{StdError, http};
use tonic::metadata::MetadataValue;
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::{ProstDecoder, ProstEncoder};

use super::capacity::{Capacity, Counted};
use super::convert::{self, Named, Reads};
use super::message::{Message, ProtocolError, Reply};
use super::session::Session;
use super::wire::{PROCESS, ProcessingRequest, ProcessingResponse, SERVICE};
use crate::gate::{BodyFailure, EarlyDecision, Gate, LiveGate, Obligation};
use crate::record::Record;
use crate::telemetry::{Held, ListOutcome, OpenStream, Recorder, StreamFailure};

/// The gRPC metadata in which Envoy may name the policy that decides
/// (`grpc_service.initial_metadata`, also per route).
const POLICY_METADATA: &str = "x-mcp-authz-policy";
/// The gRPC metadata in which Envoy names its own span, if it traces.
const TRACEPARENT: &str = "traceparent";
/// The most bytes of a message beside the body: headers, claims, attributes.
const BESIDE_THE_BODY_BYTES: usize = 1 << 20;

/// The external processor. The gate that is current when a stream begins decides about the stream.
#[derive(Debug, Clone)]
pub struct ExtProc {
    live: Arc<LiveGate>,
    recorder: Arc<Recorder>,
    capacity: Capacity,
}

impl ExtProc {
    /// Creates the service. The recorder receives each decision.
    pub fn new(live: Arc<LiveGate>, recorder: Arc<Recorder>, capacity: Capacity) -> Self {
        Self { live, recorder, capacity }
    }

    /// Answers an HTTP/2 request.
    pub async fn answer<B>(&self, request: http::Request<B>) -> http::Response<Body>
    where
        B: http_body::Body<Data = Bytes, Error: Into<StdError> + Send> + Send + Unpin + 'static,
    {
        if request.uri().path() != PROCESS {
            return Status::unimplemented("the only method is Process").into_http();
        }
        let gate = self.live.current();
        // A buffered body arrives in one message. The limit is doubled so that a body above it gets
        // a 413 rather than a 500.
        let largest = gate.limits.max_body_bytes.saturating_mul(2) + BESIDE_THE_BODY_BYTES;
        let capacity = self.capacity;
        let held = Arc::new(Held::new(Arc::clone(&self.recorder)));
        let request = request.map(|body| Counted::new(body, Arc::clone(&held), capacity));
        let mut grpc = Grpc::new(Messages).max_decoding_message_size(largest);
        grpc.streaming(OneStream { gate, held, capacity }, request).await
    }
}

impl NamedService for ExtProc {
    const NAME: &'static str = SERVICE;
}

/// The codec of a stream's messages, with buffers that fit most of them.
#[derive(Debug, Clone, Copy)]
struct Messages;

/// The number of bytes that are encoded before they are sent.
const YIELD_AT: usize = 32 << 10;

impl Codec for Messages {
    type Encode = ProcessingResponse;
    type Decode = ProcessingRequest;
    type Encoder = ProstEncoder<ProcessingResponse>;
    type Decoder = ProstDecoder<ProcessingRequest>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::new(1 << 10, YIELD_AT))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::new(4 << 10, YIELD_AT))
    }
}

/// The external processor for one stream.
#[derive(Debug)]
struct OneStream {
    gate: Arc<Gate>,
    held: Arc<Held>,
    capacity: Capacity,
}

impl StreamingService<ProcessingRequest> for OneStream {
    type Response = ProcessingResponse;
    type ResponseStream = Conversation;
    type Future = Ready<Result<Response<Conversation>, Status>>;

    fn call(&mut self, request: Request<Streaming<ProcessingRequest>>) -> Self::Future {
        let mut named = request.metadata().get_all(POLICY_METADATA).iter().peekable();
        // A name that is not text or comes twice matches no policy.
        let name = |value: &MetadataValue<_>| value.to_str().unwrap_or_default().to_owned();
        let policy = named.peek().is_some().then(|| named.map(name).collect::<Vec<_>>().join(","));
        let traceparent = request.metadata().get(TRACEPARENT).map(name);
        let open = OpenStream::new(Arc::clone(&self.held));
        let has_room = self.capacity.has_room(&open);
        future::ready(Ok(Response::new(Conversation {
            gate: Arc::clone(&self.gate),
            open,
            capacity: self.capacity,
            named: Named { policy, traceparent },
            requests: request.into_inner(),
            session: Session::new(has_room),
            answers: VecDeque::new(),
            working: None,
            metadata: None,
            is_observed: false,
            deadline: Deadline::NotSet,
        })))
    }
}

/// The longest time that a refusal waits for the body, to repeat the request's id.
const LONGEST_WAIT_FOR_ID: Duration = Duration::from_secs(2);

/// The answers of one stream, computed when they are polled.
#[derive(Debug)]
struct Conversation {
    gate: Arc<Gate>,
    /// The count of open streams, which includes this stream until it is dropped.
    open: OpenStream,
    capacity: Capacity,
    named: Named,
    requests: Streaming<ProcessingRequest>,
    session: Session,
    answers: VecDeque<Reply>,
    /// The task of the thread that works on a large body. The session is there meanwhile.
    working: Option<JoinHandle<Worked>>,
    /// The metadata about the decision, which goes to Envoy with the next answer.
    metadata: Option<Bytes>,
    /// True if Envoy was in `observability_mode` when it sent the last message.
    is_observed: bool,
    /// The deadline for the request to be complete, set when the stream first waits for Envoy.
    deadline: Deadline,
}

/// A session after a message, with the results of the message.
#[derive(Debug)]
struct Worked {
    session: Session,
    answers: VecDeque<Reply>,
    record: Result<Option<Box<Record>>, ProtocolError>,
    took: Duration,
}

impl Worked {
    fn on(mut session: Session, gate: &Gate, message: Message) -> Self {
        let (started, mut answers) = (Instant::now(), VecDeque::new());
        let record = session.on(gate, message, &mut answers);
        Self { session, answers, record, took: started.elapsed() }
    }
}

#[derive(Debug)]
enum Deadline {
    NotSet,
    Set(Pin<Box<Sleep>>),
    Passed,
}

impl Stream for Conversation {
    type Item = Result<ProcessingResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(answer) = this.answers.pop_front() {
                let metadata = this.metadata.take();
                return Poll::Ready(Some(Ok(convert::response(answer, metadata))));
            }
            if let Some(working) = &mut this.working {
                let worked = ready!(Pin::new(working).poll(context));
                this.working = None;
                if let Err(status) = this.worked(worked) {
                    return Poll::Ready(Some(Err(status)));
                }
                continue;
            }
            // Waiting for Envoy would tie the response to this stream.
            if this.session.is_over() {
                return Poll::Ready(None);
            }
            let request = match Pin::new(&mut this.requests).poll_next(context) {
                Poll::Ready(request) => request,
                Poll::Pending if this.session.is_decided() || this.is_observed => {
                    return Poll::Pending;
                }
                Poll::Pending => {
                    let given_up = if this.open.is_full() {
                        this.refuse_for_room()
                    } else {
                        ready!(this.poll_deadline(context));
                        this.give_up(BodyFailure::TimedOut)
                    };
                    if let Err(status) = given_up {
                        return Poll::Ready(Some(Err(status)));
                    }
                    continue;
                }
            };
            match request {
                Some(Ok(request)) => {
                    if let Err(status) = this.take(request) {
                        return Poll::Ready(Some(Err(status)));
                    }
                }
                Some(Err(status)) if !this.session.is_decided() && !this.is_observed => {
                    match status.code() {
                        // Clients that disconnect in the middle of a body are normal.
                        Code::Cancelled => tracing::debug!("stream cancelled before a decision"),
                        code => {
                            let message = status.message();
                            this.open.failed(StreamFailure::Transport);
                            tracing::warn!(?code, "stream failed before a decision: {message}");
                        }
                    }
                    return Poll::Ready(Some(Err(status)));
                }
                // In `observability_mode`, Envoy never waits for mcp-authz.
                Some(Err(_)) | None if this.is_observed => return Poll::Ready(None),
                // Envoy continues the request if mcp-authz ends a stream cleanly.
                None if !this.session.is_decided() => {
                    this.open.failed(StreamFailure::Aborted);
                    return Poll::Ready(Some(Err(Status::aborted(
                        "the stream ended before a decision",
                    ))));
                }
                Some(Err(_)) | None => return Poll::Ready(None),
            }
        }
    }
}

/// Cancels pending work, and counts a list as interrupted. Envoy breaks a stream off when it no
/// longer needs it.
impl Drop for Conversation {
    fn drop(&mut self) {
        if let Some(working) = &self.working {
            working.abort();
        }
        if self.session.obligation().is_some() {
            self.open.listed(ListOutcome::Interrupted);
        }
    }
}

impl Conversation {
    fn take(&mut self, request: ProcessingRequest) -> Result<(), Status> {
        let was_observed = std::mem::replace(&mut self.is_observed, request.observability_mode);
        if self.is_observed {
            if !was_observed {
                self.observe();
            }
            return Ok(());
        }
        let is_first = !self.session.is_begun();
        let reads = match &self.session {
            _ if is_first => Reads::Claims,
            session if session.obligation().is_some() => Reads::ResponseHead,
            _ => Reads::Little,
        };
        let message = convert::message(request, &self.gate, &self.named, reads);
        let message = message.map_err(|violation| self.violated(violation))?;
        if self.session.is_costly(&self.gate, &message.event)
            && let Ok(runtime) = Handle::try_current()
        {
            // A placeholder, unused until the other thread returns the session.
            let session = std::mem::replace(&mut self.session, Session::new(false));
            let (gate, held) = (Arc::clone(&self.gate), self.open.held());
            self.working = Some(runtime.spawn_blocking(move || {
                // The body counts as buffered, even if the stream is gone.
                let _held = held;
                Worked::on(session, &gate, message)
            }));
            return Ok(());
        }
        let started = Instant::now();
        let record = self.session.on(&self.gate, message, &mut self.answers);
        self.report(record, started.elapsed(), is_first)
    }

    /// Takes the session back from another thread.
    fn worked(&mut self, worked: Result<Worked, JoinError>) -> Result<(), Status> {
        let Ok(Worked { session, answers, record, took }) = worked else {
            return Err(Status::internal(
                "the thread that judged a large body ended without a decision",
            ));
        };
        (self.session, self.answers) = (session, answers);
        self.report(record, took, false)
    }

    /// Reports the results of a message.
    fn report(
        &mut self,
        record: Result<Option<Box<Record>>, ProtocolError>,
        took: Duration,
        is_first: bool,
    ) -> Result<(), Status> {
        let held = self.open.holds(self.session.held_bytes());
        let mut record = record.map_err(|violation| self.violated(violation))?;
        if self.session.obligation() == Some(&Obligation::FilterReplay)
            && !self.open.replays_lists(self.capacity.max_replays())
        {
            self.answers.clear();
            record = self.session.refuse_filter(&self.gate, &mut self.answers);
        }
        if let Some(record) = record {
            self.decided(*record, took);
        }
        if let Some(outcome) = self.session.take_list_outcome() {
            if outcome == ListOutcome::Elsewhere {
                tracing::warn!(
                    "the server answered a request for a list with 202 and sends the list on another \
                     stream, unfiltered (transport of MCP 2024-11-05): upgrade the server"
                );
            }
            self.open.listed(outcome);
        }
        if is_first && self.session.awaits_id() {
            // Callers without a token must not keep streams open for long.
            let wait = LONGEST_WAIT_FOR_ID.min(self.capacity.body_timeout);
            self.deadline = Deadline::Set(Box::pin(sleep(wait)));
        }
        if self.session.is_decided() && !self.session.is_refused() {
            self.open.welcome();
        }
        if self.session.held_bytes() > 0 && self.capacity.is_exceeded_by(held) {
            self.give_up(BodyFailure::Overloaded)?;
        }
        Ok(())
    }

    /// Fails the stream.
    fn violated(&self, violation: ProtocolError) -> Status {
        self.open.failed(StreamFailure::Violation);
        tracing::error!("Envoy broke the protocol: {violation}");
        Status::invalid_argument(violation.to_string())
    }

    /// Answers a request after a part of it was discarded. The request cannot continue, not even in
    /// Shadow.
    fn refuse_for_room(&mut self) -> Result<(), Status> {
        self.give_up(BodyFailure::Overloaded)?;
        if self.session.is_refused() {
            return Ok(());
        }
        self.open.failed(StreamFailure::Overloaded);
        Err(Status::resource_exhausted("too much is held"))
    }

    /// Is ready when the deadline for a complete request has passed.
    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Deadline::NotSet = self.deadline {
            self.deadline = Deadline::Set(Box::pin(sleep(self.capacity.body_timeout)));
        }
        if let Deadline::Set(sleep) = &mut self.deadline {
            ready!(sleep.as_mut().poll(context));
            self.deadline = Deadline::Passed;
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Answers an incomplete request. If no message came at all, the stream fails.
    fn give_up(&mut self, why: BodyFailure) -> Result<(), Status> {
        if !self.session.is_begun() {
            let (failure, status) = match why {
                BodyFailure::TimedOut => {
                    (StreamFailure::TimedOut, Status::deadline_exceeded("nothing came in time"))
                }
                _ => (StreamFailure::Overloaded, Status::resource_exhausted("too much is held")),
            };
            self.open.failed(failure);
            return Err(status);
        }
        let record = self.session.give_up(&self.gate, why, &mut self.answers);
        self.open.holds(self.session.held_bytes());
        if let Some(record) = record {
            self.decided(*record, Duration::ZERO);
        }
        Ok(())
    }

    fn decided(&mut self, record: Record, took: Duration) {
        self.deadline = Deadline::Passed;
        let record = record.made(SystemTime::now(), took);
        self.metadata = Some(convert::metadata(&record.decision));
        self.open.recorder().record(record);
    }

    /// Records once per stream that Envoy neither waits for answers nor heeds them, so the request
    /// continues without an evaluation.
    fn observe(&self) {
        report_observability_mode();
        let record = Record::turned_away(&self.gate, &EarlyDecision::observed());
        self.open.recorder().record(record.made(SystemTime::now(), Duration::ZERO));
    }
}

/// Logs once that Envoy neither waits for answers nor heeds them. No answer could stop a call in
/// this mode.
fn report_observability_mode() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::error!(
            "Envoy's ext_proc filter is in observability_mode, so nothing is judged or enforced: \
             remove observability_mode from its configuration"
        );
    });
}
