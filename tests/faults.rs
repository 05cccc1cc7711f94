//! Whatever breaks, no call passes unjudged; and what has broken mends by itself.
//!
//! Each test breaks something between a real Envoy and a server that counts what
//! reaches it, while callers call on.

mod crowd;
mod load;
mod obligations;
mod process;
mod responses;
mod tools;
mod upstream;

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, MutexGuard};

use self::load::{Call, Load, Outage, settle};
use self::upstream::Upstream;
use crate::envoy::{self, Envoy};
use crate::observe::metrics;
use crate::stack::{self, Sidecar};
use crate::support::{MODES, Mode, change, mcp_authz, start_before};

type Stack = stack::Stack<Upstream>;

const POLICY: &str = "policies:\n- name: faults\n  rules:\n  - {action: Allow, target: {tools: [{tool: allowed}]}}\n";
/// The same for an Envoy that sends responses to the sidecar, which filters lists.
const LISTS_POLICY: &str = "policies:\n- name: faults\n  toolsList: Permitted\n  rules:\n  - {action: Allow, target: {tools: [{tool: allowed}]}}\n";
const CALLERS: usize = 8;

/// The verdict that a call should get. The tools have these names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    Denied,
}

impl Verdict {
    pub const BOTH: [Self; 2] = [Self::Allowed, Self::Denied];

    pub fn word(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
        }
    }

    pub fn status(self) -> u16 {
        match self {
            Self::Allowed => 200,
            Self::Denied => 403,
        }
    }
}

/// One fault at a time: each of them needs the whole machine.
async fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::const_new(());
    ONE.lock().await
}

/// Waits until something is so.
async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    const WITHIN: Duration = Duration::from_secs(60);
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(WITHIN, wait).await;
    assert!(waited.is_ok(), "after {WITHIN:?} it is not so that {what}");
}

async fn start(config: &str) -> Stack {
    start_command(mcp_authz(), config).await
}

async fn start_command(sidecar: Command, config: &str) -> Stack {
    let upstream = Upstream::start().await;
    let port = upstream.port;
    start_before((upstream, port), sidecar, POLICY, config).await
}

impl<S> stack::Stack<S> {
    /// Starts another sidecar where one was, with the same policy.
    async fn start_sidecar(&mut self) {
        let policy = fs::read_to_string(self.dir().join("policy.yaml")).unwrap();
        self.sidecar = Sidecar::start(mcp_authz(), &policy, self.dir()).await.unwrap();
    }

    /// Returns the number of open streams of the sidecar.
    async fn streams(&self) -> usize {
        metrics(&self.sidecar).await["mcp_authz_streams"] as usize
    }

    async fn until_streams(&self, count: usize) {
        until(&format!("{count} streams are open"), async || self.streams().await == count).await;
    }
}

impl Stack {
    /// Ends Envoy, and starts another with the same configuration.
    async fn restart_envoy(&mut self) {
        self.envoy.kill();
        let config = fs::read_to_string(self.dir().join("envoy.yaml")).unwrap();
        let binary = envoy::find(|text| eprintln!("{text}")).unwrap();
        self.envoy = Envoy::start(&binary, &config, self.dir()).await.unwrap();
    }

    /// Checks what became of all calls, and that nothing is left of them.
    async fn settle(&self, what: &str, mode: Mode, calls: &[Call], outage: Option<Outage>) {
        settle(&format!("{what} ({})", mode.name()), calls, outage, &self.server.seen);
        self.until_streams(0).await;
    }
}

/// The premise of the other tests: the server sees denied calls and counts them. Here Envoy
/// forwards calls when the sidecar is gone.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_counts_calls_that_pass_unjudged() {
    let _alone = alone().await;
    let config = Mode::Buffered.config_for(POLICY);
    let open = ("failure_mode_allow: false", "failure_mode_allow: true");
    let mut stack = start(&change(&config, &[open])).await;
    let load = Load::start(stack.url(), CALLERS).await;
    assert_eq!(stack.server.denied(), 0);
    stack.sidecar.kill();
    until("denied calls pass", async || stack.server.denied() >= CALLERS).await;
    load.end().await;
}

/// Between the kill and the log line that it listens again calls fail. Envoy needs
/// no time beyond that: it connects anew when the next call comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_is_killed_and_started_again() {
    let _alone = alone().await;
    for mode in MODES {
        let mut stack = start(&mode.config_for(POLICY)).await;
        let load = Load::start(stack.url(), CALLERS).await;
        let from = Instant::now();
        stack.sidecar.kill();
        until("calls fail", async || load.failed_since(from) >= CALLERS).await;
        stack.start_sidecar().await;
        let outage = Outage { from, to: Instant::now() };
        load.goes_on().await;
        stack.settle("killed", mode, &load.end().await, Some(outage)).await;
    }
}

