//! A caller beside four that send hostile bodies, all over one thread of `mcp-authz serve`.

use std::fmt;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue};
use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::processing_mode::BodySendMode;
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_client::ExternalProcessorClient;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    HttpBody, HttpHeaders, ProcessingRequest, ProtocolConfiguration,
};
use hdrhistogram::Histogram;
use tonic::transport::{Channel, Endpoint};

use crate::authorize::metadata;

/// The number of callers that send hostile bodies.
const CALLERS: usize = 4;
/// Between two calls of the neighbor.
const PAUSE: Duration = Duration::from_millis(1);

/// The measurements of a neighbor.
pub struct Beside {
    latency: Histogram<u64>,
    /// Hostile bodies that were answered.
    hostile: u64,
    /// The most memory of the process, in MiB.
    resident: u64,
}

impl fmt::Display for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |quantile| Duration::from_nanos(self.latency.value_at_quantile(quantile));
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|quantile| at(quantile).as_secs_f64() * 1e3);
        let Self { latency, hostile, resident } = self;
        write!(
            f,
            "p50 {p50:7.2}  p99 {p99:7.2}  max {max:7.2}  of {:5} calls, beside {hostile:4}; {resident:4} MiB",
            latency.len()
        )
    }
}

/// Starts `serve` with a policy, and measures the neighbor's calls.
pub fn measure(
    binary: &Path,
    policy: &str,
    hostile: Option<&[u8]>,
    small: &[u8],
    duration: Duration,
) -> Beside {
    let dir = tempfile::tempdir().unwrap();
    let (file, socket) = (dir.path().join("policy.yaml"), dir.path().join("s"));
    fs::write(&file, policy).unwrap();
    let mut command = Command::new(binary);
    command.args(["serve", "--threads", "1", "--policy"]).arg(&file);
    command.arg("--listen").arg(format!("unix:{}", socket.display()));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let process = Process(command.spawn().unwrap());
    while UnixStream::connect(&socket).is_err() {
        thread::sleep(PAUSE);
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let others = hostile.map(|body| {
        let (body, socket, is_over) = (body.to_vec(), socket.clone(), Arc::clone(&is_over));
        thread::spawn(move || runtime().block_on(send_all(&socket, &body, &is_over)))
    });
    let latency = runtime().block_on(async {
        let client = client(&socket).await;
        call(&client, small).await;
        if hostile.is_some() {
            // So that all callers have begun.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let mut latency = Histogram::new_with_bounds(1_000, 60_000_000_000, 3).unwrap();
        let started = Instant::now();
        while started.elapsed() < duration {
            let sent = Instant::now();
            call(&client, small).await;
            latency.saturating_record(u64::try_from(sent.elapsed().as_nanos()).unwrap());
            tokio::time::sleep(PAUSE).await;
        }
        latency
    });
    is_over.store(true, Ordering::Relaxed);
    let hostile = others.map_or(0, |others| others.join().unwrap());
    Beside { latency, hostile, resident: process.most_resident() }
}

struct Process(Child);

impl Process {
    fn most_resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn client(socket: &Path) -> ExternalProcessorClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap();
    let window = Some(8 << 20);
    let endpoint =
        endpoint.initial_stream_window_size(window).initial_connection_window_size(window);
    ExternalProcessorClient::new(endpoint.connect().await.unwrap())
}

/// Sends a body from all callers, again and again. Returns how many were answered.
async fn send_all(socket: &Path, body: &[u8], is_over: &AtomicBool) -> u64 {
    let one = || async {
        let client = client(socket).await;
        let mut sent = 0;
        while !is_over.load(Ordering::Relaxed) {
            call(&client, body).await;
            sent += 1;
        }
        sent
    };
    let (a, b, c, d) = tokio::join!(one(), one(), one(), one());
    const { assert!(CALLERS == 4) };
    a + b + c + d
}

/// Sends a request as Envoy does that buffers bodies, and waits until it is decided.
async fn call(client: &ExternalProcessorClient<Channel>, body: &[u8]) {
    let length = body.len().to_string();
    let headers = [
        (":method", "POST"),
        (":path", "/mcp"),
        ("content-type", "application/json"),
        ("content-length", &length),
    ];
    let headers = headers.map(|(key, value)| HeaderValue {
        key: key.to_owned(),
        raw_value: value.into(),
        ..HeaderValue::default()
    });
    let head = ProcessingRequest {
        request: Some(Request::RequestHeaders(HttpHeaders {
            headers: Some(HeaderMap { headers: headers.to_vec() }),
            ..HttpHeaders::default()
        })),
        metadata_context: Some(metadata()),
        protocol_config: Some(ProtocolConfiguration {
            request_body_mode: BodySendMode::Buffered.into(),
            ..ProtocolConfiguration::default()
        }),
        ..ProcessingRequest::default()
    };
    let body = HttpBody { body: body.to_vec(), end_of_stream: true, ..HttpBody::default() };
    let body = ProcessingRequest {
        request: Some(Request::RequestBody(body)),
        ..ProcessingRequest::default()
    };
    let mut answers =
        client.clone().process(tokio_stream::iter([head, body])).await.unwrap().into_inner();
    // The head, then the body or the refusal.
    for _ in 0..2 {
        answers.message().await.unwrap().unwrap();
    }
}
