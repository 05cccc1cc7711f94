//! The log of mcp-authz itself.

use std::fmt;
use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing::Level;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use super::lines::{FlushGuard, NonBlockingWriter};

/// The environment variable that selects the logged events.
const RUST_LOG: &str = "RUST_LOG";

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line, for programs.
    Json,
}

impl LogFormat {
    pub(super) fn fitting(is_terminal: bool) -> Self {
        if is_terminal { Self::Text } else { Self::Json }
    }
}

/// Starts to write logs to standard error, until the returned value is dropped. `RUST_LOG` selects
/// the events; the default is level `info`. Without a format, logs are text on a terminal and JSON
/// elsewhere.
///
/// # Errors
/// If `RUST_LOG` is not a filter, if the process already logs, or if no thread can be started.
pub fn init(format: Option<LogFormat>) -> Result<FlushGuard, InitError> {
    let is_terminal = std::io::stderr().is_terminal();
    let format = format.unwrap_or_else(|| LogFormat::fitting(is_terminal));
    let filter = match std::env::var(RUST_LOG) {
        Ok(filter) => filter.parse::<Targets>().map_err(InitError::Filter)?,
        Err(_not_set) => Targets::new().with_default(Level::INFO),
    };
    // An error of the log itself cannot be reported anywhere.
    let (lines, last) =
        NonBlockingWriter::new(std::io::stderr(), "log", |_| {}).map_err(InitError::Thread)?;
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(move || lines.clone())
        .with_ansi(is_terminal)
        .with_target(false)
        // A log that nobody reads any more must not end the process.
        .log_internal_errors(false);
    let registry = tracing_subscriber::registry();
    match format {
        LogFormat::Text => registry.with(layer.with_filter(filter)).try_init(),
        LogFormat::Json => {
            registry.with(layer.json().flatten_event(true).with_filter(filter)).try_init()
        }
    }
    .map_err(InitError::Again)?;
    Ok(last)
}

/// The reason why logging cannot start.
#[derive(Debug)]
pub enum InitError {
    /// `RUST_LOG` is not a filter.
    Filter(ParseError),
    /// The process already logs.
    Again(TryInitError),
    /// The writing thread cannot be started.
    Thread(std::io::Error),
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filter(error) => {
                write!(f, "{RUST_LOG}: {error}: write `info`, `debug` or `mcp_authz=debug,warn`")
            }
            Self::Again(error) => error.fmt(f),
            Self::Thread(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for InitError {}
