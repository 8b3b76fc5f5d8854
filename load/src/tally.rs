//! What was counted: of one interval of one worker, or of all.

use hdrhistogram::Histogram;

use super::fault::{Faults, Oddities};

/// The least and the largest latency that are told apart, in nanoseconds: a microsecond, and
/// more than any run lasts. Beyond three digits nobody measures.
const LATENCY_NS: (u64, u64) = (1000, 200_000_000_000_000);
const DIGITS: u8 = 3;

/// Latencies in nanoseconds, to three digits (HDR).
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Latencies {
        let (least, most) = LATENCY_NS;
        Latencies(Histogram::new_with_bounds(least, most, DIGITS).expect("the bounds are in order"))
    }
}

impl Latencies {
    /// Counts one.
    pub fn record(&mut self, latency_ns: u64) {
        self.0.saturating_record(latency_ns);
    }

    /// Adds those of `other`.
    pub fn add(&mut self, other: &Latencies) {
        self.0.add(&other.0).expect("the bounds are the same");
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that `percent` of all do not exceed, in nanoseconds; 0 if there are none.
    pub fn percentile_ns(&self, percent: f64) -> u64 {
        // Of 25, 28 % are 7, but by division into floating point a little more, which would be 8.
        self.0.value_at_quantile(percent / 100.0 * (1.0 - 1e-12))
    }

    /// The largest, in nanoseconds.
    pub fn max_ns(&self) -> u64 {
        self.0.max()
    }

    /// Their mean, in nanoseconds.
    pub fn mean_ns(&self) -> f64 {
        self.0.mean()
    }
}

/// Counts, and latencies.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests that were sent.
    pub sent: u64,
    /// Answers to announces that are as they should be.
    pub announces: u64,
    /// Answers to scrapes that are as they should be.
    pub scrapes: u64,
    /// Peers in them.
    pub peers: u64,
    /// Torrents in them.
    pub torrents: u64,
    /// Connections that were made.
    pub connections: u64,
    /// TLS handshakes in full.
    pub full_handshakes: u64,
    /// TLS sessions that were resumed.
    pub resumed_handshakes: u64,
    /// Bytes that were received.
    pub received_bytes: u64,
    /// What was wrong.
    pub faults: Faults,
    /// What was odd.
    pub oddities: Oddities,
    /// Of all answers; of what was never answered, how long it had waited.
    pub latencies: Latencies,
    /// Nanoseconds that threads were on a processor.
    pub cpu_ns: u64,
}

impl Tally {
    /// Answers that are as they should be.
    pub fn good(&self) -> u64 {
        self.announces + self.scrapes
    }

    /// Adds `other`.
    pub fn add(&mut self, other: Tally) {
        self.sent += other.sent;
        self.announces += other.announces;
        self.scrapes += other.scrapes;
        self.peers += other.peers;
        self.torrents += other.torrents;
        self.connections += other.connections;
        self.full_handshakes += other.full_handshakes;
        self.resumed_handshakes += other.resumed_handshakes;
        self.received_bytes += other.received_bytes;
        self.faults.add(other.faults);
        self.oddities.add(&other.oddities);
        self.latencies.add(&other.latencies);
        self.cpu_ns += other.cpu_ns;
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::Latencies;

    quickcheck! {
        fn percentiles_are_those_of_the_sorted_values(values: Vec<u32>, percent: u8) -> bool {
            let percent = percent % 101;
            let mut sorted: Vec<u64> = values.iter().map(|us| u64::from(*us) * 1000).collect();
            sorted.sort_unstable();
            let mut latencies = Latencies::default();
            sorted.iter().for_each(|ns| latencies.record(*ns));
            let Some(last) = sorted.len().checked_sub(1) else {
                return latencies.percentile_ns(50.0) == 0;
            };
            let rank = (sorted.len() * usize::from(percent)).div_ceil(100).clamp(1, last + 1);
            let (exact, got) = (sorted[rank - 1], latencies.percentile_ns(f64::from(percent)));
            // Three digits, and the least unit.
            got.abs_diff(exact) <= exact / 1000 + 1024
        }
    }

    #[test]
    fn a_share_that_is_whole_is_no_more() {
        let mut latencies = Latencies::default();
        (1..=25).for_each(|at| latencies.record(at * 1_000_000));
        for (percent, rank) in [(28.0, 7), (56.0, 14), (32.0, 8), (28.1, 8), (100.0, 25)] {
            let ms = latencies.percentile_ns(percent).div_ceil(1_010_000);
            assert_eq!(ms, rank, "{percent}");
        }
    }

    #[test]
    fn none_of_many_is_lost() {
        let mut all = Latencies::default();
        for worker in 1..=4 {
            let mut own = Latencies::default();
            (0..1000).for_each(|at| own.record(worker * 1_000_000 + at));
            all.add(&own);
        }
        all.record(u64::MAX);
        assert_eq!(all.count(), 4001);
        assert!(all.max_ns() >= 200_000_000_000_000);
    }
}
