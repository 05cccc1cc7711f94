//! Sockets on which the server listens.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::net::TcpListener as StdTcpListener;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _,
};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::net::{TcpListener, UnixListener};

use super::connection::{Accepting, Incoming};
use crate::address::Address;

/// The access to a Unix socket. A process that may write to the file of the socket may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// The permissions of the file, as for `chmod`.
    pub mode: u32,
    /// The number of the group of the file. `None` means the group of the process.
    pub group: Option<u32>,
}

/// A bound address. Dropping it also removes the file of a Unix socket.
#[derive(Debug)]
pub(super) struct BoundListener {
    pub(super) listener: Listener,
    /// The address. If its port was 0, the address has the port that the system picked.
    pub(super) address: Address,
    /// The file of a Unix socket, which is dropped last.
    pub(super) file: Option<SocketFile>,
}

impl BoundListener {
    /// Listens on an address.
    pub(super) fn to(address: &Address, access: Access) -> io::Result<Self> {
        Self::try_to(address, access).map_err(|error| cannot_listen(address, &error))
    }

    fn try_to(address: &Address, access: Access) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let listener = StdTcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                let address = Address::Tcp(listener.local_addr()?.to_string());
                Ok(Self { listener: Listener::Tcp(listener), address, file: None })
            }
            Address::Unix(path) => {
                let (listener, file) = bind(path, access)?;
                listener.set_nonblocking(true)?;
                let (listener, file) = (Listener::Unix(listener), Some(file));
                Ok(Self { listener, address: address.clone(), file })
            }
        }
    }
}

/// A socket on which the server listens.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(StdTcpListener),
    Unix(StdUnixListener),
}

/// The file of a Unix socket. Dropping this value removes the file, unless another process has
/// replaced it.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), device_and_inode: Self::identity(path)? })
    }

    fn identity(path: &Path) -> io::Result<(u64, u64)> {
        let metadata = std::fs::symlink_metadata(path)?;
        Ok((metadata.dev(), metadata.ino()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = Self::identity(&self.path).is_ok_and(|found| found == self.device_and_inode);
        if is_ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

impl Listener {
    /// Returns another handle of the socket, for another thread.
    pub(super) fn share(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(listener) => listener.try_clone().map(Self::Tcp),
            Self::Unix(listener) => listener.try_clone().map(Self::Unix),
        }
    }

    /// Returns the connections to the socket.
    pub(super) fn incoming(self) -> io::Result<Incoming> {
        let listener = match self {
            Self::Tcp(listener) => Accepting::Tcp(TcpListener::from_std(listener)?),
            Self::Unix(listener) => Accepting::Unix(UnixListener::from_std(listener)?),
        };
        Ok(Incoming::new(listener))
    }
}

/// Binds a socket. The socket appears at its path only with its final permissions. Until then it is
/// in a directory that no other user may enter.
fn bind(path: &Path, access: Access) -> io::Result<(StdUnixListener, SocketFile)> {
    remove_stale_socket(path)?;
    let beside = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let hidden = PrivateDir::new(beside.unwrap_or(Path::new(".")))?;
    let socket = hidden.0.join("s");
    let listener = StdUnixListener::bind(&socket)?;
    if let Some(group) = access.group {
        std::os::unix::fs::chown(&socket, None, Some(group)).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("it cannot be given to the group {group}: {error}"),
            )
        })?;
    }
    std::fs::set_permissions(&socket, Permissions::from_mode(access.mode))?;
    let mut file = SocketFile::of(&socket)?;
    // Unlike a rename, a hard link does not replace a file that another process has created
    // meanwhile.
    std::fs::hard_link(&socket, path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            io::Error::new(io::ErrorKind::AddrInUse, "another process listens on it")
        }
        kind => io::Error::new(
            kind,
            format!("{error} (the file system of its directory must have hard links)"),
        ),
    })?;
    path.clone_into(&mut file.path);
    Ok((listener, file))
}

/// A directory for this user only. Dropping this value removes the directory.
struct PrivateDir(PathBuf);

impl PrivateDir {
    /// Creates the directory. Its name includes the time, because processes in containers often
    /// have equal IDs.
    fn new(beside: &Path) -> io::Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // The name must be short, because the path of a socket has at most about 100 bytes.
        let name = format!(".{:x}", now.subsec_nanos() ^ std::process::id().rotate_left(16));
        let path = beside.join(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        // A file that is missing needs no removal, and one that cannot be removed does no harm.
        let _gone = std::fs::remove_file(self.0.join("s"));
        let _gone = std::fs::remove_dir(&self.0);
    }
}

/// Removes a socket that a process left behind. Removes no other file.
fn remove_stale_socket(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "it exists and is not a socket"))
        }
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on it")),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path)
            }
            Err(error) => Err(error),
        },
    }
}

fn cannot_listen(address: &Address, error: &io::Error) -> io::Error {
    let hint = match (address, error.kind()) {
        (Address::Unix(_), io::ErrorKind::NotFound) => " (its directory must exist)",
        _ => "",
    };
    io::Error::new(error.kind(), format!("cannot listen on {address}: {error}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stale_socket_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        assert!(remove_stale_socket(&path).is_ok());
        let listener = StdUnixListener::bind(&path).unwrap();
        assert_eq!(remove_stale_socket(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        assert!(remove_stale_socket(&path).is_ok());
        assert!(!path.exists());
        std::fs::write(&path, "precious").unwrap();
        assert_eq!(remove_stale_socket(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(path.exists());
    }
}