/// The same when it is asked to end: what it had begun it ends, and the next one
/// takes over.
#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_is_restarted() {
    let _alone = alone().await;
    for mode in MODES {
        let mut stack = start(&mode.config_for(POLICY)).await;
        let load = Load::start(stack.url(), CALLERS).await;
        let from = Instant::now();
        let status = stack.sidecar.terminate().await.unwrap();
        assert_eq!(status.code(), Some(0), "{}", stack.sidecar.log());
        assert!(!stack.sidecar.log().contains("cut off"), "{}", stack.sidecar.log());
        stack.start_sidecar().await;
        let outage = Outage { from, to: Instant::now() };
        load.goes_on().await;
        stack.settle("restarted", mode, &load.end().await, Some(outage)).await;
    }
}

/// Starts callers who get no answer of a sidecar that gives none, and waits until that
/// is plain. Envoy gives a BUFFERED request `message_timeout`. It waits longer with a
/// streamed one: until `stream_idle_timeout`, five minutes if it is not set, and then
/// answers 504, too.
async fn stalled(stack: &Stack, mode: Mode) -> Load {
    const MANY: usize = 8 * CALLERS;
    let began = Instant::now();
    let load = Load::of(&Verdict::BOTH, stack.url(), MANY);
    match mode {
        Mode::Buffered => until("calls fail", async || load.failed_since(began) >= MANY).await,
        Mode::FullDuplexStreamed => {
            until("all callers wait", async || load.pending_since(began) == MANY).await;
        }
    }
    assert_eq!(load.judged_since(began), 0, "{mode:?}: judged by nobody");
    load
}

/// Streamed requests that waited have all been judged in the end.
fn assert_none_was_lost(mode: Mode, calls: &[Call]) {
    let lost = calls.iter().find(|call| !call.is_judged());
    assert!(matches!(mode, Mode::Buffered) || lost.is_none(), "{mode:?}: {lost:?}");
}

/// A sidecar that does not move holds all calls up. When it goes on it judges those
/// that still wait. That it finds many more that Envoy has given up meanwhile is no
/// reason to close the connection, which would fail the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_stands_still() {
    let _alone = alone().await;
    for mode in MODES {
        let stack = start(&mode.config_for(POLICY)).await;
        let load = Load::start(stack.url(), CALLERS).await;
        let from = Instant::now();
        stack.sidecar.signal("STOP").unwrap();
        until("it stands still", async || process::is_stopped(&stack.sidecar)).await;
        let stalled = stalled(&stack, mode).await;
        stack.sidecar.signal("CONT").unwrap();
        let outage = Outage { from, to: Instant::now() };
        load.goes_on().await;
        stalled.goes_on().await;
        let calls = [load.end().await, stalled.end().await].concat();
        assert_none_was_lost(mode, &calls);
        stack.settle("stopped", mode, &calls, Some(outage)).await;
    }
}

/// An Envoy that crashes takes its calls with it, and leaves nothing behind in the
/// sidecar.
#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_is_killed_and_started_again() {
    let _alone = alone().await;
    for mode in MODES {
        let mut stack = start(&mode.config_for(POLICY)).await;
        let descriptors = process::descriptors(&stack.sidecar);
        let load = Load::start(stack.url(), CALLERS).await;
        let from = Instant::now();
        stack.restart_envoy().await;
        load.redirect(stack.url());
        let outage = Outage { from, to: Instant::now() };
        load.goes_on().await;
        stack.settle("Envoy killed", mode, &load.end().await, Some(outage)).await;
        stack.envoy.kill();
        until("its connections are closed", async || {
            process::descriptors(&stack.sidecar) <= descriptors
        })
        .await;
    }
}

/// Without the file of its socket the sidecar serves the connections that there are.
/// Another Envoy finds nobody, and lets nothing pass. A restart puts the file back.
#[tokio::test(flavor = "multi_thread")]
async fn a_socket_whose_file_is_removed() {
    let _alone = alone().await;
    for mode in MODES {
        let mut stack = start(&mode.config_for(POLICY)).await;
        let load = Load::start(stack.url(), CALLERS).await;
        fs::remove_file(stack.sidecar.socket()).unwrap();
        load.goes_on().await;

        let from = Instant::now();
        stack.restart_envoy().await;
        load.redirect(stack.url());
        let cut_off = Instant::now();
        until("calls fail", async || load.failed_since(cut_off) >= 2 * CALLERS).await;
        assert_eq!(load.judged_since(cut_off), 0, "{mode:?}: judged by nobody");
        stack.sidecar.terminate().await.unwrap();
        stack.start_sidecar().await;
        let outage = Outage { from, to: Instant::now() };
        load.goes_on().await;
        stack.settle("socket removed", mode, &load.end().await, Some(outage)).await;
    }
}

