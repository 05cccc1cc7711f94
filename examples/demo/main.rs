//! The parts that the set-up in deploy/compose needs besides Envoy and mcp-authz. They are an MCP
//! server behind them, and an identity provider that consists of two files.

#![allow(dead_code, unreachable_pub, reason = "the quickstart and the tests share these modules")]

#[path = "../quickstart/mcp_server.rs"]
mod mcp_server;
#[path = "../quickstart/tokens.rs"]
mod tokens;

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::Response;
use clap::{Parser, Subcommand};
use rmcp::transport::streamable_http_server::StreamableHttpServerConfig;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use mcp_server::Tools;
use tokens::{Error, Issuer};

const PRIVATE_KEY: &str = "private-key.pem";
const JWKS: &str = "jwks.json";

/// The parts of a demonstration around mcp-authz
#[derive(Parser)]
#[command(name = "demo")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the tools echo, sum and countdown at /mcp, and print a line for each request
    McpServer {
        /// Where to listen
        #[arg(long, value_name = "HOST:PORT")]
        listen: String,
    },
    /// Make the identity provider's key, unless there is one
    Keys {
        /// Where private-key.pem and jwks.json are, or will be
        dir: PathBuf,
    },
    /// Print a signed token that is good for an hour
    Token {
        /// Where the key is
        dir: PathBuf,
        /// Scopes of the token, separated by spaces
        #[arg(long)]
        scope: String,
        /// Subject of the token
        #[arg(long, default_value = "somebody")]
        subject: String,
    },
}

fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Command::McpServer { listen } => tokio::runtime::Runtime::new()
            .map_err(Error::from)
            .and_then(|runtime| runtime.block_on(serve(&listen))),
        Command::Keys { dir } => make_keys(&dir),
        Command::Token { dir, scope, subject } => print_token(&dir, &subject, &scope),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until SIGTERM or SIGINT, which the first process of a container has to
/// ask for.
async fn serve(listen: &str) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Without sessions, one `curl` is enough to call a tool. Clients name the host
    // that they reach Envoy by, and only Envoy reaches this server.
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .disable_allowed_hosts();
    let router = mcp_server::router(Tools::new(Arc::default()), config)
        .layer(middleware::from_fn(print_request));
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    println!("listening on {}", listener.local_addr()?);
    tokio::select! {
        served = async { axum::serve(listener, router).await } => Ok(served?),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

async fn print_request(request: Request, next: Next) -> Response {
    println!("{} {}", request.method(), request.uri().path());
    next.run(request).await
}

/// Tokens that were given out stay good: what is there is kept.
fn make_keys(dir: &Path) -> Result<(), Error> {
    let (private_key, jwks) = (dir.join(PRIVATE_KEY), dir.join(JWKS));
    let issuer = if private_key.exists() {
        println!("kept {}", private_key.display());
        load(dir)?
    } else {
        let issuer = Issuer::new()?;
        write(&private_key, issuer.pem(), 0o600)?;
        println!("made {}", private_key.display());
        issuer
    };
    // Envoy, another user, reads this one.
    write(&jwks, issuer.jwks(), 0o644)
}

fn print_token(dir: &Path, subject: &str, scope: &str) -> Result<(), Error> {
    println!("{}", load(dir)?.token(subject, scope)?);
    Ok(())
}

fn load(dir: &Path) -> Result<Issuer, Error> {
    let path = dir.join(PRIVATE_KEY);
    let pem = fs::read_to_string(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            format!("{} is not there: `demo keys {}` makes it", path.display(), dir.display())
        }
        _ => format!("cannot read {}: {error}", path.display()),
    })?;
    Issuer::from_pem(&pem).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// Writes a file as a whole or not at all.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let cannot = |error| format!("cannot write {}: {error}", path.display());
    let new = path.with_extension("new");
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&new)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&new, path))
        .map_err(cannot)?;
    Ok(())
}
