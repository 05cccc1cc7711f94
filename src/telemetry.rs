//! What mcp-authz tells of itself: logs, metrics, decisions, spans.
//!
//! Nothing here can hold a request up: logs that nobody reads are dropped and
//! counted, and so are spans and decisions that a watcher does not take.

mod decisions;
mod lines;
mod log;
mod metrics;
mod recorder;
mod spans;

pub use decisions::{DecisionLog, Share};
pub use lines::LastLines;
pub use log::{InitError, LogFormat, init};
pub use metrics::{Exposition, ListOutcome, Metrics, StreamFailure};
pub use recorder::{Held, HeldBytes, OpenStream, Recorder, TooManyWatchers, Watcher};
pub use spans::{Endpoint, Spans};
