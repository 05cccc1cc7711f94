//! Logs.

use std::fmt;
use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing::Level;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use super::lines::{LastLines, Lines};

/// The environment variable that selects what is logged.
const RUST_LOG: &str = "RUST_LOG";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for programs.
    Json,
}

impl LogFormat {
    pub(super) fn fitting(is_terminal: bool) -> Self {
        if is_terminal { Self::Text } else { Self::Json }
    }
}

/// Writes logs to standard error from now on, and as long as what is given back lives:
/// `RUST_LOG` selects what, all of level `info` if it is not set. Without a format:
/// text on a terminal, JSON elsewhere.
///
/// # Errors
/// If `RUST_LOG` is not a filter, or the process logs already.
pub fn init(format: Option<LogFormat>) -> Result<LastLines, InitError> {
    let is_terminal = std::io::stderr().is_terminal();
    let format = format.unwrap_or_else(|| LogFormat::fitting(is_terminal));
    let filter = match std::env::var(RUST_LOG) {
        Ok(filter) => filter.parse::<Targets>().map_err(InitError::Filter)?,
        Err(_not_set) => Targets::new().with_default(Level::INFO),
    };
    // What cannot be written here can be told nowhere.
    let (lines, last) = Lines::new(std::io::stderr(), "log", |_| {}).map_err(InitError::Thread)?;
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

/// Why nothing can be logged.
#[derive(Debug)]
pub enum InitError {
    /// `RUST_LOG` is not a filter.
    Filter(ParseError),
    /// The process logs already.
    Again(TryInitError),
    /// There can be no thread that writes.
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
