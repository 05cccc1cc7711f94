//! The side of Envoy: HTTP/2, whose requests go straight to the gRPC services.
//!
//! Not through tonic's own server: its router and layers would take as much processor
//! time as half a decision.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use futures_core::Stream as _;
use hyper::body::Incoming as Body;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tonic::codegen::{Service as _, http};
use tonic::server::NamedService as _;

use super::connection::Incoming;
use crate::admin::Health;
use crate::extproc::ExtProc;

/// How many streams Envoy may have given up before they are looked at. If there are
/// more, HTTP/2's guard against rapid resets closes the connection, which fails the
/// requests of all callers on it. h2's own limit is 20: a standstill of a second, or a
/// few callers who hang up at once, would do. Each takes little, and not for long.
const MOST_GIVEN_UP: usize = 10_000;

/// The gRPC services that Envoy asks.
#[derive(Debug, Clone)]
pub(super) struct Services {
    pub(super) extproc: ExtProc,
    pub(super) health: Health,
}

impl Services {
    /// Serves connections until told to stop, and then until the open streams have
    /// ended.
    pub(super) async fn serve(self, incoming: Incoming, stop: impl Future<Output = ()>) {
        let mut http2 = Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            // How many streams there may be is for `ExtProc` to say: it answers.
            .max_concurrent_streams(None)
            // It counts over the whole life of a connection, and Envoy's are long.
            .max_local_error_reset_streams(None)
            .max_pending_accept_reset_streams(MOST_GIVEN_UP);
        let services = Arc::new(self);
        let connections = GracefulShutdown::new();
        let (mut incoming, mut stop) = (Box::pin(incoming), pin!(stop));
        loop {
            let next = std::future::poll_fn(|context| incoming.as_mut().poll_next(context));
            let connection = tokio::select! {
                connection = next => connection,
                () = &mut stop => None,
            };
            let connection = match connection {
                Some(Ok(connection)) => connection,
                Some(Err(_)) => continue,
                None => break,
            };
            let services = Arc::clone(&services);
            let service = service_fn(move |request| {
                let services = Arc::clone(&services);
                // Boxed, for each stream is a task, which is moved several times.
                Box::pin(async move { Ok::<_, Infallible>(services.answer(request).await) })
            });
            let connection = http2.serve_connection(TokioIo::new(connection), service);
            let connection = connections.watch(connection);
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!("a connection broke: {error:?}");
                }
            });
        }
        // Who connects now shall be told at once that nobody listens.
        drop(incoming);
        connections.shutdown().await;
    }

    async fn answer(&self, request: http::Request<Body>) -> http::Response<tonic::body::Body> {
        let service = request.uri().path().split('/').nth(1);
        if service == Some(Health::NAME) {
            let Ok(response) = self.health.clone().call(request).await;
            return response;
        }
        self.extproc.answer(request).await
    }
}
