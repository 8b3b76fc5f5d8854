//! Durations in buckets from a microsecond to a second, each twice as long as the one before.

use std::array;
use std::time::Duration;

use super::counter::Metric;

/// Buckets with an upper bound; durations beyond the last bound are in one more bucket.
pub const BUCKET_BOUNDS: usize = 21;

/// The upper bound of a bucket, inclusive, in seconds: 2^`index` µs.
pub fn bound_s(index: usize) -> f64 {
    (1u64 << index) as f64 / 1e6
}

/// The number of durations in each bucket, and their sum. It has a single writer, like
/// [`Metric`].
#[derive(Debug)]
pub struct Histogram {
    buckets: [Metric; BUCKET_BOUNDS + 1],
    sum_ns: Metric,
}

impl Histogram {
    /// Counts `times` events that took `took` each.
    pub fn observe(&self, took: Duration, times: u64) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(ns)].add(times);
        self.sum_ns.add(ns.saturating_mul(times));
    }

    /// For each of the [`BUCKET_BOUNDS`] the number of durations up to it, then the number of all.
    pub fn cumulative(&self) -> [u64; BUCKET_BOUNDS + 1] {
        let mut sum = 0;
        array::from_fn(|index| {
            sum += self.buckets[index].get();
            sum
        })
    }

    /// The sum of all durations, in seconds.
    pub fn sum_s(&self) -> f64 {
        self.sum_ns.get() as f64 / 1e9
    }

    /// Adds the counts of `other` to these.
    pub fn absorb(&self, other: &Histogram) {
        for (own, other) in self.buckets.iter().zip(&other.buckets) {
            own.add(other.get());
        }
        self.sum_ns.add(other.sum_ns.get());
    }
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { buckets: array::from_fn(|_| Metric::default()), sum_ns: Metric::default() }
    }
}

/// The bucket of a duration of `ns` nanoseconds.
fn bucket_of(ns: u64) -> usize {
    // The bit length of n - 1 is the exponent of the smallest power of two that is at least n.
    let microseconds = ns.div_ceil(1000).saturating_sub(1);
    let exponent = (u64::BITS - microseconds.leading_zeros()) as usize;
    exponent.min(BUCKET_BOUNDS)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BUCKET_BOUNDS, Histogram, bound_s};

    #[test]
    fn a_duration_is_in_the_smallest_bucket_that_holds_it() {
        for ns in (0..5000).chain([999_999_999, 1_048_576_000, 1_048_576_001, u64::MAX]) {
            let [one, sum] = [Histogram::default(), Histogram::default()];
            one.observe(Duration::from_nanos(ns), 3);
            sum.absorb(&one);
            let cumulative = sum.cumulative();
            for (index, &count) in cumulative[..BUCKET_BOUNDS].iter().enumerate() {
                let holds = ns as f64 / 1e9 <= bound_s(index);
                assert_eq!(count, if holds { 3 } else { 0 }, "{ns} {index}");
            }
            assert_eq!(cumulative[BUCKET_BOUNDS], 3);
            assert_eq!(sum.sum_s(), ns.saturating_mul(3) as f64 / 1e9);
        }
    }
}
