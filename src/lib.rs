//! temp
pub mod json;
pub mod mcp;
pub mod policy;
mod words;
