//! Stopping without breaking what is under way, but not for ever.

use serde_json::json;

use crate::stack::POLICY;
use crate::support::{Http, Mode, begin, call, mcp_authz, measures, send, start_with, token};

/// While it says that it is not ready it serves on, until it is asked again.
#[tokio::test]
async fn a_server_that_stops_says_so_and_serves_on() {
    let variables = [("MCP_AUTHZ_DRAIN_DELAY", "3600")];
    let stack = start_with(&variables, POLICY, &Mode::Buffered.config()).await;
    stack.sidecar.signal("TERM").unwrap();
    assert!(stack.sidecar.logs("stopping").await);
    let ready = reqwest::get(format!("http://{}/readyz", stack.sidecar.admin)).await.unwrap();
    assert_eq!(ready.status(), 503);
    assert!(ready.text().await.unwrap().starts_with("stopping\n"));
    for address in [&stack.sidecar.address, &stack.sidecar.admin] {
        let health = mcp_authz().args(["health", "--server", address]).output().unwrap();
        assert_eq!(health.status.code(), Some(1));
        assert!(String::from_utf8(health.stderr).unwrap().contains("is not ready"));
    }
    let allowed = call("countdown", &json!({"from": 1}));
    send(Http::new(&stack).post(Some(&token("")), allowed)).await;
    assert_eq!(stack.server.requests(), 1);
    let status = stack.into_sidecar().terminate().await.unwrap();
    assert_eq!(status.code(), Some(0));
}

/// A call whose body never ends is given up, and does not go on.
#[tokio::test]
async fn streams_that_do_not_end_are_cut_off() {
    let variables = [("MCP_AUTHZ_DRAIN_TIMEOUT", "1")];
    let stack = start_with(&variables, POLICY, &Mode::FullDuplexStreamed.config()).await;
    let (reply, send_body) = begin(&stack, "all-access", b"{\"jsonrpc\":").await;
    measures(&stack, "mcp_authz_held_bytes 11").await;
    stack.sidecar.signal("TERM").unwrap();
    assert!(stack.sidecar.logs("cut off").await, "{}", stack.sidecar.log());
    let reply = reply.await.unwrap();
    assert_eq!(reply.status, 500, "{reply:?}");
    assert_eq!(stack.server.requests(), 0);
    drop(send_body);
}

/// A call that ends in time is answered, though the server is stopping.
#[tokio::test]
async fn streams_that_end_in_time_are_answered() {
    let variables = [("MCP_AUTHZ_DRAIN_TIMEOUT", "3600")];
    let stack = start_with(&variables, POLICY, &Mode::FullDuplexStreamed.config()).await;
    let whole = call("echo", &json!({"text": "x"})).into_bytes();
    let (first, rest) = whole.split_at(10);
    let (reply, send_body) = begin(&stack, "sum", first).await;
    measures(&stack, "mcp_authz_held_bytes 10").await;
    stack.sidecar.signal("TERM").unwrap();
    assert!(stack.sidecar.logs("stopping").await);
    send_body.send(Ok(rest.to_vec())).await.unwrap();
    drop(send_body);
    assert_eq!(reply.await.unwrap().status, 403);
    assert!(stack.sidecar.logs("stopped").await);
    assert!(!stack.sidecar.log().contains("cut off"));
}
