//! The cost of the sidecar process itself: its start, and its memory by open streams.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue};
use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::processing_mode::BodySendMode;
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_client::ExternalProcessorClient;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    HttpHeaders, ProcessingRequest, ProtocolConfiguration,
};
use tempfile::TempDir;
use tokio_stream::StreamExt as _;
use tonic::transport::Endpoint;

use crate::authorize::metadata;
use crate::envoy;
use crate::inputs::{self, When};
use crate::setups::resident;
use crate::tokens::Error;

/// The number of rules of the policy.
const RULES: usize = 100;
const STARTS: usize = 11;
/// The numbers of open streams that wait for their bodies.
const STREAMS: [usize; 3] = [0, 1_000, 10_000];

/// The cost of the process.
#[derive(Debug, Default)]
pub struct Sidecar {
    /// From the start of the process to the first connection, in milliseconds.
    pub start: Vec<f64>,
    /// Streams that are open, and the bytes that are resident then.
    pub streams: Vec<(usize, u64)>,
}

pub async fn measure(binary: &Path) -> Result<Sidecar, Error> {
    let mut start = Vec::new();
    for _ in 0..STARTS {
        let process = Process::start(binary)?;
        start.push(process.took.as_secs_f64() * 1e3);
    }
    let process = Process::start(binary)?;
    let streams = process.with_streams().await?;
    Ok(Sidecar { start, streams })
}

struct Process {
    child: Child,
    took: Duration,
    dir: TempDir,
}

impl Drop for Process {
    fn drop(&mut self) {
        envoy::end(&mut self.child);
    }
}

impl Process {
    fn start(binary: &Path) -> Result<Self, Error> {
        let dir = tempfile::tempdir()?;
        let (policy, socket) = (dir.path().join("policy.yaml"), dir.path().join("s"));
        fs::write(&policy, inputs::policy(RULES, When::Title))?;
        let mut command = Command::new(binary);
        command.args(["serve", "--threads", "1", "--max-streams", "20000", "--policy"]);
        command.arg(&policy).arg("--listen").arg(format!("unix:{}", socket.display()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let started = Instant::now();
        let child = command.spawn()?;
        let mut process = Self { child, took: Duration::ZERO, dir };
        while let Err(error) = UnixStream::connect(&socket) {
            let is_early = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
            if !is_early.contains(&error.kind()) || started.elapsed() > Duration::from_secs(10) {
                return Err(error.into());
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        process.took = started.elapsed();
        Ok(process)
    }

    async fn with_streams(&self) -> Result<Vec<(usize, u64)>, Error> {
        let socket = format!("unix://{}", self.dir.path().join("s").display());
        let channel = Endpoint::from_shared(socket)?.connect().await?;
        let client = ExternalProcessorClient::new(channel);
        let (mut open, mut points) = (Vec::new(), Vec::new());
        for streams in STREAMS {
            while open.len() < streams {
                let requests = tokio_stream::once(head()).chain(tokio_stream::pending());
                let mut answers = client.clone().process(requests).await?.into_inner();
                answers.message().await?.ok_or("a stream ended before its body")?;
                open.push(answers);
            }
            points.push((streams, resident(self.child.id())?));
        }
        Ok(points)
    }
}

/// Returns the first message that Envoy sends about a call whose body follows.
fn head() -> ProcessingRequest {
    let headers = [(":method", "POST"), (":path", "/mcp"), ("content-type", "application/json")];
    let headers = headers.map(|(key, value)| HeaderValue {
        key: key.to_owned(),
        raw_value: value.into(),
        ..HeaderValue::default()
    });
    ProcessingRequest {
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
    }
}
