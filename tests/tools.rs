//! Helpers for the tests of files beside the program.

pub mod debian;
pub mod pip;
pub mod yaml;
