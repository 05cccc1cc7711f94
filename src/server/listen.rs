//! Sockets that are listened on.

use std::io;
use std::net::TcpListener as StdTcpListener;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener};
use tonic::transport::server::Router;

use super::connection::{Accepting, Incoming};
use crate::address::Address;

/// Everyone may connect: Envoy usually runs as another user. Who may reach the
/// socket is up to the directory it is in; there is nothing to gain behind it,
/// since a caller decides only about requests that it makes up itself.
pub(super) const FOR_ALL: u32 = 0o666;
/// Nobody else may: behind it is told who called what.
pub(super) const FOR_OWNER: u32 = 0o600;

/// A bound address. The file of a Unix socket goes with it.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) listener: Listener,
    /// With the port, if one was asked for with 0.
    pub(super) address: Address,
    /// Goes last.
    pub(super) file: Option<SocketFile>,
}

impl Bound {
    /// Listens on an address.
    pub(super) fn to(address: &Address, mode: u32) -> io::Result<Self> {
        Self::try_to(address, mode).map_err(|error| cannot_listen(address, &error))
    }

    fn try_to(address: &Address, mode: u32) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let listener = StdTcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                let address = Address::Tcp(listener.local_addr()?.to_string());
                Ok(Self { listener: Listener::Tcp(listener), address, file: None })
            }
            Address::Unix(path) => {
                remove_stale_socket(path)?;
                let listener = StdUnixListener::bind(path)?;
                let file = Some(SocketFile::of(path)?);
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
                listener.set_nonblocking(true)?;
                Ok(Self { listener: Listener::Unix(listener), address: address.clone(), file })
            }
        }
    }
}

/// A socket that is listened on.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(StdTcpListener),
    Unix(StdUnixListener),
}

/// The file of a Unix socket; it is removed when this is dropped, unless another
/// process has put its own there.
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
    /// Another handle of the same socket, for another thread.
    pub(super) fn share(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(listener) => listener.try_clone().map(Self::Tcp),
            Self::Unix(listener) => listener.try_clone().map(Self::Unix),
        }
    }

    /// Serves at most so many connections at once until told to stop, and then until
    /// the open streams have ended.
    pub(super) async fn serve(
        self,
        router: Router,
        most: usize,
        stop: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let listener = match self {
            Self::Tcp(listener) => Accepting::Tcp(TcpListener::from_std(listener)?),
            Self::Unix(listener) => Accepting::Unix(UnixListener::from_std(listener)?),
        };
        let incoming = Incoming::new(listener, most);
        router.serve_with_incoming_shutdown(incoming, stop).await.map_err(io::Error::other)
    }
}

/// Removes a socket that a process left behind, and nothing else.
fn remove_stale_socket(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "it exists and is not a socket"))
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on it"))
        }
        Ok(_) => std::fs::remove_file(path),
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
