//! The floor: an external processor that says "continue" to everything, on a single
//! thread, with answers polled straight from the requests.

use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::processing_mode::BodySendMode;
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_server::{
    ExternalProcessor, ExternalProcessorServer,
};
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request as Asked;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response as Answer;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    BodyMutation, BodyResponse, CommonResponse, HeadersResponse, HttpBody, ProcessingRequest,
    ProcessingResponse, StreamedBodyResponse, TrailersResponse, body_mutation::Mutation,
};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, Streaming};

use crate::tokens::Error;

/// The variable that makes this process one of these.
pub const SOCKET: &str = "BENCH_NOOP_SOCKET";

#[derive(Debug)]
struct Noop;

#[tonic::async_trait]
impl ExternalProcessor for Noop {
    type ProcessStream = Conversation;

    async fn process(
        &self,
        request: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Conversation>, Status> {
        let requests = request.into_inner();
        Ok(Response::new(Conversation { requests, is_duplex: false }))
    }
}

/// Answers each message as it comes.
#[derive(Debug)]
struct Conversation {
    requests: Streaming<ProcessingRequest>,
    is_duplex: bool,
}

impl tokio_stream::Stream for Conversation {
    type Item = Result<ProcessingResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let request = match ready!(Pin::new(&mut self.requests).poll_next(context)) {
            Some(Ok(request)) => request,
            Some(Err(_)) | None => return Poll::Ready(None),
        };
        if let Some(config) = &request.protocol_config {
            self.is_duplex = config.request_body_mode == BodySendMode::FullDuplexStreamed as i32;
        }
        let common = || Some(CommonResponse::default());
        let response = match request.request {
            Some(Asked::RequestHeaders(_)) => {
                Answer::RequestHeaders(HeadersResponse { response: common() })
            }
            Some(Asked::RequestBody(body)) if self.is_duplex => Answer::RequestBody(streamed(body)),
            Some(Asked::RequestBody(_)) => Answer::RequestBody(BodyResponse { response: common() }),
            Some(Asked::RequestTrailers(_)) => Answer::RequestTrailers(TrailersResponse::default()),
            other => return Poll::Ready(Some(Err(Status::internal(format!("{other:?}"))))),
        };
        let response = ProcessingResponse { response: Some(response), ..Default::default() };
        Poll::Ready(Some(Ok(response)))
    }
}

fn streamed(HttpBody { body, end_of_stream, .. }: HttpBody) -> BodyResponse {
    let part = StreamedBodyResponse { body, end_of_stream, ..StreamedBodyResponse::default() };
    let mutation = BodyMutation { mutation: Some(Mutation::StreamedResponse(part)) };
    let response = CommonResponse { body_mutation: Some(mutation), ..CommonResponse::default() };
    BodyResponse { response: Some(response) }
}

/// Serves until it is ended.
pub fn serve(socket: &Path) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let incoming = UnixListenerStream::new(UnixListener::bind(socket)?);
        let service = ExternalProcessorServer::new(Noop);
        Ok(tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(incoming)
            .await?)
    })
}
