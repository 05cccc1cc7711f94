//! How much is taken on at once.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body::{Frame, SizeHint};
use tonic::codegen::Bytes;

use crate::telemetry::{Held, HeldBytes, OpenStream};

/// As much is held for each stream, whatever the others hold: more than most calls are.
const ALWAYS_HELD: i64 = 16 << 10;

/// How much is taken on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// How many streams, one a request.
    pub streams: usize,
    /// How many bytes of bodies are held for all of them.
    pub held_bytes: usize,
    /// How long a request may take to come whole.
    pub body_timeout: Duration,
}

impl Capacity {
    /// Returns true if other streams leave room to one that has just been opened.
    pub(super) fn has_room(&self, open: &OpenStream) -> bool {
        usize::try_from(open.others()).is_ok_and(|others| others < self.streams)
    }

    /// Returns the number of resumed streams that may be open: clients keep them open as long as
    /// they like.
    pub(super) fn max_replays(&self) -> usize {
        (self.streams / 4).max(1)
    }

    /// Whether more is held than may be, and this stream has a part in it: who holds
    /// much takes no room from those who need little.
    pub(super) fn is_exceeded_by(&self, held: HeldBytes) -> bool {
        held.own > ALWAYS_HELD && usize::try_from(held.all).is_ok_and(|held| held > self.held_bytes)
    }
}

/// What comes of a stream, counted before messages are made of it: a part of a
/// message takes room, too.
#[derive(Debug)]
pub(super) struct Counted<B> {
    body: B,
    held: Arc<Held>,
    capacity: Capacity,
}

impl<B> Counted<B> {
    pub(super) fn new(body: B, held: Arc<Held>, capacity: Capacity) -> Self {
        Self { body, held, capacity }
    }
}

impl<B: http_body::Body<Data = Bytes> + Unpin> http_body::Body for Counted<B> {
    type Data = Bytes;
    type Error = B::Error;

    /// Once too much is held, what comes is thrown away: to read no further would
    /// break the stream off before its answer.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        loop {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
            if let Some(Ok(frame)) = &frame
                && let Some(data) = frame.data_ref()
            {
                if self.held.is_full() {
                    continue;
                }
                let held = self.held.more(data.len());
                if self.capacity.is_exceeded_by(held) && self.held.fill() {
                    continue;
                }
            }
            return Poll::Ready(frame);
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
