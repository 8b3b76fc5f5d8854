//! How far a reload is: what the thread at it and the one that watches it both have to know.
//!
//! A read of a file may hang, and nothing ends it from outside. So a reload that takes too long is
//! given up: its thread goes on to hang, and nothing that it reads later takes effect. No other
//! reload begins before that, so that no more than one thread ever hangs.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::limits::{RELOAD_S_MAX, RELOAD_SLOW_S};

const SLOW: Duration = Duration::from_secs(RELOAD_SLOW_S as u64);
const MAX: Duration = Duration::from_secs(RELOAD_S_MAX as u64);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Progress {
    state: Mutex<State>,
    asked: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Whether a reload is to begin, at once or after the present one.
    wanted: bool,
    running: Option<Running>,
    /// Whether nothing is to take effect any more, as the tracker ends.
    stopped: bool,
}

#[derive(Debug)]
struct Running {
    began: Duration,
    /// What is being read, if anything is.
    reading: Option<&'static str>,
    said_slow: bool,
    given_up: bool,
}

/// What is to be said of a reload that takes its time, and of what it is reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// It does.
    Slow(&'static str),
    /// It is given up.
    GivenUp(&'static str),
}

impl Progress {
    /// Has a reload begin: now, or when the present one has ended. Whether that one hangs.
    pub(super) fn ask(&self) -> bool {
        let mut state = self.lock();
        state.wanted = true;
        self.asked.notify_all();
        state.running.as_ref().is_some_and(|running| running.given_up)
    }

    /// Waits until a reload is to begin, which does then; `now` tells the time.
    pub(super) fn begin(&self, now: impl Fn() -> Duration) {
        let state = self.asked.wait_while(self.lock(), |state| !state.wanted);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.wanted = false;
        let began = now();
        state.running = Some(Running { began, reading: None, said_slow: false, given_up: false });
    }

    /// Notes what is being read from now on.
    pub(super) fn read(&self, what: &'static str) {
        if let Some(running) = &mut self.lock().running {
            running.reading = Some(what);
        }
    }

    /// Has what was read take effect, unless it comes too late.
    pub(super) fn apply<T>(&self, effect: impl FnOnce() -> T) -> Option<T> {
        let mut state = self.lock();
        let stopped = state.stopped;
        let running = state.running.as_mut().filter(|running| !running.given_up && !stopped)?;
        running.reading = None;
        Some(effect())
    }

    /// Ends the reload. Whether it was given up before.
    pub(super) fn end(&self) -> bool {
        self.lock().running.take().is_some_and(|running| running.given_up)
    }

    /// Looks whether the reload, if there is one, takes too long.
    pub(super) fn watch(&self, now: Duration) -> Option<Late> {
        let mut state = self.lock();
        let running = state.running.as_mut().filter(|running| !running.given_up)?;
        let (reading, taken) = (running.reading?, now.saturating_sub(running.began));
        if taken >= MAX {
            running.given_up = true;
            return Some(Late::GivenUp(reading));
        }
        let is_slow = taken >= SLOW && !running.said_slow;
        running.said_slow |= is_slow;
        is_slow.then_some(Late::Slow(reading))
    }

    /// Whether there is anything to be watched.
    pub(super) fn is_busy(&self) -> bool {
        let state = self.lock();
        state.wanted || state.running.as_ref().is_some_and(|running| !running.given_up)
    }

    /// Has nothing take effect any more.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, Late, MAX, Progress, SLOW};

    const SECOND: Duration = Duration::from_secs(1);
    const BEGAN: Duration = Duration::from_secs(100);

    /// One that has begun, and reads something.
    fn begun() -> Progress {
        let progress = Progress::default();
        assert!(!progress.ask());
        progress.begin(|| BEGAN);
        progress.read("something");
        progress
    }

    #[test]
    fn what_is_read_in_time_takes_effect() {
        let progress = begun();
        assert_eq!(progress.watch(BEGAN + SLOW - SECOND), None);
        assert_eq!(progress.apply(|| 1), Some(1));
        progress.read("something else");
        assert_eq!(progress.watch(BEGAN + SLOW), Some(Late::Slow("something else")));
        assert_eq!(progress.watch(BEGAN + MAX - SECOND), None);
        assert_eq!(progress.apply(|| 2), Some(2));
        // Nothing is being read any more that could be given up.
        assert_eq!(progress.watch(BEGAN + MAX), None);
        assert!(progress.is_busy());
        assert!(!progress.end());
        assert!(!progress.is_busy());
    }

    #[test]
    fn what_is_read_too_late_does_not() {
        let progress = begun();
        assert_eq!(progress.watch(BEGAN + MAX), Some(Late::GivenUp("something")));
        assert_eq!(progress.watch(BEGAN + 2 * MAX), None);
        assert!(!progress.is_busy());
        assert_eq!(progress.apply(|| 1), None);
        // Who asks now is told so, and waits.
        assert!(progress.ask());
        assert!(progress.end());
        progress.begin(|| BEGAN + 3 * MAX);
        progress.read("something");
        assert_eq!(progress.watch(BEGAN + 3 * MAX), None);
        assert_eq!(progress.apply(|| 2), Some(2));
        assert!(!progress.end());
    }

    #[test]
    fn however_often_it_is_asked_for_meanwhile_one_more_follows() {
        let progress = begun();
        for _ in 0..10 {
            assert!(!progress.ask());
        }
        assert!(!progress.end());
        assert!(progress.is_busy());
        progress.begin(|| BEGAN);
        assert!(!progress.end());
        assert!(!progress.is_busy());
    }

    #[test]
    fn nothing_takes_effect_after_a_stop() {
        let progress = begun();
        progress.stop();
        assert_eq!(progress.apply(|| 1), None);
    }
}
