//! The gate in force, which can be replaced while it is used.

use std::sync::{Arc, PoisonError, RwLock};

use super::Gate;

/// The gate that judges new requests. Whoever has taken it keeps it, so that a
/// request is judged by one policy from start to end.
#[derive(Debug)]
pub struct LiveGate(RwLock<Arc<Gate>>);

impl LiveGate {
    /// Starts with a gate.
    pub fn new(gate: Gate) -> Self {
        Self(RwLock::new(Arc::new(gate)))
    }

    /// The gate in force now.
    pub fn current(&self) -> Arc<Gate> {
        // Nothing panics while it holds the lock, and an `Arc` is never half
        // replaced.
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another gate in force.
    pub fn replace(&self, gate: Gate) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(gate);
    }
}
