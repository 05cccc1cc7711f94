//! The gRPC service that checks requests and reports decisions.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{StatusCode, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response as HttpResponse};
use futures_core::Stream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::check;
use super::places::Caller;
use crate::gate::LiveGate;
use crate::proto::v1::authorizer_server::{Authorizer, AuthorizerServer};
use crate::proto::v1::{CheckRequest, CheckResponse, Decision, WatchRequest, WatchResponse};
use crate::record::Verdict;
use crate::telemetry::{Recorder, TooManyWatchers};

/// The most bytes of a request to this service, beside the body that it checks.
const BESIDE_THE_BODY_BYTES: usize = 1 << 20;
/// The most requests to this service at once. Each holds a body in memory.
const MOST_ASKING: usize = 8;
/// The longest time until a response of this service begins. A watcher receives decisions for
/// longer.
const WITHIN: Duration = Duration::from_secs(10);
/// The most decisions that are buffered for a watcher's connection.
const WAITING: usize = 16;

/// The clients that may check requests and watch decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminAccess {
    /// Processes of this host, over loopback or a Unix socket.
    ThisHost,
    /// Every client that reaches the port.
    Everyone,
}

/// Returns the service.
pub(super) fn service(live: Arc<LiveGate>, recorder: Arc<Recorder>) -> AuthorizerServer<Service> {
    let largest = live.current().limits.max_body_bytes.saturating_add(BESIDE_THE_BODY_BYTES);
    AuthorizerServer::new(Service { live, recorder }).max_decoding_message_size(largest)
}

#[derive(Debug)]
pub(super) struct Service {
    live: Arc<LiveGate>,
    recorder: Arc<Recorder>,
}

/// The guard of the service. It rejects a client before the service reads the client's message.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    reach: AdminAccess,
    /// The permits for requests that are under way.
    asking: Arc<Semaphore>,
}

impl Guard {
    pub(super) fn new(reach: AdminAccess) -> Self {
        Self { reach, asking: Arc::new(Semaphore::new(MOST_ASKING)) }
    }

    /// Rejects a request, or forwards it to the service.
    pub(super) async fn pass(self, request: http::Request<Body>, next: Next) -> HttpResponse {
        // Browsers speak HTTP/2 only with TLS. So a web page that poses as one of this host cannot
        // make a browser send a request here.
        if request.version() != Version::HTTP_2 {
            return StatusCode::HTTP_VERSION_NOT_SUPPORTED.into_response();
        }
        let caller = request.extensions().get::<Caller>();
        let is_here = caller.is_some_and(|caller| caller.peer.is_of_this_host());
        if !is_here && self.reach != AdminAccess::Everyone {
            let refused = Status::permission_denied(
                "only processes of this host may ask (kubectl port-forward is one); to let \
                 others, start `mcp-authz serve` with --admin-remote",
            );
            return refused.into_http::<Body>();
        }
        // The response to a watcher begins at once, and then its permit is free. A check keeps the
        // permit until it ends.
        match self.asking.try_acquire() {
            Ok(_place) => timeout(WITHIN, next.run(request)).await.unwrap_or_else(|_elapsed| {
                Status::deadline_exceeded("the question did not come in time").into_http::<Body>()
            }),
            Err(_none_left) => {
                let refused = Status::resource_exhausted("too many are asking: try again");
                refused.into_http::<Body>()
            }
        }
    }
}

#[tonic::async_trait]
impl Authorizer for Service {
    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        let gate = self.live.current();
        let request = request.into_inner();
        // A condition that takes long must not delay health and metrics.
        match tokio::task::spawn_blocking(move || check::answer(&gate, request)).await {
            Ok(Ok(response)) => Ok(Response::new(response)),
            Ok(Err(error)) => Err(Status::invalid_argument(error.to_string())),
            Err(_panic) => Err(Status::internal("the question could not be answered")),
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let filter = Filter::new(request.into_inner())?;
        let mut watcher = self.recorder.watch().map_err(|TooManyWatchers { most }| {
            Status::resource_exhausted(format!("{most} clients watch already"))
        })?;
        let kept = caller.map(|caller| caller.place.keep());
        let (send, responses) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            let _kept = kept;
            let mut lost = 0;
            loop {
                let next = tokio::select! {
                    next = watcher.next() => next,
                    () = send.closed() => return,
                };
                let Some((decision, missed)) = next else { return };
                lost += missed;
                if !filter.takes(&decision) {
                    continue;
                }
                let decision = Some(Arc::unwrap_or_clone(decision));
                if send.send(Ok(WatchResponse { decision, missed: lost })).await.is_err() {
                    return;
                }
                lost = 0;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }
}

/// The decisions that a watcher requests.
#[derive(Debug)]
struct Filter {
    policy: String,
    tool: String,
    prompt: String,
    resource: String,
    subject: String,
    verdict: Option<Verdict>,
}

impl Filter {
    fn new(request: WatchRequest) -> Result<Self, Status> {
        let WatchRequest { policy, tool, subject, verdict, prompt, resource } = request;
        let named = Verdict::ALL.into_iter().find(|known| known.as_str() == verdict);
        if named.is_none() && !verdict.is_empty() {
            let words = Verdict::ALL.map(Verdict::as_str).join(", ");
            return Err(Status::invalid_argument(format!("verdict: expected one of {words}")));
        }
        Ok(Self { policy, tool, prompt, resource, subject, verdict: named })
    }

    fn takes(&self, decision: &Decision) -> bool {
        let is = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
        is(&self.policy, &decision.policy)
            && is(&self.tool, &decision.tool)
            && is(&self.prompt, &decision.prompt)
            && is(&self.resource, &decision.resource)
            && is(&self.subject, &decision.subject)
            && self.verdict.is_none_or(|verdict| verdict == Verdict::of(decision))
    }
}
