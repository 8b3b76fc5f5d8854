//! Counts with a bound, of what all threads add and remove.
//!
//! One number that all threads change would be a cache line that moves between their cores with
//! each change, and would limit what many cores can do together. So each thread has free places of
//! its own, on a line of its own, and takes more from a common pool when it has none, or returns
//! them when it has many. Only when the pool is empty does it look for places of other threads: so
//! the bound is exact.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Places that a thread takes from the pool or returns to it at once.
const PLACES: u64 = 64;

/// Threads with places of their own; more share them.
const THREADS: usize = 64;

/// A number on cache lines of its own; two, because processors fetch them in pairs.
#[repr(align(128))]
#[derive(Debug)]
struct Places(AtomicU64);

/// How many there are of something, and how many there may be.
#[derive(Debug)]
pub(super) struct BoundedCount {
    max: u64,
    /// Free places of no thread.
    pool: Places,
    /// Free places of each thread.
    free: Box<[Places; THREADS]>,
}

impl Places {
    /// Takes up to `most`. Relaxed: the numbers order nothing, what they count is behind locks.
    fn take(&self, most: u64) -> u64 {
        let less = |free: u64| (free > 0).then(|| free - free.min(most));
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        before.map_or(0, |free| free.min(most))
    }

    /// Returns how many there are then.
    fn put(&self, places: u64) -> u64 {
        self.0.fetch_add(places, Ordering::Relaxed) + places
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl BoundedCount {
    pub(super) fn new(max: u64) -> BoundedCount {
        let free = Box::new([const { Places(AtomicU64::new(0)) }; THREADS]);
        BoundedCount { max, pool: Places(AtomicU64::new(max)), free }
    }

    /// Adds one unless there are as many as may be; returns whether it did.
    pub(super) fn add(&self) -> bool {
        let own = self.own();
        if own.take(1) > 0 {
            return true;
        }
        let places = self.pool.take(PLACES);
        if places > 0 {
            own.put(places - 1);
            return true;
        }
        self.free.iter().any(|other| other.take(1) > 0)
    }

    pub(super) fn subtract(&self, count: u64) {
        if count == 0 {
            return;
        }
        let own = self.own();
        let free = own.put(count);
        if free > 2 * PLACES {
            self.pool.put(own.take(free - PLACES));
        }
    }

    /// How many there are. It reads what each thread writes: not for every announce.
    pub(super) fn count(&self) -> u64 {
        let places = self.free.iter().chain([&self.pool]);
        // Places that move meanwhile may be seen twice.
        let free = places.fold(0, |sum: u64, places| sum.saturating_add(places.count()));
        self.max.saturating_sub(free)
    }

    /// The free places of this thread.
    fn own(&self) -> &Places {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed) % THREADS;
        }
        &self.free[NUMBER.with(|&number| number)]
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn the_bound_is_exact_whoever_has_the_places() {
        for max in [0, 1, PLACES - 1, PLACES, 5 * PLACES + 3] {
            let count = BoundedCount::new(max);
            // Another thread leaves places behind.
            let other = || (0..max / 2 + 1).filter(|_| count.add()).count() as u64;
            let added = thread::scope(|scope| scope.spawn(other).join().expect("it adds"));
            assert_eq!((added, count.count()), ((max / 2 + 1).min(max), added));
            (added..max).for_each(|before| assert!(count.add(), "{before} of {max}"));
            assert!(!count.add() && count.count() == max);
            count.subtract(max.min(1));
            assert_eq!(count.add(), max > 0);
            assert!(!count.add());
        }
    }

    #[test]
    fn places_go_back_to_the_pool() {
        let count = BoundedCount::new(u64::MAX);
        (0..1000).for_each(|_| assert!(count.add()));
        assert_eq!(count.count(), 1000);
        count.subtract(1000);
        assert_eq!(count.count(), 0);
        assert!(count.own().count() <= 2 * PLACES);
    }

    #[test]
    fn threads_never_have_more_than_the_bound() {
        const MAX: u64 = 1000;
        let (count, there) = (BoundedCount::new(MAX), AtomicU64::new(0));
        let work = &|kept: u64| {
            for step in 0..40_000 {
                if count.add() {
                    assert!(there.fetch_add(1, Ordering::SeqCst) < MAX);
                    if step >= kept {
                        there.fetch_sub(1, Ordering::SeqCst);
                        count.subtract(1);
                    }
                }
            }
        };
        thread::scope(|scope| {
            for kept in [300, 300, 500] {
                scope.spawn(move || work(kept));
            }
        });
        assert_eq!(count.count(), there.load(Ordering::SeqCst));
        assert_eq!((0..MAX).filter(|_| count.add()).count() as u64 + there.into_inner(), MAX);
    }
}
