//! Places for the connections to the admin port.
//!
//! A client that connects and then does nothing must not keep probes out. So the connection that
//! has been idle longest gives way to a new one. A connection over which a client watches decisions
//! does not give way. There are fewer watchers than places, so another connection can always give
//! way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Waker};

use crate::address::Peer;
use crate::telemetry::MOST_WATCHERS;

/// The most connections that are open at once. Clients of the admin port must not use up the file
/// descriptors that Envoy's connections need.
const PLACES: usize = 64;

const _: () = assert!(MOST_WATCHERS < PLACES, "watchers must leave places to probes");

/// The places that connections hold.
#[derive(Debug, Default)]
pub struct Places {
    taken: Vec<Weak<Place>>,
    /// A logical clock: it counts the reads and writes of all connections.
    clock: Arc<AtomicU64>,
}

impl Places {
    /// Returns a place for a new connection. If none is free, the connection that has been
    /// idle longest loses its own.
    ///
    /// Returns `None` if clients watch decisions over every connection.
    pub fn take(&mut self) -> Option<Arc<Place>> {
        self.taken.retain(|place| place.strong_count() > 0);
        if self.taken.len() >= PLACES {
            let open = self.taken.iter().enumerate();
            let open = open.filter_map(|(at, place)| Some((at, place.upgrade()?)));
            let idle = open.filter_map(|(at, place)| Some((place.idle_since()?, at, place)));
            let (_, at, longest) = idle.min_by_key(|(since, ..)| *since)?;
            longest.give_way();
            self.taken.swap_remove(at);
        }
        let clock = Arc::clone(&self.clock);
        let place = Arc::new(Place { clock, state: Mutex::default() });
        place.mark_active();
        self.taken.push(Arc::downgrade(&place));
        Some(place)
    }
}

/// The place of one connection. The place is free again when the connection drops it.
#[derive(Debug)]
pub struct Place {
    clock: Arc<AtomicU64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The value of the clock when the connection last read or wrote bytes.
    active_at: u64,
    watchers: usize,
    is_lost: bool,
    /// Wakes the task of the connection.
    waker: Option<Waker>,
}

impl Place {
    /// Notes that the connection has read or written bytes.
    pub fn mark_active(&self) {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        self.with(|state| state.active_at = now);
    }

    /// Returns true if the connection must close. Otherwise wakes its task once the connection
    /// must.
    pub fn poll_lost(&self, context: &Context<'_>) -> bool {
        self.with(|state| {
            if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                state.waker = Some(context.waker().clone());
            }
            state.is_lost
        })
    }

    /// Returns a guard. While the guard exists, the connection keeps its place.
    pub(super) fn keep(self: Arc<Self>) -> Kept {
        self.with(|state| state.watchers += 1);
        Kept(self)
    }

    /// Returns the clock value of the last activity, or `None` while a client watches over the
    /// connection.
    fn idle_since(&self) -> Option<u64> {
        self.with(|state| (state.watchers == 0).then_some(state.active_at))
    }

    fn give_way(&self) {
        let waker = self.with(|state| {
            state.is_lost = true;
            state.waker.take()
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        // No code panics while it holds the lock.
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A guard that keeps the place of a connection.
#[derive(Debug)]
pub(super) struct Kept(Arc<Place>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.with(|state| state.watchers -= 1);
    }
}

/// The client of a connection to the admin port.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The other end of the connection.
    pub peer: Peer,
    /// The place of the connection.
    pub place: Arc<Place>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_lost(place: &Place) -> bool {
        place.poll_lost(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn longest_idle_place_is_lost() {
        let mut places = Places::default();
        let taken: Vec<_> = (0..PLACES).map(|_| places.take().unwrap()).collect();
        assert!(!taken.iter().any(|place| is_lost(place)));
        taken[0].mark_active();
        let _new = places.take().unwrap();
        let lost: Vec<usize> = (0..PLACES).filter(|&at| is_lost(&taken[at])).collect();
        assert_eq!(lost, [1]);
    }

    #[test]
    fn free_place_is_taken_first() {
        let mut places = Places::default();
        let mut taken: Vec<_> = (0..PLACES).map(|_| places.take().unwrap()).collect();
        taken.remove(5);
        let _new = places.take().unwrap();
        assert!(!taken.iter().any(|place| is_lost(place)));
    }

    #[test]
    fn watched_place_is_kept() {
        let mut places = Places::default();
        let taken: Vec<_> = (0..PLACES).map(|_| places.take().unwrap()).collect();
        let kept: Vec<_> =
            taken.iter().take(MOST_WATCHERS).map(|place| Arc::clone(place).keep()).collect();
        // These are more connections than places, so that all connections without watchers lose
        // theirs.
        let new: Vec<_> = (0..2 * PLACES).map(|_| places.take().unwrap()).collect();
        let (watched, idle) = taken.split_at(MOST_WATCHERS);
        assert!(!watched.iter().any(|place| is_lost(place)));
        assert!(idle.iter().all(|place| is_lost(place)));
        assert!(!is_lost(new.last().unwrap()));
        drop(kept);
        let _new: Vec<_> = (0..PLACES).map(|_| places.take().unwrap()).collect();
        assert!(watched.iter().all(|place| is_lost(place)));
    }
}
