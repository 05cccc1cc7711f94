//! Limits on the cost of one request, and of all requests together, through Envoy.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use axum::Router;
use axum::body::Bytes;
use serde_json::json;
use tokio::net::TcpListener;

use crate::stack::{POLICY, Sidecar, Stack};
use crate::support::{
    Http, MODES, Mode, begin, call, mcp_authz, measures, send, start, start_before, start_with,
    token,
};

fn refused(reason: &str) -> String {
    format!(
        "mcp_authz_refused_requests_total{{policy=\"quickstart\",verdict=\"deny\",reason=\"{reason}\"}} 1"
    )
}

async fn passes(stack: &Stack) {
    let before = stack.server.requests();
    let body = call("countdown", &json!({"from": 1}));
    let reply = send(Http::new(stack).post(Some(&token("")), body)).await;
    assert_eq!(stack.server.requests(), before + 1, "{reply:?}");
}

#[tokio::test]
async fn a_body_that_does_not_come_in_time_is_given_up() {
    let variables = [("MCP_AUTHZ_BODY_TIMEOUT", "1")];
    for mode in MODES {
        let stack = start_with(&variables, POLICY, &mode.config()).await;
        let (reply, send_rest) = begin(&stack, "all-access", b"{\"jsonrpc\":").await;
        let reply = reply.await.unwrap();
        assert_eq!(reply.plain(), (408, "the body did not come whole in time: send it again"));
        drop(send_rest);
        measures(&stack, &refused("timed_out")).await;
        measures(&stack, "mcp_authz_streams 0").await;
        measures(&stack, "mcp_authz_held_bytes 0").await;
        assert_eq!(stack.server.requests(), 0, "{mode:?}");
        passes(&stack).await;
    }
}

#[tokio::test]
async fn one_stream_too_many_is_turned_away_and_the_next_is_not() {
    let variables = [("MCP_AUTHZ_MAX_STREAMS", "1")];
    for mode in MODES {
        let stack = start_with(&variables, POLICY, &mode.config()).await;
        let (first, send_rest) = begin(&stack, "all-access", b"{\"jsonrpc\":").await;
        measures(&stack, "mcp_authz_streams 1").await;
        let body = call("countdown", &json!({"from": 1}));
        let reply = send(Http::new(&stack).post(Some(&token("")), body)).await;
        assert_eq!(reply.plain().0, 503, "{mode:?}");
        measures(&stack, &refused("overloaded")).await;
        assert_eq!(stack.server.requests(), 0, "{mode:?}");
        drop(send_rest);
        let first = first.await.unwrap();
        assert!(first.plain().1.starts_with("the body is not acceptable JSON"), "{first:?}");
        measures(&stack, "mcp_authz_streams 0").await;
        passes(&stack).await;
    }
}

#[tokio::test]
async fn more_than_may_be_held_is_turned_away() {
    let variables = [("MCP_AUTHZ_MAX_HELD_BYTES", "3000")];
    let large = call("countdown", &json!({"from": 1, "rest": "x".repeat(100_000)}));
    for mode in MODES {
        let stack = start_with(&variables, POLICY, &mode.config()).await;
        let (first, rest) = large.as_bytes().split_at(20);
        let (reply, send_rest) = begin(&stack, "", first).await;
        measures(&stack, "mcp_authz_streams 1").await;
        send_rest.send(Ok(rest.to_vec())).await.unwrap();
        drop(send_rest);
        let reply = reply.await.unwrap();
        assert_eq!(reply.plain().0, 503, "{mode:?}");
        measures(&stack, "mcp_authz_held_bytes 0").await;
        assert_eq!(stack.server.requests(), 0, "{mode:?}");
        passes(&stack).await;
    }
}

/// A decided request is no longer buffered: the rest of its body may be of any size.
#[tokio::test]
async fn what_goes_on_already_is_not_turned_away_for_room() {
    let policy =
        POLICY.replace("- name: quickstart\n", "- name: quickstart\n  enforcement: Shadow\n");
    let policy = format!("limits: {{maxBodyBytes: 1000}}\n{policy}");
    // Answers with how much it got.
    let server = Router::new().fallback(async |body: Bytes| body.len().to_string());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move { axum::serve(listener, server).await });
    let mut sidecar = mcp_authz();
    sidecar.env("MCP_AUTHZ_MAX_HELD_BYTES", "3000");
    let config = Mode::FullDuplexStreamed.config();
    let stack = start_before((server, port), sidecar, &policy, &config).await;

    let body = call("echo", &json!({"text": "x".repeat(1 << 20)}));
    let (first, rest) = body.as_bytes().split_at(1500);
    let (reply, send_rest) = begin(&stack, "echo", first).await;
    // Until it is decided, there would be no room.
    let refused = "mcp_authz_refused_requests_total{policy=\"quickstart\",verdict=\"shadow_deny\",\
                   reason=\"body_too_large\"} 1";
    measures(&stack, refused).await;
    for part in rest.chunks(64 << 10) {
        send_rest.send(Ok(part.to_vec())).await.unwrap();
    }
    drop(send_rest);
    let reply = reply.await.unwrap();
    assert_eq!(reply.body, body.len().to_string(), "{reply:?}");
    measures(&stack, "mcp_authz_held_bytes 0").await;
}

