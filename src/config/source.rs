//! Reading files: bounded, and as text only.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::problem::{Place, Problems};

/// Far more than ten thousand rules need.
pub(crate) const LARGEST_FILE: u64 = 8 << 20;
/// The names of policy files in a directory.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// A file's text.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) file: Arc<Path>,
    pub(crate) text: String,
}

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, is too large, or is no text.
    pub(crate) fn read(path: &Path) -> Result<Self, Problems> {
        let file: Arc<Path> = path.into();
        let fail = |fail: &dyn Fn(&mut Problems)| {
            let mut problems = Problems::new(Arc::clone(&file));
            fail(&mut problems);
            problems
        };
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes))
            .map_err(|error| fail(&|problems| problems.unreadable(error.to_string())))?;
        if bytes.len() as u64 > LARGEST_FILE {
            let message = format!("the file is larger than {} MiB", LARGEST_FILE >> 20);
            return Err(fail(&|problems| problems.unreadable(message.as_str())));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let before = error.as_bytes().get(..valid).unwrap_or_default();
            let line = before.split(|&byte| byte == b'\n').count();
            let start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
            let last = before.get(start..).unwrap_or_default();
            let place = Place { line, column: String::from_utf8_lossy(last).chars().count() + 1 };
            fail(&|problems| problems.add(place, "", "the file is not text in UTF-8"))
        })?;
        Ok(Self { file, text })
    }
}

impl Source {
    /// Adds name and text to a hash, each with its length in front.
    pub(super) fn add_to(&self, hash: &mut Sha256) {
        let name = self.file.file_name().unwrap_or_default().as_encoded_bytes();
        for part in [name, self.text.as_bytes()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
}

/// The policy files at a path: itself, or those in the directory, by name. Not
/// those that are hidden, as Kubernetes hides what a ConfigMap's files link to,
/// and not the tests beside them.
pub(super) fn files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        if is_policy_file(&path) && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn is_policy_file(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some((stem, extension)) = name.rsplit_once('.') else { return false };
    let is_known = EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known));
    is_known && !name.starts_with('.') && !stem.ends_with(".test")
}
