//! Listening, serving, reloading and stopping.

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
use self::listen::{Bound, Listener};
use self::reload::{Cause, Reloader};
use self::signals::Signals;
use crate::address::Address;
use crate::admin::{Admin, Reach, Status};
use crate::extproc::{Capacity, ExtProc};
use crate::gate::{ClaimsFrom, Gate, LiveGate};
use crate::telemetry::{DecisionLog, Endpoint, Recorder, Spans};

/// Conditions are evaluated as deep as they are nested: as much as the main thread
/// has.
const STACK_BYTES: usize = 8 << 20;

/// How often the admin port asks whether a client is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long a connection to the admin port lasts; what is under way is not broken off.
const CONNECTION_AGE: Duration = Duration::from_secs(60);

/// How to serve.
#[derive(Debug)]
pub struct Options {
    /// Where the policies are that may change.
    pub policy: PathBuf,
    /// Where Envoy asks.
    pub listen: Address,
    /// Who may connect there, if it is a Unix socket.
    pub listen_access: Access,
    /// Where people and Prometheus ask, and who may.
    pub admin: Option<(Address, Reach)>,
    /// Who may connect there, if it is a Unix socket.
    pub admin_access: Access,
    /// How much is taken on at once.
    pub capacity: Capacity,
    /// How many threads serve Envoy.
    pub threads: NonZeroUsize,
    /// Where spans go.
    pub otlp: Option<Endpoint>,
    /// How to stop.
    pub drain: Drain,
}

/// How to stop without breaking what is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// How long new requests are still served, while it is said that they should
    /// go elsewhere.
    pub delay: Duration,
    /// After that: how long open streams may take to finish.
    pub timeout: Duration,
}

/// Serves the gate, and what the policy files it came from become, until SIGTERM
/// or SIGINT, on threads that share nothing else but the socket.
///
/// Each connection stays on the thread that accepted it, so no stream is ever
/// moved between processors; Envoy opens a connection for each of its workers.
///
/// # Errors
/// If an address cannot be bound or a runtime cannot be made.
pub fn serve(gate: Gate, options: &Options, log: DecisionLog) -> io::Result<()> {
    if let Some((admin, _)) = &options.admin
        && *admin == options.listen
        && !admin.is_any_port()
    {
        let message = format!("--listen and --admin are both {admin}: give them two addresses");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let own_runtime = runtime()?;
    // Before the address can be seen: who sees it may send a signal.
    let mut signals = own_runtime.block_on(async { Signals::register() })?;
    let background = Builder::new_current_thread()
        .enable_all()
        // What is evaluated for who asks is nested as deep.
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

    // All that can fail comes before the first thread is there.
    let admin = match &options.admin {
        Some((address, reach)) => {
            let (live, recorder) = (Arc::clone(&live), Arc::clone(&recorder));
            let (status, reach) = (Arc::clone(&status), *reach);
            Some((
                Bound::to(address, options.admin_access)?,
                Admin { live, recorder, status, reach },
            ))
        }
        None => None,
    };
    let Bound { listener, address, file: _file } =
        Bound::to(&options.listen, options.listen_access)?;
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
        // Not of this scope: a network file system that does not answer must not keep the
        // process from ending.
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
        // Last: who reads it may use it.
        tracing::info!(%address, threads = options.threads, "listening");
        let served = own_runtime.block_on(async {
            // The socket closes when the last thread stops accepting: each has
            // its own handle, and there is no other.
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

/// Returns the runtime of a thread, with another thread for large bodies.
fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .thread_stack_size(STACK_BYTES)
        .build()
}

/// Says in the log which policies are in force, and what an operator must know of
/// them.
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

/// Stops all threads when a signal says so, and never returns: those who serve end
/// by it.
async fn until_stopped(
    signals: &mut Signals,
    look: &Sender<Cause>,
    status: &Status,
    drain: Drain,
    stop: &watch::Sender<bool>,
) -> io::Result<()> {
    signals.stop(look).await;
    status.stop::<ExtProc>().await;
    tracing::info!(delay_seconds = drain.delay.as_secs(), "stopping");
    tokio::select! {
        () = tokio::time::sleep(drain.delay) => {}
        // Who asks twice does not want to wait.
        () = signals.stop(look) => {}
    }
    stop.send_replace(true);
    pending().await
}

/// What each thread does.
#[derive(Debug, Clone)]
struct Worker {
    services: Services,
    stopping: watch::Receiver<bool>,
    timeout: Duration,
}

impl Worker {
    /// Accepts and serves connections until told to stop.
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

/// Returns when it is time to stop.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // What is awaited holds a read lock until it is dropped. An error means
    // that the sender is gone: stop then, too.
    drop(stopping.wait_for(|stop| *stop).await);
}

/// The thread for all that Envoy does not wait for. It ends when this is dropped.
#[derive(Debug)]
struct Background {
    _end: watch::Sender<()>,
}

impl Background {
    fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        runtime: Runtime,
        admin: Option<(Bound, Admin)>,
    ) -> io::Result<Self> {
        let (end, mut ended) = watch::channel(());
        let run = async move {
            let serve = async {
                if let Some((Bound { listener, address, file: _file }, admin)) = admin {
                    tracing::info!(%address, "admin port");
                    let router = Server::builder()
                        .accept_http1(true)
                        // Who is gone, or does nothing, does not keep its place.
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
                // Spans are still sent.
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
            // Nobody waits for answers any more.
            runtime.shutdown_background();
        })?;
        Ok(Self { _end: end })
    }
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
