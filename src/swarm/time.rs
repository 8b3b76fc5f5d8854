//! Coarse time: when a peer was last heard of, in one byte, and how much of a turn a sweep may
//! take.

/// Ticks of a peer's life. More would make the end of it more exact, fewer would leave the sweep
/// more time before a stamp of one byte comes round again.
const TICKS_PER_LIFE: u32 = 50;

/// How far ahead of the sweep's clock a stamp may be, in ticks. Workers read the clock each for
/// themselves, so a peer may be stamped by one that is a tick ahead of the one that sweeps.
const SKEW_TICKS: u8 = 16;

/// How the seconds of the process map to ticks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticks {
    tick_s: u32,
    life: u8,
    period_s: u32,
}

impl Ticks {
    /// Ticks for peers that live `peer_timeout_s` seconds after their last announce.
    pub(super) fn new(peer_timeout_s: u32) -> Ticks {
        let tick_s = peer_timeout_s.div_ceil(TICKS_PER_LIFE).max(1);
        let life = peer_timeout_s.div_ceil(tick_s) as u8;
        Ticks { tick_s, life, period_s: (peer_timeout_s / 4).max(1) }
    }

    /// What a peer is stamped with that announces at second `now`.
    pub(super) fn stamp(self, now: u32) -> u8 {
        (now / self.tick_s) as u8
    }

    /// Which peers are to go at second `now`.
    pub(super) fn deadline(self, now: u32) -> Deadline {
        let youngest_age = self.life + 1;
        Deadline {
            youngest: self.stamp(now).wrapping_sub(youngest_age),
            span: u8::MAX - SKEW_TICKS - 1 - youngest_age,
        }
    }

    /// Seconds in which the sweep goes over everything once. A stamp means something else after
    /// 256 ticks, five lives; with four sweeps in a life no peer gets near that. Only if the
    /// process stands still for so long may peers begin another life.
    pub(super) fn sweep_period_s(self) -> u32 {
        self.period_s
    }
}

/// Which stamps are too old at one moment: so many, from the youngest of them on back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    youngest: u8,
    /// How much older the oldest is.
    span: u8,
}

impl Deadline {
    /// It has passed for every stamp.
    pub(super) const PASSED: Deadline = Deadline { youngest: 0, span: u8::MAX };

    /// Whether a peer with this stamp has been silent for too long: for the timeout at least,
    /// because both ends were rounded down, and for less than two ticks more.
    pub(super) fn has_passed(self, stamp: u8) -> bool {
        self.youngest.wrapping_sub(stamp) <= self.span
    }
}

/// What is left of one slice of the sweep. The unit is a stamp looked at, about a nanosecond.
#[derive(Debug)]
pub(super) struct Budget(u32);

impl Budget {
    pub(super) const fn of(units: u32) -> Budget {
        Budget(units)
    }

    /// The last piece of work may cost more than was left: a slice exceeds its budget by no more
    /// than that one piece.
    pub(super) fn spend(&mut self, units: u32) {
        self.0 = self.0.saturating_sub(units);
    }

    pub(super) fn is_spent(&self) -> bool {
        self.0 == 0
    }
}

const _: () = assert!(TICKS_PER_LIFE * 2 < (u8::MAX - SKEW_TICKS) as u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_the_timeout_and_less_than_two_ticks() {
        for timeout_s in [1, 2, 49, 50, 51, 99, 100, 1800, 3601, 86_400, u32::MAX / 4] {
            let ticks = Ticks::new(timeout_s);
            for start in [0, 1, ticks.tick_s - 1, ticks.tick_s, 1000] {
                let stamp = ticks.stamp(start);
                let passed = |age: u32| ticks.deadline(start + age).has_passed(stamp);
                assert!(!passed(0), "{timeout_s} {start}");
                assert!(!passed(timeout_s), "{timeout_s} {start}");
                assert!(passed(timeout_s + 2 * ticks.tick_s), "{timeout_s} {start}");
                // Still so when the sweep comes a whole life late.
                assert!(passed(2 * timeout_s + 2 * ticks.tick_s), "{timeout_s} {start}");
            }
        }
    }

    #[test]
    fn every_stamp_is_past_the_deadline_that_has_passed() {
        assert!((0..=u8::MAX).all(|stamp| Deadline::PASSED.has_passed(stamp)));
        let deadline = Ticks::new(50).deadline(1000);
        let fresh = (0..=u8::MAX).filter(|&stamp| !deadline.has_passed(stamp)).count();
        assert_eq!(fresh, 1 + 50 + 1 + usize::from(SKEW_TICKS));
    }

    #[test]
    fn a_stamp_from_a_clock_ahead_is_fresh() {
        let ticks = Ticks::new(50);
        assert!(!ticks.deadline(1000).has_passed(ticks.stamp(1001)));
        assert!(!ticks.deadline(255).has_passed(ticks.stamp(256)));
    }
}
