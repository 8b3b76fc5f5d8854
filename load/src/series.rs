//! What all workers told, put together: of every second, and of the whole.

use super::tally::Tally;
use super::worker::Report;

/// What is remembered of one interval, about a second long.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Its end, in seconds since the start.
    pub at_s: f64,
    /// Good answers a second.
    pub rate: f64,
    /// Faults in it.
    pub faults: u64,
    /// Questions that were sent and had no answer at its end.
    pub in_flight: u64,
    /// Latencies in milliseconds: of the half, of 90, 99 and 99.9 percent, and the largest.
    pub latency_ms: [f64; 5],
}

/// Nanoseconds of the shortest interval that is remembered.
const POINT_NS_MIN: u64 = 250_000_000;

/// The percentiles of reports; the largest comes after them.
pub const PERCENTILES: [f64; 4] = [50.0, 90.0, 99.0, 99.9];

/// What [`PERCENTILES`] and the largest are called.
pub const PERCENTILE_NAMES: [&str; 5] = ["p50", "p90", "p99", "p99.9", "max"];

/// Reports of all workers.
pub struct Series {
    workers: usize,
    reported: usize,
    left: usize,
    interval: Tally,
    in_flight: u64,
    begun_ns: u64,
    total: Tally,
    points: Vec<Point>,
}

impl Series {
    /// For so many workers.
    pub fn new(workers: usize) -> Series {
        Series {
            workers,
            reported: 0,
            left: workers,
            interval: Tally::default(),
            in_flight: 0,
            begun_ns: 0,
            total: Tally::default(),
            points: Vec::new(),
        }
    }

    /// Takes a report. If all workers have told of an interval by now, it is returned.
    pub fn take(&mut self, report: Report) -> Option<Point> {
        self.interval.add(report.tally);
        self.in_flight += report.in_flight;
        self.reported += 1;
        self.left -= usize::from(report.last);
        if self.reported < self.workers {
            return None;
        }
        self.workers = self.left;
        self.reported = 0;
        let point = self.point(report.at_ns);
        let length_ns = report.at_ns.saturating_sub(self.begun_ns);
        self.begun_ns = report.at_ns;
        self.in_flight = 0;
        self.total.add(std::mem::take(&mut self.interval));
        // What is left of a second at the end says little of rates.
        if length_ns >= POINT_NS_MIN || self.points.is_empty() {
            self.points.push(point);
        }
        Some(point)
    }

    /// Whether no worker is left.
    pub fn is_complete(&self) -> bool {
        self.left == 0
    }

    /// Intervals, and the whole. What workers told last is in it even if others are missing.
    pub fn finish(mut self) -> (Vec<Point>, Tally) {
        self.total.add(self.interval);
        (self.points, self.total)
    }

    /// Faults so far.
    pub fn faults(&self) -> u64 {
        self.total.faults.total()
    }

    fn point(&self, at_ns: u64) -> Point {
        let seconds = (at_ns.saturating_sub(self.begun_ns)).max(1) as f64 / 1e9;
        Point {
            at_s: at_ns as f64 / 1e9,
            rate: self.interval.good() as f64 / seconds,
            faults: self.interval.faults.total(),
            in_flight: self.in_flight,
            latency_ms: latency_ms(&self.interval),
        }
    }
}

/// Latencies in milliseconds, as in [`PERCENTILE_NAMES`].
pub fn latency_ms(tally: &Tally) -> [f64; 5] {
    let ms = |ns: u64| ns as f64 / 1e6;
    let [p50, p90, p99, p999] =
        PERCENTILES.map(|percent| ms(tally.latencies.percentile_ns(percent)));
    [p50, p90, p99, p999, ms(tally.latencies.max_ns())]
}

#[cfg(test)]
mod tests {
    use super::{Report, Series};
    use crate::tally::Tally;

    fn report(at_s: u64, answers: u64, last: bool) -> Report {
        let mut tally = Tally { announces: answers, ..Tally::default() };
        tally.latencies.record(at_s * 1_000_000);
        Report { at_ns: at_s * 1_000_000_000, tally, in_flight: 5, last }
    }

    #[test]
    fn an_interval_is_what_all_workers_told() {
        let mut series = Series::new(2);
        assert_eq!(series.take(report(1, 100, false)), None);
        let point = series.take(report(1, 300, false)).unwrap();
        assert_eq!((point.rate, point.in_flight, point.at_s), (400.0, 10, 1.0));
        assert_eq!(series.take(report(3, 10, false)), None);
        let point = series.take(report(3, 10, true)).unwrap();
        assert_eq!(point.rate, 10.0);
        assert!((2.9..3.1).contains(&point.latency_ms[4]), "{point:?}");
        assert!(!series.is_complete());
        assert!(series.take(report(4, 7, true)).is_some());
        assert!(series.is_complete());
        let (points, total) = series.finish();
        assert_eq!((points.len(), total.good(), total.latencies.count()), (3, 427, 5));
    }

    #[test]
    fn nothing_is_lost_when_a_worker_is() {
        let mut series = Series::new(2);
        series.take(report(1, 100, true));
        let (points, total) = series.finish();
        assert_eq!((points.len(), total.good()), (0, 100));
    }
}
