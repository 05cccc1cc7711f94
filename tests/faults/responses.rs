//! Responses that run while the sidecar ends, and more open responses than its limits.
//!
//! The sidecar ends its stream as soon as it has released a request, so that the response
//! does not depend on it.

use std::fmt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use super::load::{Load, Outage, settle};
use super::tools::{RESPONSE, Slow, SlowTools};
use super::upstream::VERDICT;
use super::{CALLERS, LISTS_POLICY, POLICY, Verdict, alone, process, until};
use crate::envoy;
use crate::http2;
use crate::stack;
use crate::support::{Mode, call, issuer, mcp_authz, token};

type Stack = stack::Stack<SlowTools>;

/// The longest time that a caller waits for the end of a response: longer than a round takes, but
/// limited.
const PATIENCE: Duration = Duration::from_secs(60);
/// Of both sides of a connection; the limit of one process.
const DESCRIPTORS: usize = 16_000;

/// Starts everything with one version of Envoy. Envoy may open any number of requests to
/// the server; to the sidecar its default limit applies, 1024.
async fn start(version: &str, setup: Setup, sidecar: Command) -> Stack {
    process::allow_descriptors(DESCRIPTORS);
    let binary = envoy::fetch(version, |text| eprintln!("{text}")).unwrap();
    let config = http2::speak_http2(&setup.mode().config_for(setup.policy()));
    let tools = SlowTools::start().await;
    let port = tools.server.port;
    Stack::start_before((tools, port), &binary, issuer(), sidecar, setup.policy(), &config)
        .await
        .unwrap()
}

/// A configuration of Envoy's filter.
#[derive(Debug, Clone, Copy)]
enum Setup {
    /// BUFFERED, with response headers sent to the sidecar.
    Buffered,
    /// FULL_DUPLEX_STREAMED for requests.
    Duplex,
    /// FULL_DUPLEX_STREAMED for requests and responses, as filtered lists need it. What a
    /// response sends before Envoy has seen the end of the sidecar's stream is lost then, so
    /// that end must come with the release.
    DuplexLists,
}

impl Setup {
    fn mode(self) -> Mode {
        match self {
            Self::Buffered => Mode::Buffered,
            Self::Duplex | Self::DuplexLists => Mode::FullDuplexStreamed,
        }
    }

    fn policy(self) -> &'static str {
        match self {
            Self::Duplex => POLICY,
            Self::Buffered | Self::DuplexLists => LISTS_POLICY,
        }
    }
}

/// The outcome of one call with a slow response.
#[derive(Debug)]
struct Outcome {
    slow: Slow,
    /// The status and whole body, or the error of a response that broke off.
    response: Result<(u16, String), String>,
}

impl Outcome {
    fn is_complete(&self) -> bool {
        self.response == Ok((200, self.slow.body()))
    }
}

/// Callers of slow tools, each with a connection of its own.
#[derive(Debug)]
struct Callers {
    calling: JoinSet<Outcome>,
    /// The number of callers with the headers and the first event of a response.
    began: Arc<AtomicUsize>,
}

impl Callers {
    /// Starts so many callers, who wait for these responses in turns, and returns when all
    /// responses are under way. It starts some at a time: an Envoy with a thousand tokens to
    /// verify does not look after its connections, and a sidecar may have a low limit of
    /// requests that it decides at once.
    async fn begin(stack: &Stack, slow: &[Slow], callers: usize, at_once: usize) -> Self {
        let mut all = Self { calling: JoinSet::new(), began: Arc::default() };
        let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        let token = token("");
        let mut events = 0;
        for (number, slow) in slow.iter().cycle().take(callers).enumerate() {
            let request = client
                .request(slow.method(), stack.url())
                .header(VERDICT, Verdict::Allowed.word())
                .header(RESPONSE, slow.word())
                .header("accept", "application/json, text/event-stream")
                .bearer_auth(&token);
            let request = match slow {
                Slow::Stream => request,
                _ => request
                    .header("content-type", "application/json")
                    .body(call(Verdict::Allowed.word(), &json!({}))),
            };
            events += usize::from(*slow != Slow::Json);
            let (slow, began) = (*slow, Arc::clone(&all.began));
            all.calling.spawn(async move {
                let response = receive(request, slow, &began).await;
                Outcome { slow, response: response.map_err(|error| format!("{error:?}")) }
            });
            let started = number + 1;
            if started % at_once == 0 || started == callers {
                all.until_under_way(stack, started, events).await;
            }
        }
        all
    }

