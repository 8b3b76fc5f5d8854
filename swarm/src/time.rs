//! Coarse time: when a peer was last heard of, in seven bits, and how much of a turn a sweep may
//! take.

/// Ticks of a peer's life. More would make the end of it more exact, fewer would leave the sweep
/// more time before a stamp comes round again.
const TICKS_PER_LIFE: u32 = 25;

/// The bits of a stamp that count ticks.
const TICK_MASK: u8 = 0x7f;

/// The bit of a stamp that is none of its time: the peer's address has, or had, other endpoints in
/// the torrent, so that an order is kept of them (`address.rs`).
pub(super) const SHARES_ADDRESS: u8 = !TICK_MASK;

/// How far ahead of the sweep's clock a stamp may be, in ticks. Workers read the clock each for
/// themselves, so a peer may be stamped by one that is a tick ahead of the one that sweeps.
const SKEW_TICKS: u8 = 8;

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
        (now / self.tick_s) as u8 & TICK_MASK
    }

    /// Which peers are to go at second `now`.
    pub(super) fn expired(self, now: u32) -> ExpiredStamps {
        let youngest_age = self.life + 1;
        ExpiredStamps {
            youngest: self.stamp(now).wrapping_sub(youngest_age),
            span: TICK_MASK - SKEW_TICKS - 1 - youngest_age,
        }
    }

    /// Seconds in which the sweep goes over everything once. A stamp means something else after
    /// 128 ticks, five lives; with four sweeps in a life no peer gets near that. Only if the
    /// process stands still for so long may peers begin another life.
    pub(super) fn sweep_period_s(self) -> u32 {
        self.period_s
    }
}

/// Which stamps are too old at one moment: so many, from the youngest of them on back.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExpiredStamps {
    youngest: u8,
    /// How much older the oldest is.
    span: u8,
}

impl ExpiredStamps {
    /// It has passed for every stamp.
    pub(super) const ALL: ExpiredStamps = ExpiredStamps { youngest: 0, span: TICK_MASK };

    /// Whether a peer with this stamp has been silent for too long: for the timeout at least,
    /// because both ends were rounded down, and for less than two ticks more.
    pub(super) fn contains(self, stamp: u8) -> bool {
        self.youngest.wrapping_sub(stamp) & TICK_MASK <= self.span
    }
}

/// The tick of a stamp.
pub(super) fn tick(stamp: u8) -> u8 {
    stamp & TICK_MASK
}

/// Ticks since a stamp, more by the same number for all: workers' clocks may be ahead of another's.
pub(super) fn ticks_since(stamp: u8, now: u8) -> u8 {
    now.wrapping_add(SKEW_TICKS).wrapping_sub(stamp) & TICK_MASK
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

const _: () = assert!(TICKS_PER_LIFE * 2 < (TICK_MASK - SKEW_TICKS) as u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_the_timeout_and_less_than_two_ticks() {
        for timeout_s in [1, 2, 49, 50, 51, 99, 100, 1800, 3601, 86_400, u32::MAX / 4] {
            let ticks = Ticks::new(timeout_s);
            for start in [0, 1, ticks.tick_s - 1, ticks.tick_s, 1000] {
                let stamp = ticks.stamp(start);
                let passed = |age: u32| ticks.expired(start + age).contains(stamp);
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
        assert!((0..=u8::MAX).all(|stamp| ExpiredStamps::ALL.contains(stamp)));
        let expired = Ticks::new(50).expired(1000);
        let fresh = (0..=TICK_MASK).filter(|&stamp| !expired.contains(stamp)).count();
        assert_eq!(fresh, 1 + 25 + 1 + usize::from(SKEW_TICKS));
        let same = |stamp| expired.contains(stamp) == expired.contains(stamp | SHARES_ADDRESS);
        assert!((0..=TICK_MASK).all(same));
    }

    #[test]
    fn a_stamp_from_a_clock_ahead_is_fresh() {
        let ticks = Ticks::new(50);
        assert!(!ticks.expired(1000).contains(ticks.stamp(1001)));
        assert!(!ticks.expired(255).contains(ticks.stamp(256)));
        assert!(ticks_since(ticks.stamp(255), ticks.stamp(256)) > ticks_since(0, 0));
        assert!(ticks_since(ticks.stamp(256), ticks.stamp(255)) < ticks_since(127, 127));
    }
}
