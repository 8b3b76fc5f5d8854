//! The only clock of the program: every other module takes the time as an argument, or a `Clock`.
#![expect(clippy::disallowed_methods, reason = "this is the clock")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Monotonic time since the process began to serve: what timeouts and swarms count in.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that shows zero now.
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    /// The time since the start.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Whole seconds since the start.
    pub fn now_s(&self) -> u32 {
        whole_seconds(self.now())
    }

    /// Microseconds of CLOCK_MONOTONIC, by which a service manager orders events.
    pub(crate) fn monotonic_us() -> i64 {
        let time = clock_gettime(ClockId::Monotonic);
        time.tv_sec * 1_000_000 + time.tv_nsec / 1000
    }

    /// Milliseconds since 1970, which other nodes of a cluster are shown.
    pub(crate) fn unix_ms() -> u64 {
        u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)
    }

    /// Seconds since 1970, for log lines and certificates.
    pub fn unix_s() -> i64 {
        i64::try_from(since_1970().as_secs()).unwrap_or(i64::MAX)
    }
}

/// By the wall clock; zero if it shows an earlier time.
fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The unit of deadlines; saturates.
pub(crate) fn whole_seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}
