//! The conversation with Envoy in memory: from the bytes of its gRPC messages to the
//! bytes of the answers, without a socket and without HTTP/2.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue, Metadata};
use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::processing_mode::BodySendMode;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    HttpBody, HttpHeaders, ProcessingRequest, ProtocolConfiguration,
};
use http_body::Body as _;
use mcp_authz::extproc::{Capacity, ExtProc};
use mcp_authz::gate::{Gate, LiveGate};
use mcp_authz::telemetry::{DecisionLog, FlushGuard, LogFormat, Recorder};
use prost::Message as _;
use tonic::body::Body;
use tonic::codegen::{Bytes, http};

/// An external processor with all that it reports to.
pub struct Processor {
    service: ExtProc,
    _log: FlushGuard,
}

impl Processor {
    pub fn new(gate: Gate) -> Self {
        let nothing = "0".parse().unwrap();
        let (log, lines) = DecisionLog::new(Some(LogFormat::Json), nothing).unwrap();
        let recorder = Arc::new(Recorder::new(log, None));
        recorder.metrics().loaded(&gate);
        let capacity =
            Capacity { streams: 1000, held_bytes: 64 << 20, body_timeout: Duration::from_secs(60) };
        let service = ExtProc::new(Arc::new(LiveGate::new(gate)), recorder, capacity);
        Self { service, _log: lines }
    }

    /// Answers all messages of a stream, and tells how many bytes the answers have.
    pub fn answer(&self, messages: Bytes) -> usize {
        let request = http::Request::post("/envoy.service.ext_proc.v3.ExternalProcessor/Process")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Body::new(Whole(Some(messages))))
            .unwrap();
        let mut context = Context::from_waker(Waker::noop());
        // Nothing is waited for: all messages are there.
        let Poll::Ready(response) = pin!(self.service.answer(request)).poll(&mut context) else {
            panic!("the stream is not answered")
        };
        let (mut body, mut bytes) = (pin!(response.into_body()), 0);
        while let Poll::Ready(Some(frame)) = body.as_mut().poll_frame(&mut context) {
            let frame = frame.unwrap();
            if let Some(trailers) = frame.trailers_ref() {
                assert_eq!(trailers.get("grpc-status").unwrap(), "0");
            }
            bytes += frame.data_ref().map_or(0, Bytes::len);
        }
        bytes
    }
}

/// A body that is there.
struct Whole(Option<Bytes>);

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, tonic::Status>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(http_body::Frame::data(bytes))))
    }
}

/// Returns the messages that Envoy sends about a call, as gRPC frames.
pub fn messages(mode: BodySendMode, metadata: Metadata, body: Vec<u8>) -> Bytes {
    let header = |key: &str, value: &str| HeaderValue {
        key: key.to_owned(),
        raw_value: value.into(),
        ..HeaderValue::default()
    };
    let headers = [
        (":authority", "mcp.example.com"),
        (":method", "POST"),
        (":path", "/mcp"),
        ("content-length", &body.len().to_string()),
        ("content-type", "application/json"),
        ("mcp-protocol-version", "2025-11-25"),
        ("x-request-id", "2b6ec6b3-7a6c-4e86-ae5b-1f3f9bd5bd12"),
    ]
    .map(|(key, value)| header(key, value))
    .to_vec();
    let head = ProcessingRequest {
        request: Some(Request::RequestHeaders(HttpHeaders {
            headers: Some(HeaderMap { headers }),
            ..HttpHeaders::default()
        })),
        metadata_context: Some(metadata),
        protocol_config: Some(ProtocolConfiguration {
            request_body_mode: mode.into(),
            ..ProtocolConfiguration::default()
        }),
        ..ProcessingRequest::default()
    };
    let body = HttpBody { body, end_of_stream: true, ..HttpBody::default() };
    let body = ProcessingRequest {
        request: Some(Request::RequestBody(body)),
        ..ProcessingRequest::default()
    };
    let mut frames = Vec::new();
    for message in [head, body] {
        frames.push(0);
        let length = u32::try_from(message.encoded_len()).unwrap();
        frames.extend(length.to_be_bytes());
        message.encode(&mut frames).unwrap();
    }
    frames.into()
}
