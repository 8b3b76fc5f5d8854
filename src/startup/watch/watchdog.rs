//! When the service manager's watchdog is told that all is well, and when it is not.

use std::mem;
use std::time::Duration;

use crate::admin::Health;

/// Until when, and whether, it has been told.
#[derive(Debug)]
pub(super) struct Watchdog {
    period: Duration,
    due: Duration,
    starving: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// The watchdog is to be told.
    Feed,
    /// It is not, from now on, and somebody should know why.
    Starve {
        /// The worker that does not go round.
        worker: usize,
        /// For how many seconds.
        silence_s: u32,
    },
}

impl Watchdog {
    /// One that is to be told once in every `period`, the first time now.
    pub(super) fn new(period: Duration, now: Duration) -> Watchdog {
        Watchdog { period, due: now, starving: false }
    }

    /// How long [`Watchdog::act`] may wait at most until it is called again.
    pub(super) fn pause(&self, now: Duration) -> Duration {
        if self.starving { self.period } else { self.due.saturating_sub(now) }
    }

    /// What is to be done now. A worker that goes round again is enough for it to be told at once.
    pub(super) fn act(&mut self, now: Duration, health: Health) -> Option<Act> {
        if let Health::Stuck { worker, silence_s } = health {
            let begins = !mem::replace(&mut self.starving, true);
            self.due = now;
            return begins.then_some(Act::Starve { worker, silence_s });
        }
        self.starving = false;
        if now < self.due {
            return None;
        }
        self.due = now + self.period;
        Some(Act::Feed)
    }
}

#[cfg(test)]
mod tests {
    use super::{Act, Duration, Health, Watchdog};

    #[test]
    fn it_is_told_once_in_a_period_while_all_is_well() {
        let at = Duration::from_secs;
        let mut watchdog = Watchdog::new(at(15), at(100));
        for (now_s, act, pause_s) in [
            (100, Some(Act::Feed), 15),
            (101, None, 14),
            (114, None, 1),
            (115, Some(Act::Feed), 15),
            // Whatever has held it up.
            (150, Some(Act::Feed), 15),
            (151, None, 14),
        ] {
            assert_eq!(watchdog.act(at(now_s), Health::Good), act, "{now_s}");
            assert_eq!(watchdog.pause(at(now_s)), at(pause_s), "{now_s}");
        }
    }

    #[test]
    fn it_is_not_told_while_a_worker_is_stuck() {
        let at = Duration::from_secs;
        let stuck = |silence_s| Health::Stuck { worker: 1, silence_s };
        let mut watchdog = Watchdog::new(at(15), at(0));
        assert_eq!(watchdog.act(at(0), Health::Good), Some(Act::Feed));
        // Said once, and long before it is due.
        let said = Some(Act::Starve { worker: 1, silence_s: 6 });
        assert_eq!(watchdog.act(at(6), stuck(6)), said);
        for now_s in 7..40 {
            assert_eq!(watchdog.act(at(now_s), stuck(now_s as u32)), None, "{now_s}");
            assert!(!watchdog.pause(at(now_s)).is_zero());
        }
        // Told at once when it goes round, and said again the next time.
        assert_eq!(watchdog.act(at(40), Health::Good), Some(Act::Feed));
        assert_eq!(watchdog.act(at(41), Health::Good), None);
        assert_eq!(watchdog.act(at(50), stuck(6)), said);
    }
}
