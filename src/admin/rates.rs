//! Rates per second, from samples of the counters of the last minutes.

use std::array;
use std::collections::VecDeque;

use serde::{Serialize, Serializer};

use crate::metrics::Counters;
use crate::metrics::labels::{RequestType, TransportKind};

/// Seconds between two samples.
pub(super) const SAMPLE_S: u32 = 5;

/// The spans that rates are averages over, in seconds, each a multiple of [`SAMPLE_S`].
pub(super) const SPANS_S: [u32; 2] = [60, 300];

/// Samples that cover the longest span.
const SAMPLES_MAX: usize = (SPANS_S[1] / SAMPLE_S) as usize + 1;

/// What there are rates of.
const NAMES: [&str; 11] = [
    "announces",
    "scrapes",
    "failures",
    "connections",
    "tls_handshakes",
    "received_bytes",
    "sent_bytes",
    "udp_connects",
    "udp_announces",
    "udp_scrapes",
    "datagrams_dropped",
];

/// For each of [`NAMES`], how much there was since the start.
type RateTotals = [u64; NAMES.len()];

/// For each of [`NAMES`], how much there is per second, in tenths.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates([f64; NAMES.len()]);

impl Serialize for Rates {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(NAMES.iter().zip(self.0))
    }
}

/// Samples of the last minutes, the oldest first: seconds since the start, and totals.
#[derive(Debug, Default)]
pub(super) struct RateHistory(VecDeque<(u32, RateTotals)>);

impl RateHistory {
    /// Adds a sample of second `now_s`: to be called every [`SAMPLE_S`] seconds.
    pub(super) fn sample(&mut self, now_s: u32, counters: &Counters) {
        let requests = |wanted| counters.requests.sum(|((kind, _), _)| kind == wanted);
        let by_udp = |wanted| {
            let wanted = (wanted, TransportKind::Udp);
            counters.requests.sum(|(key, _)| key == wanted)
        };
        self.add(
            now_s,
            [
                requests(RequestType::Announce),
                requests(RequestType::Scrape),
                counters.failures.sum(|_| true),
                counters.accepted.sum(|_| true),
                counters.handshakes.sum(|_| true),
                counters.bytes_received.get(),
                counters.bytes_sent.get(),
                by_udp(RequestType::Connect),
                by_udp(RequestType::Announce),
                by_udp(RequestType::Scrape),
                counters.datagrams_dropped.sum(|_| true),
            ],
        );
    }

    fn add(&mut self, now_s: u32, totals: RateTotals) {
        if self.0.len() == SAMPLES_MAX {
            self.0.pop_front();
        }
        self.0.push_back((now_s, totals));
    }

    /// The average over the last `span_s` seconds, or since the first sample if that is later.
    /// It is zero before the second sample.
    pub(super) fn rates(&self, span_s: u32) -> Rates {
        let Some(&(now_s, now)) = self.0.back() else { return Rates::default() };
        let start = self.0.iter().find(|(at_s, _)| now_s.saturating_sub(*at_s) <= span_s);
        let Some((at_s, start)) = start.filter(|(at_s, _)| *at_s < now_s) else {
            return Rates::default();
        };
        let tenths_s = f64::from(now_s - at_s) / 10.0;
        Rates(array::from_fn(|index| {
            ((now[index].saturating_sub(start[index])) as f64 / tenths_s).round() / 10.0
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::array;

    use super::{NAMES, RateHistory, RateTotals, Rates, SAMPLE_S, SAMPLES_MAX};

    #[test]
    fn a_rate_is_the_average_over_its_span_or_the_time_since_the_start() {
        let mut history = RateHistory::default();
        assert_eq!(history.rates(60), Rates::default());
        let sample = |announces: u64| -> RateTotals {
            array::from_fn(|index| if NAMES[index] == "announces" { announces } else { 0 })
        };
        let rate = |announces: f64| {
            Rates(array::from_fn(|index| if NAMES[index] == "announces" { announces } else { 0.0 }))
        };
        history.add(0, sample(7));
        assert_eq!(history.rates(60), Rates::default());
        history.add(10, sample(28));
        assert_eq!(history.rates(60), rate(2.1));
        // From here on ten per second.
        for second in (15..=600).step_by(SAMPLE_S as usize) {
            history.add(second, sample(28 + u64::from(second - 10) * 10));
        }
        assert_eq!(history.rates(60), rate(10.0));
        assert_eq!(history.rates(300), rate(10.0));
        history.add(605, sample(28 + 5950 + 3000));
        assert_eq!(history.rates(300), rate(20.0));
        assert_eq!(history.0.len(), SAMPLES_MAX);
    }
}
