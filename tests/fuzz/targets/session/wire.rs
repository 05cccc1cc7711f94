//! gRPC without a network: a request whose messages are handed out one at a time,
//! and what is answered to each.

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use envoy_types::pb::envoy::service::ext_proc::v3::ProcessingResponse;
use http_body::{Body as _, Frame};
use mcp_authz::extproc::ExtProc;
use prost::Message as _;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Bytes, http};

const PATH: &str = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";
/// A flag and the length before each message.
const PREFIX: usize = 5;

/// A message as it is sent.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("messages are small");
    [[0].as_slice(), &length.to_be_bytes(), message].concat()
}

/// A whole frame of a stream.
pub struct Framed<'b> {
    pub bytes: &'b [u8],
    /// `None`: a reader that was told of no compression must fail.
    pub message: Option<&'b [u8]>,
}

/// The frames in a stream, and what is no whole frame.
pub fn frames(mut bytes: &[u8]) -> (Vec<Framed<'_>>, &[u8]) {
    let mut frames = Vec::new();
    while let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX>() {
        let [flag, length @ ..] = *prefix;
        let length = u32::from_be_bytes(length) as usize;
        let Some(message) = rest.get(..length) else { break };
        let (frame, after) = bytes.split_at(PREFIX + length);
        frames.push(Framed { bytes: frame, message: (flag == 0).then_some(message) });
        bytes = after;
    }
    (frames, bytes)
}

#[derive(Default)]
struct Outbox {
    frames: VecDeque<Bytes>,
    is_closed: bool,
}

/// The body of the request. It is polled again after each step, so nobody needs
/// to be woken.
#[derive(Clone, Default)]
struct Feed(Arc<Mutex<Outbox>>);

impl Feed {
    fn with<T>(&self, change: impl FnOnce(&mut Outbox) -> T) -> T {
        change(&mut self.0.lock().expect("nobody panics with it"))
    }
}

impl http_body::Body for Feed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.with(|outbox| match outbox.frames.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(Frame::data(frame)))),
            None if outbox.is_closed => Poll::Ready(None),
            None => Poll::Pending,
        })
    }
}

/// A stream to the service.
pub struct Conversation {
    feed: Feed,
    answers: Body,
    /// The bytes received so far of responses that are not complete.
    received: Vec<u8>,
    status: Option<String>,
}

impl Conversation {
    pub fn begin(service: &ExtProc) -> Self {
        let feed = Feed::default();
        let request = http::Request::post(PATH)
            .header("content-type", "application/grpc")
            .body(Body::new(feed.clone()))
            .expect("a request");
        let response = pin!(service.answer(request));
        let Poll::Ready(response) = response.poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("a stream is answered before its first message")
        };
        let (head, answers) = response.into_parts();
        assert!(!head.headers.contains_key("grpc-status"), "it ended before it began");
        Self { feed, answers, received: Vec::new(), status: None }
    }

    /// Sends bytes, and returns the responses that the service then gives.
    pub fn send(&mut self, bytes: &[u8]) -> Vec<ProcessingResponse> {
        if !bytes.is_empty() {
            self.feed.with(|outbox| outbox.frames.push_back(Bytes::copy_from_slice(bytes)));
        }
        self.poll()
    }

    /// Ends the stream, and returns the last responses and the gRPC status.
    pub fn end(mut self) -> (Vec<ProcessingResponse>, String) {
        self.feed.with(|outbox| outbox.is_closed = true);
        let answers = self.poll();
        assert!(self.received.is_empty(), "an answer is not complete");
        (answers, self.status.expect("a stream that has ended has a status"))
    }

    fn poll(&mut self) -> Vec<ProcessingResponse> {
        let mut context = Context::from_waker(Waker::noop());
        while self.status.is_none()
            && let Poll::Ready(frame) = Pin::new(&mut self.answers).poll_frame(&mut context)
        {
            let frame = frame.expect("trailers come last").expect("bodies do not fail");
            match frame.into_data() {
                Ok(data) => self.received.extend_from_slice(&data),
                Err(frame) => {
                    let trailers = frame.into_trailers().expect("data or trailers");
                    let status = trailers.get("grpc-status").expect("a status");
                    self.status = status.to_str().ok().map(str::to_owned);
                }
            }
        }
        let (frames, rest) = frames(&self.received);
        let decode = |frame: Framed<'_>| {
            let message = frame.message.expect("no compression");
            ProcessingResponse::decode(message).expect("an answer")
        };
        let answers = frames.into_iter().map(decode).collect();
        self.received = rest.to_vec();
        answers
    }
}