#[tokio::test]
async fn a_body_in_too_many_parts_is_refused() {
    let policy = format!("limits: {{maxBodyParts: 3}}\n{POLICY}");
    let stack = start(&policy, &Mode::FullDuplexStreamed.config()).await;
    let (reply, send_rest) = begin(&stack, "all-access", b"{").await;
    // Each is a message of its own only if it is sent after the one before has come.
    for held in 1..=3 {
        measures(&stack, &format!("mcp_authz_held_bytes {held}")).await;
        send_rest.send(Ok(b" ".to_vec())).await.unwrap();
    }
    let reply = reply.await.unwrap();
    assert_eq!(reply.plain().0, 413);
    assert!(reply.body.starts_with("the body comes in more than 3 parts"), "{reply:?}");
    assert_eq!(stack.server.requests(), 0);
}

#[tokio::test]
async fn a_large_head_is_refused() {
    let policy = format!("limits: {{maxHeaderBytes: 1000}}\n{POLICY}");
    for mode in MODES {
        let stack = start(&policy, &mode.config()).await;
        let body = call("countdown", &json!({"from": 1}));
        let request = Http::new(&stack).post(Some(&token("")), body);
        let reply = send(request.header("mcp-name", "x".repeat(1000))).await;
        assert_eq!(reply.plain(), (431, "the headers are larger than 1000 bytes"), "{mode:?}");
        assert_eq!(stack.server.requests(), 0, "{mode:?}");
        passes(&stack).await;
    }
}

/// A caller who makes a condition expensive bypasses no rule, whatever the policy's
/// `conditionErrors`.
#[tokio::test]
async fn conditions_that_cost_too_much_deny() {
    const POLICY: &str = r#"
limits: {conditionCost: 1000}
policies:
- name: quickstart
  conditionErrors: NoMatch
  rules:
  - {action: Allow, target: {tools: [{tool: sum, when: "args.list.all(x, x == 1)"}]}}
  - {action: Deny, target: {tools: [{tool: countdown, when: args.from > 3}]}}
  - action: Deny
    target: {tools: [{tool: countdown, when: "args.list.exists(x, args.list.exists(y, x + y == 1))"}]}
  - {action: Allow}
"#;
    for mode in MODES {
        let stack = start(POLICY, &mode.config()).await;
        let list = |length: usize| json!({"from": 1, "list": vec![7; length]});
        for (tool, length) in [("countdown", 40), ("sum", 1000), ("countdown", 100_000)] {
            let reply =
                send(Http::new(&stack).post(Some(&token("")), call(tool, &list(length)))).await;
            let refusal = (403, 403, "condition_cost".to_owned());
            if tool == "sum" {
                // The rest of the rules has no condition for it, and lets it pass.
                assert_ne!(reply.status, 403, "{reply:?}");
            } else {
                assert_eq!(reply.refusal(), refusal, "{mode:?} {tool} {length}");
                assert_eq!(reply.challenge(), None);
            }
        }
        assert_eq!(stack.server.requests(), 1, "{mode:?}");
        let short = call("countdown", &list(3));
        send(Http::new(&stack).post(Some(&token("")), short)).await;
        assert_eq!(stack.server.requests(), 2, "{mode:?}");
        let reply =
            send(Http::new(&stack).post(Some(&token("")), call("countdown", &json!({"from": 9}))))
                .await;
        assert_eq!(reply.refusal().2, "deny_rule", "{mode:?}");
    }
}

#[tokio::test]
async fn sockets_have_the_mode_and_group_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    // A group that whoever runs this is in.
    let group = dir.path().metadata().unwrap().gid();
    let admin = dir.path().join("admin.sock");
    for (variables, modes) in [
        (vec![], [0o666, 0o600]),
        (
            vec![
                ("MCP_AUTHZ_LISTEN_MODE", "660".to_owned()),
                ("MCP_AUTHZ_LISTEN_GROUP", group.to_string()),
                ("MCP_AUTHZ_ADMIN_MODE", "640".to_owned()),
                ("MCP_AUTHZ_ADMIN_GROUP", group.to_string()),
            ],
            [0o660, 0o640],
        ),
    ] {
        let mut command = mcp_authz();
        command.env("MCP_AUTHZ_ADMIN", format!("unix:{}", admin.display())).envs(variables);
        let mut sidecar = Sidecar::start(command, POLICY, dir.path()).await.unwrap();
        for (path, mode) in [sidecar.socket(), &admin].into_iter().zip(modes) {
            let metadata = path.metadata().unwrap();
            assert_eq!(metadata.permissions().mode() & 0o777, mode, "{}", path.display());
            assert_eq!(metadata.gid(), group);
        }
        let status = sidecar.terminate().await.unwrap();
        assert_eq!(status.code(), Some(0));
        let left = std::fs::read_dir(dir.path()).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().starts_with('.')), "{left:?}");
        assert!(!admin.exists());
    }
}
