//! The limits on concurrent work.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body::{Frame, SizeHint};
use tonic::codegen::Bytes;

use crate::telemetry::{Held, HeldBytes, OpenStream};

/// The bytes that each stream may buffer whatever other streams buffer. Most calls are smaller.
const ALWAYS_HELD: i64 = 16 << 10;

/// The limits on concurrent work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// The most open streams, one per request.
    pub streams: usize,
    /// The most buffered bytes of bodies, over all streams.
    pub held_bytes: usize,
    /// The longest time until a request must be complete.
    pub body_timeout: Duration,
}

impl Capacity {
    /// Returns true if the other streams leave room for one that has just been opened.
    pub(super) fn has_room(&self, open: &OpenStream) -> bool {
        usize::try_from(open.others()).is_ok_and(|others| others < self.streams)
    }

    /// Returns the most resumed streams that may be open. Clients keep such streams open as long as
    /// they like.
    pub(super) fn max_replays(&self) -> usize {
        (self.streams / 4).max(1)
    }

    /// Returns true if the limit is exceeded and this stream contributes to that. A stream with few
    /// buffered bytes is never affected.
    pub(super) fn is_exceeded_by(&self, held: HeldBytes) -> bool {
        held.own > ALWAYS_HELD && usize::try_from(held.all).is_ok_and(|held| held > self.held_bytes)
    }
}

/// The incoming bytes of a stream, counted before they are decoded to messages, because an
/// incomplete message needs memory, too.
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

    /// Returns the next frame. Once the limit is exceeded, incoming data is discarded: to stop
    /// reading would break the stream off before its answer.
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