    async fn until_under_way(&mut self, stack: &Stack, all: usize, events: usize) {
        let deadline = Instant::now() + PATIENCE / 2;
        loop {
            let (open, began) = (stack.server.open(), self.began.load(Ordering::SeqCst));
            if open >= all && began >= events {
                return;
            }
            let count = format!("{open} of {all} responses, {began} of {events} first events");
            if let Some(ended) = self.calling.try_join_next() {
                panic!("with {count}, one ended: {ended:?}");
            }
            assert!(Instant::now() < deadline, "no more than {count}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits for the end of each response.
    async fn end(self) -> Outcomes {
        Outcomes(self.calling.join_all().await)
    }
}

/// Receives a whole response, and counts it as begun at its first event.
async fn receive(
    request: reqwest::RequestBuilder,
    slow: Slow,
    began: &AtomicUsize,
) -> reqwest::Result<(u16, String)> {
    let mut response = request.send().await?;
    let mut body = Vec::new();
    while let Some(data) = response.chunk().await? {
        if body.is_empty() && response.status() == 200 && slow != Slow::Json {
            began.fetch_add(1, Ordering::SeqCst);
        }
        body.extend(data);
    }
    Ok((response.status().as_u16(), String::from_utf8_lossy(&body).into_owned()))
}

#[derive(Debug)]
struct Outcomes(Vec<Outcome>);

impl Outcomes {
    /// Prints the number of complete responses, and checks that none was interrupted.
    fn assert_complete(&self, what: &str) {
        eprintln!("faults: {what}: {self}");
        let interrupted = self.0.iter().find(|outcome| !outcome.is_complete());
        assert!(interrupted.is_none(), "{what}: {self}, one of them: {interrupted:?}");
    }
}

impl fmt::Display for Outcomes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |slow, is_complete| {
            let of =
                |outcome: &&Outcome| outcome.slow == slow && outcome.is_complete() == is_complete;
            self.0.iter().filter(of).count()
        };
        for slow in Slow::ALL {
            let (complete, interrupted) = (count(slow, true), count(slow, false));
            if complete + interrupted > 0 {
                let word = slow.word();
                write!(formatter, "{complete} {word} complete, {interrupted} interrupted; ")?;
            }
        }
        Ok(())
    }
}

/// An end of the sidecar.
#[derive(Debug, Clone, Copy)]
enum End {
    /// SIGTERM; responses end while there is no sidecar.
    Terminated,
    /// SIGKILL; the same.
    Killed,
    /// SIGTERM; responses end when the next sidecar is there.
    Restarted,
}

/// Ends the sidecar in every way while responses run to two thousand callers, and others
/// call on.
async fn outlive(version: &str, setup: Setup) {
    const RESPONSES: usize = 2_000;
    const AT_ONCE: usize = 250;
    let _alone = alone().await;
    let mut stack = start(version, setup, mcp_authz()).await;
    for end in [End::Terminated, End::Killed, End::Restarted] {
        let what = format!("{end:?} ({setup:?}, Envoy {version})");
        let callers = Callers::begin(&stack, &[Slow::Json, Slow::Events], RESPONSES, AT_ONCE).await;
        let load = Load::start(stack.url(), CALLERS).await;
        let from = Instant::now();
        match end {
            End::Killed => stack.sidecar.kill(),
            End::Terminated | End::Restarted => {
                let status = stack.sidecar.terminate().await.unwrap();
                assert_eq!(status.code(), Some(0), "{what}: {}", stack.sidecar.log());
                assert!(!stack.sidecar.log().contains("cut off"), "{what}");
            }
        }
        until("calls fail", async || load.failed_since(from) >= 2 * CALLERS).await;
        let is_restarted = matches!(end, End::Restarted);
        if is_restarted {
            stack.start_sidecar().await;
        }
        stack.server.let_end(true);
        let outcomes = callers.end().await;
        if !is_restarted {
            stack.start_sidecar().await;
        }
        let outage = Outage { from, to: Instant::now() };
        outcomes.assert_complete(&what);
        load.goes_on().await;
        settle(&what, &load.end().await, Some(outage), &stack.server.seen);
        stack.until_streams(0).await;
        stack.server.let_end(false);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes half a minute and thousands of file descriptors"]
async fn responses_outlive_sidecar_buffered() {
    outlive(envoy::NEWEST, Setup::Buffered).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes half a minute and thousands of file descriptors"]
async fn responses_outlive_sidecar_duplex() {
    outlive(envoy::NEWEST, Setup::Duplex).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes half a minute and thousands of file descriptors"]
async fn responses_outlive_sidecar_lists() {
    outlive(envoy::NEWEST, Setup::DuplexLists).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "fetches a second Envoy, and takes thousands of file descriptors"]
async fn responses_outlive_sidecar_buffered_1_36() {
    outlive(envoy::OLDEST, Setup::Buffered).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "fetches a second Envoy, and takes thousands of file descriptors"]
async fn responses_outlive_sidecar_duplex_1_36() {
    outlive(envoy::OLDEST, Setup::Duplex).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "fetches a second Envoy, and takes thousands of file descriptors"]
async fn responses_outlive_sidecar_lists_1_36() {
    outlive(envoy::OLDEST, Setup::DuplexLists).await;
}

/// Opens more event streams than Envoy may have requests to the sidecar, and than the
/// sidecar may have streams, and checks that they lock no caller out.
async fn outnumber(version: &str, setup: Setup) {
    const RESPONSES: usize = 1_100;
    const MAX_STREAMS: usize = 64;
    let _alone = alone().await;
    let mut sidecar = mcp_authz();
    sidecar.env("MCP_AUTHZ_MAX_STREAMS", MAX_STREAMS.to_string());
    let stack = start(version, setup, sidecar).await;
    let what = format!("open streams ({setup:?}, Envoy {version})");
    let events = [Slow::Events, Slow::Stream];
    let callers = Callers::begin(&stack, &events, RESPONSES, MAX_STREAMS / 2).await;
    let load = Load::start(stack.url(), CALLERS).await;
    settle(&what, &load.end().await, None, &stack.server.seen);
    stack.until_streams(0).await;
    assert_eq!(stack.server.open(), RESPONSES, "{what}");
    stack.server.let_end(true);
    callers.end().await.assert_complete(&what);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes half a minute and thousands of file descriptors"]
async fn open_streams_harmless_buffered() {
    outnumber(envoy::NEWEST, Setup::Buffered).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes half a minute and thousands of file descriptors"]
async fn open_streams_harmless_duplex() {
    outnumber(envoy::NEWEST, Setup::Duplex).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes half a minute and thousands of file descriptors"]
async fn open_streams_harmless_lists() {
    outnumber(envoy::NEWEST, Setup::DuplexLists).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "fetches a second Envoy, and takes thousands of file descriptors"]
async fn open_streams_harmless_buffered_1_36() {
    outnumber(envoy::OLDEST, Setup::Buffered).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "fetches a second Envoy, and takes thousands of file descriptors"]
async fn open_streams_harmless_duplex_1_36() {
    outnumber(envoy::OLDEST, Setup::Duplex).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "fetches a second Envoy, and takes thousands of file descriptors"]
async fn open_streams_harmless_lists_1_36() {
    outnumber(envoy::OLDEST, Setup::DuplexLists).await;
}
