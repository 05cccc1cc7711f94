//! temp
pub mod json;
pub mod mcp;
