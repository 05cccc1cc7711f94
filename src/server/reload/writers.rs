//! Programs that have policy files open for writing.
//!
//! A copy over a slow connection can pause for longer than any time without changes that the
//! reloader requires. Linux reports when a program closes a file that it could write to.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use notify::EventKind;
use notify::event::{AccessKind, AccessMode, ModifyKind};

use crate::config::files::is_policy_file;

/// The longest delay by a program that does not close its file, or whose closing was not reported.
const LONGEST: Duration = Duration::from_secs(30);
/// The most files to note. Programs never write to more at once, but a process could invent names.
const MOST_FILES: usize = 1024;

/// An event in the directory of the policy files.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::server) enum Event {
    /// The names of files to which a program wrote.
    Written(Vec<OsString>),
    /// The names of files that a program closed after it could write, or that programs created,
    /// removed or renamed.
    Closed(Vec<OsString>),
    /// Any other event.
    Other,
}

impl Event {
    /// Converts an event. Returns `None` for an event that changes nothing.
    pub(super) fn new(event: notify::Result<notify::Event>) -> Option<Self> {
        let Ok(event) = event else { return Some(Self::Other) };
        let names = || {
            let names = event.paths.iter().filter_map(|path| path.file_name());
            names.map(OsString::from).collect()
        };
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Create(_)
            | EventKind::Remove(_)
            | EventKind::Modify(ModifyKind::Name(_)) => Some(Self::Closed(names())),
            EventKind::Access(_) => None,
            EventKind::Modify(ModifyKind::Data(_)) => Some(Self::Written(names())),
            EventKind::Any | EventKind::Modify(_) | EventKind::Other => Some(Self::Other),
        }
    }
}

/// The files to which programs write at the moment, each with the time of its last write.
#[derive(Debug, Default)]
pub(super) struct Writers(HashMap<OsString, Instant>);

impl Writers {
    /// Notes an event in the directory of the policy files.
    pub(super) fn note(&mut self, event: Event, policy: &Path) {
        match event {
            // Other systems do not report when a program closes a file.
            Event::Written(names) if cfg!(target_os = "linux") => {
                for name in names {
                    if self.0.len() < MOST_FILES && is_policy(&name, policy) {
                        self.0.insert(name, Instant::now());
                    }
                }
            }
            Event::Closed(names) => names.iter().for_each(|name| {
                self.0.remove(name);
            }),
            Event::Written(_) | Event::Other => {}
        }
    }

    /// Returns true while a program has a policy file open to which it has written.
    pub(super) fn are_writing(&mut self, now: Instant) -> bool {
        self.0.retain(|_, written| now.duration_since(*written) < LONGEST);
        !self.0.is_empty()
    }
}

/// Returns true for a name that belongs to the policies. The policy path is a directory, or a file
/// in the watched directory.
fn is_policy(name: &OsString, policy: &Path) -> bool {
    policy.file_name() == Some(name) || (policy.is_dir() && is_policy_file(Path::new(name)))
}
