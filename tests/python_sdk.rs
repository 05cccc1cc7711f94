//! The Python SDK as client and as server, in old and new versions of the protocol.

use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::envoy;
use crate::support::{MODES, Reply, mcp_authz, send, start_before, token};
use crate::tools::pip;

const SDK: &str = "mcp==2.3.0";

const OPEN_TEMPLATE: &str = "file:///open/of/{name}";
const WRITE_TEMPLATE: &str = "file:///write/of/{name}";

const POLICY: &str = r#"
policies:
- name: p
  backend: {name: b}
  enforce: [tools, prompts, resources]
  toolsList: Reachable
  promptsList: Reachable
  resourcesList: Reachable
  rules:
  - action: Allow
    target:
      tools: [{tool: 'open_*', when: 'args.n > 100'}]
      prompts:
      - {prompt: open, when: 'request.mcp.method == "completion/complete" || args.n == "1"'}
      resources: [{uri: 'file:///open/*'}]
  - action: Allow
    source: {jwt: {scopes: [write]}}
    target:
      tools: [{tool: 'write_*'}]
      prompts: [{prompt: write}]
      resources: [{uri: 'file:///write/*'}]
"#;

/// A program that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        envoy::end(&mut self.0);
    }
}

fn script(name: &str) -> Command {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(name);
    let mut command = Command::new("python3");
    command.arg(path).env("PYTHONPATH", pip::package(SDK)).stdin(Stdio::null());
    command
}

fn server(answers: &str) -> (Running, u16) {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let mut command = script("server.py");
    command.args([&port.to_string(), answers]).stdout(Stdio::null()).stderr(Stdio::null());
    let running = Running(command.spawn().unwrap_or_else(|error| panic!("needs python3: {error}")));
    let deadline = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "the server of the Python SDK does not listen");
        std::thread::sleep(Duration::from_millis(50));
    }
    (running, port)
}

/// Runs the Python client, and returns its report of what it sees and what it can call.
async fn seen(url: &str, scope: &str, version: &str) -> Value {
    let mut command = script("client.py");
    command.args([url, &token(scope), version]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{version}: {error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
#[ignore = "needs the package mcp from PyPI: cargo test --locked -- --ignored"]
async fn the_python_sdk_sees_what_it_can_call_and_which_scopes_open_the_rest() {
    for mode in MODES {
        for answers in ["json", "events"] {
            let stack =
                start_before(server(answers), mcp_authz(), POLICY, &mode.config_for(POLICY)).await;
            // With the handshake of versions up to 2025-11-25, and without one.
            for version in ["legacy", "2026-07-28"] {
                for scope in ["", "write"] {
                    let case = format!("{mode:?} {answers} {version} {scope:?}");
                    let seen = seen(&stack.url(), scope, version).await;
                    for (what, count) in
                        [("tools", 20), ("prompts", 2), ("resources", 2), ("templates", 2)]
                    {
                        let listed = seen[what]["listed"].as_object().unwrap();
                        let now = |(_, needs): &(&String, &Value)| **needs == json!([]);
                        let usable = listed.iter().filter(now).map(|(name, _)| name.as_str());
                        let found = seen[what]["usable"].as_array().unwrap().iter();
                        let found: BTreeSet<_> = found.filter_map(Value::as_str).collect();
                        assert_eq!(usable.collect::<BTreeSet<_>>(), found, "{case} {what}");
                        assert_eq!(listed.len(), count, "{case} {what}");
                        let write = if scope.is_empty() { json!(["write"]) } else { json!([]) };
                        let needs = listed.iter().find(|(name, _)| name.contains("write"));
                        assert_eq!(needs.map(|(_, needs)| needs), Some(&write), "{case} {what}");
                        assert!(!listed.keys().any(|name| name.contains("closed")), "{case}");
                    }
                    let mut completed = vec!["open", "write", OPEN_TEMPLATE, WRITE_TEMPLATE];
                    let mut subscribed = vec!["file:///open/a", "file:///write/a"];
                    if scope.is_empty() {
                        completed.retain(|name| !name.contains("write"));
                        subscribed.truncate(1);
                    }
                    assert_eq!(seen["completed"], json!(completed), "{case}");
                    assert_eq!(seen["subscribed"], json!(subscribed), "{case}");
                }
            }
        }
    }
}

const NO_FORCE: &str = r"
policies:
- name: p
  rules:
  - action: Deny
    target:
      tools:
      - {tool: delete, when: 'args.?force.orValue(false) == true'}
      - {tool: delete, when: 'args.?level.orValue(0) in [9, 10]'}
      - {tool: delete, when: 'args.?options.?force.orValue(false)'}
  - {action: Allow}
";

/// Calls the tool that deletes, in the version that needs no handshake.
async fn delete(url: &str, arguments: &str) -> Reply {
    const VERSION: &str = "2026-07-28";

    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let arguments: Value = serde_json::from_str(arguments).unwrap();
    let params = json!({"name": "delete", "arguments": arguments, "_meta": meta});
    let body = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params});
    let request = reqwest::Client::new().post(url).bearer_auth(token(""));
    let request = request.header("accept", "application/json, text/event-stream");
    let request = request.header("mcp-protocol-version", VERSION);
    let request = request.header("mcp-method", "tools/call").header("mcp-name", "delete");
    send(request.header("content-type", "application/json").body(body.to_string())).await
}

/// The server turns arguments into the types that a tool declares.
#[tokio::test]
#[ignore = "needs the package mcp from PyPI: cargo test --locked -- --ignored"]
async fn argument_that_python_converts_is_denied() {
    for mode in MODES {
        let (running, port) = server("json");
        let server = format!("http://127.0.0.1:{port}/mcp");
        let config = mode.config_for(NO_FORCE);
        let stack = start_before((running, port), mcp_authz(), NO_FORCE, &config).await;
        for (arguments, done, status) in [
            ("{}", "asked first", 200),
            (r#"{"force": false, "level": 8, "options": {}}"#, "asked first", 200),
            (r#"{"force": true}"#, "deleted by force", 403),
            (r#"{"force": "true"}"#, "deleted by force", 403),
            (r#"{"force": "Yes"}"#, "deleted by force", 403),
            (r#"{"force": 1}"#, "deleted by force", 403),
            (r#"{"level": 9}"#, "deleted by force", 403),
            (r#"{"level": "9"}"#, "deleted by force", 403),
            (r#"{"level": " 9 "}"#, "deleted by force", 403),
            (r#"{"options": {"force": true}}"#, "deleted by force", 403),
            (r#"{"options": "{\"force\": true}"}"#, "deleted by force", 403),
        ] {
            let direct = delete(&server, arguments).await.json();
            let text = &direct["result"]["content"][0]["text"];
            assert_eq!(text, done, "{mode:?} {arguments}: {direct}");
            let reply = delete(&stack.url(), arguments).await;
            assert_eq!(reply.status, status, "{mode:?} {arguments}: {reply:?}");
            if status == 200 {
                assert_eq!(&reply.json()["result"]["content"][0]["text"], text);
            }
        }
    }
}
