//! Envoy, mcp-authz and an MCP server, wired up as in production.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::envoy::{self, Envoy};
use crate::mcp_server::McpServer;
use crate::tokens::{Error, Issuer};

/// Envoy's configuration, with words like `@THIS@` to be filled in.
pub const ENVOY_CONFIG: &str = include_str!("envoy.yaml");
/// The policy.
pub const POLICY: &str = include_str!("policy.yaml");

/// Where the sidecar answers people; its log tells the port.
const ADMIN: &str = "MCP_AUTHZ_ADMIN";
const READY_WITHIN: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

/// All three, running. They end with this value.
#[derive(Debug)]
pub struct Stack<S = McpServer> {
    // Envoy goes first, then the sidecar, then their files.
    pub envoy: Envoy,
    pub sidecar: Sidecar,
    pub server: S,
    dir: TempDir,
}

impl Stack {
    /// Starts everything. `sidecar` is the command line in front of `serve`.
    pub async fn start(
        envoy: &Path,
        issuer: &Issuer,
        sidecar: Command,
        policy: &str,
        envoy_config: &str,
    ) -> Result<Self, Error> {
        let server = McpServer::start().await?;
        let port = server.port;
        Self::start_before((server, port), envoy, issuer, sidecar, policy, envoy_config).await
    }
}

impl<S> Stack<S> {
    /// Starts the rest before a server that listens on a port already.
    pub async fn start_before(
        (server, port): (S, u16),
        envoy: &Path,
        issuer: &Issuer,
        sidecar: Command,
        policy: &str,
        envoy_config: &str,
    ) -> Result<Self, Error> {
        let dir = tempfile::tempdir()?;
        let sidecar = Sidecar::start(sidecar, policy, dir.path()).await?;
        let config = fill(
            envoy_config,
            &[
                ("@JWKS@", issuer.jwks()),
                ("@SOCKET@", &sidecar.socket().to_string_lossy()),
                ("@MCP_PORT@", &port.to_string()),
            ],
        )?;
        let envoy = Envoy::start(envoy, &config, dir.path()).await?;
        Ok(Self { envoy, sidecar, server, dir })
    }

    /// Where MCP clients connect.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/mcp", self.envoy.port)
    }

    /// Ends everything but the sidecar.
    pub fn into_sidecar(self) -> Sidecar {
        self.sidecar
    }

    /// Where the logs are.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// Replaces words of a text; each must be there.
pub fn fill(text: &str, words: &[(&str, &str)]) -> Result<String, Error> {
    let mut filled = text.to_owned();
    for (word, value) in words {
        if !filled.contains(word) {
            return Err(format!("`{word}` is not in the configuration").into());
        }
        filled = filled.replace(word, value);
    }
    Ok(filled)
}

/// A running mcp-authz; it ends with this value.
#[derive(Debug)]
pub struct Sidecar {
    process: Child,
    /// Where it listens, as it says itself.
    pub address: String,
    /// Where it answers people and Prometheus.
    pub admin: String,
    log: PathBuf,
    decisions: PathBuf,
}

impl Sidecar {
    /// Starts it on a Unix socket in `dir` and waits until it listens.
    pub async fn start(command: Command, policy: &str, dir: &Path) -> Result<Self, Error> {
        let listen = format!("unix:{}", dir.join("mcp-authz.sock").display());
        Self::start_on(&listen, command, policy, dir).await
    }

    /// Starts it on an address and waits until it listens.
    pub async fn start_on(
        listen: &str,
        mut command: Command,
        policy: &str,
        dir: &Path,
    ) -> Result<Self, Error> {
        let policy_path = dir.join("policy.yaml");
        let log = dir.join("mcp-authz.log");
        let decisions = dir.join("decisions.log");
        fs::write(&policy_path, policy)?;
        if !command.get_envs().any(|(name, _)| name == ADMIN) {
            command.env(ADMIN, "127.0.0.1:0");
        }
        let process = command
            .args(["serve", "--log-format", "json", "--listen", listen, "--policy"])
            .arg(&policy_path)
            // Its log tells where it listens.
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(File::create(&decisions)?)
            .stderr(File::create(&log)?)
            .spawn()?;
        let (address, admin) = (String::new(), String::new());
        let mut sidecar = Self { process, address, admin, log, decisions };
        let deadline = Instant::now() + READY_WITHIN;
        while !sidecar.is_listening() {
            if let Some(status) = sidecar.process.try_wait()? {
                return Err(format!("mcp-authz ended ({status}): {}", sidecar.log()).into());
            }
            if Instant::now() > deadline {
                return Err(format!("mcp-authz does not listen: {}", sidecar.log()).into());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(sidecar)
    }

    /// Looks in its log for where it listens.
    fn is_listening(&mut self) -> bool {
        let log = self.log();
        let lines: Vec<Value> =
            log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let address = |message: &str| {
            let line = lines.iter().find(|line| line.get("message") == Some(&message.into()))?;
            line.get("address")?.as_str().map(str::to_owned)
        };
        self.address = address("listening").unwrap_or_default();
        self.admin = address("admin port").unwrap_or_default();
        !self.address.is_empty() && !self.admin.is_empty()
    }

    /// The path of its Unix socket.
    pub fn socket(&self) -> &Path {
        Path::new(self.address.trim_start_matches("unix:"))
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns everything that the sidecar has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The decisions that it has logged so far, as JSON.
    pub fn decisions(&self) -> Vec<Value> {
        let log = fs::read_to_string(&self.decisions).unwrap_or_default();
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until it has logged so many decisions, and tells them.
    pub async fn decided(&self, count: usize) -> Vec<Value> {
        let deadline = Instant::now() + READY_WITHIN;
        while self.decisions().len() < count && Instant::now() < deadline {
            tokio::time::sleep(POLL).await;
        }
        self.decisions()
    }

    /// Waits until it has logged a text: with what no answer waits for, the log
    /// may come later.
    pub async fn logs(&self, text: &str) -> bool {
        let deadline = Instant::now() + READY_WITHIN;
        while !self.log().contains(text) {
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(POLL).await;
        }
        true
    }

    /// Sends it a signal, such as `TERM`.
    pub fn signal(&self, name: &str) -> Result<(), Error> {
        let id = self.process.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status()?;
        if sent.success() { Ok(()) } else { Err("`kill` failed".into()) }
    }

    /// Asks it to end, as Kubernetes does, and waits until it has.
    pub async fn terminate(&mut self) -> Result<ExitStatus, Error> {
        self.signal("TERM")?;
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            match self.process.try_wait()? {
                Some(status) => return Ok(status),
                None if Instant::now() > deadline => {
                    return Err(format!("mcp-authz does not end: {}", self.log()).into());
                }
                None => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Ends it without a word, as a crash would.
    pub fn kill(&mut self) {
        envoy::end(&mut self.process);
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.kill();
    }
}
