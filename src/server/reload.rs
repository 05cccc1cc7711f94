//! Loading policies anew when their files change.
//!
//! Changes are told by the operating system where it can, and found by looking
//! every few seconds where it cannot: on network file systems, or when a
//! ConfigMap's files are swapped by a symbolic link far from here. What counts is
//! the content, so a file that is written again unchanged changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::admin::Status;
use crate::config;
use crate::gate::LiveGate;
use crate::telemetry::Recorder;

/// How often files are looked at without being told.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long files may still be being written after the first change is told.
const SETTLE: Duration = Duration::from_millis(50);

/// Why files are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Something has changed where they are.
    Change,
    /// An operator asks for it (SIGHUP).
    Signal,
    /// The process ends.
    Stop,
}

/// Keeps the gate up to date with its files.
pub(super) struct Reloader {
    path: PathBuf,
    live: Arc<LiveGate>,
    recorder: Arc<Recorder>,
    status: Arc<Status>,
    /// What was loaded, or tried to be, last.
    digest: String,
    causes: Receiver<Cause>,
}

impl Reloader {
    /// For the files at a path, from which the gate was loaded; and how to tell
    /// it to look.
    pub(super) fn new(
        path: &Path,
        live: Arc<LiveGate>,
        recorder: Arc<Recorder>,
        status: Arc<Status>,
    ) -> (Self, Sender<Cause>) {
        let (tell, causes) = channel();
        let digest = live.current().digest.to_string();
        (Self { path: path.to_owned(), live, recorder, status, digest, causes }, tell)
    }

    /// Runs until it is told to stop.
    pub(super) fn run(mut self, tell: &Sender<Cause>) {
        let _watcher = self.watch(tell.clone());
        loop {
            match self.causes.recv_timeout(LOOK_EVERY) {
                Ok(Cause::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Cause::Signal) => self.look(true),
                Err(RecvTimeoutError::Timeout) => self.look(false),
                Ok(Cause::Change) => {
                    // One look for many changes, and not in the middle of them.
                    std::thread::sleep(SETTLE);
                    let more: Vec<Cause> = self.causes.try_iter().collect();
                    if more.contains(&Cause::Stop) {
                        return;
                    }
                    self.look(more.contains(&Cause::Signal));
                }
            }
        }
    }

    fn watch(&self, tell: Sender<Cause>) -> Option<RecommendedWatcher> {
        // Files are replaced by others of their name, which only their directory
        // tells.
        let directory = match self.path.parent() {
            _ if self.path.is_dir() => self.path.as_path(),
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let is_read = event.as_ref().is_ok_and(|event| event.kind.is_access());
            if !is_read {
                // If nobody listens any more there is nothing to tell.
                let _ended = tell.send(Cause::Change);
            }
        });
        let watching = watcher.and_then(|mut watcher| {
            watcher.watch(directory, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        match watching {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(
                    "cannot watch {}: {error}; policies are looked at every {} s instead",
                    directory.display(),
                    LOOK_EVERY.as_secs()
                );
                None
            }
        }
    }

    /// Loads the files if they have changed, or if that is asked for.
    fn look(&mut self, even_unchanged: bool) {
        let digest = config::digest(&self.path);
        if digest == self.digest && !even_unchanged {
            return;
        }
        self.digest = digest;
        match config::load(&self.path) {
            Ok(gate) => {
                let (policies, sha256) = (gate.policies.len(), Arc::clone(&gate.digest));
                // The files may have changed since they were looked at.
                self.digest = sha256.to_string();
                super::announce(&gate);
                self.recorder.metrics().reloaded(&gate);
                self.live.replace(gate);
                self.status.reloaded(Ok(()));
                // Last: who reads it may rely on it.
                tracing::info!(policies, sha256 = &*sha256, "policies reloaded");
            }
            Err(config::LoadError(findings)) => {
                for finding in &findings {
                    tracing::error!("{finding}");
                }
                self.recorder.metrics().not_reloaded();
                self.status.reloaded(Err(findings.len()));
                let kept = &*self.live.current().digest;
                tracing::error!(
                    mistakes = findings.len(),
                    sha256 = kept,
                    "policies not reloaded: the last good ones stay in force"
                );
            }
        }
    }
}
