//! Helpers that the tests against a real Envoy share.

use std::io::Write as _;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, WWW_AUTHENTICATE};
use serde_json::{Value, json};
use tokio::sync::mpsc::{Sender, channel};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

use crate::envoy;
use crate::stack::{ENVOY_CONFIG, POLICY, Stack};
use crate::tokens::Issuer;

/// The two ways in which Envoy is meant to send bodies.
#[derive(Debug, Clone, Copy)]
pub enum Mode {
    Buffered,
    FullDuplexStreamed,
}

pub const MODES: [Mode; 2] = [Mode::Buffered, Mode::FullDuplexStreamed];

pub const BUFFERED: &str = "request_body_mode: BUFFERED";
/// Tokens are optional for Envoy; what to do without one is up to us.
pub const TOKEN_REQUIRED: &str = "requires: {provider_name: idp}";
pub const TOKEN_OPTIONAL: &str = "requires: {requires_any: {requirements: [{provider_name: idp}, {allow_missing_or_failed: {}}]}}";

pub const SEND_HEADERS: &str = "request_header_mode: SEND";

impl Mode {
    /// As Envoy's configuration spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Buffered => "BUFFERED",
            Self::FullDuplexStreamed => "FULL_DUPLEX_STREAMED",
        }
    }

    /// The quickstart's Envoy configuration in this mode.
    pub fn config(self) -> String {
        self.config_for(POLICY)
    }

    /// The same with the filter that fits a policy.
    pub fn config_for(self, policy: &str) -> String {
        const START: &str = "          - name: envoy.filters.http.ext_proc\n";
        const END: &str = "          - name: envoy.filters.http.router\n";
        let (before, rest) = ENVOY_CONFIG.split_once(START).unwrap();
        let (_, after) = rest.split_once(END).unwrap();
        let filter = self.filter(policy);
        let filter: String = filter.lines().map(|line| format!("          {line}\n")).collect();
        format!("{before}{filter}{END}{after}")
    }

    /// Returns the filter that `envoy-config` prints for a policy.
    pub fn filter(self, policy: &str) -> String {
        let mut file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
        file.write_all(policy.as_bytes()).unwrap();
        let mode = match self {
            Self::Buffered => "buffered",
            Self::FullDuplexStreamed => "duplex",
        };
        let output = mcp_authz()
            .args(["envoy-config", "--mode", mode, "--policy"])
            .arg(file.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// A configuration with some texts in it replaced.
pub fn change(config: &str, changes: &[(&str, &str)]) -> String {
    crate::stack::fill(config, changes).unwrap()
}

/// The identity provider of all tests: a key takes a while to make.
pub fn issuer() -> &'static Issuer {
    static ISSUER: OnceLock<Issuer> = OnceLock::new();
    ISSUER.get_or_init(|| Issuer::new().unwrap())
}

pub fn token(scope: &str) -> String {
    issuer().token("somebody", scope).unwrap()
}

/// mcp-authz as users run it.
pub fn mcp_authz() -> Command {
    Command::new(env!("CARGO_BIN_EXE_mcp-authz"))
}

/// Everything between a client and an MCP server.
pub async fn start(policy: &str, envoy_config: &str) -> Stack {
    start_with(&[], policy, envoy_config).await
}

/// The same with variables for mcp-authz.
pub async fn start_with(variables: &[(&str, &str)], policy: &str, envoy_config: &str) -> Stack {
    let binary = envoy::find(|text| eprintln!("{text}")).unwrap();
    let mut sidecar = mcp_authz();
    sidecar.envs(variables.iter().copied());
    Stack::start(&binary, issuer(), sidecar, policy, envoy_config).await.unwrap()
}

/// Envoy and mcp-authz before another server, which listens on a port already.
pub async fn start_before<S>(
    server: (S, u16),
    sidecar: Command,
    policy: &str,
    envoy_config: &str,
) -> Stack<S> {
    let binary = envoy::find(|text| eprintln!("{text}")).unwrap();
    Stack::start_before(server, &binary, issuer(), sidecar, policy, envoy_config).await.unwrap()
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Reply {
    pub fn challenge(&self) -> Option<&str> {
        self.headers.get(WWW_AUTHENTICATE).map(|value| value.to_str().unwrap())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The JSON-RPC error of a refusal by mcp-authz.
    pub fn refusal(&self) -> (u16, i64, String) {
        let content_type = self.headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
        assert_eq!(content_type, Some(b"application/json".as_slice()), "{self:?}");
        let body = self.json();
        assert_eq!(body["jsonrpc"], "2.0", "{self:?}");
        assert!(body["id"].is_string() || body["id"].is_number(), "{self:?}");
        let error = &body["error"];
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{self:?}");
        let reason = error["data"]["reason"].as_str().unwrap_or_else(|| panic!("{self:?}"));
        (self.status, error["code"].as_i64().unwrap(), reason.to_owned())
    }

    /// The refusal of a request whose id is not known, which is text for people.
    pub fn plain(&self) -> (u16, &str) {
        let content_type = self.headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
        assert_eq!(content_type, Some(b"text/plain; charset=utf-8".as_slice()), "{self:?}");
        assert!(!self.body.is_empty() && !self.body.starts_with('{'), "{self:?}");
        (self.status, &self.body)
    }
}

/// A request that is sent as it is.
pub struct Http {
    url: String,
    client: reqwest::Client,
}

impl Http {
    pub fn new<S>(stack: &Stack<S>) -> Self {
        Self { url: stack.url(), client: reqwest::Client::new() }
    }

    pub fn request(&self, method: &str) -> reqwest::RequestBuilder {
        self.client.request(method.parse().unwrap(), &self.url)
    }

    /// A POST as MCP clients send it.
    pub fn post(
        &self,
        token: Option<&str>,
        body: impl Into<reqwest::Body>,
    ) -> reqwest::RequestBuilder {
        let request = self
            .request("POST")
            .header(CONTENT_TYPE, "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(body);
        match token {
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        }
    }
}

pub async fn send(request: reqwest::RequestBuilder) -> Reply {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Reply { status, headers, body: response.text().await.unwrap() }
}

/// A part of a body.
pub type Part = Result<Vec<u8>, std::io::Error>;

/// Sends the first part of a body; the rest can follow.
pub async fn begin<S>(
    stack: &Stack<S>,
    scope: &str,
    first: &[u8],
) -> (JoinHandle<Reply>, Sender<Part>) {
    begin_as(stack, Some(&token(scope)), first).await
}

/// The same without a token.
pub async fn begin_without_token<S>(
    stack: &Stack<S>,
    first: &[u8],
) -> (JoinHandle<Reply>, Sender<Part>) {
    begin_as(stack, None, first).await
}

async fn begin_as<S>(
    stack: &Stack<S>,
    token: Option<&str>,
    first: &[u8],
) -> (JoinHandle<Reply>, Sender<Part>) {
    let (send_body, body) = channel(1);
    let body = reqwest::Body::wrap_stream(ReceiverStream::new(body));
    let request = Http::new(stack).post(token, body);
    let reply = tokio::spawn(send(request.timeout(Duration::from_secs(60))));
    send_body.send(Ok(first.to_vec())).await.unwrap();
    (reply, send_body)
}

/// Waits until a line of the metrics is so.
pub async fn measures<S>(stack: &Stack<S>, line: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let page = reqwest::get(format!("http://{}/metrics", stack.sidecar.admin)).await.unwrap();
        let page = page.text().await.unwrap();
        if page.lines().any(|found| found == line) {
            return;
        }
        assert!(Instant::now() < deadline, "not {line}: {page}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A call of a tool with id 7.
pub fn call(tool: &str, arguments: &Value) -> String {
    let params = json!({"name": tool, "arguments": arguments});
    json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}).to_string()
}
