//! The telemetry of mcp-authz: logs, metrics, decisions, spans.
//!
//! Telemetry never delays a request. Logs that nobody reads are dropped and counted, and so are
//! spans and decisions that a receiver does not read.

mod decisions;
mod lines;
mod log;
mod metrics;
mod recorder;
mod spans;

pub use decisions::{DecisionLog, SampleRate};
pub use lines::FlushGuard;
pub use log::{InitError, LogFormat, init};
pub use metrics::{Exposition, ListOutcome, Metrics, StreamFailure};
pub use recorder::{
    Held, HeldBytes, MOST_WATCHERS, OpenStream, Recorder, TooManyWatchers, Watcher,
};
pub use spans::{Endpoint, Spans};
