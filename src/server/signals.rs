//! The signals that stop the process or reload its policies.

use std::io;
use std::sync::mpsc::Sender;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::reload::ReloadTrigger;

/// The signals that stop the process or reload its policies.
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

    /// Returns after a signal to stop. Until then, forwards each signal to reload to `look`.
    pub(super) async fn stop(&mut self, look: &Sender<ReloadTrigger>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {
                    // An error means that the reloader has ended, which happens only when the
                    // process ends.
                    let _ended = look.send(ReloadTrigger::Signal);
                }
            }
        }
    }
}