/// The limit of file descriptors for a sidecar that is meant to run out of them.
const FEW: usize = 64;

/// A sidecar that may have only a few file descriptors.
fn few_descriptors() -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {FEW}; exec \"$@\""), "sh"]);
    command.arg(mcp_authz().get_program());
    command
}

/// Takes all file descriptors that a sidecar has left; gives them back when dropped.
async fn occupy(sidecar: &Sidecar) -> Vec<UnixStream> {
    let idle = (0..FEW).map(|_| UnixStream::connect(sidecar.socket()).unwrap()).collect();
    until("no connection can be accepted", async || refusals(sidecar) > 0).await;
    idle
}

/// Counts how often the sidecar has logged that it could not accept a connection.
fn refusals(sidecar: &Sidecar) -> usize {
    sidecar.log().matches("a connection could not be accepted").count()
}

/// Out of file descriptors a sidecar serves the connections that it has. Others wait,
/// and what they ask is judged as soon as there are descriptors again.
#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_without_file_descriptors() {
    let _alone = alone().await;
    for mode in MODES {
        let mut stack = start_command(few_descriptors(), &mode.config_for(POLICY)).await;
        let load = Load::start(stack.url(), CALLERS).await;
        let began = Instant::now();
        let idle = occupy(&stack.sidecar).await;
        load.goes_on().await;

        let from = Instant::now();
        stack.restart_envoy().await;
        let stalled = stalled(&stack, mode).await;
        drop(idle);
        load.redirect(stack.url());
        let outage = Outage { from, to: Instant::now() };
        load.goes_on().await;
        stalled.goes_on().await;
        let (mut calls, waited) = (load.end().await, stalled.end().await);
        assert_none_was_lost(mode, &waited);
        calls.extend(waited);
        stack.settle("out of descriptors", mode, &calls, Some(outage)).await;

        // Each thread tries ten times a second: no more, whatever time this took.
        let threads = std::thread::available_parallelism().unwrap().get();
        let most = threads * (began.elapsed().as_millis() as usize / 100 + 1);
        let refusals = refusals(&stack.sidecar);
        assert!(refusals <= most, "{mode:?}: {refusals} tries, where {most} would do");
    }
}

/// A server that is slow holds up its own calls only, and a stream of the sidecar
/// for each at most.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_slow() {
    const HELD: usize = 64;
    let _alone = alone().await;
    for mode in MODES {
        let stack = start(&mode.config_for(POLICY)).await;
        stack.server.answers(false);
        let began = Instant::now();
        let held = Load::of(&[Verdict::Allowed], stack.url(), HELD);
        until("all are held", async || stack.server.allowed() == HELD).await;

        let denied = Load::of(&[Verdict::Denied], stack.url(), CALLERS);
        until("calls are refused", async || denied.judged_since(began) >= 10 * HELD).await;
        let denied = denied.end().await;
        assert_eq!(held.pending_since(began), HELD, "{mode:?}");
        until("nothing accumulates", async || stack.streams().await <= HELD).await;

        stack.server.answers(true);
        until("all are answered", async || held.judged_since(began) >= HELD).await;
        let mut calls = held.end().await;
        calls.extend(denied);
        stack.settle("slow server", mode, &calls, None).await;
    }
}

/// Two policies in turns, one of which lists what is allowed and the other what is
/// denied. Each call is judged by one of them.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes half a minute of both processors"]
async fn a_policy_that_is_reloaded_five_hundred_times() {
    const RELOADS: usize = 500;
    const OTHER: &str = "policies:\n- name: other\n  rules:\n  - {action: Deny, target: {tools: [{tool: denied}]}}\n  - {action: Allow}\n";
    let _alone = alone().await;
    let mode = Mode::FullDuplexStreamed;
    let stack = start(&mode.config_for(POLICY)).await;
    let load = Load::start(stack.url(), CALLERS).await;
    // Where changes are not told: it reads the file when it is asked to, and at once.
    let elsewhere = tempfile::tempdir().unwrap();
    let (policy, next) = (elsewhere.path().join("policy.yaml"), elsewhere.path().join("next"));
    fs::write(&policy, POLICY).unwrap();
    symlink(&policy, stack.dir().join("link")).unwrap();
    fs::rename(stack.dir().join("link"), stack.dir().join("policy.yaml")).unwrap();
    for reload in 1..=RELOADS {
        fs::write(&next, if reload % 2 == 1 { OTHER } else { POLICY }).unwrap();
        fs::rename(&next, &policy).unwrap();
        stack.sidecar.signal("HUP").unwrap();
        let reloads = || stack.sidecar.log().matches("policies reloaded").count();
        until("it has reloaded", async || reloads() >= reload).await;
    }
    load.goes_on().await;
    stack.settle("500 reloads", mode, &load.end().await, None).await;
}
