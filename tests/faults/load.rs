//! Callers that call on while something breaks, and what became of their calls.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use super::upstream::{Seen, VERDICT};
use super::{Verdict, until};
use crate::support::{call, token};

/// The longest time that a caller waits for a response: longer than any fault here lasts, but
/// limited.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The time that a caller waits after a call that failed.
const PAUSE: Duration = Duration::from_millis(5);

/// A call that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub verdict: Verdict,
    pub sent: Instant,
    pub ended: Instant,
    /// None without an answer.
    pub status: Option<u16>,
}

impl Call {
    /// Returns true if the call got the status of the right verdict.
    pub fn is_judged(&self) -> bool {
        self.status == Some(self.verdict.status())
    }
}

/// Callers that call on until they are told to end.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    callers: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    book: Mutex<Book>,
    is_over: AtomicBool,
}

#[derive(Debug)]
struct Book {
    url: String,
    ended: Vec<Call>,
    /// When each caller sent what it waits for.
    pending: BTreeMap<usize, Instant>,
}

impl Shared {
    fn book<T>(&self, read: impl FnOnce(&mut Book) -> T) -> T {
        read(&mut self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Load {
    /// Starts so many callers of both kinds of calls, and waits until calls are judged.
    pub async fn start(url: String, callers: usize) -> Self {
        let load = Self::of(&Verdict::BOTH, url, callers);
        load.goes_on().await;
        load
    }

    /// Starts so many callers, each of which makes these calls in turns.
    pub fn of(verdicts: &'static [Verdict], url: String, callers: usize) -> Self {
        let book = Book { url, ended: Vec::new(), pending: BTreeMap::new() };
        let shared = Arc::new(Shared { book: Mutex::new(book), is_over: AtomicBool::new(false) });
        let token = token("");
        let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        let caller = |number| {
            let (shared, client, token) = (Arc::clone(&shared), client.clone(), token.clone());
            async move {
                for verdict in verdicts.iter().cycle() {
                    if shared.is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    shared.call(number, &client, *verdict, &token).await;
                }
            }
        };
        let callers = (0..callers).map(caller).collect();
        Self { shared, callers }
    }

    /// From now on they call there.
    pub fn redirect(&self, url: String) {
        self.shared.book(|book| book.url = url);
    }

    /// Returns the number of calls sent since an instant that have no response yet.
    pub fn pending_since(&self, since: Instant) -> usize {
        self.shared.book(|book| book.pending.values().filter(|sent| **sent >= since).count())
    }

    /// Returns the number of calls sent since an instant that got the right verdict.
    pub fn judged_since(&self, since: Instant) -> usize {
        self.count(|call| call.sent >= since && call.is_judged())
    }

    /// Returns the number of calls sent since an instant that have failed.
    pub fn failed_since(&self, since: Instant) -> usize {
        self.count(|call| call.sent >= since && !call.is_judged())
    }

    fn count(&self, counts: impl Fn(&Call) -> bool) -> usize {
        self.shared.book(|book| book.ended.iter().filter(|call| counts(call)).count())
    }

    /// Waits until fifty allowed and fifty denied calls that are sent from now on
    /// have been judged.
    pub async fn goes_on(&self) {
        let now = Instant::now();
        until("calls are judged", async || {
            Verdict::BOTH.iter().all(|verdict| {
                let is_one = |call: &Call| call.verdict == *verdict && call.sent >= now;
                self.count(|call| is_one(call) && call.is_judged()) >= 50
            })
        })
        .await;
    }

    /// Lets each caller end its call, and tells what became of all.
    pub async fn end(self) -> Vec<Call> {
        let Self { shared, callers } = self;
        shared.is_over.store(true, Ordering::Relaxed);
        callers.join_all().await;
        shared.book(|book| std::mem::take(&mut book.ended))
    }
}

impl Shared {
    async fn call(&self, caller: usize, client: &reqwest::Client, verdict: Verdict, token: &str) {
        // First: who is redirected between these two has been sent before.
        let sent = Instant::now();
        let url = self.book(|book| {
            book.pending.insert(caller, sent);
            book.url.clone()
        });
        let request = client
            .post(url)
            .header("content-type", "application/json")
            .header(VERDICT, verdict.word())
            .bearer_auth(token)
            .body(call(verdict.word(), &json!({})));
        let status = answered(request).await.ok();
        let ended = Instant::now();
        self.book(|book| {
            book.pending.remove(&caller);
            book.ended.push(Call { verdict, sent, ended, status });
        });
        if status != Some(verdict.status()) {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The status of an answer that came in whole.
async fn answered(request: reqwest::RequestBuilder) -> reqwest::Result<u16> {
    let response = request.send().await?;
    let status = response.status().as_u16();
    response.bytes().await?;
    Ok(status)
}

/// When calls may fail.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    pub from: Instant,
    pub to: Instant,
}

impl Outage {
    /// Returns true if a call was in flight at any time during the outage.
    fn touches(&self, call: &Call) -> bool {
        call.ended >= self.from && call.sent <= self.to
    }
}

/// Prints what became of all calls, and checks it: none was judged wrongly, none
/// failed but in the outage, and no denied call reached the server.
pub fn settle(what: &str, calls: &[Call], outage: Option<Outage>, seen: &Seen) {
    let of = |verdict| calls.iter().filter(move |call| call.verdict == verdict);
    let in_outage = |call: &&Call| outage.is_some_and(|outage| outage.touches(call));
    let lost = |verdict| of(verdict).filter(|call| !call.is_judged());
    let answered = of(Verdict::Allowed).filter(|call| call.is_judged()).count();
    let lost_inside = lost(Verdict::Allowed).filter(in_outage).count();
    let lost_outside = lost(Verdict::Allowed).count() - lost_inside;
    eprintln!(
        "faults: {what}: {} allowed sent, {answered} answered, {lost_inside} lost in the outage, \
         {lost_outside} lost outside; {} denied sent, {} refused, {} seen upstream",
        of(Verdict::Allowed).count(),
        of(Verdict::Denied).count(),
        of(Verdict::Denied).filter(|call| call.is_judged()).count(),
        seen.denied(),
    );
    assert_eq!(seen.denied(), 0, "{what}: denied calls have reached the server");
    assert!(seen.allowed() >= answered, "{what}: calls were answered by nobody");
    for call in calls.iter().filter(|call| !call.is_judged()) {
        let is_failure = call.status.is_none_or(|status| status >= 500);
        assert!(is_failure, "{what}: a call was judged wrongly: {call:?}");
        assert!(in_outage(&call), "{what}: a call was lost outside of {outage:?}: {call:?}");
    }
}
