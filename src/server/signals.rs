//! The signals that ask the process to stop, or to load its policies anew.

use std::io;
use std::sync::mpsc::Sender;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::reload::Cause;

/// The signals that ask the process to stop, or to load its policies anew.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(super) fn register() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Returns when it is asked to stop. Until then it passes on to `look` what asks
    /// for the policies.
    pub(super) async fn stop(&mut self, look: &Sender<Cause>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {
                    // Only a process that ends has nobody to tell.
                    let _ended = look.send(Cause::Signal);
                }
            }
        }
    }
}
