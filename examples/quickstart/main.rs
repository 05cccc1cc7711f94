//! The quickstart: `cargo run --release --example quickstart [-- --stay]`
//!
//! Starts a real Envoy, a real MCP server and mcp-authz between them, calls
//! tools as callers with different scopes, and prints what came of it.

#![allow(dead_code, unreachable_pub, reason = "the integration tests share these modules")]

mod client;
mod envoy;
mod mcp_server;
mod stack;
mod tokens;

use std::fmt;
use std::process::{Command, ExitCode};

use serde_json::{Value, json};

use client::{Answer, Client};
use stack::{ENVOY_CONFIG, POLICY, Stack};
use tokens::{Error, Issuer};

/// Returns the calls to make: the user, the scopes, the tool and the arguments.
fn calls() -> [(&'static str, &'static str, &'static str, Value); 8] {
    let hello = || json!({"text": "Hello, world!"});
    [
        ("ana", "echo", "echo", hello()),
        ("ana", "echo", "echo", json!({"text": "hello, world!"})),
        ("ana", "echo", "countdown", json!({"from": 3})),
        ("ben", "sum", "sum", json!({"a": 41, "b": 1})),
        ("ben", "sum", "echo", hello()),
        ("cleo", "all-access", "echo", json!({"text": "anything"})),
        ("cleo", "all-access", "sum", json!({"a": 2, "b": 2})),
        ("cleo", "all-access", "countdown", json!({"from": 1})),
    ]
}

fn main() -> ExitCode {
    // The sidecar is this very program, started as users start theirs.
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return mcp_authz::cli::run(std::env::args_os());
    }
    let stay = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--stay" => true,
        _ => {
            eprintln!("usage: cargo run --release --example quickstart [-- --stay]");
            return ExitCode::from(2);
        }
    };
    let outcome = tokio::runtime::Runtime::new().map_err(Error::from);
    match outcome.and_then(|runtime| runtime.block_on(run(stay))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(stay: bool) -> Result<(), Error> {
    let progress = |text: &str| eprintln!("· {text}");
    let binary = envoy::find(progress)?;
    progress("making a key for the identity provider");
    let issuer = Issuer::new()?;
    progress(&format!("starting an MCP server, mcp-authz and Envoy ({})", binary.display()));
    let sidecar = Command::new(std::env::current_exe()?);
    let stack = Stack::start(&binary, &issuer, sidecar, POLICY, ENVOY_CONFIG).await?;

    let mut table = Table::new(["caller", "has scopes", "calls tool", "with", "answer"]);
    let mut last_challenge = None;
    for (who, scope, tool, arguments) in calls() {
        let token = issuer.token(who, scope)?;
        let client = Client::connect(&stack.url(), &token).await?;
        let answer = match client.call(tool, &arguments).await? {
            Answer::Text(text) => format!("allowed: {text}"),
            Answer::Challenged(challenge) => {
                let answer = format!("denied, would need: {}", scope_of(&challenge));
                last_challenge = Some(challenge);
                answer
            }
            Answer::Refused(message) => format!("denied: {message}"),
        };
        client.close().await?;
        table.add([who, scope, tool, &arguments.to_string(), &answer]);
    }
    let status = reqwest::Client::new().post(stack.url()).body("{}").send().await?.status();
    table.add(["nobody", "no token", "-", "-", &format!("{status}, from Envoy itself")]);
    println!("\n{table}");
    if let Some(challenge) = last_challenge {
        println!(
            "A denied call gets a 403 with a challenge, so that the client can ask for more:\n"
        );
        println!("  WWW-Authenticate: {challenge}\n");
    }
    println!("The rules behind it: examples/quickstart/policy.yaml");
    if stay {
        stay_until_interrupted(&stack, &issuer).await?;
    } else {
        println!("To keep it running and try it yourself: add `-- --stay`");
    }
    Ok(())
}

async fn stay_until_interrupted(stack: &Stack, issuer: &Issuer) -> Result<(), Error> {
    let call = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "echo", "arguments": {"text": "Hello, world!"}},
    });
    println!("\nA call with the scope `sum` only, which the policy denies:\n");
    println!("curl -i {} \\", stack.url());
    println!("  -H 'Authorization: Bearer {}' \\", issuer.token("ben", "sum")?);
    println!(
        "  -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' \\"
    );
    println!("  -d '{call}'\n");
    let admin = &stack.sidecar.admin;
    println!("What mcp-authz counts, and its decisions as they are made:\n");
    println!("curl http://{admin}/metrics");
    println!("cargo run -- tail --server {admin}\n");
    println!("Logs: {}. Ctrl-C ends it all.", stack.dir().display());
    tokio::signal::ctrl_c().await?;
    Ok(())
}

/// The scopes that a challenge names.
fn scope_of(challenge: &str) -> &str {
    let scope = challenge.split_once("scope=\"").and_then(|(_, rest)| rest.split_once('"'));
    scope.map_or(challenge, |(scope, _)| scope)
}

/// Columns side by side.
struct Table<const COLUMNS: usize> {
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    fn new(head: [&str; COLUMNS]) -> Self {
        Self { rows: vec![head.map(str::to_owned), head.map(|name| "─".repeat(name.len()))] }
    }

    fn add(&mut self, row: [&str; COLUMNS]) {
        self.rows.push(row.map(str::to_owned));
    }
}

impl<const COLUMNS: usize> fmt::Display for Table<COLUMNS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = [0; COLUMNS];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for row in &self.rows {
            let cells: Vec<String> =
                row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
        }
        Ok(())
    }
}
