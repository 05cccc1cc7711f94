//! The current gate, which can be replaced while requests use it.

use std::sync::{Arc, PoisonError, RwLock};

use super::Gate;

/// The gate that decides about new requests. A request keeps the gate that it began with, so one
/// policy decides about the request from start to end.
#[derive(Debug)]
pub struct LiveGate(RwLock<Arc<Gate>>);

impl LiveGate {
    /// Creates a holder with its first gate.
    pub fn new(gate: Gate) -> Self {
        Self(RwLock::new(Arc::new(gate)))
    }

    /// Returns the current gate.
    pub fn current(&self) -> Arc<Gate> {
        // No code panics while it holds the lock, and an `Arc` is never half replaced.
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the current gate.
    pub fn replace(&self, gate: Gate) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(gate);
    }
}
