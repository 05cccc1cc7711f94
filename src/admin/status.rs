//! The readiness of the server.

use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use crate::gate::LiveGate;

/// The standard health service of gRPC.
pub type Health = HealthServer<HealthService>;

/// The readiness of the server, and the policies in force.
#[derive(Debug)]
pub struct Status {
    live: Arc<LiveGate>,
    reporter: HealthReporter,
    detail: Mutex<Detail>,
}

#[derive(Debug, Default)]
struct Detail {
    is_stopping: bool,
    /// The number of mistakes that keep changed policy files from taking effect, or `None`.
    mistakes: Option<usize>,
}

impl Status {
    /// Creates the status of a server that is ready.
    pub fn new(live: Arc<LiveGate>) -> Self {
        Self { live, reporter: HealthReporter::new(), detail: Mutex::default() }
    }

    /// Reports a gRPC service as serving, too.
    pub async fn serves<S: NamedService>(&self) {
        self.reporter.set_serving::<S>().await;
    }

    /// Reports from now on that the server is not ready for requests.
    pub async fn stop<S: NamedService>(&self) {
        self.with(|detail| detail.is_stopping = true);
        self.reporter.set_service_status("", ServingStatus::NotServing).await;
        self.reporter.set_not_serving::<S>().await;
    }

    /// Records the result of a reload: success, or the number of mistakes.
    pub fn reloaded(&self, result: Result<(), usize>) {
        self.with(|detail| detail.mistakes = result.err());
    }

    /// Returns the standard health service of gRPC.
    pub fn health_service(&self) -> Health {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }

    /// Returns the page `/readyz`.
    pub(super) fn page(&self) -> (StatusCode, String) {
        let (is_stopping, mistakes) = self.with(|detail| (detail.is_stopping, detail.mistakes));
        let (status, word) = if is_stopping {
            (StatusCode::SERVICE_UNAVAILABLE, "stopping")
        } else {
            (StatusCode::OK, "ready")
        };
        let mut page =
            format!("{word}\npolicies in force: sha256 {}\n", self.live.current().digest);
        if let Some(mistakes) = mistakes {
            page += &format!(
                "the policy files have changed, but are not in force: mistakes: {mistakes} (the log tells them all)\n"
            );
        }
        (status, page)
    }

    fn with<T>(&self, look: impl FnOnce(&mut Detail) -> T) -> T {
        // No code panics while it holds the lock.
        look(&mut self.detail.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
