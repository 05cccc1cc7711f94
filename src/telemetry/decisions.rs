//! The decision log.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::LogFormat;
use super::lines::{DropCounter, FlushGuard, NonBlockingWriter};
use crate::proto::v1::Decision;
use crate::record::{self, Verdict};

/// A log that writes decisions to standard output, one per line. The log holds all denials,
/// including those in Shadow, and a share of the allowed requests.
#[derive(Debug)]
pub struct DecisionLog {
    lines: NonBlockingWriter,
    format: LogFormat,
    allows: SampleRate,
    allowed: AtomicU64,
}

impl DecisionLog {
    /// Creates a log that is written until the returned guard is dropped. Without a format, the log
    /// is text on a terminal and JSON elsewhere.
    ///
    /// # Errors
    /// If the writing thread cannot be started.
    pub fn new(format: Option<LogFormat>, allows: SampleRate) -> io::Result<(Self, FlushGuard)> {
        let stdout = io::stdout();
        let format = format.unwrap_or_else(|| LogFormat::fitting(stdout.is_terminal()));
        let (lines, last) = NonBlockingWriter::new(stdout, "decision-log", |error| {
            tracing::error!("the decision log cannot be written, lines are lost: {error}");
        })?;
        Ok((Self { lines, format, allows, allowed: AtomicU64::new(0) }, last))
    }

    /// Writes a decision, if it is a denial or belongs to the share.
    pub(super) fn write(&self, verdict: Verdict, decision: &Decision) {
        if verdict == Verdict::Allow
            && !self.allows.takes(self.allowed.fetch_add(1, Ordering::Relaxed))
        {
            return;
        }
        let mut line = match self.format {
            LogFormat::Text => record::line(decision),
            LogFormat::Json => record::json(decision),
        };
        line.push('\n');
        // A line without room in the queue is counted as lost.
        let _counted = self.lines.clone().write_all(line.as_bytes());
    }

    /// Returns the number of lost lines: nobody read them fast enough, or they could not be
    /// written.
    pub(super) fn lost(&self) -> DropCounter {
        self.lines.lost()
    }
}

/// A share of the allowed requests, from none (0) to all (1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleRate(f64);

impl SampleRate {
    /// Returns true if the item with this number belongs to the share, which is spread evenly.
    #[expect(clippy::cast_precision_loss, reason = "a share of very many is not that exact")]
    fn takes(self, number: u64) -> bool {
        let before = (number as f64 * self.0).floor();
        ((number as f64 + 1.0) * self.0).floor() > before
    }
}

/// The error of a text that is not a [`SampleRate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareError(String);

impl fmt::Display for ShareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not a share: write a number from 0 (none) to 1 (all), such as 0.01",
            self.0
        )
    }
}

impl std::error::Error for ShareError {}

impl FromStr for SampleRate {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        match text.parse() {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(Self(share)),
            _ => Err(ShareError(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_spread_evenly() {
        let taken = |share: &str, of: u64| {
            let share: SampleRate = share.parse().unwrap();
            (0..of).filter(|number| share.takes(*number)).count()
        };
        assert_eq!(taken("0", 1000), 0);
        assert_eq!(taken("1", 1000), 1000);
        assert_eq!(taken("0.25", 1000), 250);
        assert_eq!(taken("0.25", 4), 1);
        assert_eq!(taken("0.001", 10_000), 10);
        for bad in ["", "-1", "1.1", "NaN", "inf", "1%", "half"] {
            assert!(bad.parse::<SampleRate>().is_err(), "{bad}");
        }
    }
}
