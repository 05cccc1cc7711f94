//! Streams: whatever Envoy sends, nothing goes on unjudged.

#![no_main]

mod messages;
mod oracle;
mod wire;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use envoy_types::pb::envoy::service::ext_proc::v3::ProcessingRequest;
use libfuzzer_sys::fuzz_target;
use mcp_authz::config;
use mcp_authz::extproc::{Capacity, ExtProc};
use mcp_authz::gate::LiveGate;
use mcp_authz::telemetry::{DecisionLog, LogFormat, Recorder};
use prost::Message as _;
use tokio::runtime::{Builder, Runtime};

use messages::{Input, ordinary};
use oracle::Oracle;
use wire::Conversation;

/// The largest body that is judged, so small that it can be exceeded.
const MAX_BODY_BYTES: usize = 300;
/// The largest message that is read: twice that, and what may come beside it.
const MAX_MESSAGE_BYTES: usize = 2 * MAX_BODY_BYTES + (1 << 20);

/// The settings of a policy whose rules are always the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, arbitrary::Arbitrary)]
enum Setting {
    Plain,
    Batches,
    Shadow,
}

impl Setting {
    const ALL: [Self; 3] = [Self::Plain, Self::Batches, Self::Shadow];

    fn policy(self) -> String {
        let line = match self {
            Self::Plain => "",
            Self::Batches => "batches: Authorize",
            Self::Shadow => "enforcement: Shadow",
        };
        format!(
            "
limits: {{ maxBodyBytes: {MAX_BODY_BYTES} }}
policies:
  - name: p
    {line}
    rules:
      - {{ action: Allow, target: {{ tools: [{{ tool: good }}] }} }}
      - action: Allow
        source: {{ jwt: {{ scopes: [a] }} }}
        target: {{ tools: [{{ tool: scoped }}] }}
"
        )
    }
}

/// Time does not pass here, and there is room for all that fits into a test.
const CAPACITY: Capacity =
    Capacity { streams: 10, held_bytes: 1 << 30, body_timeout: Duration::from_secs(3600) };

/// Whoever waits for a body sets a timer, which takes a runtime.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));

static SERVICES: LazyLock<[ExtProc; 3]> = LazyLock::new(|| {
    let none = "0".parse().expect("a share");
    let (log, last) = DecisionLog::new(Some(LogFormat::Json), none).expect("a decision log");
    // It is written as long as this lives.
    std::mem::forget(last);
    let recorder = Arc::new(Recorder::new(log, None));
    Setting::ALL.map(|setting| {
        let gate = config::parse(&setting.policy()).unwrap_or_else(|error| panic!("{error}"));
        ExtProc::new(Arc::new(LiveGate::new(gate)), Arc::clone(&recorder), CAPACITY)
    })
});

/// A message, without a look into its parts. What is not even this must fail the stream.
#[derive(Clone, PartialEq, prost::Message)]
struct Outline {
    #[prost(bytes = "vec", repeated, tag = "2")]
    request_headers: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    response_headers: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "4")]
    request_bodies: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "5")]
    response_bodies: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "6")]
    request_trailers: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "7")]
    response_trailers: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    metadata_contexts: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "9")]
    attributes: Vec<Vec<u8>>,
    #[prost(bool, tag = "10")]
    observability_mode: bool,
    #[prost(bytes = "vec", repeated, tag = "11")]
    protocol_configs: Vec<Vec<u8>>,
}

fuzz_target!(init: the_oracle_is_not_blind(), |input: Input| {
    converse(input.setting, &input.wire());
});

/// One stream with these bytes. Answers whether the request went on.
fn converse(setting: Setting, bytes: &[u8]) -> bool {
    let _inside = RUNTIME.enter();
    let mut conversation = Conversation::begin(&SERVICES[setting as usize]);
    let mut oracle = Oracle::new(setting);
    let (frames, rest) = wire::frames(bytes);
    for wire::Framed { bytes, message } in frames {
        let message = message.filter(|message| message.len() <= MAX_MESSAGE_BYTES);
        let whole = message.and_then(|message| ProcessingRequest::decode(message).ok());
        let is_broken = whole.is_none();
        // The service does not look into all parts of a message: of one that is broken within
        // a part, nobody who stands by can tell what was read.
        if is_broken && message.is_some_and(|message| Outline::decode(message).is_ok()) {
            break;
        }
        oracle.sent(whole);
        oracle.answered(conversation.send(bytes));
        if is_broken {
            break;
        }
    }
    oracle.answered(conversation.send(rest));
    let (answers, status) = conversation.end();
    oracle.answered(answers);
    oracle.ended(status);
    oracle.went_on()
}

/// Checks that the service forwards ordinary requests that it should forward. If it forwarded none,
/// the fuzzer would find nothing and report nothing.
fn the_oracle_is_not_blind() {
    for (setting, tool, expected) in [
        (Setting::Plain, "good", true),
        (Setting::Plain, "bad", false),
        (Setting::Batches, "good", true),
        (Setting::Shadow, "bad", true),
    ] {
        for bytes in ordinary(tool) {
            assert_eq!(converse(setting, &bytes), expected, "{setting:?} {tool}");
        }
    }
}
