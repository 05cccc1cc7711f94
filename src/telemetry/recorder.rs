//! Takes decisions to all who want to know of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::SystemTime;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::{DecisionLog, ListOutcome, Metrics, Spans, StreamFailure};
use crate::proto::v1::Decision;
use crate::record::Record;

/// How many decisions are kept for a watcher that is slow.
const KEPT: usize = 1024;
/// The most clients that watch decisions at once.
pub const MOST_WATCHERS: usize = 32;

/// Takes decisions to metrics, the decision log, spans and watchers.
#[derive(Debug)]
pub struct Recorder {
    metrics: Metrics,
    log: DecisionLog,
    spans: Option<Spans>,
    watchers: broadcast::Sender<Arc<Decision>>,
}

/// There are as many watchers as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyWatchers {
    /// How many.
    pub most: usize,
}

impl Recorder {
    /// Nothing is recorded yet.
    pub fn new(log: DecisionLog, spans: Option<Spans>) -> Self {
        let (watchers, _nobody) = broadcast::channel(KEPT);
        let metrics = Metrics::new(log.lost());
        Self { metrics, log, spans, watchers }
    }

    /// All that is counted.
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
            // If they have just left, nobody misses it.
            let _nobody = self.watchers.send(Arc::new(record.decision));
        }
    }

    /// Follows the decisions from now on.
    ///
    /// # Errors
    /// If there are too many who do.
    pub fn watch(self: &Arc<Self>) -> Result<Watcher, TooManyWatchers> {
        if self.watchers.receiver_count() >= MOST_WATCHERS {
            return Err(TooManyWatchers { most: MOST_WATCHERS });
        }
        self.metrics.watchers.inc();
        Ok(Watcher { decisions: self.watchers.subscribe(), recorder: Arc::clone(self) })
    }

    /// Sends what has not been sent.
    pub fn finish(&self) {
        if let Some(spans) = &self.spans {
            spans.finish();
        }
    }
}

/// Follows decisions.
#[derive(Debug)]
pub struct Watcher {
    decisions: broadcast::Receiver<Arc<Decision>>,
    recorder: Arc<Recorder>,
}

impl Watcher {
    /// The next decision, and how many were lost before it because this is called
    /// too rarely. `None`: there are no more.
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

/// What is held for a stream: of its body, and of a message that is not whole yet.
#[derive(Debug)]
pub struct Held {
    recorder: Arc<Recorder>,
    bytes: AtomicI64,
    full: AtomicBool,
    welcome: AtomicBool,
}

/// How many bytes are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldBytes {
    /// For one stream.
    pub own: i64,
    /// For all.
    pub all: i64,
}

impl Held {
    /// Nothing is held yet.
    pub fn new(recorder: Arc<Recorder>) -> Self {
        Self {
            recorder,
            bytes: AtomicI64::new(0),
            full: AtomicBool::new(false),
            welcome: AtomicBool::new(false),
        }
    }

    /// Takes note of more bytes of a message.
    pub fn more(&self, bytes: usize) -> HeldBytes {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let own = self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        HeldBytes { own, all: self.count(bytes) }
    }

    /// Takes note that so many bytes are held, now that a message is whole.
    fn are(&self, bytes: usize) -> HeldBytes {
        let own = i64::try_from(bytes).unwrap_or(i64::MAX);
        let before = self.bytes.swap(own, Ordering::Relaxed);
        HeldBytes { own, all: self.count(own - before) }
    }

    fn count(&self, more: i64) -> i64 {
        self.recorder.metrics.held_bytes.inc_by(more).saturating_add(more)
    }

    /// There is no room for more. Answers whether that is so: to break off a request
    /// that goes on already would help nobody.
    pub fn fill(&self) -> bool {
        let is_full = !self.welcome.load(Ordering::Relaxed);
        self.full.fetch_or(is_full, Ordering::Relaxed);
        is_full
    }

    /// Whether there is no room for more.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.are(0);
    }
}

/// An open stream, counted with what is held for it.
#[derive(Debug)]
pub struct OpenStream {
    held: Arc<Held>,
    others: i64,
    is_replay: bool,
}

impl OpenStream {
    /// Takes note of a stream that is open as long as this lives.
    pub fn new(held: Arc<Held>) -> Self {
        let metrics = held.recorder.metrics();
        metrics.streams_started.inc();
        let others = metrics.streams.inc();
        Self { held, others, is_replay: false }
    }

    /// Returns the count of what is held, for work that may outlive the stream.
    pub fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held)
    }

    /// Where its decision is recorded.
    pub fn recorder(&self) -> &Recorder {
        &self.held.recorder
    }

    /// The request goes on: what is still to come of it is taken.
    pub fn welcome(&self) {
        self.held.welcome.store(true, Ordering::Relaxed);
    }

    /// Whether a message came that there is no room for.
    pub fn is_full(&self) -> bool {
        self.held.is_full()
    }

    /// Counts the stream among those that clients have resumed, once. Returns false if there are
    /// `most` others.
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

    /// How many others were open when it came.
    pub fn others(&self) -> i64 {
        self.others
    }

    /// Takes note of how many bytes of its body are held, now that a message is
    /// whole.
    pub fn holds(&self, bytes: usize) -> HeldBytes {
        self.held.are(bytes)
    }

    /// Takes note of its failure.
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
