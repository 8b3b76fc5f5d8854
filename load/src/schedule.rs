//! When requests should be sent, where a rate is given. The schedule knows nothing of answers:
//! that a tracker stalls makes nothing arrive later.

use super::options::Arrivals;
use super::popularity::unit;
use crate::random::Random;

/// The arrivals of one worker, in nanoseconds since the start.
pub struct Schedule {
    /// Nanoseconds between two, on average.
    distance_ns: f64,
    arrivals: Arrivals,
    random: Random,
    /// Without the rounding of single ones, which would add up.
    next_ns: f64,
}

impl Schedule {
    /// `rate` a second, begun `offset` (0 to 1) of a distance after the start, so that workers
    /// do not march in step.
    pub fn new(rate: f64, arrivals: Arrivals, offset: f64, seed: u64) -> Schedule {
        let distance_ns = 1e9 / rate;
        let random = Random::seeded(seed);
        let mut schedule =
            Schedule { distance_ns, arrivals, random, next_ns: offset * distance_ns };
        if arrivals == Arrivals::Random {
            schedule.advance();
        }
        schedule
    }

    /// When the next one is due.
    pub fn next_ns(&self) -> u64 {
        self.next_ns as u64
    }

    /// Takes the next one, if it is due by `now_ns`: when it was due.
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
            Arrivals::Even => self.distance_ns,
            // The distances of independent arrivals are distributed exponentially.
            Arrivals::Random => -(1.0 - unit(&mut self.random)).ln() * self.distance_ns,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::Schedule;
    use crate::options::Arrivals;

    fn until(schedule: &mut Schedule, end_ns: u64) -> Vec<u64> {
        std::iter::from_fn(|| schedule.take(end_ns)).collect()
    }

    #[test]
    fn even_arrivals_keep_their_distance() {
        let mut schedule = Schedule::new(3000.0, Arrivals::Even, 0.5, 1);
        let times = until(&mut schedule, 1_000_000_000 - 1);
        assert_eq!(times.len(), 3000);
        assert_eq!(times[0], 166_666);
        assert!(times.windows(2).all(|pair| (333_333..=333_334).contains(&(pair[1] - pair[0]))));
    }

    #[test]
    fn random_arrivals_have_their_rate_and_spread() {
        let mut schedule = Schedule::new(100_000.0, Arrivals::Random, 0.0, 1);
        let times = until(&mut schedule, 1_000_000_000 - 1);
        // The deviation of the count is its root, 316: six of them either way.
        assert!((98_100..101_900).contains(&times.len()), "{}", times.len());
        assert!(times.is_sorted());
        let early = times.windows(2).filter(|pair| pair[1] - pair[0] < 10_000).count();
        // 1 - 1/e of the distances are below their mean.
        let part = early as f64 / times.len() as f64;
        assert!((0.62..0.645).contains(&part), "{part}");
    }

    #[test]
    fn a_late_look_changes_nothing() {
        for arrivals in [Arrivals::Even, Arrivals::Random] {
            let mut stalled = Schedule::new(1000.0, arrivals, 0.25, 9);
            let mut quick = Schedule::new(1000.0, arrivals, 0.25, 9);
            let late = until(&mut stalled, 2_000_000_000);
            let steps = (0..=2000).flat_map(|ms| until(&mut quick, ms * 1_000_000));
            assert_eq!(late, steps.collect::<Vec<u64>>());
        }
    }

    #[test]
    fn nothing_is_taken_before_it_is_due() {
        let mut schedule = Schedule::new(10.0, Arrivals::Even, 0.0, 1);
        assert_eq!(schedule.take(0), Some(0));
        assert_eq!(schedule.take(99_999_999), None);
        assert_eq!(schedule.next_ns(), 100_000_000);
    }
}
