//! How the server is.

use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use crate::gate::LiveGate;

/// The standard health service of gRPC.
pub type Health = HealthServer<HealthService>;

/// Whether requests may be sent here, and which policies judge them.
#[derive(Debug)]
pub struct Status {
    live: Arc<LiveGate>,
    reporter: HealthReporter,
    detail: Mutex<Detail>,
}

#[derive(Debug, Default)]
struct Detail {
    is_stopping: bool,
    /// How many mistakes keep the policy files from being in force.
    mistakes: Option<usize>,
}

impl Status {
    /// Ready, with these policies in force.
    pub fn new(live: Arc<LiveGate>) -> Self {
        Self { live, reporter: HealthReporter::new(), detail: Mutex::default() }
    }

    /// Says for a gRPC service, too, that it is ready.
    pub async fn serves<S: NamedService>(&self) {
        self.reporter.set_serving::<S>().await;
    }

    /// From now on no more requests should be sent here.
    pub async fn stop<S: NamedService>(&self) {
        self.with(|detail| detail.is_stopping = true);
        self.reporter.set_service_status("", ServingStatus::NotServing).await;
        self.reporter.set_not_serving::<S>().await;
    }

    /// The policy files were put in force, or have so many mistakes.
    pub fn reloaded(&self, result: Result<(), usize>) {
        self.with(|detail| detail.mistakes = result.err());
    }

    /// The standard health service of gRPC.
    pub fn health_service(&self) -> Health {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }

    /// For those who ask over HTTP.
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
        // Nothing panics while it holds the lock.
        look(&mut self.detail.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
