//! Programs that have policy files open for writing.
//!
//! A copy over a slow connection can pause for longer than any time that files must stand still.
//! Linux reports when a program that has written closes the file.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use notify::EventKind;
use notify::event::{AccessKind, AccessMode, ModifyKind};

use crate::config::files::is_policy_file;

/// The time for which a program that does not close its file, or whose closing was not
/// reported, delays the loading.
const LONGEST: Duration = Duration::from_secs(30);
/// The most files that are noted. More are never written at once, but names can be made up.
const MOST_FILES: usize = 1024;

/// Something that has happened in the directory.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::server) enum Event {
    /// A program wrote to files of these names.
    Written(Vec<OsString>),
    /// A program that could write closed files of these names, or they are other files now.
    Closed(Vec<OsString>),
    /// Anything else.
    Other,
}

impl Event {
    /// `None` for what changes nothing.
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

/// The files that programs write to at the moment, each with the time of the last write.
#[derive(Debug, Default)]
pub(super) struct Writers(HashMap<OsString, Instant>);

impl Writers {
    /// Notes an event beside, or in, the policy path.
    pub(super) fn note(&mut self, event: Event, policy: &Path) {
        match event {
            // Others do not report when a file is closed.
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

    /// Returns true while a program has a policy file open that it has written to.
    pub(super) fn are_writing(&mut self, now: Instant) -> bool {
        self.0.retain(|_, written| now.duration_since(*written) < LONGEST);
        !self.0.is_empty()
    }
}

/// A directory of policies is watched itself, a file's directory for the file.
fn is_policy(name: &OsString, policy: &Path) -> bool {
    policy.file_name() == Some(name) || (policy.is_dir() && is_policy_file(Path::new(name)))
}
