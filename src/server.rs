//! Listening, serving and stopping.

use std::fmt;
use std::io;
use std::net::TcpListener as StdTcpListener;
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::extproc::ExtProc;
use crate::gate::Gate;

/// How long open streams may take to finish after the signal to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// Everyone may connect: Envoy usually runs as another user. Who may reach the
/// socket is up to the directory it is in; there is nothing to gain behind it,
/// since a caller decides only about requests that it makes up itself.
const SOCKET_MODE: u32 = 0o666;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `HOST:PORT`
    Tcp(String),
    /// `unix:PATH`
    Unix(PathBuf),
}

/// A text that is not an [`Address`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressError(String);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is neither `unix:PATH` nor `HOST:PORT`, such as `127.0.0.1:9001`", self.0)
    }
}

impl std::error::Error for AddressError {}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match (text.strip_prefix("unix:"), text.rsplit_once(':')) {
            (Some(path), _) if !path.is_empty() => Ok(Self::Unix(PathBuf::from(path))),
            (None, Some((host, port))) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(Self::Tcp(text.to_owned()))
            }
            _ => Err(AddressError(text.to_owned())),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A bound address. A Unix socket is removed when it is dropped.
#[derive(Debug)]
enum Listener {
    Tcp(StdTcpListener),
    Unix(StdUnixListener),
}

impl Listener {
    fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let listener = StdTcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Ok(Self::Tcp(listener))
            }
            Address::Unix(path) => {
                remove_stale_socket(path)?;
                let listener = StdUnixListener::bind(path)?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
                listener.set_nonblocking(true)?;
                Ok(Self::Unix(listener))
            }
        }
    }

    /// Another handle of the same socket, for another thread.
    fn share(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(listener) => listener.try_clone().map(Self::Tcp),
            Self::Unix(listener) => listener.try_clone().map(Self::Unix),
        }
    }

    /// As it is bound, with the port if one was asked for with 0.
    fn address(&self, asked: &Address) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => Ok(Address::Tcp(listener.local_addr()?.to_string())),
            Self::Unix(_) => Ok(asked.clone()),
        }
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

/// Serves the gate until SIGTERM or SIGINT, on `threads` threads that share
/// nothing but the socket.
///
/// Each connection stays on the thread that accepted it, so no stream is ever
/// moved between processors; Envoy opens a connection for each of its workers.
///
/// # Errors
/// If the address cannot be bound or a runtime cannot be made.
pub fn serve(gate: Gate, address: &Address, threads: NonZeroUsize) -> io::Result<()> {
    let runtime = || Builder::new_current_thread().enable_all().build();
    let own = runtime()?;
    // Before the address can be seen: who sees it may send a signal.
    let signals = own.block_on(async { Signals::register() })?;
    let listener = Listener::bind(address).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    })?;
    let bound = listener.address(address)?;
    tracing::info!(address = %bound, threads, "listening");
    let gate = Arc::new(gate);
    let (stop, stopping) = watch::channel(false);

    let served = std::thread::scope(|scope| {
        let mut workers = Vec::new();
        for _ in 1..threads.get() {
            let (listener, runtime) = (listener.share()?, runtime()?);
            let (gate, stopping) = (Arc::clone(&gate), stopping.clone());
            workers.push(scope.spawn(move || runtime.block_on(accept(listener, gate, stopping))));
        }
        let served = own.block_on(async {
            let accepting = accept(listener.share()?, gate, stopping.clone());
            tokio::select! {
                served = accepting => served,
                () = signals.forward(&stop) => Ok(()),
            }
        });
        // If this thread failed, the others must not go on for ever.
        stop.send_replace(true);
        let others = workers.into_iter().map(|worker| match worker.join() {
            Ok(served) => served,
            Err(_panic) => Err(io::Error::other("a worker thread panicked")),
        });
        others.fold(served, Result::and)
    });
    if let Address::Unix(path) = address {
        std::fs::remove_file(path)?;
    }
    served
}

/// The signals that ask the process to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn register() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Passes the first one on, and never ends: those who serve end by it.
    async fn forward(mut self, stop: &watch::Sender<bool>) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        tracing::info!("stopping");
        stop.send_replace(true);
        std::future::pending::<()>().await;
    }
}

/// Accepts and serves connections until told to stop.
async fn accept(
    listener: Listener,
    gate: Arc<Gate>,
    mut stopping: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut drain = stopping.clone();
    let stop = async move { stopped(&mut stopping).await };
    let router = Server::builder().add_service(ExtProc::server(gate));
    let served = async {
        match listener {
            Listener::Tcp(listener) => {
                let incoming =
                    TcpIncoming::from(TcpListener::from_std(listener)?).with_nodelay(Some(true));
                router.serve_with_incoming_shutdown(incoming, stop).await
            }
            Listener::Unix(listener) => {
                let incoming = UnixListenerStream::new(UnixListener::from_std(listener)?);
                router.serve_with_incoming_shutdown(incoming, stop).await
            }
        }
        .map_err(io::Error::other)
    };
    let too_late = async {
        stopped(&mut drain).await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = served => served,
        () = too_late => Ok(()),
    }
}

/// Returns when it is time to stop.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // What is awaited holds a read lock until it is dropped. An error means
    // that the sender is gone: stop then, too.
    drop(stopping.wait_for(|stop| *stop).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_a_socket_path_or_a_host_with_a_port() {
        assert_eq!("unix:/run/x.sock".parse(), Ok(Address::Unix(PathBuf::from("/run/x.sock"))));
        assert_eq!("127.0.0.1:0".parse(), Ok(Address::Tcp("127.0.0.1:0".to_owned())));
        assert_eq!("[::1]:9001".parse(), Ok(Address::Tcp("[::1]:9001".to_owned())));
        for bad in ["", "unix:", "9001", ":9001", "localhost", "localhost:http", "/run/x.sock"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

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
