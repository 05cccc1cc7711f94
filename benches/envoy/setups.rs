//! The set-ups of Envoy that the benchmark compares.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::envoy::{self, Envoy};
use crate::inputs::{self, SCOPE, When};
use crate::load::{self, Measured};
use crate::noop;
use crate::tokens::{Error, Issuer};

/// As many rules as a policy of a team has.
pub const RULES: usize = 50;

/// The component that decides, and the mode in which Envoy sends bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// Nobody: Envoy verifies tokens.
    JwtAlone,
    /// Envoy's own `mcp` and `rbac` filters, with the one rule that the call needs.
    OwnFilters,
    /// An external processor that does nothing.
    Noop(Mode),
    /// mcp-authz with all rules.
    McpAuthz(Mode),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Buffered,
    Duplex,
}

/// In the order of the table.
pub const SETUPS: [Setup; 6] = [
    Setup::JwtAlone,
    Setup::OwnFilters,
    Setup::Noop(Mode::Buffered),
    Setup::McpAuthz(Mode::Buffered),
    Setup::Noop(Mode::Duplex),
    Setup::McpAuthz(Mode::Duplex),
];

impl Setup {
    pub fn name(self) -> &'static str {
        match self {
            Self::JwtAlone => "jwt_authn alone",
            Self::OwnFilters => "mcp and rbac filters",
            Self::Noop(Mode::Buffered) => "no-op, BUFFERED",
            Self::Noop(Mode::Duplex) => "no-op, FULL_DUPLEX_STREAMED",
            Self::McpAuthz(Mode::Buffered) => "mcp-authz, BUFFERED",
            Self::McpAuthz(Mode::Duplex) => "mcp-authz, FULL_DUPLEX_STREAMED",
        }
    }

    /// Returns the set-up with which this one is compared, if there is one.
    pub fn floor(self) -> Option<Self> {
        match self {
            Self::McpAuthz(mode) => Some(Self::Noop(mode)),
            _ => None,
        }
    }

    fn mode(self) -> Option<Mode> {
        match self {
            Self::Noop(mode) | Self::McpAuthz(mode) => Some(mode),
            Self::JwtAlone | Self::OwnFilters => None,
        }
    }
}

/// A set-up that runs. It ends with this value.
#[derive(Debug)]
pub struct Running {
    pub setup: Setup,
    envoy: Envoy,
    processor: Option<Processor>,
    request: Vec<u8>,
    _dir: TempDir,
}

#[derive(Debug)]
struct Processor(Child);

impl Drop for Processor {
    fn drop(&mut self) {
        envoy::end(&mut self.0);
    }
}

/// Processor time, in nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    pub envoy: u64,
    pub processor: u64,
}

impl Cpu {
    pub fn since(self, before: Self) -> Self {
        Self { envoy: self.envoy - before.envoy, processor: self.processor - before.processor }
    }
}

impl Running {
    pub async fn start(
        setup: Setup,
        envoy: &Path,
        issuer: &Issuer,
        upstream: u16,
        mcp_authz: &Path,
    ) -> Result<Self, Error> {
        let dir = tempfile::tempdir()?;
        let socket = dir.path().join("s");
        let policy = dir.path().join("policy.yaml");
        fs::write(&policy, inputs::policy(RULES, When::Title))?;
        let mut command = match setup {
            Setup::JwtAlone | Setup::OwnFilters => None,
            Setup::Noop(_) => {
                let mut command = Command::new(std::env::current_exe()?);
                command.env(noop::SOCKET, &socket);
                Some(command)
            }
            Setup::McpAuthz(_) => {
                let mut command = Command::new(mcp_authz);
                command.args(["serve", "--threads", "1", "--policy"]).arg(&policy);
                command.arg("--listen").arg(format!("unix:{}", socket.display()));
                Some(command)
            }
        };
        let log = dir.path().join("processor.log");
        let processor = match &mut command {
            Some(command) => {
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
                Some(Processor(command.spawn()?))
            }
            None => None,
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while processor.is_some() && !socket.exists() {
            if Instant::now() > deadline {
                return Err(fs::read_to_string(&log)?.into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let filter = match setup.mode() {
            Some(mode) => ext_proc(mcp_authz, mode, &policy)?,
            None if setup == Setup::OwnFilters => {
                OWN_FILTERS.replace("@TOOL@", &inputs::tool(RULES - 1)).replace("@SCOPE@", SCOPE)
            }
            None => String::new(),
        };
        let config = ENVOY
            .replace("@JWKS@", issuer.jwks())
            .replace("@UPSTREAM@", &upstream.to_string())
            .replace("@SOCKET@", &socket.to_string_lossy())
            .replace("@FILTER@\n", &indented(&filter));
        let envoy = Envoy::start(envoy, &config, dir.path()).await?;
        let request = request(&issuer.sign(inputs::claims())?);
        Ok(Self { setup, envoy, processor, request, _dir: dir })
    }

    pub async fn load(&self, connections: usize, duration: Duration) -> Result<Measured, Error> {
        let load = load::load(self.envoy.port, &self.request, connections, duration).await;
        load.map_err(|error| format!("{}: {error}", self.setup.name()).into())
    }

    /// Returns the processor time that both processes have used so far.
    pub fn cpu(&self) -> Result<Cpu, Error> {
        let processor = match &self.processor {
            Some(Processor(process)) => cpu(process.id())?,
            None => 0,
        };
        Ok(Cpu { envoy: cpu(self.envoy.id())?, processor })
    }

    /// Returns the resident memory of the external processor, in bytes; `None` without one.
    pub fn resident(&self) -> Result<Option<u64>, Error> {
        self.processor.as_ref().map(|Processor(process)| resident(process.id())).transpose()
    }
}

/// Returns the resident memory of a process, in bytes.
pub fn resident(process: u32) -> Result<u64, Error> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).ok_or("no VmRSS")?;
    Ok(kib.parse::<u64>()? << 10)
}

/// The processor time of all threads of a process: the first number of each schedstat.
fn cpu(process: u32) -> Result<u64, Error> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let stat = fs::read_to_string(task?.path().join("schedstat"))?;
        sum += stat.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(sum)
}

fn request(token: &str) -> Vec<u8> {
    let body = inputs::call(RULES);
    let head = format!(
        "POST /mcp HTTP/1.1\r\nhost: mcp.example.com\r\nuser-agent: bench\r\n\
         accept: application/json, text/event-stream\r\ncontent-type: application/json\r\n\
         mcp-protocol-version: 2025-11-25\r\nauthorization: Bearer {token}\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body].concat()
}

/// The filter that mcp-authz itself prints.
fn ext_proc(mcp_authz: &Path, mode: Mode, policy: &PathBuf) -> Result<String, Error> {
    let mode = match mode {
        Mode::Buffered => "buffered",
        Mode::Duplex => "duplex",
    };
    let mut command = Command::new(mcp_authz);
    let output = command.args(["envoy-config", "--mode", mode, "--policy"]).arg(policy).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn indented(filter: &str) -> String {
    filter.lines().map(|line| format!("          {line}\n")).collect()
}

const ENVOY: &str = include_str!("envoy.yaml");
const OWN_FILTERS: &str = include_str!("own_filters.yaml");
