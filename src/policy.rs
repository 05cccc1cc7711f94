//! temp
pub mod condition;
