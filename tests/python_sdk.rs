//! The Python SDK as client and as server, in old and new versions of the protocol.

use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::envoy;
use crate::support::{MODES, mcp_authz, start_before, token};
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

/// What a client sees, and what it can call.
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
