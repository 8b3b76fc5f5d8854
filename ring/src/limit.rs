//! The limit of open connections of the process.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::waker::Waker;

/// The limit of open connections, shared by all engines of a process. An engine takes a place
/// before it accepts a connection and releases it when the descriptor is closed, so that there are
/// never more connections than the limit.
#[derive(Debug)]
pub struct ConnectionLimit {
    max: usize,
    nearly: usize,
    open: OpenCount,
    /// Whether `waiters` may be non-empty.
    has_waiters: AtomicBool,
    /// The engines that found a connection in a queue and no place for it.
    waiters: Mutex<Vec<Waker>>,
}

/// On its own cache line: every engine writes it for every connection.
#[derive(Debug, Default)]
#[repr(align(128))]
struct OpenCount(AtomicUsize);

impl ConnectionLimit {
    /// At most `max` open connections; `nearly` open ones are close to the limit.
    pub fn new(max: usize, nearly: usize) -> ConnectionLimit {
        ConnectionLimit {
            max,
            nearly,
            open: OpenCount::default(),
            has_waiters: AtomicBool::new(false),
            waiters: Mutex::default(),
        }
    }

    pub fn unlimited() -> ConnectionLimit {
        ConnectionLimit::new(usize::MAX, usize::MAX)
    }

    pub fn max(&self) -> usize {
        self.max
    }

    pub fn open(&self) -> usize {
        self.open.0.load(Ordering::SeqCst)
    }

    /// Whether `nearly` connections are open.
    pub fn is_nearly_reached(&self) -> bool {
        self.open() >= self.nearly
    }

    /// Takes a place for one connection; returns whether there was one.
    pub fn acquire(&self) -> bool {
        let more = |open: usize| (open < self.max).then_some(open + 1);
        self.open.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    /// The same; if there is none, the next release wakes `waker` once.
    pub(crate) fn acquire_or_wait(&self, waker: &Waker) -> bool {
        if self.acquire() {
            return true;
        }
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiters.contains(waker) {
            waiters.push(waker.clone());
        }
        drop(waiters);
        self.has_waiters.store(true, Ordering::SeqCst);
        // A place that was released before the store above has woken nobody: try again.
        self.acquire()
    }

    pub fn release(&self, places: usize) {
        if places == 0 {
            return;
        }
        let open = self.open.0.fetch_sub(places, Ordering::SeqCst);
        debug_assert!(open >= places, "released {places} places of {open}");
        if self.has_waiters.load(Ordering::SeqCst) {
            let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
            self.has_waiters.store(false, Ordering::SeqCst);
            waiters.drain(..).for_each(|waker| waker.wake());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ConnectionLimit;
    use crate::waker::Waker;

    #[test]
    fn a_waiter_is_woken_once_by_the_next_release() {
        let limit = ConnectionLimit::new(2, 1);
        let waker = Waker::new().unwrap();
        assert!(limit.acquire_or_wait(&waker) && limit.acquire_or_wait(&waker));
        assert!(limit.is_nearly_reached());
        assert!(!limit.acquire_or_wait(&waker));
        assert!(!waker.is_pending());
        limit.release(1);
        assert!(waker.is_pending());
        waker.clear();
        limit.release(1);
        assert!(!waker.is_pending());
    }
}
