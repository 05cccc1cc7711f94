//! The gRPC service: a stream of Envoy's messages in, a stream of answers out.
//!
//! The answers are polled straight from the requests. A task and a channel for
//! each stream would cost three times as much processor time as the whole
//! decision.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Once;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::metadata::MetadataValue;
use tonic::server::NamedService;
use tonic::{Code, Request, Response, Status, Streaming};

use super::convert::{
    self, ExternalProcessor, ExternalProcessorServer, ProcessingRequest, ProcessingResponse,
};
use super::session::{Answer, Session};
use crate::gate::{Gate, LiveGate};

/// The gRPC metadata in which Envoy may name the policy that judges
/// (`grpc_service.initial_metadata`, also per route).
const POLICY_METADATA: &str = "x-mcp-authz-policy";
/// What a message may hold beside the body: headers, claims, attributes.
const BESIDE_THE_BODY_BYTES: usize = 1 << 20;

/// The external processor. Each stream is judged by the gate that is in force when
/// it begins.
#[derive(Debug, Clone)]
pub struct ExtProc {
    live: Arc<LiveGate>,
}

impl ExtProc {
    /// The service for the gate in force.
    pub fn new(live: Arc<LiveGate>) -> Self {
        Self { live }
    }
}

impl NamedService for ExtProc {
    const NAME: &'static str = <ExternalProcessorServer<OneStream> as NamedService>::NAME;
}

impl Service<http::Request<Body>> for ExtProc {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = <ExternalProcessorServer<OneStream> as Service<http::Request<Body>>>::Future;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let gate = self.live.current();
        // A buffered body arrives in one message. Twice the limit, so that one
        // above it is told 413 rather than 500.
        let largest = gate.limits.max_body_bytes.saturating_mul(2) + BESIDE_THE_BODY_BYTES;
        ExternalProcessorServer::new(OneStream { gate })
            .max_decoding_message_size(largest)
            .call(request)
    }
}

/// The external processor for one stream.
#[derive(Debug)]
pub struct OneStream {
    gate: Arc<Gate>,
}

#[tonic::async_trait]
impl ExternalProcessor for OneStream {
    type ProcessStream = Conversation;

    async fn process(
        &self,
        request: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Conversation>, Status> {
        let mut named = request.metadata().get_all(POLICY_METADATA).iter().peekable();
        // What is no text or comes twice names none that there is.
        let name = |value: &MetadataValue<_>| value.to_str().unwrap_or_default().to_owned();
        let policy = named.peek().is_some().then(|| named.map(name).collect::<Vec<_>>().join(","));
        Ok(Response::new(Conversation {
            gate: Arc::clone(&self.gate),
            policy,
            requests: request.into_inner(),
            session: Session::new(),
            answers: VecDeque::new(),
        }))
    }
}

/// The answers of one stream, made when they are asked for.
#[derive(Debug)]
pub struct Conversation {
    gate: Arc<Gate>,
    /// The policy that Envoy names.
    policy: Option<String>,
    requests: Streaming<ProcessingRequest>,
    session: Session,
    answers: VecDeque<Answer>,
}

impl Stream for Conversation {
    type Item = Result<ProcessingResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(answer) = this.answers.pop_front() {
                return Poll::Ready(Some(Ok(convert::response(answer))));
            }
            match ready!(Pin::new(&mut this.requests).poll_next(context)) {
                Some(Ok(request)) => {
                    if let Err(status) = this.take(request) {
                        return Poll::Ready(Some(Err(status)));
                    }
                }
                Some(Err(status)) if !this.session.is_decided() => {
                    match status.code() {
                        // Clients that leave in the middle of a body are no news.
                        Code::Cancelled => tracing::debug!("stream cancelled before a decision"),
                        code => {
                            let message = status.message();
                            tracing::warn!(?code, "stream failed before a decision: {message}");
                        }
                    }
                    return Poll::Ready(Some(Err(status)));
                }
                // Envoy goes on without us if we end a stream cleanly.
                None if !this.session.is_decided() => {
                    return Poll::Ready(Some(Err(Status::aborted(
                        "the stream ended before a decision",
                    ))));
                }
                Some(Err(_)) | None => return Poll::Ready(None),
            }
        }
    }
}

impl Conversation {
    fn take(&mut self, request: ProcessingRequest) -> Result<(), Status> {
        if request.observability_mode {
            report_observability_mode();
            return Ok(());
        }
        let message = convert::message(request, &self.gate, self.policy.as_deref());
        self.session.on(&self.gate, message, &mut self.answers).map_err(|violation| {
            tracing::error!("Envoy broke the protocol: {violation}");
            Status::invalid_argument(violation.to_string())
        })
    }
}

/// In this mode Envoy waits for no answer and heeds none. Nothing that is sent
/// could stop a call.
fn report_observability_mode() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::error!(
            "Envoy's ext_proc filter is in observability_mode, so nothing is judged or enforced: \
             remove observability_mode from its configuration"
        );
    });
}
