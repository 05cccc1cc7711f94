//! What tests need that is not mcp-authz.

pub mod pip;
pub mod yaml;
