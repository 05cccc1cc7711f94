//! A server that counts every call that reaches it, in whole or in part.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::Verdict;

/// In which a caller says what should become of its call. mcp-authz is not told of
/// it, the server is.
pub const VERDICT: &str = "x-verdict";

/// A server that runs as long as the runtime does.
#[derive(Debug)]
pub struct Upstream {
    pub port: u16,
    pub seen: Arc<Seen>,
    answers: watch::Sender<bool>,
}

/// The number of calls that have reached a server, by the verdict that they should get.
#[derive(Debug, Default)]
pub struct Seen {
    allowed: AtomicUsize,
    denied: AtomicUsize,
}

impl Seen {
    pub fn count(&self, verdict: Verdict) {
        match verdict {
            Verdict::Allowed => &self.allowed,
            Verdict::Denied => &self.denied,
        }
        .fetch_add(1, Ordering::SeqCst);
    }

    /// Counts a call by its headers, and says which kind of call it is. A call whose caller
    /// names no verdict counts as denied.
    pub fn count_headers(&self, headers: &HeaderMap) -> Verdict {
        let is_allowed = headers.get(VERDICT).is_some_and(|value| value == Verdict::Allowed.word());
        let verdict = if is_allowed { Verdict::Allowed } else { Verdict::Denied };
        self.count(verdict);
        verdict
    }

    /// Counts a call as denied whose headers said that it is allowed and whose body calls
    /// the denied tool.
    pub fn count_body(&self, claimed: Verdict, body: &[u8]) {
        let denied = Verdict::Denied.word().as_bytes();
        if claimed == Verdict::Allowed && body.windows(denied.len()).any(|part| part == denied) {
            self.count(Verdict::Denied);
        }
    }

    /// Returns the number of allowed calls that have reached the server.
    pub fn allowed(&self) -> usize {
        self.allowed.load(Ordering::SeqCst)
    }

    /// Returns the number of denied calls that have reached the server.
    pub fn denied(&self) -> usize {
        self.denied.load(Ordering::SeqCst)
    }
}

type Shared = (Arc<Seen>, watch::Receiver<bool>);

impl Upstream {
    pub async fn start() -> Self {
        let seen = Arc::new(Seen::default());
        let (answers, may_answer) = watch::channel(true);
        let router = Router::new().fallback(answer).with_state((Arc::clone(&seen), may_answer));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { port, seen, answers }
    }

    /// Returns the number of allowed calls that have reached the server.
    pub fn allowed(&self) -> usize {
        self.seen.allowed()
    }

    /// Returns the number of denied calls that have reached the server.
    pub fn denied(&self) -> usize {
        self.seen.denied()
    }

    /// Holds its answers back, or gives all that it owes.
    pub fn answers(&self, does: bool) {
        self.answers.send_replace(does);
    }
}

async fn answer(
    State((seen, mut may_answer)): State<Shared>,
    request: Request,
) -> ([(HeaderName, &'static str); 1], &'static str) {
    // Counted by the headers: the body of a call that should not be here may never
    // come to its end.
    let (head, body) = request.into_parts();
    let claimed = seen.count_headers(&head.headers);
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    seen.count_body(claimed, &body);
    // It goes on if the test is over, too.
    drop(may_answer.wait_for(|may| *may).await);
    ([(CONTENT_TYPE, "application/json")], r#"{"jsonrpc":"2.0","id":7,"result":{"content":[]}}"#)
}
