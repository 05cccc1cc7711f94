//! Many requests at once whose bodies take their time.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::load::{Call, Load, Outage};
use super::process::{self, Memory};
use super::upstream::VERDICT;
use super::{CALLERS, POLICY, Stack, Verdict, alone, start, start_command, until};
use crate::support::{MODES, Mode, call, change, mcp_authz, token};

/// The longest time that a response may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request that is sent bit by bit, over a connection of its own.
#[derive(Debug)]
struct Slow {
    stream: TcpStream,
    verdict: Verdict,
    sent: Instant,
    rest: Vec<u8>,
}

impl Slow {
    /// Connects, and sends the head.
    async fn begin(port: u16, verdict: Verdict, token: &str) -> Self {
        let mut body = call(verdict.word(), &json!({})).into_bytes();
        body.reverse();
        let head = format!(
            "POST /mcp HTTP/1.1\r\nhost: mcp\r\nauthorization: Bearer {token}\r\n{VERDICT}: {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            verdict.word(),
            body.len()
        );
        let sent = Instant::now();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        Self { stream, verdict, sent, rest: body }
    }

    /// Sends the next byte, unless it is the last.
    async fn drip(&mut self) -> bool {
        if self.rest.len() <= 1 {
            return false;
        }
        let byte = self.rest.pop().unwrap();
        self.stream.write_all(&[byte]).await.unwrap();
        true
    }

    /// Sends half of the body.
    async fn send_half(&mut self) {
        let half = self.rest.split_off(self.rest.len() / 2);
        let half: Vec<u8> = half.into_iter().rev().collect();
        self.stream.write_all(&half).await.unwrap();
    }

    /// Sends what is left, and reads the status of the answer.
    async fn finish(mut self) -> Call {
        const STATUS: std::ops::Range<usize> = 9..12;
        self.rest.reverse();
        let mut start = [0; STATUS.end];
        let answer = async {
            self.stream.write_all(&self.rest).await?;
            self.stream.read_exact(&mut start).await
        };
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        let is_answered = matches!(answer, Ok(Ok(_)));
        let status = is_answered.then(|| str::from_utf8(&start[STATUS]).unwrap().parse().unwrap());
        Call { verdict: self.verdict, sent: self.sent, ended: Instant::now(), status }
    }
}

/// Begins so many requests, half of which are denied in the end, and waits until the
/// sidecar has a stream for each. Some at a time: an Envoy that has thousands of tokens
/// to verify at once does not look after its connections meanwhile, and gives up those
/// that it is making after `connect_timeout`.
async fn begin(stack: &Stack, count: usize) -> Vec<Slow> {
    const AT_ONCE: usize = 250;
    let token = token("");
    let mut crowd = Vec::with_capacity(count);
    for verdict in Verdict::BOTH.into_iter().cycle().take(count) {
        crowd.push(Slow::begin(stack.envoy.port, verdict, &token).await);
        if crowd.len() % AT_ONCE == 0 || crowd.len() == count {
            stack.until_streams(crowd.len()).await;
        }
    }
    crowd
}

/// Ends all requests, some at a time: the server takes no thousands at once.
async fn finish(crowd: Vec<Slow>) -> Vec<Call> {
    const AT_ONCE: usize = 100;
    let mut calls = Vec::with_capacity(crowd.len());
    let mut ending = JoinSet::new();
    for slow in crowd {
        if ending.len() == AT_ONCE {
            calls.push(ending.join_next().await.unwrap().unwrap());
        }
        ending.spawn(slow.finish());
    }
    calls.extend(ending.join_all().await);
    calls
}

/// Prints how much memory a crowd has taken, and checks that it is not more than a
/// stream may take: twice what was measured, 14 KiB, and 19 KiB of a thousand.
fn weigh(what: &str, mode: Mode, count: usize, before: Memory, after: Memory) {
    const BOUND: u64 = 32 << 10;
    let each = after.most.saturating_sub(before.now) / count as u64;
    eprintln!(
        "faults: {what} ({}): {} KiB before, {} KiB at most: {each} bytes a stream",
        mode.name(),
        before.now / 1024,
        after.most / 1024
    );
    assert!(each <= BOUND, "{what}: {each} bytes a stream, where {BOUND} are enough");
}

