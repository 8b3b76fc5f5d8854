//! The state of reloads, shared by the thread that reads and the main thread, which watches it.
//!
//! A read of a file may hang, and nothing ends it from outside. A reload that takes too long is
//! therefore given up: its thread goes on to hang, and nothing that it reads later takes effect.
//! The next reload begins after it has ended, so at most one thread ever hangs.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Clock;
use crate::limits::{RELOAD_S_MAX, RELOAD_SLOW_S};
use crate::log;
use crate::os::{Notifier, ReloadHealth};

const SLOW: Duration = Duration::from_secs(RELOAD_SLOW_S as u64);
const MAX: Duration = Duration::from_secs(RELOAD_S_MAX as u64);

pub(super) struct ReloadThread {
    state: Mutex<ReloadState>,
    changed: Condvar,
    pub(super) notifier: Notifier,
    /// What the service manager shows of a tracker that serves.
    status: String,
    pub(super) reload_health: Arc<ReloadHealth>,
    clock: Clock,
}

#[derive(Default)]
struct ReloadState {
    /// A reload is to begin, at once or after the present one.
    requested: bool,
    running: Option<RunningReload>,
    /// The tracker ends: nothing takes effect any more.
    stopped: bool,
}

struct RunningReload {
    began: Duration,
    reading: Option<&'static str>,
    warned: bool,
    abandoned: bool,
}

/// For the main thread.
impl ReloadThread {
    pub(super) fn new(
        notifier: Notifier,
        status: String,
        reload_health: Arc<ReloadHealth>,
        clock: Clock,
    ) -> ReloadThread {
        let (state, changed) = Default::default();
        ReloadThread { state, changed, notifier, status, reload_health, clock }
    }

    /// Has a reload begin: now, or once when the present one has ended.
    pub(super) fn request(&self) {
        let mut state = self.lock();
        state.requested = true;
        self.changed.notify_all();
        if state.running.as_ref().is_some_and(|running| running.abandoned) {
            log::warning(format_args!(
                "the reload that was given up still hangs: the next begins when that has ended"
            ));
        }
    }

    /// Logs that a reload takes long, and gives it up in the end. To be called about once a second
    /// while [`ReloadThread::is_busy`].
    pub(super) fn check(&self) {
        let mut state = self.lock();
        let Some(running) = state.running.as_mut().filter(|running| !running.abandoned) else {
            return;
        };
        let Some(what) = running.reading else { return };
        let taken = self.clock.now().saturating_sub(running.began);
        if taken >= MAX {
            running.abandoned = true;
            self.reload_health.note_reload_hangs(true);
            log::error(format_args!(
                "reload given up: the {what} could not be read within {RELOAD_S_MAX} seconds of \
                 its begin: what was in use stays; see whether the disk of the files answers, and \
                 reload"
            ));
            self.notifier.try_ready(&self.status);
        } else if taken >= SLOW && !running.warned {
            running.warned = true;
            log::warning(format_args!("the reload takes long: it is still reading the {what}"));
        }
    }

    /// Whether a reload runs that was not given up.
    pub(super) fn is_busy(&self) -> bool {
        let state = self.lock();
        state.requested || state.running.as_ref().is_some_and(|running| !running.abandoned)
    }

    /// Nothing takes effect after this. A thread that hangs ends with the process.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
    }

    fn lock(&self) -> MutexGuard<'_, ReloadState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For the thread that reads.
impl ReloadThread {
    /// Waits for a request, and begins a reload.
    pub(super) fn begin(&self) {
        let state = self.changed.wait_while(self.lock(), |state| !state.requested);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.requested = false;
        let began = self.clock.now();
        let running = RunningReload { began, reading: None, warned: false, abandoned: false };
        state.running = Some(running);
        drop(state);
        self.notifier.reloading();
    }

    /// Notes what is read from now on.
    pub(super) fn set_reading(&self, what: &'static str) {
        if let Some(running) = &mut self.lock().running {
            running.reading = Some(what);
        }
    }

    /// Applies what was read, unless the reload was given up or the tracker ends.
    pub(super) fn apply<T>(&self, effect: impl FnOnce() -> T) -> Option<T> {
        let mut state = self.lock();
        let stopped = state.stopped;
        let running = state.running.as_mut().filter(|running| !running.abandoned && !stopped)?;
        running.reading = None;
        Some(effect())
    }

    /// Ends the reload.
    pub(super) fn end(&self) {
        let running = self.lock().running.take();
        if running.is_some_and(|running| running.abandoned) {
            self.reload_health.note_reload_hangs(false);
            log::info(format_args!(
                "the reload that was given up has ended: nothing of it is used"
            ));
        } else {
            self.notifier.ready(&self.status);
        }
    }
}
