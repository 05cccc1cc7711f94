//! A server of slow tools: its responses run until the test lets them end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;
use tokio::sync::watch;

use super::upstream::Seen;
use crate::http2::{self, Frames, Http2Server, Sender};

/// The header in which a caller asks for a slow response.
pub const RESPONSE: &str = "x-response";

const RESULT: &str = r#"{"jsonrpc":"2.0","id":7,"result":{"content":[]}}"#;
const LIST: &str =
    r#"{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"allowed"},{"name":"denied"}]}}"#;
const EVENTS_AFTER_THE_FIRST: usize = 3;

/// A response that takes its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slow {
    /// JSON, with nothing sent before the test says so, not even headers.
    Json,
    /// Server-sent events, with headers and one event sent before.
    Events,
    /// The same in response to a GET.
    Stream,
    /// A list of an allowed and a denied tool in JSON, held back like [`Self::Json`].
    List,
}

impl Slow {
    pub const ALL: [Self; 4] = [Self::Json, Self::Events, Self::Stream, Self::List];

    pub fn word(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Events => "events",
            Self::Stream => "stream",
            Self::List => "list",
        }
    }

    /// Returns the response that a caller asks for.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let word = headers.get(RESPONSE)?;
        let slow = Self::ALL.into_iter().find(|slow| word == slow.word());
        Some(slow.unwrap_or_else(|| panic!("{word:?} is no slow response")))
    }

    pub fn method(self) -> Method {
        match self {
            Self::Json | Self::Events | Self::List => Method::POST,
            Self::Stream => Method::GET,
        }
    }

    /// Returns the whole body of the response.
    pub fn body(self) -> String {
        match self {
            Self::Json => RESULT.to_owned(),
            Self::List => LIST.to_owned(),
            Self::Events | Self::Stream => {
                let rest: String = (1..=EVENTS_AFTER_THE_FIRST).map(event).collect();
                event(0) + &rest
            }
        }
    }
}

/// Returns an event; the last one holds the result of the call.
fn event(number: usize) -> String {
    match number {
        EVENTS_AFTER_THE_FIRST => format!("data: {RESULT}\n\n"),
        _ => format!(
            "data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{{\"progress\":{number}}}}}\n\n"
        ),
    }
}

/// The server. It speaks HTTP/2, so that Envoy needs few connections to it.
#[derive(Debug)]
pub struct SlowTools {
    pub server: Http2Server,
    pub seen: Arc<Seen>,
    /// The number of slow responses under way.
    open: Arc<AtomicUsize>,
    may_end: watch::Sender<bool>,
}

impl SlowTools {
    pub async fn start() -> Self {
        let (seen, open) = (Arc::new(Seen::default()), Arc::new(AtomicUsize::new(0)));
        let (may_end, ends) = watch::channel(false);
        let all = (Arc::clone(&seen), Arc::clone(&open), ends);
        let server = Http2Server::start(move |request| {
            let (seen, open, ends) = all.clone();
            respond(request, seen, open, ends)
        });
        Self { server: server.await, seen, open, may_end }
    }

    /// Returns the number of slow responses under way.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Holds slow responses back, or lets them end.
    pub fn let_end(&self, may_end: bool) {
        self.may_end.send_replace(may_end);
    }
}

async fn respond(
    request: Request<Incoming>,
    seen: Arc<Seen>,
    open: Arc<AtomicUsize>,
    mut ends: watch::Receiver<bool>,
) -> Response<Frames> {
    // Counted by the headers: the body of a call that should not be here may never
    // come to its end.
    let (head, body) = request.into_parts();
    let claimed = seen.count_headers(&head.headers);
    seen.count_body(claimed, &http2::read(body).await);
    match Slow::of(&head.headers) {
        None => {
            let (response, body) = http2::stream("application/json");
            tokio::spawn(async move { body.send(RESULT).await });
            response
        }
        Some(slow @ (Slow::Json | Slow::List)) => {
            open.fetch_add(1, Ordering::SeqCst);
            until_true(&mut ends).await;
            let (response, body) = http2::stream("application/json");
            tokio::spawn(async move {
                let _gone = body.send(slow.body()).await;
                open.fetch_sub(1, Ordering::SeqCst);
            });
            response
        }
        Some(Slow::Events | Slow::Stream) => {
            open.fetch_add(1, Ordering::SeqCst);
            let (response, body) = http2::stream("text/event-stream");
            tokio::spawn(async move {
                let _gone = send_events(body, ends).await;
                open.fetch_sub(1, Ordering::SeqCst);
            });
            response
        }
    }
}

async fn send_events(body: Sender, mut ends: watch::Receiver<bool>) -> Result<(), http2::Unwanted> {
    body.send(event(0)).await?;
    until_true(&mut ends).await;
    for number in 1..=EVENTS_AFTER_THE_FIRST {
        body.send(event(number)).await?;
    }
    Ok(())
}

/// Returns when the value is true, or the test over.
async fn until_true(value: &mut watch::Receiver<bool>) {
    drop(value.wait_for(|value| *value).await);
}
