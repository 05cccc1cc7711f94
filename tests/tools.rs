//! What tests of files beside the program need.

pub mod debian;
pub mod pip;
pub mod yaml;
