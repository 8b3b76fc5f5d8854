//! Coarse time: the last announce of a peer in seven bits, and the work budget of a sweep slice.

/// Ticks in the timeout of a peer. More would make expiry more exact, fewer would leave the sweep
/// more time before stamps wrap around.
const TICKS_PER_LIFE: u32 = 25;

/// The bits of a stamp that count ticks.
const TICK_MASK: u8 = 0x7f;

/// The bit of a stamp that is not time: the peer's address has, or had, other peers in the torrent,
/// so their order is recorded (`address_policy.rs`).
pub(super) const SHARES_ADDRESS: u8 = !TICK_MASK;

/// How far ahead of the sweep's clock a stamp may be, in ticks. Each worker reads the clock itself,
/// so a stamp may come from a worker that is a tick ahead of the one that sweeps.
const SKEW_TICKS: u8 = 8;

/// How the seconds of the process map to ticks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticks {
    tick_s: u32,
    life: u8,
    period_s: u32,
    /// Seconds between the beginning of a tick and second 0.
    offset_s: u32,
}

impl Ticks {
    pub(super) fn new(peer_timeout_s: u32) -> Ticks {
        let tick_s = peer_timeout_s.div_ceil(TICKS_PER_LIFE).max(1);
        let life = peer_timeout_s.div_ceil(tick_s) as u8;
        Ticks { tick_s, life, period_s: (peer_timeout_s / 4).max(1), offset_s: 0 }
    }

    pub(super) fn tick_s(self) -> u32 {
        self.tick_s
    }

    /// The stamp of an announce at second `now`.
    pub(super) fn stamp(self, now: u32) -> u8 {
        (now.wrapping_add(self.offset_s) / self.tick_s) as u8 & TICK_MASK
    }

    /// Seconds at second `now` since the present tick began.
    pub(super) fn phase_s(self, now: u32) -> u32 {
        now.wrapping_add(self.offset_s) % self.tick_s
    }

    /// Shifts the ticks so that at second `now` the present one began `phase_s` ago. For a process
    /// that has no stamps yet.
    pub(super) fn align(&mut self, phase_s: u64, now: u32) {
        let tick_s = u64::from(self.tick_s);
        let shift_s = phase_s % tick_s + tick_s - u64::from(now) % tick_s;
        self.offset_s = (shift_s % tick_s) as u32;
    }

    /// Tick boundaries between second `now` and `age_s` seconds before.
    pub(super) fn age_ticks(self, age_s: u64, now: u32) -> u64 {
        let phase_s = u64::from(self.phase_s(now));
        age_s.saturating_sub(phase_s).div_ceil(u64::from(self.tick_s))
    }

    /// The stamp of an announce `age_s` seconds before second `now`, unless that is longer ago than
    /// the timeout.
    pub(super) fn stamp_before(self, age_s: u64, now: u32) -> Option<u8> {
        let age = self.age_ticks(age_s, now);
        let is_fresh = age <= u64::from(self.life);
        is_fresh.then(|| self.stamp(now).wrapping_sub(age as u8) & TICK_MASK)
    }

    /// The stamps of peers that are expired at second `now`.
    pub(super) fn expired(self, now: u32) -> ExpiredStamps {
        let youngest_age = self.life + 1;
        ExpiredStamps {
            youngest: self.stamp(now).wrapping_sub(youngest_age),
            span: TICK_MASK - SKEW_TICKS - 1 - youngest_age,
        }
    }

    /// Seconds in which the sweep visits everything once. Stamps wrap around after 128 ticks, five
    /// timeouts; with four sweeps in a timeout no peer gets near that age. Only if the process is
    /// stopped for so long can an expired peer look new again.
    pub(super) fn sweep_period_s(self) -> u32 {
        self.period_s
    }
}

/// A range of stamps that are too old: from the youngest of them back.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExpiredStamps {
    youngest: u8,
    /// How many ticks older the oldest is.
    span: u8,
}

impl ExpiredStamps {
    pub(super) const ALL: ExpiredStamps = ExpiredStamps { youngest: 0, span: TICK_MASK };

    /// Whether the last announce with this stamp is too long ago: by at least the timeout, because
    /// both times were rounded down, and by less than two ticks more.
    pub(super) fn contains(self, stamp: u8) -> bool {
        self.youngest.wrapping_sub(stamp) & TICK_MASK <= self.span
    }
}

pub(super) fn tick(stamp: u8) -> u8 {
    stamp & TICK_MASK
}

/// Ticks since a stamp, plus [`SKEW_TICKS`], so that a stamp from a clock ahead is not negative.
pub(super) fn ticks_since(stamp: u8, now: u8) -> u8 {
    now.wrapping_add(SKEW_TICKS).wrapping_sub(stamp) & TICK_MASK
}

/// How stamps become ages at one moment, and which of them are asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct AgeRange {
    now: u8,
    max: u8,
}

impl AgeRange {
    /// All ages at second `now`, or those of announces in the last `since_s` seconds, rounded up to
    /// a tick.
    pub(super) fn new(ticks: Ticks, now: u32, since_s: Option<u32>) -> AgeRange {
        let max = since_s.map_or(u64::MAX, |since_s| ticks.age_ticks(since_s.into(), now));
        AgeRange { now: ticks.stamp(now), max: max.min(TICK_MASK.into()) as u8 }
    }

    pub(super) fn is_all(self) -> bool {
        self.max == TICK_MASK
    }

    /// The age in ticks, with the [`SHARES_ADDRESS`] of the stamp. A stamp from a clock ahead has
    /// the age 0.
    pub(super) fn age(self, stamp: u8) -> u8 {
        stamp & SHARES_ADDRESS | ticks_since(stamp, self.now).saturating_sub(SKEW_TICKS)
    }

    pub(super) fn contains(self, stamp: u8) -> bool {
        tick(self.age(stamp)) <= self.max
    }
}

/// The work left in one slice of the sweep. The unit is checking one stamp, about a nanosecond.
#[derive(Debug)]
pub(super) struct Budget(u32);

impl Budget {
    pub(super) const fn new(units: u32) -> Budget {
        Budget(units)
    }

    /// The last piece of work may cost more than is left: a slice exceeds its budget by at most
    /// that piece.
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
    fn a_peer_expires_between_the_timeout_and_two_ticks_later() {
        for timeout_s in [1, 2, 49, 50, 51, 99, 100, 1800, 3601, 86_400, u32::MAX / 4] {
            let ticks = Ticks::new(timeout_s);
            for start in [0, 1, ticks.tick_s - 1, ticks.tick_s, 1000] {
                let stamp = ticks.stamp(start);
                let passed = |age: u32| ticks.expired(start + age).contains(stamp);
                assert!(!passed(0), "{timeout_s} {start}");
                assert!(!passed(timeout_s), "{timeout_s} {start}");
                assert!(passed(timeout_s + 2 * ticks.tick_s), "{timeout_s} {start}");
                // Still expired when the sweep comes a whole timeout late.
                assert!(passed(2 * timeout_s + 2 * ticks.tick_s), "{timeout_s} {start}");
            }
        }
    }

    #[test]
    fn all_stamps_are_expired_or_those_older_than_the_timeout() {
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
