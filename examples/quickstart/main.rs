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

use std::process::{Command, ExitCode};

use serde_json::{Value, json};

use client::{Answer, Client};
use stack::{ENVOY_CONFIG, POLICY, Stack};
use tokens::{Error, Issuer};

/// Who calls what.
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

    let mut rows = vec![["caller", "scopes", "tool", "arguments", "answer"].map(str::to_owned)];
    for (who, scope, tool, arguments) in calls() {
        let token = issuer.token(who, scope)?;
        let client = Client::connect(&stack.url(), &token).await?;
        let answer = match client.call(tool, &arguments).await? {
            Answer::Text(text) => format!("allowed: {text}"),
            Answer::Challenged(challenge) => format!("403, ask for more: {challenge}"),
            Answer::Refused(message) => format!("403: {message}"),
        };
        client.close().await?;
        rows.push([who.to_owned(), scope.to_owned(), tool.to_owned(), arguments.to_string(), answer]);
    }
    println!("\n{}", table(&rows));
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
    println!("  -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' \\");
    println!("  -d '{call}'\n");
    println!("Logs: {}. Ctrl-C ends it all.", stack.dir().display());
    tokio::signal::ctrl_c().await?;
    Ok(())
}

/// Columns side by side; the last one as wide as it likes.
fn table(rows: &[[String; 5]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2), width(3)];
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (column, width) in widths.iter().enumerate() {
            text.push_str(&format!("{:<width$}  ", row[column]));
        }
        text.push_str(&row[4]);
        text.push('\n');
        if number == 0 {
            let line: usize = widths.iter().map(|width| width + 2).sum();
            text.push_str(&"─".repeat(line + 6));
            text.push('\n');
        }
    }
    text
}
