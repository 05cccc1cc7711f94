//! The admin port: metrics, health, and the gRPC service for `check` and `tail`.
//!
//! Every client that reaches the port may read metrics and health. Only processes of this host may
//! read decisions, which name callers and calls, unless an operator allows other hosts.

mod authorizer;
mod check;
mod client;
mod places;
mod status;

use std::sync::Arc;

use axum::Router;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tonic::server::NamedService;
use tonic::service::Routes;

use self::authorizer::Guard;
pub use authorizer::AdminAccess;
pub use check::{CheckError, answer, judged, turned_away};
pub use client::{Client, ClientError, Decisions};
pub use places::{Caller, Place, Places};
pub use status::{Health, Status};

use crate::gate::LiveGate;
use crate::telemetry::{Exposition, Recorder};

/// The state that the admin port serves.
#[derive(Debug, Clone)]
pub struct Admin {
    /// The gate with the policies in force.
    pub live: Arc<LiveGate>,
    /// The recorder of decisions.
    pub recorder: Arc<Recorder>,
    /// The readiness of the server.
    pub status: Arc<Status>,
    /// The hosts whose processes may check requests and watch decisions.
    pub reach: AdminAccess,
}

impl Admin {
    /// Returns the routes of the admin port, over HTTP/1.1 and HTTP/2.
    pub fn routes(self) -> Routes {
        let Self { live, recorder, status, reach } = self;
        let health = status.health_service();
        let authorizer = authorizer::service(live, Arc::clone(&recorder));
        let pages = Router::new()
            .route(
                "/metrics",
                get(move |headers: HeaderMap| {
                    let page = metrics_page(&recorder, &headers);
                    async { page }
                }),
            )
            .route("/healthz", get(|| async { "ok\n" }))
            .route(
                "/readyz",
                get(move || {
                    let page = status.page();
                    async { page }
                }),
            );
        let guard = Guard::new(reach);
        let guard = middleware::from_fn(move |request, next| guard.clone().pass(request, next));
        let asking = Router::new()
            .route_service(&path_of(&authorizer), authorizer)
            .layer(guard)
            .route_service(&path_of(&health), health);
        // gRPC clients understand the status 404, too.
        let not_here =
            || async { (StatusCode::NOT_FOUND, "here are /metrics, /healthz and /readyz\n") };
        Routes::from(pages.merge(asking).fallback(not_here))
    }
}

/// Returns the pattern that matches the paths of a gRPC service.
fn path_of<S: NamedService>(_service: &S) -> String {
    format!("/{}/{{*method}}", S::NAME)
}

fn metrics_page(recorder: &Recorder, headers: &HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let exposition = Exposition::accepted(accept);
    match recorder.metrics().encode(exposition) {
        Ok(text) => ([(CONTENT_TYPE, exposition.content_type())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
