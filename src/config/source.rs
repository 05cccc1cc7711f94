//! Reads files: with a size limit, without blocking, and only UTF-8 text.

use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::problem::{Diagnostics, Position};

/// The most bytes of a file. Ten thousand rules need far less.
pub(crate) const LARGEST_FILE: u64 = 8 << 20;

/// The flag without which opening a named pipe blocks until a writer opens it. The value is that of
/// `fcntl.h`: `std` has no name for it, and `libc` would be a dependency for one number.
const O_NONBLOCK: i32 = if cfg!(all(
    any(target_os = "linux", target_os = "android"),
    not(any(target_arch = "mips", target_arch = "mips64", target_arch = "sparc64"))
)) {
    0o4000
} else if cfg!(any(target_arch = "mips", target_arch = "mips64")) {
    0x80
} else if cfg!(target_arch = "sparc64") {
    0x4000
} else {
    // macOS and the BSDs.
    0x4
};

/// The metadata that tell one state of a file from another. Comparing them does not read the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    /// The time of the last change of the content, in seconds and nanoseconds.
    modified: (i64, i64),
    /// The time of the last change of content or metadata, in seconds and nanoseconds. No program
    /// can set this time.
    changed: (i64, i64),
}

impl Identity {
    fn new(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Returns the identity of the file at a path. Follows symbolic links.
    pub(super) fn at(path: &Path) -> Result<Self, io::ErrorKind> {
        fs::metadata(path).map(|metadata| Self::new(&metadata)).map_err(|error| error.kind())
    }
}

/// The reason why a file cannot be read.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// An error that the operating system reports.
    Io(io::Error),
    /// A symbolic link to a file that does not exist.
    DanglingLink,
    /// The path `-`, which other programs take for standard input.
    StandardInput,
    /// Something other than a file.
    NotAFile(Kind),
    /// A file of more than this many bytes.
    TooLarge(u64),
    /// A file that changed during the read.
    Changed,
}

/// The kind of something that has a path and is not a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    Pipe,
    Socket,
    Device,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Io(error) => return write!(f, "{error}"),
            Self::TooLarge(most) if most % (1 << 20) == 0 => {
                return write!(f, "the file is larger than {} MiB", most >> 20);
            }
            Self::TooLarge(most) => return write!(f, "the file is larger than {most} bytes"),
            Self::DanglingLink => "this is a symbolic link to a file that does not exist",
            Self::StandardInput => {
                "standard input is not read here: write it to a file first, and give the file"
            }
            Self::NotAFile(Kind::Directory) => "this is a directory: give a file",
            Self::NotAFile(Kind::Pipe) => {
                "this is a pipe: write its content to a file first (`COMMAND > FILE` instead of \
                 `<(COMMAND)`), and give the file"
            }
            Self::NotAFile(Kind::Socket) => "this is a socket: give a file",
            Self::NotAFile(Kind::Device) => "this is a device: give a file",
            Self::Changed => "the file changed while it was read: try again",
        })
    }
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads a regular file of at most `most` bytes. Never waits for another program.
///
/// # Errors
/// If the path leads to no regular file, or the file is larger, changes meanwhile or cannot be
/// read.
pub(crate) fn read(path: &Path, most: u64) -> Result<Vec<u8>, Unreadable> {
    read_with_identity(path, most).map(|(bytes, _)| bytes)
}

fn read_with_identity(path: &Path, most: u64) -> Result<(Vec<u8>, Identity), Unreadable> {
    // Check before opening: opening a device can have an effect.
    let metadata = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if path.is_symlink() => Unreadable::DanglingLink,
        io::ErrorKind::NotFound if path == Path::new("-") => Unreadable::StandardInput,
        _ => error.into(),
    })?;
    must_be_regular(&metadata)?;
    let mut file = open(path)?;
    // Check again after opening: another file may have replaced the first.
    let metadata = file.metadata()?;
    must_be_regular(&metadata)?;
    // The reloader checks files again and again, and should not read a file that is too large.
    if metadata.len() > most {
        return Err(Unreadable::TooLarge(most));
    }
    let before = Identity::new(&metadata);
    let bytes = read_at_most(&mut file, most)?;
    let after = Identity::new(&file.metadata()?);
    if before == after { Ok((bytes, after)) } else { Err(Unreadable::Changed) }
}

