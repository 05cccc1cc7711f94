//! The admin port: metrics, health, and answers to those who ask before they call.
//!
//! Who reaches the port may read metrics and health. Who called what is told to
//! this host only, unless an operator says otherwise.

mod authorizer;
mod check;
mod client;
mod status;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode, Version};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tonic::service::Routes;

pub use authorizer::Reach;
pub use check::{CheckError, answer, judged, turned_away};
pub use client::{Client, ClientError, Decisions};
pub use status::{Health, Status};

use crate::gate::LiveGate;
use crate::telemetry::{Exposition, Recorder};

/// What the admin port tells of.
#[derive(Debug, Clone)]
pub struct Admin {
    /// What decides.
    pub live: Arc<LiveGate>,
    /// What was decided.
    pub recorder: Arc<Recorder>,
    /// How the server is.
    pub status: Arc<Status>,
    /// Who may ask and watch.
    pub reach: Reach,
}

impl Admin {
    /// All of the admin port, over HTTP/1.1 and HTTP/2.
    pub fn routes(self) -> Routes {
        let Self { live, recorder, status, reach } = self;
        let health = status.health_service();
        let metrics = Arc::clone(&recorder);
        let pages = Router::new()
            .route(
                "/metrics",
                get(move |headers: HeaderMap| {
                    let page = metrics_page(&metrics, &headers);
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
        let grpc = Routes::new(authorizer::service(live, recorder, reach)).add_service(health);
        // gRPC clients take a 404 for what it is, too.
        let not_here =
            || async { (StatusCode::NOT_FOUND, "here are /metrics, /healthz and /readyz\n") };
        let grpc = grpc.into_axum_router().layer(middleware::from_fn(only_http2));
        Routes::from(grpc.merge(pages).fallback(not_here))
    }
}

/// gRPC is spoken over HTTP/2. Browsers speak that with TLS only, so no page that
/// takes this host for its own can make one ask.
async fn only_http2(request: Request, next: Next) -> Response {
    if request.version() == Version::HTTP_2 {
        next.run(request).await
    } else {
        StatusCode::HTTP_VERSION_NOT_SUPPORTED.into_response()
    }
}

fn metrics_page(recorder: &Recorder, headers: &HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let exposition = Exposition::accepted(accept);
    match recorder.metrics().encode(exposition) {
        Ok(text) => ([(CONTENT_TYPE, exposition.content_type())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
