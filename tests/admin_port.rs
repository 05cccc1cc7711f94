//! Idle connections to the admin port keep no probe out.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Command;

use mcp_authz::admin::Client;
use mcp_authz::proto::v1::WatchRequest;

use crate::observe::four_calls;
use crate::stack::{POLICY, Sidecar};
use crate::support::{Mode, mcp_authz, start};

/// More than the admin port has places.
const MANY: usize = 80;
/// The most clients that watch at once.
const WATCHERS: usize = 32;

trait Connection: Read + Write {}
impl<T: Read + Write> Connection for T {}

fn connect(admin: &str) -> Box<dyn Connection> {
    match admin.strip_prefix("unix:") {
        Some(path) => Box::new(UnixStream::connect(path).unwrap()),
        None => Box::new(TcpStream::connect(admin).unwrap()),
    }
}

/// Connections over which the first bytes of something are sent, and no more.
fn connections(admin: &str, first: &str) -> Vec<Box<dyn Connection>> {
    let open = |_| {
        let mut connection = connect(admin);
        connection.write_all(first.as_bytes()).unwrap();
        connection
    };
    (0..MANY).map(open).collect()
}

async fn http2_connections(admin: &str) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..MANY {
        let client = Client::connect(&admin.parse().unwrap()).await.unwrap();
        assert!(client.is_serving().await.unwrap());
        clients.push(client);
    }
    clients
}

/// Asks as Kubernetes does, by HTTP and by gRPC.
fn assert_probes_are_answered(admin: &str, label: &str) {
    let mut connection = connect(admin);
    let request = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    connection.write_all(request).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{label}: {answer:?}");
    let health = mcp_authz().args(["health", "--server", admin]).output().unwrap();
    assert!(health.status.success(), "{label}: {health:?}");
}

async fn assert_idle_connections_give_way(command: Command) {
    let dir = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::start(command, POLICY, dir.path()).await.unwrap();
    let admin = &sidecar.admin;
    for (label, first) in [
        ("nothing sent", ""),
        ("half a request line", "GET /rea"),
        ("half a header", "GET /readyz HTTP/1.1\r\nhost: local"),
        ("half an HTTP/2 preface", "PRI * HTTP/2.0\r\n"),
        ("an HTTP/2 preface alone", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("requests answered", "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"),
    ] {
        let mut open = connections(admin, first);
        assert_probes_are_answered(admin, label);
        // The first is closed: reading ends, by a reset if mcp-authz has left bytes unread.
        let _ended = open[0].read_to_end(&mut Vec::new());
    }
    let _open = http2_connections(admin).await;
    assert_probes_are_answered(admin, "idle HTTP/2 connections");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_give_way_to_probes() {
    assert_idle_connections_give_way(mcp_authz()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_unix_connections_give_way_to_probes() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = mcp_authz();
    command.env("MCP_AUTHZ_ADMIN", format!("unix:{}", dir.path().join("admin.sock").display()));
    assert_idle_connections_give_way(command).await;
}

/// The most clients that may watch leave places to probes, and keep their own.
#[tokio::test(flavor = "multi_thread")]
async fn watchers_stay_where_idle_connections_close() {
    let stack = start(POLICY, &Mode::Buffered.config()).await;
    let admin = &stack.sidecar.admin;
    let mut watching = Vec::new();
    for _ in 0..WATCHERS {
        let client = Client::connect(&admin.parse().unwrap()).await.unwrap();
        watching.push(client.watch(WatchRequest::default()).await.unwrap());
    }
    let one_more = Client::connect(&admin.parse().unwrap()).await.unwrap();
    let refused = one_more.watch(WatchRequest::default()).await.unwrap_err();
    assert!(refused.to_string().contains("32 clients watch already"), "{refused}");
    let _idle = connections(admin, "");
    assert_probes_are_answered(admin, "as many watchers as there may be");
    four_calls(&stack).await;
    for decisions in &mut watching {
        let first = decisions.next().await.unwrap().unwrap();
        assert_eq!(first.decision.unwrap().reason, "insufficient_scope");
    }
}
