//! When requests are due, where a rate is given. It does not depend on responses: a stall of the
//! tracker delays no arrival.

use crate::options::Arrivals;
use crate::random::SeededRandom;

/// The arrivals of one worker, in nanoseconds since the start.
pub struct ArrivalSchedule {
    /// The mean of the intervals, in nanoseconds.
    interval_ns: f64,
    arrivals: Arrivals,
    random: SeededRandom,
    /// Not rounded, so that rounding errors do not add up.
    next_ns: f64,
}

impl ArrivalSchedule {
    /// `rate` arrivals per second. The first is `offset` (0 to 1) of an interval after the start,
    /// so that workers do not send at the same moments.
    pub fn new(rate: f64, arrivals: Arrivals, offset: f64, seed: u64) -> ArrivalSchedule {
        let interval_ns = 1e9 / rate;
        let random = SeededRandom::new(seed);
        let next_ns = offset * interval_ns;
        let mut schedule = ArrivalSchedule { interval_ns, arrivals, random, next_ns };
        if arrivals == Arrivals::Random {
            schedule.advance();
        }
        schedule
    }

    pub fn next_ns(&self) -> u64 {
        self.next_ns as u64
    }

    /// Takes the next arrival if it is due by `now_ns`, and returns when it was due.
    pub fn take(&mut self, now_ns: u64) -> Option<u64> {
        let due = self.next_ns();
        if due > now_ns {
            return None;
        }
        self.advance();
        Some(due)
    }

    fn advance(&mut self) {
        self.next_ns += match self.arrivals {
            Arrivals::Even => self.interval_ns,
            // The intervals of independent arrivals are distributed exponentially.
            Arrivals::Random => -(1.0 - self.random.unit()).ln() * self.interval_ns,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::ArrivalSchedule;
    use crate::options::Arrivals;

    fn until(schedule: &mut ArrivalSchedule, end_ns: u64) -> Vec<u64> {
        std::iter::from_fn(|| schedule.take(end_ns)).collect()
    }

    #[test]
    fn random_arrivals_have_their_rate_and_spread() {
        let mut schedule = ArrivalSchedule::new(100_000.0, Arrivals::Random, 0.0, 1);
        let times = until(&mut schedule, 1_000_000_000 - 1);
        // The standard deviation of the count is its root, 316: six of them either way.
        assert!((98_100..101_900).contains(&times.len()), "{}", times.len());
        assert!(times.is_sorted());
        let early = times.windows(2).filter(|pair| pair[1] - pair[0] < 10_000).count();
        // 1 - 1/e of the intervals are shorter than their mean.
        let part = early as f64 / times.len() as f64;
        assert!((0.62..0.645).contains(&part), "{part}");
    }

    #[test]
    fn arrivals_do_not_depend_on_when_they_are_taken() {
        for arrivals in [Arrivals::Even, Arrivals::Random] {
            let mut stalled = ArrivalSchedule::new(1000.0, arrivals, 0.25, 9);
            let mut prompt = ArrivalSchedule::new(1000.0, arrivals, 0.25, 9);
            let late = until(&mut stalled, 2_000_000_000);
            let steps = (0..=2000).flat_map(|ms| until(&mut prompt, ms * 1_000_000));
            assert_eq!(late, steps.collect::<Vec<u64>>());
        }
    }
}
