//! Listening, serving, reloading and stopping.

mod reload;

use std::fmt;
use std::io;
use std::net::TcpListener as StdTcpListener;
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use self::reload::{Cause, Reloader};
use crate::extproc::ExtProc;
use crate::gate::{Gate, LiveGate};

/// How long open streams may take to finish after the signal to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// Conditions are evaluated as deep as they are nested: as much as the main thread
/// has.
const STACK_BYTES: usize = 8 << 20;

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

/// A bound address.
#[derive(Debug)]
enum Listener {
    Tcp(StdTcpListener),
    Unix(StdUnixListener),
}

/// The file of a Unix socket; it is removed when this is dropped, unless another
/// process has put its own there.
#[derive(Debug)]
struct SocketFile {
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

/// Serves the gate, and what the policy files it came from become, until SIGTERM
/// or SIGINT, on `threads` threads that share nothing else but the socket.
///
/// Each connection stays on the thread that accepted it, so no stream is ever
/// moved between processors; Envoy opens a connection for each of its workers.
///
/// # Errors
/// If the address cannot be bound or a runtime cannot be made.
pub fn serve(
    gate: Gate,
    policy: &Path,
    address: &Address,
    threads: NonZeroUsize,
) -> io::Result<()> {
    let runtime = || Builder::new_current_thread().enable_all().build();
    let own_runtime = runtime()?;
    // Before the address can be seen: who sees it may send a signal.
    let signals = own_runtime.block_on(async { Signals::register() })?;
    let listener = Listener::bind(address).map_err(|error| cannot_listen(address, &error))?;
    let _socket_file = match address {
        Address::Unix(path) => Some(SocketFile::of(path)?),
        Address::Tcp(_) => None,
    };
    let bound = listener.address(address)?;
    // All that can fail comes before the first thread is there.
    let others: Vec<(Listener, Runtime)> = (1..threads.get())
        .map(|_| Ok((listener.share()?, runtime()?)))
        .collect::<io::Result<_>>()?;
    tracing::info!(address = %bound, threads, "listening");
    let live = Arc::new(LiveGate::new(gate));
    let (reloader, look) = Reloader::new(policy, Arc::clone(&live));
    let (stop, stopping) = watch::channel(false);

    std::thread::scope(|scope| {
        let _stop_looking = TellOnDrop(look.clone());
        let tell = look.clone();
        scope.spawn(move || reloader.run(&tell));
        let spawn = |(listener, runtime): (Listener, Runtime)| {
            let (live, stopping) = (Arc::clone(&live), stopping.clone());
            let stop = StopOnDrop(stop.clone());
            std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, move || {
                let _stop = stop;
                runtime.block_on(accept(listener, live, stopping))
            })
        };
        let others = others.into_iter().map(spawn).collect::<io::Result<Vec<_>>>()?;
        let stop_all = StopOnDrop(stop.clone());
        let served = own_runtime.block_on(async {
            // The socket closes when the last thread stops accepting: each has
            // its own handle, and there is no other.
            tokio::select! {
                served = accept(listener, Arc::clone(&live), stopping.clone()) => served,
                never = signals.forward(&stop, &look) => never,
            }
        });
        drop(stop_all);
        let others = others.into_iter().map(|worker| match worker.join() {
            Ok(served) => served,
            Err(_panic) => Err(io::Error::other("a worker thread panicked")),
        });
        others.fold(served, Result::and)
    })
}

fn cannot_listen(address: &Address, error: &io::Error) -> io::Error {
    let hint = match (address, error.kind()) {
        (Address::Unix(_), io::ErrorKind::NotFound) => " (its directory must exist)",
        _ => "",
    };
    io::Error::new(error.kind(), format!("cannot listen on {address}: {error}{hint}"))
}

/// Tells all threads to stop when it is dropped: whoever ends first, by an error
/// or a panic, ends them all.
struct StopOnDrop(watch::Sender<bool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

/// Ends the thread that looks for changed files when it is dropped.
struct TellOnDrop(Sender<Cause>);

impl Drop for TellOnDrop {
    fn drop(&mut self) {
        // If it has ended already, so much the better.
        let _ended = self.0.send(Cause::Stop);
    }
}

/// The signals that ask the process to stop, or to load its policies anew.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn register() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Passes them on, and never ends: those who serve end by it.
    async fn forward(mut self, stop: &watch::Sender<bool>, look: &Sender<Cause>) -> io::Result<()> {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.hangup.recv() => {
                    // Only a process that ends has nobody to tell.
                    let _ended = look.send(Cause::Signal);
                }
            }
        }
        tracing::info!("stopping");
        stop.send_replace(true);
        std::future::pending().await
    }
}

/// Accepts and serves connections until told to stop.
async fn accept(
    listener: Listener,
    live: Arc<LiveGate>,
    mut stopping: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut drain = stopping.clone();
    let stop = async move { stopped(&mut stopping).await };
    let router = Server::builder().add_service(ExtProc::new(live));
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
