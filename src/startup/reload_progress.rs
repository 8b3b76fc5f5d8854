//! The progress of reloads, shared by the thread that reads and the one that watches it.
//!
//! A read of a file may hang, and nothing ends it from outside. A reload that takes too long is
//! therefore abandoned: its thread goes on to hang, and nothing that it reads later takes effect.
//! The next reload begins after it has ended, so at most one thread ever hangs.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::limits::{RELOAD_S_MAX, RELOAD_SLOW_S};

const SLOW: Duration = Duration::from_secs(RELOAD_SLOW_S as u64);
const MAX: Duration = Duration::from_secs(RELOAD_S_MAX as u64);

#[derive(Debug, Default)]
pub(super) struct ReloadProgress {
    state: Mutex<ReloadState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct ReloadState {
    /// A reload is to begin, at once or after the present one.
    requested: bool,
    running: Option<RunningReload>,
    /// The tracker ends: nothing takes effect any more.
    stopped: bool,
}

#[derive(Debug)]
struct RunningReload {
    began: Duration,
    reading: Option<&'static str>,
    warned: bool,
    abandoned: bool,
}

/// A reload that takes long, with what it is reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReloadDelay {
    Slow(&'static str),
    Abandoned(&'static str),
}

impl ReloadProgress {
    /// Has a reload begin: now, or when the present one has ended. Returns whether that one is
    /// abandoned.
    pub(super) fn request(&self) -> bool {
        let mut state = self.lock();
        state.requested = true;
        self.changed.notify_all();
        state.running.as_ref().is_some_and(|running| running.abandoned)
    }

    /// Waits for a request, and begins a reload at the time of `now`.
    pub(super) fn begin(&self, now: impl Fn() -> Duration) {
        let state = self.changed.wait_while(self.lock(), |state| !state.requested);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.requested = false;
        let running =
            RunningReload { began: now(), reading: None, warned: false, abandoned: false };
        state.running = Some(running);
    }

    /// Notes what is read from now on.
    pub(super) fn set_reading(&self, what: &'static str) {
        if let Some(running) = &mut self.lock().running {
            running.reading = Some(what);
        }
    }

    /// Applies what was read, unless the reload is abandoned or the tracker ends.
    pub(super) fn apply<T>(&self, effect: impl FnOnce() -> T) -> Option<T> {
        let mut state = self.lock();
        let stopped = state.stopped;
        let running = state.running.as_mut().filter(|running| !running.abandoned && !stopped)?;
        running.reading = None;
        Some(effect())
    }

    /// Ends the reload. Returns whether it was abandoned before.
    pub(super) fn end(&self) -> bool {
        self.lock().running.take().is_some_and(|running| running.abandoned)
    }

    /// Checks whether the reload, if there is one, takes too long, and abandons it in the end.
    pub(super) fn check(&self, now: Duration) -> Option<ReloadDelay> {
        let mut state = self.lock();
        let running = state.running.as_mut().filter(|running| !running.abandoned)?;
        let (reading, taken) = (running.reading?, now.saturating_sub(running.began));
        if taken >= MAX {
            running.abandoned = true;
            return Some(ReloadDelay::Abandoned(reading));
        }
        let is_slow = taken >= SLOW && !running.warned;
        running.warned |= is_slow;
        is_slow.then_some(ReloadDelay::Slow(reading))
    }

    /// Whether [`ReloadProgress::check`] may have something to find.
    pub(super) fn is_busy(&self) -> bool {
        let state = self.lock();
        state.requested || state.running.as_ref().is_some_and(|running| !running.abandoned)
    }

    /// Nothing takes effect after this.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
    }

    fn lock(&self) -> MutexGuard<'_, ReloadState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
