//! The distribution of decisions to metrics, logs, spans and watchers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::SystemTime;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::{DecisionLog, ListOutcome, Metrics, Spans, StreamFailure};
use crate::proto::v1::Decision;
use crate::record::Record;

/// The number of decisions that are kept for a slow watcher.
const KEPT: usize = 1024;
/// The most clients that can watch decisions at once.
pub const MOST_WATCHERS: usize = 32;

/// A recorder that passes decisions to metrics, the decision log, spans and watchers.
#[derive(Debug)]
pub struct Recorder {
    metrics: Metrics,
    log: DecisionLog,
    spans: Option<Spans>,
    watchers: broadcast::Sender<Arc<Decision>>,
}

/// The error if the most watchers are already connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyWatchers {
    /// The most watchers.
    pub most: usize,
}

impl Recorder {
    /// Creates a recorder without any records.
    pub fn new(log: DecisionLog, spans: Option<Spans>) -> Self {
        let (watchers, _nobody) = broadcast::channel(KEPT);
        let metrics = Metrics::new(log.lost());
        Self { metrics, log, spans, watchers }
    }

    /// Returns the metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Records a decision that was made just now.
    pub fn record(&self, record: Record) {
        self.metrics.decided(&record);
        self.log.write(record.verdict, &record.decision);
        if let Some(spans) = &self.spans {
            spans.decided(&record, SystemTime::now());
        }
        if let Some(hint) = &record.hint {
            tracing::error!(reason = record.reason, "{hint}");
        }
        if self.watchers.receiver_count() > 0 {
            // If the watchers have just left, a failure to send does not matter.
            let _nobody = self.watchers.send(Arc::new(record.decision));
        }
    }

    /// Starts to watch decisions, from now on.
    ///
    /// # Errors
    /// If there are too many watchers.
    pub fn watch(self: &Arc<Self>) -> Result<Watcher, TooManyWatchers> {
        if self.watchers.receiver_count() >= MOST_WATCHERS {
            return Err(TooManyWatchers { most: MOST_WATCHERS });
        }
        self.metrics.watchers.inc();
        Ok(Watcher { decisions: self.watchers.subscribe(), recorder: Arc::clone(self) })
    }

    /// Sends the spans that have not been sent.
    pub fn finish(&self) {
        if let Some(spans) = &self.spans {
            spans.finish();
        }
    }
}

/// A client that watches decisions.
#[derive(Debug)]
pub struct Watcher {
    decisions: broadcast::Receiver<Arc<Decision>>,
    recorder: Arc<Recorder>,
}

impl Watcher {
    /// Returns the next decision, and the number of decisions lost before it because this method
    /// was called too rarely. Returns `None` if there are no more decisions.
    pub async fn next(&mut self) -> Option<(Arc<Decision>, u64)> {
        let mut missed = 0;
        loop {
            match self.decisions.recv().await {
                Ok(decision) => return Some((decision, missed)),
                Err(RecvError::Lagged(lost)) => missed += lost,
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.recorder.metrics.watchers.dec();
    }
}

/// The buffered bytes of a stream: of its body, and of an incomplete message.
#[derive(Debug)]
pub struct Held {
    recorder: Arc<Recorder>,
    bytes: AtomicI64,
    full: AtomicBool,
    welcome: AtomicBool,
}

/// The number of buffered bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldBytes {
    /// The bytes of one stream.
    pub own: i64,
    /// The bytes of all streams.
    pub all: i64,
}

impl Held {
    /// Creates a count of zero bytes.
    pub fn new(recorder: Arc<Recorder>) -> Self {
        Self {
            recorder,
            bytes: AtomicI64::new(0),
            full: AtomicBool::new(false),
            welcome: AtomicBool::new(false),
        }
    }

    /// Adds bytes of a message.
    pub fn more(&self, bytes: usize) -> HeldBytes {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let own = self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        HeldBytes { own, all: self.count(bytes) }
    }

    /// Sets the number of buffered bytes, now that a message is complete.
    fn are(&self, bytes: usize) -> HeldBytes {
        let own = i64::try_from(bytes).unwrap_or(i64::MAX);
        let before = self.bytes.swap(own, Ordering::Relaxed);
        HeldBytes { own, all: self.count(own - before) }
    }

    fn count(&self, more: i64) -> i64 {
        self.recorder.metrics.held_bytes.inc_by(more).saturating_add(more)
    }

    /// Marks the stream as full, unless its request continues already: breaking that request off
    /// would help nobody. Returns true if the stream is full now.
    pub fn fill(&self) -> bool {
        let is_full = !self.welcome.load(Ordering::Relaxed);
        self.full.fetch_or(is_full, Ordering::Relaxed);
        is_full
    }

    /// Returns true if there is no room for more bytes.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.are(0);
    }
}

/// An open stream, with the count of its buffered bytes.
#[derive(Debug)]
pub struct OpenStream {
    held: Arc<Held>,
    others: i64,
    is_replay: bool,
}

impl OpenStream {
    /// Counts a stream as open until this value is dropped.
    pub fn new(held: Arc<Held>) -> Self {
        let metrics = held.recorder.metrics();
        metrics.streams_started.inc();
        let others = metrics.streams.inc();
        Self { held, others, is_replay: false }
    }

    /// Returns the count of buffered bytes, for work that may outlive the stream.
    pub fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held)
    }

    /// Returns the recorder of the stream's decision.
    pub fn recorder(&self) -> &Recorder {
        &self.held.recorder
    }

    /// Accepts the rest of a request that continues, even if there is no room.
    pub fn welcome(&self) {
        self.held.welcome.store(true, Ordering::Relaxed);
    }

    /// Returns true if a message came for which there was no room.
    pub fn is_full(&self) -> bool {
        self.held.is_full()
    }

    /// Counts the stream among those that clients have resumed, once. Returns false if `most`
    /// others are open.
    pub fn replays_lists(&mut self, most: usize) -> bool {
        if self.is_replay {
            return true;
        }
        self.is_replay = true;
        let others = self.recorder().metrics.replays.inc();
        usize::try_from(others).is_ok_and(|others| others < most)
    }

    /// Counts the outcome of a list.
    pub fn listed(&self, outcome: ListOutcome) {
        self.recorder().metrics.listed(outcome);
    }

    /// Returns the number of other streams that were open when this one began.
    pub fn others(&self) -> i64 {
        self.others
    }

    /// Sets the number of buffered bytes of the body, now that a message is complete.
    pub fn holds(&self, bytes: usize) -> HeldBytes {
        self.held.are(bytes)
    }

    /// Counts the failure of the stream.
    pub fn failed(&self, failure: StreamFailure) {
        self.recorder().metrics.failed(failure);
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.recorder().metrics.streams.dec();
        if self.is_replay {
            self.recorder().metrics.replays.dec();
        }
    }
}
