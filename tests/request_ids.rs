//! Refusals repeat the id of the request where it is known, through Envoy in both body modes.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;
use tokio_stream::iter;

use crate::stack::Stack;
use crate::support::{
    Http, MODES, Mode, Part, Reply, TOKEN_OPTIONAL, TOKEN_REQUIRED, begin_without_token, call,
    change, send, start_with,
};

/// Whoever has no token is sent to the login.
const POLICY: &str = r#"
policies:
- name: login
  unauthenticated: Challenge
  resourceMetadataURL: https://mcp.example.com/.well-known/oauth-protected-resource/mcp
  rules: [{action: Allow}]
"#;
const CHALLENGE: &str =
    "Bearer resource_metadata=\"https://mcp.example.com/.well-known/oauth-protected-resource/mcp\"";

async fn login(mode: Mode) -> Stack {
    let config = change(&mode.config_for(POLICY), &[(TOKEN_REQUIRED, TOKEN_OPTIONAL)]);
    start_with(&[], POLICY, &config).await
}

/// A body without a length.
fn chunked(body: &str) -> reqwest::Body {
    let chunks: Vec<Part> = body.as_bytes().chunks(5000).map(|part| Ok(part.to_vec())).collect();
    reqwest::Body::wrap_stream(iter(chunks))
}

/// The id that a 401 answers to; `None` if it is plain text.
fn challenged(reply: &Reply, case: &str) -> Option<i64> {
    assert_eq!(reply.challenge(), Some(CHALLENGE), "{case}");
    let is_text = reply.headers["content-type"] == "text/plain; charset=utf-8";
    if is_text {
        assert_eq!(reply.plain().0, 401, "{case}");
        return None;
    }
    assert_eq!(reply.refusal(), (401, 401, "no_token".to_owned()), "{case}");
    Some(reply.json()["id"].as_i64().unwrap())
}

#[tokio::test]
async fn challenge_repeats_id_of_small_body() {
    let small = call("countdown", &json!({"from": 1}));
    let large = |size: usize| call("countdown", &json!({"from": 1, "rest": "x".repeat(size)}));
    let full = large((64 << 10) - large(0).len());
    assert_eq!(full.len(), 64 << 10);
    let (larger, notification) = (large(64 << 10), small.replace(r#""id":7,"#, ""));
    let response = r#"{"jsonrpc":"2.0","id":7,"result":{}}"#.to_owned();
    let batch = format!("[{small}]");
    for mode in MODES {
        let stack = login(mode).await;
        let http = Http::new(&stack);
        for (body, id, chunked_id) in [
            (&small, Some(7), Some(7)),
            (&full, Some(7), Some(7)),
            // What announces more is not waited for.
            (&larger, None, Some(7)),
            (&notification, None, None),
            (&response, None, None),
            (&batch, None, None),
            (&"{".to_owned(), None, None),
        ] {
            let case = format!("{mode:?} {} bytes", body.len());
            let reply = send(http.post(None, body.clone())).await;
            assert_eq!(challenged(&reply, &case), id, "{case}");
            let reply = send(http.post(None, chunked(body))).await;
            assert_eq!(challenged(&reply, &case), chunked_id, "{case}, without a length");
        }
        for method in ["GET", "DELETE", "POST"] {
            let reply = send(http.request(method)).await;
            assert_eq!(challenged(&reply, method), None, "{mode:?} {method}");
        }
        // Only a POST carries a message.
        for method in ["OPTIONS", "DELETE", "GET"] {
            let reply = send(http.request(method).body(small.clone())).await;
            assert_eq!(challenged(&reply, method), None, "{mode:?}");
        }
        assert_eq!(stack.server.requests(), 0, "{mode:?}");
        send(http.request("OPTIONS")).await;
        assert_eq!(stack.server.requests(), 1, "{mode:?}");
    }
}

#[tokio::test]
async fn challenge_does_not_wait_for_long() {
    let body = call("countdown", &json!({"from": 1}));
    let (first, _) = body.split_at(body.len() - 1);
    for mode in MODES {
        let stack = login(mode).await;
        let (reply, rest) = begin_without_token(&stack, first.as_bytes()).await;
        // Well before the time that other bodies have.
        let reply = timeout(Duration::from_secs(30), reply).await.unwrap().unwrap();
        // Envoy shows nothing of a body that it collects.
        let id = match mode {
            Mode::Buffered => None,
            Mode::FullDuplexStreamed => Some(7),
        };
        assert_eq!(challenged(&reply, "not all of it"), id, "{mode:?}");
        drop(rest);
        assert_eq!(stack.server.requests(), 0, "{mode:?}");
    }
}
