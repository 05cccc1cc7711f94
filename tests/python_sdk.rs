//! The Python SDK as client and as server, in old and new versions of the protocol.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::envoy;
use crate::support::{MODES, mcp_authz, start_before, token};
use crate::tools::pip;

const SDK: &str = "mcp==2.3.0";

const POLICY: &str = r#"
policies:
- name: p
  backend: {name: b}
  toolsList: Reachable
  rules:
  - {action: Allow, target: {tools: [{tool: 'open_*', when: 'args.n > 100'}]}}
  - {action: Allow, source: {jwt: {scopes: [write]}}, target: {tools: [{tool: 'write_*'}]}}
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
                    let listed = seen["listed"].as_object().unwrap();
                    let now = |(_, needs): &(&String, &Value)| **needs == json!([]);
                    let mut usable: Vec<_> =
                        listed.iter().filter(now).map(|(tool, _)| tool).collect();
                    let mut callable: Vec<_> =
                        seen["callable"].as_array().unwrap().iter().collect();
                    usable.sort();
                    callable.sort_by_key(|tool| tool.as_str());
                    assert_eq!(json!(usable), json!(callable), "{case}");
                    let write = if scope.is_empty() { json!(["write"]) } else { json!([]) };
                    assert_eq!(listed.get("write_1"), Some(&write), "{case}");
                    assert_eq!((listed.len(), listed.get("closed_2")), (20, None), "{case}");
                }
            }
        }
    }
}
