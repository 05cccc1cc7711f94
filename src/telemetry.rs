//! What mcp-authz tells of itself: logs, metrics, decisions, spans.
//!
//! Nothing here can hold a request up: logs that nobody reads are dropped and
//! counted, and so are spans and decisions that a watcher does not take.

mod decisions;
mod log;
mod metrics;
mod recorder;
mod spans;

pub use decisions::{DecisionLog, Share};
pub use log::{InitError, LogFormat, init};
pub use metrics::{Exposition, Metrics, StreamFailure};
pub use recorder::{OpenStream, Recorder, TooManyWatchers, Watcher};
pub use spans::{Endpoint, Spans};

use std::io::Write;

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// How many lines may wait to be written. More are dropped.
const LINES: usize = 16_384;

/// Writes lines from a thread of its own, as long as the guard lives.
fn lines(
    to: impl Write + Send + 'static,
    thread: &str,
) -> (NonBlocking, WorkerGuard, ErrorCounter) {
    let builder = NonBlockingBuilder::default().buffered_lines_limit(LINES).lossy(true);
    let (lines, guard) = builder.thread_name(thread).finish(to);
    let dropped = lines.error_counter();
    (lines, guard, dropped)
}
