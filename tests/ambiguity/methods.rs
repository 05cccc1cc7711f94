//! Requests without a message, and posted responses, where a policy covers methods.

use super::{Allowed, Case, Challenged, Denied, Rejected, Request, check, http, message, tool};
use serde_json::json;

const METHODS: &str = r#"
policies:
- name: by-name
  match: {pathPrefixes: [/by-name]}
  enforce: [tools, methods]
  rules:
  - {action: Deny, target: {methods: [{method: response}]}}
  - {action: Allow}
- name: by-star
  match: {pathPrefixes: [/by-star]}
  enforce: [tools, methods]
  rules:
  - {action: Deny, target: {methods: [{method: "*"}]}}
  - {action: Allow}
- name: tools
  match: {pathPrefixes: [/tools]}
  rules:
  - {action: Deny}
- name: methods
  enforce: [tools, methods]
  rules:
  - action: Allow
    source: {jwt: {scopes: [operate]}}
    target: {methods: [{method: DELETE}, {method: GET}]}
  - action: Allow
    target:
      methods: [{method: initialize}, {method: "notifications/*"}]
      tools: [{tool: open}]
"#;

fn posted(body: &str) -> Request {
    http("POST").header("content-type", "application/json").body(body)
}

#[tokio::test]
async fn request_without_message_is_evaluated() {
    const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"action":"accept"}}"#;
    const ERROR: &str = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no"}}"#;

    let session = |method| http(method).header("Mcp-Session-Id", "of an administrator");
    let stream = http("GET").header("accept", "text/event-stream");
    let initialize = || message("initialize", &json!({"protocolVersion": "2025-11-25"}));
    let call = tool("shut").body;
    let cases: &[Case] = &[
        ("DELETE", session("DELETE"), Challenged("operate")),
        ("DELETE and the scope", session("DELETE").scope("operate"), Allowed),
        ("GET", stream.clone(), Challenged("operate")),
        ("GET and the scope", stream.scope("operate"), Allowed),
        ("GET that resumes", http("GET").header("last-event-id", "1"), Challenged("operate")),
        ("DELETE with a call", session("DELETE").body(&call), Rejected(&[400, 403])),
        (
            "DELETE and the scope, with a call",
            session("DELETE").scope("operate").body(&call),
            Rejected(&[400, 403]),
        ),
        ("delete", session("delete"), Rejected(&[400, 403, 405])),
        ("HEAD", session("HEAD"), Rejected(&[400, 403, 405])),
        ("PUT", session("PUT"), Rejected(&[400, 403, 405])),
        ("POST", session("POST"), Rejected(&[400, 403])),
        ("the handshake", initialize(), Allowed),
        ("a tool", tool("open"), Allowed),
        ("another tool", tool("shut"), Denied),
        ("another method", message("logging/setLevel", &json!({})), Denied),
        ("a posted result", posted(RESULT), Allowed),
        ("a posted error", posted(ERROR), Allowed),
        ("a rule over *: DELETE", http("DELETE").path("/by-star"), Denied),
        ("a rule over *: a posted result", posted(RESULT).path("/by-star"), Allowed),
        ("a rule over response: a posted result", posted(RESULT).path("/by-name"), Denied),
        ("a rule over response: a posted error", posted(ERROR).path("/by-name"), Denied),
        ("a rule over response: DELETE", http("DELETE").path("/by-name"), Allowed),
        ("a rule over response: the handshake", initialize().path("/by-name"), Allowed),
        ("methods not covered: DELETE", http("DELETE").path("/tools"), Allowed),
        ("methods not covered: a posted result", posted(RESULT).path("/tools"), Allowed),
        ("methods not covered: a tool", tool("open").path("/tools"), Denied),
    ];
    check(METHODS, cases).await;
}
