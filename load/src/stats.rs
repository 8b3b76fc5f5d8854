//! What is counted: by a worker in an interval, and by all workers in each second and in all.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::failure::{FailureCounts, WarningCounts};

/// The shortest and the longest latency that are distinguished, in nanoseconds: a microsecond,
/// and more than any run takes.
const LATENCY_BOUNDS_NS: (u64, u64) = (1000, 200_000_000_000_000);
const LATENCY_DIGITS: u8 = 3;

/// The shortest interval that becomes a point of the series, in nanoseconds.
const POINT_NS_MIN: u64 = 250_000_000;

#[derive(Clone, Debug, Default)]
pub struct LoadStats {
    pub requests_sent: u64,
    /// Requests by UDP without a response in time, and those of them whose response came later.
    pub lost: u64,
    pub late: u64,
    /// Correct responses to announces and to scrapes.
    pub announces: u64,
    pub scrapes: u64,
    /// Peers and torrents in them.
    pub peers: u64,
    pub torrents: u64,
    pub connections: u64,
    pub full_handshakes: u64,
    pub resumed_handshakes: u64,
    pub received_bytes: u64,
    pub failures: FailureCounts,
    pub warnings: WarningCounts,
    /// In nanoseconds. Of a request without a response, how long it waited for one.
    pub latencies: LatencyHistogram,
    /// Time of threads on a processor, in nanoseconds.
    pub cpu_ns: u64,
    /// Part of it in which they polled by UDP with nothing to do.
    pub polling_ns: u64,
}

impl LoadStats {
    /// Correct responses.
    pub fn good(&self) -> u64 {
        self.announces + self.scrapes
    }

    pub fn record_latency(&mut self, latency_ns: u64) {
        self.latencies.0.saturating_record(latency_ns);
    }

    pub fn latency_ms(&self) -> LatencyPercentiles {
        let ms = |ns: u64| rounded(ns as f64 / 1e6, 4);
        // Without the factor, rounding would make 28 % of 25 a little more than 7, which is 8.
        let at =
            |percent: f64| ms(self.latencies.0.value_at_quantile(percent / 100.0 * (1.0 - 1e-12)));
        LatencyPercentiles {
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p999: at(99.9),
            max: ms(self.latencies.0.max()),
        }
    }

    pub fn add(&mut self, other: LoadStats) {
        self.requests_sent += other.requests_sent;
        self.lost += other.lost;
        self.late += other.late;
        self.announces += other.announces;
        self.scrapes += other.scrapes;
        self.peers += other.peers;
        self.torrents += other.torrents;
        self.connections += other.connections;
        self.full_handshakes += other.full_handshakes;
        self.resumed_handshakes += other.resumed_handshakes;
        self.received_bytes += other.received_bytes;
        self.failures.add(other.failures);
        self.warnings.add(&other.warnings);
        self.latencies.0.add(other.latencies.0).expect("the bounds are the same");
        self.cpu_ns += other.cpu_ns;
        self.polling_ns += other.polling_ns;
    }
}

/// Latencies in nanoseconds.
#[derive(Clone, Debug)]
pub struct LatencyHistogram(pub Histogram<u64>);

impl Default for LatencyHistogram {
    fn default() -> LatencyHistogram {
        let (min, max) = LATENCY_BOUNDS_NS;
        let histogram = Histogram::new_with_bounds(min, max, LATENCY_DIGITS);
        LatencyHistogram(histogram.expect("the bounds are in order"))
    }
}

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LatencyPercentiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    #[serde(rename = "p99.9")]
    pub p999: f64,
    pub max: f64,
}

/// What is known of an interval of about a second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SeriesPoint {
    /// Its end, in seconds since the start.
    pub at_s: f64,
    /// Correct responses per second.
    pub rate: f64,
    pub faults: u64,
    /// Requests by UDP without a response in time.
    pub lost: u64,
    /// Requests without a response at its end.
    pub in_flight: u64,
    pub latency_ms: LatencyPercentiles,
}

/// Adds up the reports of all workers.
#[derive(Default)]
pub struct StatsCollector {
    /// Workers that report in this interval.
    workers: usize,
    /// Those of them that did.
    reported: usize,
    /// Workers that have not sent their last report.
    running: usize,
    interval: LoadStats,
    in_flight: u64,
    interval_start_ns: u64,
    total: LoadStats,
    points: Vec<SeriesPoint>,
}

impl StatsCollector {
    pub fn new(workers: usize) -> StatsCollector {
        StatsCollector { workers, running: workers, ..StatsCollector::default() }
    }

    /// Adds a report. Returns the interval if this was the last report of it.
    pub fn add(&mut self, report: WorkerReport) -> Option<SeriesPoint> {
        self.interval.add(report.stats);
        self.in_flight += report.in_flight;
        self.reported += 1;
        self.running -= usize::from(report.last);
        if self.reported < self.workers {
            return None;
        }
        let length_ns = report.at_ns.saturating_sub(self.interval_start_ns);
        let point = SeriesPoint {
            at_s: rounded(report.at_ns as f64 / 1e9, 3),
            rate: rounded(self.interval.good() as f64 * 1e9 / length_ns.max(1) as f64, 1),
            faults: self.interval.failures.total(),
            lost: self.interval.lost,
            in_flight: self.in_flight,
            latency_ms: self.interval.latency_ms(),
        };
        self.workers = self.running;
        self.reported = 0;
        self.interval_start_ns = report.at_ns;
        self.in_flight = 0;
        self.total.add(std::mem::take(&mut self.interval));
        // The rate of a short interval at the end means little.
        if length_ns >= POINT_NS_MIN || self.points.is_empty() {
            self.points.push(point);
        }
        Some(point)
    }

    pub fn is_complete(&self) -> bool {
        self.running == 0
    }

    pub fn failures(&self) -> u64 {
        self.total.failures.total()
    }

    /// The intervals and the sum, which has reports of incomplete intervals too.
    pub fn finish(mut self) -> (Vec<SeriesPoint>, LoadStats) {
        self.total.add(self.interval);
        (self.points, self.total)
    }
}

/// What a worker reports about once a second and at its end.
pub struct WorkerReport {
    /// Nanoseconds since the start.
    pub at_ns: u64,
    /// What was counted since the last report.
    pub stats: LoadStats,
    /// Sent requests without a response.
    pub in_flight: u64,
    /// Whether it is the last report.
    pub last: bool,
}

/// To so many decimal places.
pub(crate) fn rounded(number: f64, places: i32) -> f64 {
    let unit = 10_f64.powi(places);
    (number * unit).round() / unit
}

#[cfg(test)]
mod tests {
    use super::LoadStats;

    #[test]
    fn percentiles_are_not_rounded_up() {
        let mut stats = LoadStats::default();
        (1..=1000).for_each(|at| stats.record_latency(at * 1_000_000));
        let latency_ms = stats.latency_ms();
        let got = [latency_ms.p50, latency_ms.p90, latency_ms.p99, latency_ms.p999];
        // To three digits.
        for (got, expected) in got.into_iter().zip([500.0, 900.0, 990.0, 999.0]) {
            assert!((got - expected).abs() <= expected / 1000.0, "{latency_ms:?}");
        }
        stats.record_latency(u64::MAX);
        assert_eq!(stats.latencies.0.len(), 1001);
        assert!(stats.latency_ms().max >= 200_000_000.0);
    }
}
