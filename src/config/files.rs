//! Sets of policy files that belong together, read as they were at one moment.
//!
//! Kubernetes swaps all files of a ConfigMap with one link, and an editor writes a file in several
//! steps. So the reader records the state of all files before and after it reads them. If a file
//! changed in between, it reads them again: no set mixes files of two moments.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io, thread};

use sha2::{Digest as _, Sha256};

use super::problem::Diagnostics;
use super::source::{Identity, Source};

/// The file name extensions of policy files in a directory.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];
/// The most entries of a directory, whether policy files or not.
const MOST_ENTRIES: usize = 10_000;
/// The most bytes of all files together.
const LARGEST_SET: usize = 64 << 20;
/// The most attempts to read files that change during the read.
const TRIES: usize = 5;
/// The time between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// The policy files at a path, all from one moment.
#[derive(Debug)]
pub struct Files {
    sources: Vec<Result<Source, Diagnostics>>,
    state: State,
}

/// The state of files, for comparison with a later state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The SHA-256 of names and contents, in hexadecimal. If a file cannot be read, the hash covers
    /// the reason instead.
    pub digest: String,
    files: Snapshot,
    /// True if an attempt read the files without a change. False if they changed during every
    /// attempt.
    pub is_steady: bool,
}

/// The names of files, and the metadata that identify their contents.
type Snapshot = Result<Vec<(PathBuf, Result<Identity, io::ErrorKind>)>, Unlisted>;

/// The reason why the files of a directory cannot be listed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Unlisted {
    Io(String),
    None,
    TooMany,
}

impl Files {
    /// Reads the policy files at a path: the file itself, or the files of the directory, ordered by
    /// name. Skips hidden files, because Kubernetes hides the targets of a ConfigMap's links. Skips
    /// the test files beside policies.
    pub fn read(path: &Path) -> Self {
        Self::read_when_steady(path, &|| snapshot(path))
    }

    /// Reads one file.
    fn alone(path: &Path) -> Self {
        Self::read_when_steady(path, &|| Ok(vec![(path.to_owned(), Identity::at(path))]))
    }

    fn read_when_steady(path: &Path, look: &dyn Fn() -> Snapshot) -> Self {
        let mut before = look();
        for attempt in 1..=TRIES {
            let sources = sources(path, &before);
            let after = look();
            if let Some(sources) = sources
                && before == after
            {
                let digest = digest(&sources);
                return Self { sources, state: State { digest, files: after, is_steady: true } };
            }
            if attempt < TRIES {
                thread::sleep(PAUSE);
                before = look();
            }
        }
        let message = "the files kept changing while they were read: write a file beside the old \
                       one, then rename it";
        let sources = vec![unreadable(path, message)];
        let digest = digest(&sources);
        Self { sources, state: State { digest, files: before, is_steady: false } }
    }

    /// Returns the state of the files at the time of the read.
    pub fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn into_parts(self) -> (Vec<Result<Source, Diagnostics>>, String) {
        (self.sources, self.state.digest)
    }
}

/// Reads a file that belongs to no set.
///
/// # Errors
/// If the file cannot be read, is too large, or is not UTF-8.
pub(crate) fn read_one(path: &Path) -> Result<Source, Diagnostics> {
    let (sources, _) = Files::alone(path).into_parts();
    sources.into_iter().next().unwrap_or_else(|| unreadable(path, "no file"))
}

/// Returns the SHA-256 of names and contents in hexadecimal, or of the reasons why files cannot be
/// read.
pub(super) fn digest(sources: &[Result<Source, Diagnostics>]) -> String {
    let mut hash = Sha256::new();
    for source in sources {
        match source {
            Ok(source) => source.add_to(&mut hash),
            Err(problems) => hash.update(format!("{problems:?}")),
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads files. Returns `None` if a file differs from its recorded state.
fn sources(path: &Path, before: &Snapshot) -> Option<Vec<Result<Source, Diagnostics>>> {
    let files = match before {
        Ok(files) => files,
        Err(unlisted) => return Some(vec![unreadable(path, &unlisted.message())]),
    };
    let (mut sources, mut bytes) = (Vec::new(), 0);
    for (file, known) in files {
        let source = Source::read(file, known)?;
        bytes += source.as_ref().map_or(0, |source| source.text.len());
        if bytes > LARGEST_SET {
            let message = format!("the files are larger than {} MiB together", LARGEST_SET >> 20);
            return Some(vec![unreadable(path, &message)]);
        }
        sources.push(source);
    }
    Some(sources)
}

fn unreadable(path: &Path, message: &str) -> Result<Source, Diagnostics> {
    let mut problems = Diagnostics::new(path.into());
    problems.unreadable(message);
    Err(problems)
}

impl Unlisted {
    fn message(&self) -> String {
        match self {
            Self::Io(message) => message.clone(),
            Self::None => "no policy file (*.yaml, *.yml, *.json) in this directory".to_owned(),
            Self::TooMany => format!(
                "more than {MOST_ENTRIES} entries in this directory: give one that has only policies"
            ),
        }
    }
}

/// Records the state of the policy files at a path without reading them.
fn snapshot(path: &Path) -> Snapshot {
    let files = if path.is_dir() { listed(path)? } else { vec![path.to_owned()] };
    let identified = |file: PathBuf| {
        let identity = Identity::at(&file);
        (file, identity)
    };
    Ok(files.into_iter().map(identified).collect())
}

/// Lists the policy files of a directory. Includes a directory with the name of a policy file, so
/// that reading it reports an error.
fn listed(directory: &Path) -> Result<Vec<PathBuf>, Unlisted> {
    let failed = |error: io::Error| Unlisted::Io(error.to_string());
    let mut files = Vec::new();
    for (number, entry) in fs::read_dir(directory).map_err(failed)?.enumerate() {
        if number == MOST_ENTRIES {
            return Err(Unlisted::TooMany);
        }
        let path = entry.map_err(failed)?.path();
        if is_policy_file(&path) {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() { Err(Unlisted::None) } else { Ok(files) }
}

/// Returns true if a path has the name of a policy file.
pub(crate) fn is_policy_file(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some((stem, extension)) = name.rsplit_once('.') else { return false };
    let is_known = EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known));
    is_known && !name.starts_with('.') && !stem.ends_with(".test")
}

#[cfg(test)]
mod tests;