/// Waits until the sidecar has closed what a crowd has opened. Envoy keeps its
/// connections, each for a thousand streams, so it has to go first.
async fn until_closed(stack: &mut Stack, descriptors: usize) {
    stack.until_streams(0).await;
    stack.envoy.kill();
    until("all connections are closed", async || {
        process::descriptors(&stack.sidecar) <= descriptors
    })
    .await;
}

/// A thousand bodies that come byte by byte, all at the same time, hold nobody up.
/// Every third breaks off before its end.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a quarter of a minute and thousands of file descriptors"]
async fn a_thousand_bodies_that_drip() {
    const DRIPS: usize = 1000;
    let _alone = alone().await;
    for mode in MODES {
        let mut stack = start(&mode.config_for(POLICY)).await;
        let descriptors = process::descriptors(&stack.sidecar);
        let before = process::memory(&stack.sidecar);
        let mut crowd = begin(&stack, DRIPS).await;
        let load = Load::start(stack.url(), CALLERS).await;
        let mut is_dripping = true;
        while is_dripping {
            is_dripping = false;
            for slow in &mut crowd {
                is_dripping |= slow.drip().await;
            }
        }
        load.goes_on().await;
        assert!(stack.streams().await >= DRIPS, "{mode:?}: some were given up");
        let crowd = crowd.into_iter().enumerate().filter(|(number, _)| number % 3 != 0);
        let crowd = crowd.map(|(_, slow)| slow).collect();
        let dripping = finish(crowd).await;
        let after = process::memory(&stack.sidecar);
        let mut calls = load.end().await;
        calls.extend(dripping);
        stack.settle("dripping", mode, &calls, None).await;
        weigh("dripping", mode, DRIPS, before, after);
        until_closed(&mut stack, descriptors).await;
    }
}

/// Of calls whose bodies are under way nothing reaches the server when the sidecar is
/// killed: neither what it has seen of them nor what comes later.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_under_way_when_the_sidecar_is_killed() {
    const BODIES: usize = 100;
    let _alone = alone().await;
    for mode in MODES {
        let mut stack = start(&mode.config_for(POLICY)).await;
        let from = Instant::now();
        let mut crowd = begin(&stack, BODIES).await;
        for slow in &mut crowd {
            slow.send_half().await;
        }
        stack.sidecar.kill();
        let mut calls = finish(crowd).await;
        assert!(calls.iter().all(|call| call.status != Some(200)), "{mode:?}: {calls:?}");
        assert_eq!(stack.server.allowed(), 0, "{mode:?}");
        stack.start_sidecar().await;
        let outage = Outage { from, to: Instant::now() };
        let load = Load::start(stack.url(), CALLERS).await;
        calls.extend(load.end().await);
        stack.settle("killed in the middle", mode, &calls, Some(outage)).await;
    }
}

/// As many streams as a sidecar takes, but for some that other callers need.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes half a minute and twenty thousand file descriptors"]
async fn ten_thousand_streams() {
    const STREAMS: usize = 9_900;
    let _alone = alone().await;
    process::allow_descriptors(2 * STREAMS);
    let mode = Mode::FullDuplexStreamed;
    // However long this takes here.
    let timeout = ("request_timeout: 75s", "request_timeout: 3600s");
    let config = change(&mode.config_for(POLICY), &[timeout]);
    let mut sidecar = mcp_authz();
    sidecar.env("MCP_AUTHZ_BODY_TIMEOUT", "3600");
    let mut stack = start_command(sidecar, &config).await;
    let descriptors = process::descriptors(&stack.sidecar);
    let before = process::memory(&stack.sidecar);
    let mut crowd = begin(&stack, STREAMS).await;
    for slow in &mut crowd {
        slow.send_half().await;
    }
    let load = Load::start(stack.url(), CALLERS).await;
    let mut calls = finish(crowd).await;
    let after = process::memory(&stack.sidecar);
    calls.extend(load.end().await);
    stack.settle("10 000 streams", mode, &calls, None).await;
    weigh("10 000 streams", mode, STREAMS, before, after);
    until_closed(&mut stack, descriptors).await;
}
