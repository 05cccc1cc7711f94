//! temp
pub mod challenge;
pub mod claims;
pub mod cli;
pub mod config;
pub mod extproc;
pub mod gate;
pub mod json;
pub mod mcp;
pub mod policy;
pub mod server;
pub mod telemetry;
mod words;
