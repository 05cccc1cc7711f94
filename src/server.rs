//! The server: it listens, serves, reloads policies and stops.

mod admin_connection;
mod connection;
mod envoy;
mod listen;
mod reload;
mod signals;

use std::future::pending;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::Scope;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tonic::transport::Server;

use self::admin_connection::AdminIncoming;
use self::envoy::Services;
pub use self::listen::Access;
use self::listen::{BoundListener, Listener};
use self::reload::{ReloadTrigger, Reloader};
use self::signals::Signals;
use crate::address::Address;
use crate::admin::{Admin, AdminAccess, Status};
use crate::extproc::{Capacity, ExtProc};
use crate::gate::{ClaimsFrom, Gate, LiveGate};
use crate::telemetry::{DecisionLog, Endpoint, Recorder, Spans};

/// The stack of a thread in bytes, as large as that of the main thread. Evaluation recurses as deep
/// as conditions are nested.
const STACK_BYTES: usize = 8 << 20;

/// The time between two HTTP/2 pings that check that a client of the admin port is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// The longest age of a connection to the admin port. Requests under way still end normally.
const CONNECTION_AGE: Duration = Duration::from_secs(60);

/// The options of the server.
#[derive(Debug)]
pub struct Options {
    /// The path of the policy files, which may change.
    pub policy: PathBuf,
    /// The address for Envoy.
    pub listen: Address,
    /// The access to the address for Envoy, if that is a Unix socket.
    pub listen_access: Access,
    /// The address of the admin port, and the clients that may check requests and watch decisions.
    pub admin: Option<(Address, AdminAccess)>,
    /// The access to the admin port, if that is a Unix socket.
    pub admin_access: Access,
    /// The limits for simultaneous work.
    pub capacity: Capacity,
    /// The number of threads that serve Envoy.
    pub threads: NonZeroUsize,
    /// The receiver of spans.
    pub otlp: Option<Endpoint>,
    /// The times for a stop.
    pub drain: Drain,
}

/// The times of a stop that lets open streams end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// The time for which the server still takes requests while it reports that it is not ready.
    pub delay: Duration,
    /// The time after `delay` in which open streams may end.
    pub timeout: Duration,
}

/// Serves the gate, and the policies of its files when they change, until SIGTERM or SIGINT. The
/// threads that serve share the socket and the policies.
///
/// Each connection stays on the thread that accepted it, so no stream moves between processors.
/// Envoy opens a connection for each of its workers.
///
/// # Errors
/// If the server cannot bind an address or create a runtime.
pub fn serve(gate: Gate, options: &Options, log: DecisionLog) -> io::Result<()> {
    if let Some((admin, _)) = &options.admin
        && *admin == options.listen
        && !admin.is_any_port()
    {
        let message = format!("--listen and --admin are both {admin}: give them two addresses");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let own_runtime = runtime()?;
    // Signals must work before the address is visible: a process that sees the address may send
    // one.
    let mut signals = own_runtime.block_on(async { Signals::register() })?;
    let background = Builder::new_current_thread()
        .enable_all()
        // This runtime evaluates conditions for the admin port, and these are nested as deep.
        .thread_stack_size(STACK_BYTES)
        .build()?;
    let spans = match &options.otlp {
        Some(endpoint) => {
            let _inside = background.enter();
            Some(Spans::new(endpoint).map_err(io::Error::other)?)
        }
        None => None,
    };
    let recorder = Arc::new(Recorder::new(log, spans));
    recorder.metrics().loaded(&gate);
    announce(&gate);
    if gate.limits.max_body_bytes > options.capacity.held_bytes {
        tracing::warn!(
            "bodies above --max-held-bytes find no room, though `limits.maxBodyBytes` is larger: raise \
             the former"
        );
    }
    let live = Arc::new(LiveGate::new(gate));
    let status = Arc::new(Status::new(Arc::clone(&live)));
    own_runtime.block_on(status.serves::<ExtProc>());

    // Everything that can fail comes before the first thread starts.
    let admin = match &options.admin {
        Some((address, reach)) => {
            let (live, recorder) = (Arc::clone(&live), Arc::clone(&recorder));
            let (status, reach) = (Arc::clone(&status), *reach);
            Some((
                BoundListener::to(address, options.admin_access)?,
                Admin { live, recorder, status, reach },
            ))
        }
        None => None,
    };
    let BoundListener { listener, address, file: _file } =
        BoundListener::to(&options.listen, options.listen_access)?;
    let others: Vec<(Listener, Runtime)> = (1..options.threads.get())
        .map(|_| Ok((listener.share()?, runtime()?)))
        .collect::<io::Result<_>>()?;
    let (reloader, look) = Reloader::new(
        &options.policy,
        Arc::clone(&live),
        Arc::clone(&recorder),
        Arc::clone(&status),
    );
    let (stop, stopping) = watch::channel(false);
    let worker = Worker {
        services: Services {
            extproc: ExtProc::new(live, Arc::clone(&recorder), options.capacity),
            health: status.health_service(),
        },
        stopping,
        timeout: options.drain.timeout,
    };

    std::thread::scope(|scope| {
        let background = Background::start(scope, background, admin)?;
        let _stop_checking = TellOnDrop(look.clone());
        // This thread does not belong to the scope: a network file system that does not respond
        // must not keep the process from ending.
        let tell = look.clone();
        let thread = std::thread::Builder::new().name("reloader".to_owned());
        thread.spawn(move || reloader.run(&tell))?;
        let spawn = |(listener, runtime): (Listener, Runtime)| {
            let (worker, stop) = (worker.clone(), StopOnDrop(stop.clone()));
            std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, move || {
                let _stop = stop;
                runtime.block_on(worker.serve(listener))
            })
        };
        let stop_all = StopOnDrop(stop.clone());
        let others = others.into_iter().map(spawn).collect::<io::Result<Vec<_>>>()?;
        // Log this last: a reader of the line may use the server.
        tracing::info!(%address, threads = options.threads, "listening");
        let served = own_runtime.block_on(async {
            // The socket closes when the last thread stops accepting. Each thread has its own
            // handle, and no other handle exists.
            tokio::select! {
                served = worker.clone().serve(listener) => served,
                never = until_stopped(&mut signals, &look, &status, options.drain, &stop) => never,
            }
        });
        drop(stop_all);
        let others = others.into_iter().map(|other| match other.join() {
            Ok(served) => served,
            Err(_panic) => Err(io::Error::other("a worker thread panicked")),
        });
        let served = others.fold(served, Result::and);
        recorder.finish();
        drop(background);
        tracing::info!("stopped");
        served
    })
}

