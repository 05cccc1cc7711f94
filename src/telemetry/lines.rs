//! Lines that a separate thread writes, so that a reader who does not read delays no request.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::time::Duration;

/// The most lines, and the most bytes, that may wait to be written. Further lines are dropped.
const MOST_LINES: usize = 16_384;
const MOST_BYTES: usize = 16 << 20;
/// The longest time to write the last lines.
const LAST_CALL: Duration = Duration::from_secs(1);

/// A queue of lines; each call of `write` adds one line.
#[derive(Debug, Clone)]
pub(super) struct NonBlockingWriter {
    queue: SyncSender<Vec<u8>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting_bytes: AtomicUsize,
    lost: AtomicU64,
}

/// The number of lost lines: there was no room for them, or they could not be written.
#[derive(Debug, Clone)]
pub(super) struct DropCounter(Arc<Shared>);

impl DropCounter {
    pub(super) fn lines(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }
}

/// A guard that gives waiting lines some time to be written when it is dropped.
#[derive(Debug)]
pub struct FlushGuard {
    stop: SyncSender<Vec<u8>>,
    ended: Receiver<()>,
}

/// The item that ends the queue; no line is empty.
const STOP: Vec<u8> = Vec::new();

impl Drop for FlushGuard {
    fn drop(&mut self) {
        // If the queue is full, the writer is stuck, so waiting would be useless.
        if self.stop.try_send(STOP).is_ok() {
            // The wait ends without success if the reader does not read.
            let _in_time = self.ended.recv_timeout(LAST_CALL);
        }
    }
}

impl NonBlockingWriter {
    /// Writes lines to `to` until the returned guard is dropped. Calls `failed` for the first line
    /// that cannot be written.
    pub(super) fn new(
        mut to: impl Write + Send + 'static,
        thread: &str,
        failed: impl Fn(&io::Error) + Send + 'static,
    ) -> io::Result<(Self, FlushGuard)> {
        let (queue, lines) = sync_channel::<Vec<u8>>(MOST_LINES);
        let (end, ended) = channel();
        let shared = Arc::<Shared>::default();
        let counted = Arc::clone(&shared);
        std::thread::Builder::new().name(thread.to_owned()).spawn(move || {
            let mut is_told = false;
            for line in lines {
                if line.is_empty() {
                    break;
                }
                counted.waiting_bytes.fetch_sub(line.len(), Ordering::Relaxed);
                if let Err(error) = to.write_all(&line).and_then(|()| to.flush()) {
                    counted.lost.fetch_add(1, Ordering::Relaxed);
                    if !is_told {
                        is_told = true;
                        failed(&error);
                    }
                }
            }
            // The guard may have stopped waiting already.
            let _nobody_waits = end.send(());
        })?;
        let last = FlushGuard { stop: queue.clone(), ended };
        Ok((Self { queue, shared }, last))
    }

    pub(super) fn lost(&self) -> DropCounter {
        DropCounter(Arc::clone(&self.shared))
    }
}

impl Write for NonBlockingWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if line.is_empty() {
            return Ok(0);
        }
        let Shared { waiting_bytes, lost } = &*self.shared;
        let before = waiting_bytes.fetch_add(line.len(), Ordering::Relaxed);
        let has_room = before.saturating_add(line.len()) <= MOST_BYTES;
        if !has_room || self.queue.try_send(line.to_vec()).is_err() {
            waiting_bytes.fetch_sub(line.len(), Ordering::Relaxed);
            lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A writer that blocks until the other end is dropped.
    struct Stuck(Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _released = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_does_not_read_holds_nobody_up_at_the_end_either() {
        let (release, stuck) = channel();
        let (mut lines, last) = NonBlockingWriter::new(Stuck(stuck), "stuck", |_| {}).unwrap();
        for _ in 0..MOST_LINES + 100 {
            lines.write_all(b"line\n").unwrap();
        }
        // The writer has taken one line, or will take it.
        assert!((99..=100).contains(&lines.lost().lines()));
        // This would block forever if it waited for room in the queue.
        drop(last);
        drop(release);
    }

    #[test]
    fn large_lines_are_bounded_by_their_bytes() {
        let (release, stuck) = channel();
        let (mut lines, _last) = NonBlockingWriter::new(Stuck(stuck), "stuck", |_| {}).unwrap();
        let large = vec![b'x'; MOST_BYTES / 4];
        for _ in 0..10 {
            lines.write_all(&large).unwrap();
        }
        // Four lines wait, and the writer may have taken one.
        assert!((5..=6).contains(&lines.lost().lines()), "{}", lines.lost().lines());
        drop(release);
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_told_once() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let told = Arc::<Mutex<usize>>::default();
        let telling = Arc::clone(&told);
        let (mut lines, last) =
            NonBlockingWriter::new(Full, "full", move |_| *telling.lock().unwrap() += 1).unwrap();
        for _ in 0..3 {
            lines.write_all(b"line\n").unwrap();
        }
        let lost = lines.lost();
        drop(last);
        assert_eq!((lost.lines(), *told.lock().unwrap()), (3, 1));
    }
}
