//! A server that speaks HTTP/2 without TLS and sends each frame of a response by itself.
//!
//! Over HTTP/2 a response can end with trailers: then its last DATA frame does not end the
//! stream, and neither does the last body message that Envoy sends to mcp-authz.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Bytes;
use axum::http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use crate::support::change;

/// The trailer of every response that has trailers.
pub const TRAILER: (&str, &str) = ("x-trailer", "the end");

/// A server that runs until this value is dropped.
#[derive(Debug)]
pub struct Http2Server {
    pub port: u16,
    serving: JoinHandle<()>,
}

impl Http2Server {
    /// Starts a server that responds to each request as `respond` says.
    pub async fn start<F, R>(respond: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
        R: Future<Output = Response<Frames>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            // They end with this task.
            let mut connections = JoinSet::new();
            loop {
                let (stream, _peer) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let respond = respond.clone();
                let service = service_fn(move |request| {
                    let response = respond(request);
                    async { Ok::<_, Infallible>(response.await) }
                });
                // An Envoy that is gone is no failure of the server's.
                let connection = http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service);
                connections.spawn(connection);
            }
        });
        Self { port, serving }
    }

    /// Starts a server that sends the same response to each request.
    pub async fn sending(response: Whole) -> Self {
        Self::start(move |request| {
            let response = response.clone();
            async move {
                read(request.into_body()).await;
                response.send()
            }
        })
        .await
    }
}

impl Drop for Http2Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A response with status 200 that is known before it is sent.
#[derive(Debug, Clone)]
pub struct Whole {
    pub content_type: &'static str,
    pub body: String,
    /// The size of each DATA frame but the last, in bytes.
    pub frame_bytes: usize,
    /// Ends the response with trailers rather than with its last DATA frame.
    pub has_trailers: bool,
}

impl Whole {
    fn send(self) -> Response<Frames> {
        let (response, frames) = stream(self.content_type);
        tokio::spawn(async move {
            for data in self.body.as_bytes().chunks(self.frame_bytes) {
                if frames.send(data).await.is_err() {
                    return;
                }
            }
            if self.has_trailers {
                frames.send_trailers().await;
            }
        });
        response
    }
}

/// Returns a response with status 200 whose body is what is sent later.
pub fn stream(content_type: &str) -> (Response<Frames>, Sender) {
    // One at a time: what waits here could become one frame.
    let (sender, frames) = mpsc::channel(1);
    let response = Response::builder().header("content-type", content_type);
    (response.body(Frames(frames)).unwrap(), Sender(sender))
}

/// Sends the body of a response, which ends when this value is dropped.
#[derive(Debug)]
pub struct Sender(mpsc::Sender<Frame<Bytes>>);

/// The client does not want the rest of a response.
#[derive(Debug)]
pub struct Unwanted;

impl Sender {
    /// Sends a DATA frame.
    pub async fn send(&self, data: impl AsRef<[u8]>) -> Result<(), Unwanted> {
        let frame = Frame::data(Bytes::copy_from_slice(data.as_ref()));
        self.0.send(frame).await.map_err(|_frame| Unwanted)
    }

    /// Ends the response with [`TRAILER`].
    pub async fn send_trailers(self) {
        let (name, value) = TRAILER;
        let trailers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
        // A client that is gone needs none.
        let _gone = self.0.send(Frame::trailers(trailers)).await;
    }
}

/// The body of a response: frames that are sent as they come.
#[derive(Debug)]
pub struct Frames(mpsc::Receiver<Frame<Bytes>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|frame| frame.map(Ok))
    }
}

/// Returns the body of a request, or what came of a body that broke off.
pub async fn read(mut body: Incoming) -> Vec<u8> {
    let mut read = Vec::new();
    while let Some(Ok(frame)) =
        std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
    {
        read.extend(frame.data_ref().into_iter().flatten());
    }
    read
}

/// Changes a configuration so that Envoy speaks HTTP/2 with the MCP server, and sends the
/// server more than 1024 requests at once, which is Envoy's limit for a cluster.
pub fn speak_http2(config: &str) -> String {
    const CLUSTER: &str = "  - name: mcp_server\n";
    const HTTP2: &str = r#"  - name: mcp_server
    circuit_breakers: {thresholds: [{max_requests: 20000, max_pending_requests: 20000}]}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
"#;
    change(config, &[(CLUSTER, HTTP2)])
}
