//! The server for Envoy: HTTP/2, with requests that go directly to the gRPC services.
//!
//! This module does not use tonic's server. The router and layers of that server would take about
//! half as much processor time as a decision.

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

/// The most streams that Envoy has reset before this server accepts them. Beyond this number,
/// HTTP/2's protection against rapid resets closes the connection. That fails the requests of all
/// callers on the connection. The default of h2 is 20, which a pause of a second, or a few callers
/// that hang up at once, would exceed. Each such stream takes little memory, and not for long.
const MOST_GIVEN_UP: usize = 10_000;

/// The gRPC services that Envoy calls.
#[derive(Debug, Clone)]
pub(super) struct Services {
    pub(super) extproc: ExtProc,
    pub(super) health: Health,
}

impl Services {
    /// Serves connections until `stop` completes, and then until the open streams have ended.
    pub(super) async fn serve(self, incoming: Incoming, stop: impl Future<Output = ()>) {
        let mut http2 = Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            // `ExtProc` limits the number of streams, because it can answer the requests beyond the
            // limit.
            .max_concurrent_streams(None)
            // This limit counts over the life of a connection, and Envoy's connections live long.
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
                // Boxed, because each stream is a task that moves several times.
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
        // A client that connects now must learn at once that no server listens.
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
