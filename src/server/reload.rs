//! Reloads policies when their files change.
//!
//! The operating system reports changes where it can. It cannot on network file systems, or when
//! Kubernetes swaps the files of a ConfigMap by a symbolic link elsewhere. So the reloader also
//! checks the files every few seconds.
//!
//! A file that a program writes in steps is incomplete in between, and its Deny rules may be
//! missing. So changed files take effect only after a time without changes, and while no program
//! writes to them. Content counts: a file that is rewritten with equal content changes nothing.

mod writers;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use self::writers::{Event, Writers};
use crate::admin::Status;
use crate::config::{self, Files, State};
use crate::gate::LiveGate;
use crate::telemetry::Recorder;

/// The time between two checks without a reported change.
const CHECK_EVERY: Duration = Duration::from_secs(2);
/// The time between a reported change and its check, because changes often come in groups.
const SOON: Duration = Duration::from_millis(50);
/// The time in which changed files must not change again before they take effect.
const SETTLE: Duration = Duration::from_millis(500);
/// The time after which the log reports that files keep changing.
const PATIENCE: Duration = Duration::from_secs(10);

/// The reason for a message to the reloader.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReloadTrigger {
    /// An event in the directory of the files.
    Event(Event),
    /// A SIGHUP, by which an operator requests a reload.
    Signal,
    /// The end of the process.
    Stop,
}

/// The thread that keeps the gate up to date with its files.
pub(super) struct Reloader {
    path: PathBuf,
    live: Arc<LiveGate>,
    recorder: Arc<Recorder>,
    status: Arc<Status>,
    /// The digest of the files of the last load, whether it succeeded or failed.
    digest: String,
    causes: Receiver<ReloadTrigger>,
    next_check: Instant,
    unsettled: Option<Unsettled>,
    writers: Writers,
    watch: Option<Watch>,
}

/// A directory that the reloader watches or has failed to watch.
struct Watch {
    directory: DirectoryId,
    /// The watcher. Dropping it ends the watching.
    _watcher: Option<RecommendedWatcher>,
}

/// The device, inode and creation time of a directory. The time is needed because file systems
/// reuse inodes.
type DirectoryId = (u64, u64, Option<SystemTime>);

/// A change that has not taken effect yet.
struct Unsettled {
    state: State,
    since: Instant,
    is_reported: bool,
}

impl Reloader {
    /// Creates the reloader for the files at a path, from which the gate was loaded. Also returns
    /// the sender of messages to the reloader.
    pub(super) fn new(
        path: &Path,
        live: Arc<LiveGate>,
        recorder: Arc<Recorder>,
        status: Arc<Status>,
    ) -> (Self, Sender<ReloadTrigger>) {
        let (tell, causes) = channel();
        let reloader = Self {
            path: path.to_owned(),
            digest: live.current().digest.to_string(),
            live,
            recorder,
            status,
            causes,
            next_check: Instant::now() + CHECK_EVERY,
            unsettled: None,
            writers: Writers::default(),
            watch: None,
        };
        (reloader, tell)
    }

    /// Runs until the process ends.
    pub(super) fn run(mut self, tell: &Sender<ReloadTrigger>) {
        self.watch(tell);
        loop {
            match self.causes.recv_timeout(until(self.next_check)) {
                Ok(ReloadTrigger::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(ReloadTrigger::Signal) => self.load_at_once(),
                Ok(ReloadTrigger::Event(event)) => {
                    self.writers.note(event, &self.path);
                    // The second check of a change is never early.
                    if self.unsettled.is_none() {
                        self.next_check = self.next_check.min(Instant::now() + SOON);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if until(self.next_check).is_zero() {
                self.watch(tell);
                self.check();
            }
        }
    }

    /// Watches the directory, unless the reloader already watches this very directory. The
    /// operating system follows a directory that is renamed, and does not follow the path.
    fn watch(&mut self, tell: &Sender<ReloadTrigger>) {
        // A new file can replace a file of its name. The operating system reports that only for
        // their directory.
        let directory = match self.path.parent() {
            _ if self.path.is_dir() => self.path.as_path(),
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // A later call watches a directory that is missing for a moment.
        let Ok(metadata) = fs::metadata(directory) else { return };
        let id = (metadata.dev(), metadata.ino(), metadata.created().ok());
        if self.watch.as_ref().is_some_and(|watch| watch.directory == id) {
            return;
        }
        let tell = tell.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if let Some(event) = Event::new(event) {
                // An error means that the reloader has ended and needs no events.
                let _ended = tell.send(ReloadTrigger::Event(event));
            }
        });
        let watching = watcher.and_then(|mut watcher| {
            watcher.watch(directory, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        if let Err(error) = &watching {
            tracing::warn!(
                "cannot watch {}: {error}; policies are checked every {} s instead",
                directory.display(),
                CHECK_EVERY.as_secs()
            );
        }
        // The files of the previous directory are no policies any more.
        self.writers = Writers::default();
        self.watch = Some(Watch { directory: id, _watcher: watching.ok() });
    }

    /// Loads the files if they have changed and have stayed equal since the last check.
    fn check(&mut self) {
        let files = Files::read(&self.path);
        let now = Instant::now();
        let state = files.state();
        if state.is_steady && state.digest == self.digest {
            self.unsettled = None;
            self.next_check = now + CHECK_EVERY;
            return;
        }
        let is_settled = self.unsettled.as_ref().is_some_and(|earlier| earlier.state == *state);
        if is_settled && state.is_steady && !self.writers.are_writing(now) {
            self.load(files);
            return;
        }
        self.next_check = now + SETTLE;
        let state = state.clone();
        let unsettled = match &mut self.unsettled {
            Some(unsettled) => {
                unsettled.state = state;
                unsettled
            }
            None => self.unsettled.insert(Unsettled { state, since: now, is_reported: false }),
        };
        if !unsettled.is_reported && now.duration_since(unsettled.since) > PATIENCE {
            unsettled.is_reported = true;
            tracing::warn!(
                "{} keeps changing or is still open for writing: the last good policies stay in force \
                 until it has stood still for {} ms (SIGHUP loads it as it is)",
                self.path.display(),
                SETTLE.as_millis()
            );
        }
    }

    /// Loads the files as they are, even if they have not changed.
    fn load_at_once(&mut self) {
        self.load(Files::read(&self.path));
    }

    fn load(&mut self, files: Files) {
        self.unsettled = None;
        self.digest.clone_from(&files.state().digest);
        match config::load_files(files) {
            Ok(gate) => {
                let (policies, sha256) = (gate.policies.len(), Arc::clone(&gate.digest));
                super::announce(&gate);
                self.recorder.metrics().reloaded(&gate);
                self.live.replace(gate);
                self.status.reloaded(Ok(()));
                // Log this last: a reader of the line may rely on the reload.
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
        self.next_check = Instant::now() + CHECK_EVERY;
    }
}

fn until(time: Instant) -> Duration {
    time.saturating_duration_since(Instant::now())
}