/// Opens the file at a path without waiting for another program.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path)
}

fn read_at_most(file: &mut File, most: u64) -> Result<Vec<u8>, Unreadable> {
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(Unreadable::TooLarge(most)) } else { Ok(bytes) }
}

fn must_be_regular(metadata: &Metadata) -> Result<(), Unreadable> {
    let kind = metadata.file_type();
    Err(Unreadable::NotAFile(if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        Kind::Directory
    } else if kind.is_fifo() {
        Kind::Pipe
    } else if kind.is_socket() {
        Kind::Socket
    } else {
        Kind::Device
    }))
}

/// The text of a file, with the file's path.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) file: Arc<Path>,
    pub(crate) text: String,
}

impl Source {
    /// Reads a file. Returns `None` if the file differs from `known`, or changes during the read.
    pub(super) fn read(
        path: &Path,
        known: &Result<Identity, io::ErrorKind>,
    ) -> Option<Result<Self, Diagnostics>> {
        let file: Arc<Path> = path.into();
        match read_with_identity(path, LARGEST_FILE) {
            Ok((bytes, identity)) if *known == Ok(identity) => Some(Self::from_bytes(file, bytes)),
            Ok(_) | Err(Unreadable::Changed) => None,
            Err(error) => {
                let mut problems = Diagnostics::new(file);
                problems.unreadable(error.to_string());
                Some(Err(problems))
            }
        }
    }

    fn from_bytes(file: Arc<Path>, bytes: Vec<u8>) -> Result<Self, Diagnostics> {
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self { file, text }),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let before = error.as_bytes().get(..valid).unwrap_or_default();
                let line = before.split(|&byte| byte == b'\n').count();
                let start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
                let last = before.get(start..).unwrap_or_default();
                let column = String::from_utf8_lossy(last).chars().count() + 1;
                let mut problems = Diagnostics::new(file);
                problems.add(Position { line, column }, "", "the file is not text in UTF-8");
                Err(problems)
            }
        }
    }

    /// Adds the name and the text to a hash. The length of each comes first.
    pub(super) fn add_to(&self, hash: &mut Sha256) {
        let name = self.file.file_name().unwrap_or_default().as_encoded_bytes();
        for part in [name, self.text.as_bytes()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A failure of this test shows as a hang.
    #[test]
    fn opening_a_pipe_never_waits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let metadata = open(&path).unwrap().metadata().unwrap();
        let refused = must_be_regular(&metadata);
        assert!(matches!(refused, Err(Unreadable::NotAFile(Kind::Pipe))), "{refused:?}");
        assert!(matches!(read(&path, 1), Err(Unreadable::NotAFile(Kind::Pipe))));
    }

    #[test]
    fn file_without_end_is_too_large() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        let error = read(&path, 4).unwrap_err();
        assert_eq!(error.to_string(), "the file is larger than 4 bytes");
        // The metadata of this file give its size as 0.
        assert!(matches!(read(Path::new("/proc/self/smaps"), 9), Err(Unreadable::TooLarge(9))));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn oversized_file_is_not_read() {
        // The number of bytes that this thread has read.
        let bytes_read = || {
            let counters = fs::read_to_string("/proc/thread-self/io").unwrap();
            let count = counters.lines().find_map(|line| line.strip_prefix("rchar: "));
            count.unwrap().parse::<u64>().unwrap()
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        File::create(&path).unwrap().set_len(LARGEST_FILE + 1).unwrap();
        let before = bytes_read();
        assert!(matches!(read(&path, LARGEST_FILE), Err(Unreadable::TooLarge(LARGEST_FILE))));
        assert!(bytes_read() - before < LARGEST_FILE);
    }
}
