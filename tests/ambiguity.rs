//! Requests that a server may read in another way than a policy, through Envoy in both
//! body modes: ambiguous, repeated, re-encoded, of another type, imprecise.
//!
//! Each table has the plain request beside the ambiguous ones, so that a policy that
//! denies everything fails.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::stack::Stack;
use crate::support::{MODES, Mode, Reply, issuer, mcp_authz, start_before};

mod addresses;
mod claims;
mod methods;
mod names;
mod routes;
mod scopes;
mod values;

/// An HTTP server that answers every request alike and counts them.
struct Upstream {
    requests: Arc<AtomicUsize>,
}

impl Upstream {
    /// Starts a server that answers 200 with this JSON text.
    async fn start(answer: &'static str) -> (Self, u16) {
        let respond = async move |State(requests): State<Arc<AtomicUsize>>| {
            requests.fetch_add(1, Ordering::SeqCst);
            ([(CONTENT_TYPE, "application/json")], answer)
        };
        let requests = Arc::new(AtomicUsize::new(0));
        let router = Router::new().fallback(respond).with_state(Arc::clone(&requests));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, router).await });
        (Self { requests }, port)
    }
}

/// Changes to Envoy's configuration: texts with their replacements.
type Changes<'c> = &'c [(&'c str, &'c str)];

/// Starts Envoy with a policy in front of a server. Envoy forwards hosts and paths as they came.
async fn start(
    mode: Mode,
    policy: &str,
    changes: Changes<'_>,
    answer: &'static str,
) -> Stack<Upstream> {
    const NORMALIZING: [&str; 4] = [
        "normalize_path:",
        "merge_slashes:",
        "path_with_escaped_slashes_action:",
        "strip_trailing_host_dot:",
    ];

    let config = crate::support::change(&mode.config_for(policy), changes);
    let normalizes = |line: &str| NORMALIZING.iter().any(|key| line.trim().starts_with(key));
    let lines: Vec<&str> = config.lines().filter(|line| !normalizes(line)).collect();
    start_before(Upstream::start(answer).await, mcp_authz(), policy, &lines.join("\n")).await
}

/// A request that is sent byte for byte.
#[derive(Debug, Clone)]
struct Request {
    method: &'static str,
    path: String,
    host: String,
    headers: Vec<(String, String)>,
    /// Claims of the caller's token, beside those that every token has.
    claims: Value,
    body: String,
}

/// Returns a call of a tool without arguments.
fn tool(name: &str) -> Request {
    message("tools/call", &json!({"name": name}))
}

/// Returns a posted JSON-RPC request.
fn message(method: &str, params: &Value) -> Request {
    let body = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
    let request = http("POST").header("content-type", "application/json");
    Request { body: body.to_string(), ..request }
}

/// Returns a request without a body.
fn http(method: &'static str) -> Request {
    Request {
        method,
        path: "/mcp".to_owned(),
        host: "localhost".to_owned(),
        headers: Vec::new(),
        claims: json!({}),
        body: String::new(),
    }
}

impl Request {
    /// Sets the arguments of a call, as JSON text.
    fn arguments(self, json: &str) -> Self {
        let params = self.body.strip_suffix("}}").unwrap();
        Self { body: format!("{params},\"arguments\":{json}}}}}"), ..self }
    }

    fn claims(self, claims: Value) -> Self {
        Self { claims, ..self }
    }

    fn scope(self, scope: &str) -> Self {
        self.claims(json!({"scope": scope}))
    }

    /// Adds a header line.
    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn host(self, host: &str) -> Self {
        Self { host: host.to_owned(), ..self }
    }

    fn path(self, path: &str) -> Self {
        Self { path: path.to_owned(), ..self }
    }

    fn body(self, body: &str) -> Self {
        Self { body: body.to_owned(), ..self }
    }

    async fn send(&self, port: u16) -> Reply {
        let claims: Map<String, Value> = self.claims.as_object().unwrap().clone();
        let token = issuer().sign(claims).unwrap();
        let Self { method, path, host, .. } = self;
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        text += &format!("Authorization: Bearer {token}\r\n");
        if !self.body.is_empty() {
            text += &format!("Content-Length: {}\r\n", self.body.len());
        }
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += &format!("\r\n{}", self.body);
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        read(&reply)
    }
}

/// Reads an HTTP/1.1 response.
fn read(text: &str) -> Reply {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text}"));
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap().parse().unwrap();
    let headers: HeaderMap = lines
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
        })
        .collect();
    Reply { status, headers, body: body.to_owned() }
}

/// The answer that a request must get.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// 200 of the server.
    Allowed,
    /// 403 without a challenge.
    Denied,
    /// 403 with a challenge of these scopes.
    Challenged(&'static str),
    /// One of these statuses, with a challenge or without.
    Rejected(&'static [u16]),
}

use Expected::{Allowed, Challenged, Denied, Rejected};

impl Expected {
    fn is_met_by(self, reply: &Reply, reached: bool) -> bool {
        let challenge = reply.challenge();
        match self {
            Self::Allowed => reply.status == 200 && reached,
            Self::Denied => reply.status == 403 && challenge.is_none() && !reached,
            Self::Challenged(scopes) => {
                let scope = format!("scope=\"{scopes}\"");
                let named = challenge.is_some_and(|challenge| challenge.contains(&scope));
                reply.status == 403 && named && !reached
            }
            Self::Rejected(statuses) => statuses.contains(&reply.status) && !reached,
        }
    }
}

/// A labeled request with its answer.
type Case = (&'static str, Request, Expected);

/// An answer that is not the expected one.
struct Failure<'c> {
    mode: Mode,
    case: &'c Case,
    reply: Reply,
    reached: bool,
}

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mode, case: (label, request, expected), reply, reached } = self;
        let Request { method, path, host, headers, claims, body } = request;
        let (status, challenge) = (reply.status, reply.challenge().unwrap_or("no challenge"));
        let reached = if *reached { "reached the server" } else { "stopped" };
        let params = body.split_once("\"params\":").map_or(body.as_str(), |(_, params)| params);
        write!(f, "{} | {label} | {method} {host} {path} ", mode.name())?;
        write!(f, "{headers:?} {claims} {params} | expected {expected:?}")?;
        write!(f, " | {status}, {challenge}, {reached}")
    }
}

/// Sends each request through Envoy in both modes, and reports all wrong answers.
async fn check(policy: &str, cases: &[Case]) {
    check_with(policy, &[], cases).await;
}

/// Does the same with changes to Envoy's configuration.
async fn check_with(policy: &str, changes: Changes<'_>, cases: &[Case]) {
    let mut failures = Vec::new();
    for mode in MODES {
        let stack = start(mode, policy, changes, "{}").await;
        for case in cases {
            let (_, request, expected) = case;
            let before = stack.server.requests.load(Ordering::SeqCst);
            let reply = request.send(stack.envoy.port).await;
            let reached = stack.server.requests.load(Ordering::SeqCst) > before;
            if !expected.is_met_by(&reply, reached) {
                failures.push(Failure { mode, case, reply, reached });
            }
        }
    }
    let table: String = failures.iter().map(|failure| format!("{failure}\n")).collect();
    assert!(failures.is_empty(), "{} wrong answers:\n{table}", failures.len());
}
