//! How durations are spread: a number for each of some fixed ranges, from a microsecond to a
//! second, each twice as long as the one before.

use std::array;
use std::time::Duration;

use super::counter::Metric;

/// Ranges with an upper end; what is longer than the last goes beyond.
pub const BOUNDS: usize = 21;

/// The upper end of a range, included, in seconds: 2^`index` µs.
pub fn bound_s(index: usize) -> f64 {
    (1u64 << index) as f64 / 1e6
}

/// Durations by their range, and their sum. Written by one thread alone, as a [`Metric`] is.
#[derive(Debug)]
pub struct Histogram {
    ranges: [Metric; BOUNDS + 1],
    sum_ns: Metric,
}

impl Histogram {
    /// Notes `times` things that took `took` each.
    pub fn observe(&self, took: Duration, times: u64) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.ranges[range(ns)].add(times);
        self.sum_ns.add(ns.saturating_mul(times));
    }

    /// For each range, the number of those that ended within it or a shorter one: as many as
    /// [`BOUNDS`], and after them the number of all.
    pub fn cumulative(&self) -> [u64; BOUNDS + 1] {
        let mut sum = 0;
        array::from_fn(|index| {
            sum += self.ranges[index].get();
            sum
        })
    }

    /// The time that all took together, in seconds.
    pub fn sum_s(&self) -> f64 {
        self.sum_ns.get() as f64 / 1e9
    }

    /// Adds what another one holds.
    pub fn absorb(&self, other: &Histogram) {
        for (own, other) in self.ranges.iter().zip(&other.ranges) {
            own.add(other.get());
        }
        self.sum_ns.add(other.sum_ns.get());
    }
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { ranges: array::from_fn(|_| Metric::default()), sum_ns: Metric::default() }
    }
}

/// The shortest range that `ns` nanoseconds are within.
fn range(ns: u64) -> usize {
    // One less than the microseconds begun has as many bits as the range has doublings.
    let begun = ns.div_ceil(1000).saturating_sub(1);
    let doublings = (u64::BITS - begun.leading_zeros()) as usize;
    doublings.min(BOUNDS)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BOUNDS, Histogram, bound_s, range};

    #[test]
    fn a_duration_is_in_the_shortest_range_that_holds_it() {
        for ns in (0..5000).chain([999_999_999, 1_048_576_000, 1_048_576_001, u64::MAX]) {
            let index = range(ns);
            let holds = |index: usize| ns as f64 / 1e9 <= bound_s(index);
            assert!(index == BOUNDS || holds(index), "{ns} is above {}", bound_s(index));
            assert!(index == 0 || !holds(index - 1), "{ns} is not above {}", bound_s(index - 1));
        }
    }

    #[test]
    fn numbers_add_up_from_range_to_range() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_nanos(1500), 3);
        histogram.observe(Duration::from_micros(4), 1);
        histogram.observe(Duration::from_secs(2), 2);
        let sum = Histogram::default();
        sum.absorb(&histogram);
        let cumulative = sum.cumulative();
        assert_eq!(cumulative[..4], [0, 3, 4, 4]);
        assert_eq!(cumulative[BOUNDS - 1..], [4, 6]);
        assert!((sum.sum_s() - 4.0000085).abs() < 1e-12);
    }
}
