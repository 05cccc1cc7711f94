//! A server that counts every call that reaches it, in whole or in part.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::HeaderName;
use axum::http::header::CONTENT_TYPE;
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
    seen: Arc<Seen>,
    answers: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Seen {
    allowed: AtomicUsize,
    denied: AtomicUsize,
}

impl Seen {
    fn count(&self, verdict: Verdict) {
        match verdict {
            Verdict::Allowed => &self.allowed,
            Verdict::Denied => &self.denied,
        }
        .fetch_add(1, Ordering::SeqCst);
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

    /// How many allowed calls have reached it.
    pub fn allowed(&self) -> usize {
        self.seen.allowed.load(Ordering::SeqCst)
    }

    /// How many denied calls have.
    pub fn denied(&self) -> usize {
        self.seen.denied.load(Ordering::SeqCst)
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
    // Counted by the head: the body of a call that should not be here may never
    // come to its end. Whoever does not say what he expects gets no benefit.
    let (head, body) = request.into_parts();
    let expected = head.headers.get(VERDICT);
    let is_allowed = expected.is_some_and(|value| value == Verdict::Allowed.word());
    let expected = if is_allowed { Verdict::Allowed } else { Verdict::Denied };
    seen.count(expected);
    // What was called counts as well.
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let denied = Verdict::Denied.word().as_bytes();
    if is_allowed && body.windows(denied.len()).any(|part| part == denied) {
        seen.count(Verdict::Denied);
    }
    // It goes on if the test is over, too.
    drop(may_answer.wait_for(|may| *may).await);
    ([(CONTENT_TYPE, "application/json")], r#"{"jsonrpc":"2.0","id":7,"result":{"content":[]}}"#)
}
