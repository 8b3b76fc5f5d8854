//! The locks of the shards.

use std::fmt::Debug;
use std::hint::spin_loop;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use super::shard::Shard;

/// How often a thread tries to get a lock before it sleeps. Locks are held for less than a
/// microsecond, and to sleep and be woken takes several: only for a thread that was preempted with
/// the lock does it pay. All tries together take some tens of microseconds.
const TRIES: u32 = 16;

/// The most pauses between two tries. They double from one on: each try takes the cache line from
/// the thread that has the lock.
const PAUSES_MAX: u32 = 64;

/// Watches the locks of the shards, for benchmarks and tests. The thread that is concerned calls.
pub trait LockObserver: Debug + Send + Sync {
    /// Another thread has the lock that this one needs.
    fn waits(&self) {}

    fn locked(&self) {}

    fn unlocks(&self) {}
}

/// A shard on cache lines of its own; two, because processors fetch them in pairs.
#[repr(align(128))]
#[derive(Debug)]
pub(super) struct ShardLock(Mutex<Shard>);

const _: () = assert!(size_of::<ShardLock>() == 128);

/// A shard that this thread has locked.
pub(super) struct ShardGuard<'a> {
    shard: MutexGuard<'a, Shard>,
    observer: Option<&'a dyn LockObserver>,
}

impl ShardLock {
    pub(super) fn new() -> ShardLock {
        ShardLock(Mutex::new(Shard::new()))
    }

    /// Locks the shard. If a thread panicked while it held the lock, the shard is still memory safe
    /// and at most one torrent is wrong: serving the others is better than failing.
    pub(super) fn lock<'a>(&'a self, observer: Option<&'a dyn LockObserver>) -> ShardGuard<'a> {
        if let Some(shard) = self.try_lock(observer) {
            return shard;
        }
        observer.inspect(|observer| observer.waits());
        for round in 0..TRIES {
            (0..(1 << round).min(PAUSES_MAX)).for_each(|_| spin_loop());
            if let Some(shard) = self.try_lock(observer) {
                return shard;
            }
        }
        ShardGuard::new(self.0.lock().unwrap_or_else(PoisonError::into_inner), observer)
    }

    /// Locks the shard unless another thread has locked it.
    pub(super) fn try_lock<'a>(
        &'a self,
        observer: Option<&'a dyn LockObserver>,
    ) -> Option<ShardGuard<'a>> {
        match self.0.try_lock() {
            Ok(shard) => Some(ShardGuard::new(shard, observer)),
            Err(TryLockError::Poisoned(poisoned)) => {
                Some(ShardGuard::new(poisoned.into_inner(), observer))
            }
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl<'a> ShardGuard<'a> {
    fn new(shard: MutexGuard<'a, Shard>, observer: Option<&'a dyn LockObserver>) -> Self {
        observer.inspect(|observer| observer.locked());
        ShardGuard { shard, observer }
    }
}

impl Deref for ShardGuard<'_> {
    type Target = Shard;

    fn deref(&self) -> &Shard {
        &self.shard
    }
}

impl DerefMut for ShardGuard<'_> {
    fn deref_mut(&mut self) -> &mut Shard {
        &mut self.shard
    }
}

impl Drop for ShardGuard<'_> {
    fn drop(&mut self) {
        self.observer.inspect(|observer| observer.unlocks());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    use super::*;

    /// Calls of each kind.
    #[derive(Debug, Default)]
    struct LockCalls {
        waits: AtomicU32,
        locked: AtomicU32,
        unlocks: AtomicU32,
    }

    impl LockObserver for LockCalls {
        fn waits(&self) {
            self.waits.fetch_add(1, Ordering::SeqCst);
        }

        fn locked(&self) {
            self.locked.fetch_add(1, Ordering::SeqCst);
        }

        fn unlocks(&self) {
            self.unlocks.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn an_observer_is_told_of_every_wait_and_lock() {
        let (lock, calls) = (ShardLock::new(), Arc::new(LockCalls::default()));
        let counts = || {
            [&calls.waits, &calls.locked, &calls.unlocks].map(|count| count.load(Ordering::SeqCst))
        };
        let held = lock.lock(Some(&*calls));
        assert!(lock.try_lock(Some(&*calls)).is_none());
        assert_eq!(counts(), [0, 1, 0]);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| drop(lock.lock(Some(&*calls))));
            while counts()[0] == 0 {
                thread::yield_now();
            }
            assert_eq!(counts(), [1, 1, 0]);
            drop(held);
            waiting.join().expect("it is let in");
        });
        assert_eq!(counts(), [1, 2, 2]);
    }
}