/// Returns the runtime of a thread. It can start one more thread, for large bodies.
fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .thread_stack_size(STACK_BYTES)
        .build()
}

/// Logs the policies in force, and warns of unverified tokens.
fn announce(gate: &Gate) {
    if gate.claims_from == ClaimsFrom::AuthorizationHeader {
        tracing::warn!(
            "`jwt.from: authorizationHeader`: tokens are decoded without a look at their signature; \
             whoever can write a header can claim any scope unless Envoy verifies tokens before"
        );
    }
    for policy in &gate.policies {
        tracing::info!(
            policy = policy.name,
            rules = policy.rules.len(),
            sha256 = &*gate.digest,
            version = env!("CARGO_PKG_VERSION"),
            "policy loaded"
        );
    }
}

/// Stops all threads after a signal. Never returns: the tasks that serve end the threads.
async fn until_stopped(
    signals: &mut Signals,
    look: &Sender<ReloadTrigger>,
    status: &Status,
    drain: Drain,
    stop: &watch::Sender<bool>,
) -> io::Result<()> {
    signals.stop(look).await;
    status.stop::<ExtProc>().await;
    tracing::info!(delay_seconds = drain.delay.as_secs(), "stopping");
    tokio::select! {
        () = tokio::time::sleep(drain.delay) => {}
        // An operator who sends a second signal does not want to wait.
        () = signals.stop(look) => {}
    }
    stop.send_replace(true);
    pending().await
}

/// The work of each thread.
#[derive(Debug, Clone)]
struct Worker {
    services: Services,
    stopping: watch::Receiver<bool>,
    timeout: Duration,
}

impl Worker {
    /// Accepts and serves connections until `stopping` becomes true.
    async fn serve(self, listener: Listener) -> io::Result<()> {
        let Self { services, mut stopping, timeout } = self;
        let mut drain = stopping.clone();
        let stop = async move { stopped(&mut stopping).await };
        let incoming = listener.incoming()?;
        let too_late = async {
            stopped(&mut drain).await;
            tokio::time::sleep(timeout).await;
        };
        tokio::select! {
            () = services.serve(incoming, stop) => {}
            () = too_late => {
                tracing::warn!(
                    timeout_seconds = timeout.as_secs(),
                    "streams that did not end in time are cut off"
                );
            }
        }
        Ok(())
    }
}

/// Returns when the server must stop.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // `wait_for` returns a guard that holds a read lock, so drop the guard. An error means that the
    // sender is gone; then the server must stop, too.
    drop(stopping.wait_for(|stop| *stop).await);
}

/// The thread for work on which Envoy does not wait. The thread ends when this value is dropped.
#[derive(Debug)]
struct Background {
    _end: watch::Sender<()>,
}

impl Background {
    fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        runtime: Runtime,
        admin: Option<(BoundListener, Admin)>,
    ) -> io::Result<Self> {
        let (end, mut ended) = watch::channel(());
        let run = async move {
            let serve = async {
                if let Some((BoundListener { listener, address, file: _file }, admin)) = admin {
                    tracing::info!(%address, "admin port");
                    let router = Server::builder()
                        .accept_http1(true)
                        // A connection whose client is gone, or is idle for too long, must not keep
                        // its place.
                        .http2_keepalive_interval(Some(KEEPALIVE))
                        .max_connection_age(CONNECTION_AGE)
                        .add_routes(admin.routes());
                    match listener.incoming().map(AdminIncoming::new) {
                        Ok(incoming) => {
                            if let Err(error) = router.serve_with_incoming(incoming).await {
                                tracing::error!("the admin port: {error}");
                            }
                        }
                        Err(error) => tracing::error!("the admin port: {error}"),
                    }
                }
                // The runtime must keep running, because it also sends spans.
                pending::<()>().await;
            };
            tokio::select! {
                () = serve => {}
                _ended = ended.changed() => {}
            }
        };
        let thread = std::thread::Builder::new().name("background".to_owned());
        thread.spawn_scoped(scope, move || {
            runtime.block_on(run);
            // No client waits for responses any more.
            runtime.shutdown_background();
        })?;
        Ok(Self { _end: end })
    }
}

/// Stops all threads when it is dropped. So the first thread that ends, by an error or a panic,
/// ends all others.
struct StopOnDrop(watch::Sender<bool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

/// Ends the thread of the reloader when it is dropped.
struct TellOnDrop(Sender<ReloadTrigger>);

impl Drop for TellOnDrop {
    fn drop(&mut self) {
        // An error means that the reloader has ended already.
        let _ended = self.0.send(ReloadTrigger::Stop);
    }
}
