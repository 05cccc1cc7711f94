//! Metrics, in the exposition formats of Prometheus.
//!
//! Label values come from policies and from this program, never from a caller. So a caller cannot
//! create more series than the policy has names.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeMetric as _, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::lines::DropCounter;
use crate::gate::{Gate, RefusalCause};
use crate::record::Record;

/// The policy label of requests that no policy matches.
const NO_POLICY: &str = "_none";

/// The upper bounds of the buckets, in seconds. A decision takes microseconds; one that takes
/// milliseconds delays Envoy.
const DECISION_BUCKETS: [f64; 17] = [
    1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2,
    0.1, 0.25, 1.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decided {
    policy: Arc<str>,
    verdict: &'static str,
    reason: &'static str,
    backend: Arc<str>,
    /// The tool, the prompt, the resource or the method.
    #[prometheus(flatten)]
    target: [(&'static str, Arc<str>); 1],
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    policy: Arc<str>,
    verdict: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRule {
    policy: Arc<str>,
    rule: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPolicy {
    policy: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Digest {
    sha256: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Version {
    version: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

/// The reason why a stream failed before a decision. Envoy responds to its request with a 500.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamFailure {
    /// Envoy sent a message that violates the protocol.
    Violation,
    /// The stream ended before a decision, without an error.
    Aborted,
    /// The connection broke, or a message was too large.
    Transport,
    /// There was no room for a message.
    Overloaded,
    /// No message came in time.
    TimedOut,
}

impl StreamFailure {
    const ALL: [Self; 5] =
        [Self::Violation, Self::Aborted, Self::Transport, Self::Overloaded, Self::TimedOut];

    fn labels(self) -> ByReason {
        let reason = match self {
            Self::Violation => "violation",
            Self::Aborted => "aborted",
            Self::Transport => "transport",
            Self::Overloaded => "overloaded",
            Self::TimedOut => "timed_out",
        };
        ByReason { reason }
    }
}

/// The outcome of a request whose response a policy filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListOutcome {
    /// The response was filtered.
    Filtered,
    /// The response could not be filtered, and was not sent.
    Unreadable,
    /// The response held no list.
    NoList,
    /// The server sends the list on another stream, which is not filtered.
    Elsewhere,
    /// The client or the server broke off the exchange.
    Interrupted,
}

impl ListOutcome {
    const ALL: [Self; 5] =
        [Self::Filtered, Self::Unreadable, Self::NoList, Self::Elsewhere, Self::Interrupted];

    fn as_str(self) -> &'static str {
        match self {
            Self::Filtered => "filtered",
            Self::Unreadable => "unreadable",
            Self::NoList => "no_list",
            Self::Elsewhere => "elsewhere",
            Self::Interrupted => "interrupted",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

const SUCCESS: ByResult = ByResult { result: "success" };
const FAILURE: ByResult = ByResult { result: "failure" };

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    decisions: Family<Decided, Counter>,
    refused_requests: Family<Refused, Counter>,
    decision_duration: Histogram,
    condition_errors: Family<ByRule, Counter>,
    reloads: Family<ByResult, Counter>,
    last_reload_successful: Gauge,
    last_reload_success: Gauge<f64, AtomicU64>,
    policy_info: Family<Digest, Gauge>,
    policy_rules: Family<ByPolicy, Gauge>,
    pub(super) streams: Gauge,
    pub(super) replays: Gauge,
    pub(super) streams_started: Counter,
    stream_failures: Family<ByReason, Counter>,
    lists: Family<ByOutcome, Counter>,
    pub(super) held_bytes: Gauge,
    pub(super) watchers: Gauge,
    in_force: Mutex<InForce>,
}

/// The labels of the current policies.
#[derive(Debug, Default)]
struct InForce {
    files: Option<Digest>,
    policies: Vec<ByPolicy>,
}

/// The text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus' text format, 0.0.4.
    Prometheus,
    /// OpenMetrics' text format, 1.0.0.
    OpenMetrics,
}

impl Exposition {
    /// Returns the format that an `Accept` header requests.
    pub fn accepted(accept: Option<&str>) -> Self {
        let is_openmetrics =
            accept.is_some_and(|accept| accept.contains("application/openmetrics-text"));
        if is_openmetrics { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Returns the `Content-Type` of the format.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl Metrics {
    /// Creates all metrics at zero. `lost` counts the lines that the decision log loses.
    pub(super) fn new(lost: DropCounter) -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("mcp_authz"),
            decisions: Family::default(),
            refused_requests: Family::default(),
            decision_duration: Histogram::new(DECISION_BUCKETS),
            condition_errors: Family::default(),
            reloads: Family::default(),
            last_reload_successful: Gauge::default(),
            last_reload_success: Gauge::default(),
            policy_info: Family::default(),
            policy_rules: Family::default(),
            streams: Gauge::default(),
            replays: Gauge::default(),
            streams_started: Counter::default(),
            stream_failures: Family::default(),
            lists: Family::default(),
            held_bytes: Gauge::default(),
            watchers: Gauge::default(),
            in_force: Mutex::default(),
        };
        metrics.register();
        metrics.registry.register_collector(Box::new(Dropped(lost)));
        // Prometheus sees the first event of a kind as an increase only if the series was at zero
        // before.
        for failure in StreamFailure::ALL {
            metrics.stream_failures.get_or_create(&failure.labels()).inc_by(0);
        }
        for outcome in ListOutcome::ALL {
            metrics.lists.get_or_create(&ByOutcome { outcome: outcome.as_str() }).inc_by(0);
        }
        for result in [SUCCESS, FAILURE] {
            metrics.reloads.get_or_create(&result).inc_by(0);
        }
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "decisions",
            "Requests that were judged; tool (or prompt, resource, method) and backend as the policy names them, _other for all that it does not",
            self.decisions.clone(),
        );
        registry.register(
            "refused_requests",
            "Requests that could not be judged",
            self.refused_requests.clone(),
        );
        registry.register(
            "decision_duration_seconds",
            "Time to read a body and decide",
            self.decision_duration.clone(),
        );
        registry.register(
            "condition_errors",
            "Decisions in which a condition of the rule could not be evaluated",
            self.condition_errors.clone(),
        );
        registry.register(
            "policy_reloads",
            "Loads of changed policies; failures kept the last good ones",
            self.reloads.clone(),
        );
        registry.register(
            "policy_last_reload_successful",
            "Whether the policy files are in force as they are now",
            self.last_reload_successful.clone(),
        );
        registry.register(
            "policy_last_reload_success_timestamp_seconds",
            "When the policies in force were loaded",
            self.last_reload_success.clone(),
        );
        registry.register("policy_info", "The policy files in force", self.policy_info.clone());
        registry.register("policy_rules", "Rules of a policy in force", self.policy_rules.clone());
        registry.register(
            "streams",
            "Open ext_proc streams: requests that are being decided, and responses that are being filtered",
            self.streams.clone(),
        );
        registry.register(
            "streams_started",
            "ext_proc streams, one a request",
            self.streams_started.clone(),
        );
        registry.register(
            "stream_failures",
            "Streams that failed before a decision; Envoy answers their requests with a 500",
            self.stream_failures.clone(),
        );
        registry.register(
            "replay_streams",
            "Open streams that a client resumed, on which the server sends again what the client missed",
            self.replays.clone(),
        );
        registry.register(
            "lists",
            "Responses that a policy filters, by their outcome; a list that is answered elsewhere (on another stream, after a 202) is not filtered",
            self.lists.clone(),
        );
        registry.register("held_bytes", "Bytes of bodies that are held", self.held_bytes.clone());
        registry.register("watchers", "Clients that follow decisions", self.watchers.clone());
        let build: Family<Version, Gauge> = Family::default();
        build.get_or_create(&Version { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build_info", "The program", build);
    }

    /// Counts a decision and its duration.
    pub(super) fn decided(&self, record: &Record) {
        let policy: Arc<str> = match &record.policy {
            Some(policy) => policy.name.as_str().into(),
            None => NO_POLICY.into(),
        };
        for rule in &record.decision.condition_errors {
            let rule = ByRule { policy: Arc::clone(&policy), rule: rule.as_str().into() };
            self.condition_errors.get_or_create(&rule).inc();
        }
        let (verdict, reason) = (record.verdict.as_str(), record.reason);
        match record.blame {
            None | Some(RefusalCause::Policy) => {
                let label = record.label.clone();
                let (backend, target) = (label.backend, [(label.kind, label.name)]);
                let labels = Decided { policy, verdict, reason, backend, target };
                self.decisions.get_or_create(&labels).inc();
            }
            Some(RefusalCause::Request | RefusalCause::Operator) => {
                self.refused_requests.get_or_create(&Refused { policy, verdict, reason }).inc();
            }
        }
        if let Some(took) = &record.took {
            self.decision_duration.observe(took.as_secs_f64());
        }
    }

    pub(super) fn listed(&self, outcome: ListOutcome) {
        self.lists.get_or_create(&ByOutcome { outcome: outcome.as_str() }).inc();
    }

    pub(super) fn failed(&self, failure: StreamFailure) {
        self.stream_failures.get_or_create(&failure.labels()).inc();
    }

    /// Sets the metrics about the current policies, and marks the last load as successful.
    pub fn loaded(&self, gate: &Gate) {
        let files = Digest { sha256: Arc::clone(&gate.digest) };
        self.policy_info.get_or_create(&files).set(1);
        let mut policies = Vec::new();
        for policy in &gate.policies {
            let name: Arc<str> = policy.name.as_str().into();
            for (index, rule) in policy.rules.iter().enumerate() {
                if rule.conditions().next().is_some() {
                    let rule = ByRule { policy: Arc::clone(&name), rule: rule.label(index).into() };
                    self.condition_errors.get_or_create(&rule).inc_by(0);
                }
            }
            let rules = i64::try_from(policy.rules.len()).unwrap_or(i64::MAX);
            let policy = ByPolicy { policy: name };
            self.policy_rules.get_or_create(&policy).set(rules);
            policies.push(policy);
        }
        // Old policies are removed last, so some policies are reported at each moment.
        let now = InForce { files: Some(files), policies };
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in in_force.files.iter().filter(|files| now.files.as_ref() != Some(files)) {
            self.policy_info.remove(gone);
        }
        for gone in in_force.policies.iter().filter(|policy| !now.policies.contains(policy)) {
            self.policy_rules.remove(gone);
        }
        *in_force = now;
        drop(in_force);
        self.last_reload_successful.set(1);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        self.last_reload_success.set(now.as_secs_f64().floor());
    }

    /// Counts a reload that replaced the policies.
    pub fn reloaded(&self, gate: &Gate) {
        self.reloads.get_or_create(&SUCCESS).inc();
        self.loaded(gate);
    }

    /// Counts a reload that kept the last good policies.
    pub fn not_reloaded(&self) {
        self.reloads.get_or_create(&FAILURE).inc();
        self.last_reload_successful.set(0);
    }

    /// Returns all metrics as text.
    ///
    /// # Errors
    /// No error is known, since the output is a string.
    pub fn encode(&self, exposition: Exposition) -> Result<String, fmt::Error> {
        let mut text = String::new();
        match exposition {
            Exposition::Prometheus => prometheus_text::encode(&mut text, &self.registry)?,
            Exposition::OpenMetrics => text::encode(&mut text, &self.registry)?,
        }
        Ok(text)
    }
}

/// The lines that the decision log lost.
#[derive(Debug)]
struct Dropped(DropCounter);

impl Collector for Dropped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let dropped = ConstCounter::new(self.0.lines());
        let encoder = encoder.encode_descriptor(
            "decision_log_dropped",
            "Lines of the decision log that nobody read fast enough, or that could not be written.",
            None,
            MetricType::Counter,
        )?;
        dropped.encode(encoder)
    }
}
