//! How much happens in a second: from what was counted at some moments of the last minutes.

use std::collections::VecDeque;

/// Seconds between two samples.
pub const SAMPLE_S: u32 = 5;

/// The spans that rates are told over, in seconds, each a multiple of [`SAMPLE_S`].
pub const SPANS_S: [u32; 2] = [60, 300];

/// Samples that reach over the longest span.
const SAMPLES_MAX: usize = (SPANS_S[1] / SAMPLE_S) as usize + 1;

/// What rates are told of, as counted since the start, or how much of it in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Announces.
    pub announces: f64,
    /// Scrapes.
    pub scrapes: f64,
    /// Requests that failed, and what was none.
    pub failures: f64,
    /// Connections accepted.
    pub connections: f64,
    /// Handshakes of TLS that were completed.
    pub handshakes: f64,
    /// Bytes received.
    pub received: f64,
    /// Bytes sent.
    pub sent: f64,
}

impl Rates {
    /// In each second of `span_s`, from what it was at their start.
    fn since(&self, start: &Rates, span_s: f64) -> Rates {
        let rate = |now: f64, then: f64| (now - then) / span_s;
        Rates {
            announces: rate(self.announces, start.announces),
            scrapes: rate(self.scrapes, start.scrapes),
            failures: rate(self.failures, start.failures),
            connections: rate(self.connections, start.connections),
            handshakes: rate(self.handshakes, start.handshakes),
            received: rate(self.received, start.received),
            sent: rate(self.sent, start.sent),
        }
    }
}

/// Samples of the last minutes, the oldest first.
#[derive(Debug, Default)]
pub struct RateHistory {
    samples: VecDeque<(u32, Rates)>,
}

impl RateHistory {
    /// Adds what has been counted until second `now_s`: to be called every [`SAMPLE_S`].
    pub fn add(&mut self, now_s: u32, counted: Rates) {
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back((now_s, counted));
    }

    /// How much of all that happened in a second, on average over the last `span_s`, or since
    /// the first sample if that is later. Zeros before the second sample.
    pub fn rate(&self, span_s: u32) -> Rates {
        let Some(&(now_s, now)) = self.samples.back() else { return Rates::default() };
        let start = self.samples.iter().find(|(at_s, _)| now_s.saturating_sub(*at_s) <= span_s);
        match start {
            Some((at_s, start)) if *at_s < now_s => now.since(start, f64::from(now_s - at_s)),
            _ => Rates::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{RateHistory, Rates, SAMPLE_S, SAMPLES_MAX};

    #[test]
    fn a_rate_is_over_its_span_or_what_there_is() {
        let mut history = RateHistory::default();
        assert_eq!(history.rate(60), Rates::default());
        let sample = |announces: f64| Rates { announces, ..Rates::default() };
        history.add(0, sample(7.0));
        assert_eq!(history.rate(60), Rates::default());
        history.add(10, sample(27.0));
        assert_eq!(history.rate(60).announces, 2.0);
        // From here on ten in a second.
        for second in (15..=600).step_by(SAMPLE_S as usize) {
            history.add(second, sample(27.0 + f64::from(second - 10) * 10.0));
        }
        assert_eq!(history.rate(60).announces, 10.0);
        assert_eq!(history.rate(300).announces, 10.0);
        history.add(605, sample(27.0 + 5950.0 + 3000.0));
        assert_eq!(history.rate(300).announces, 20.0);
        assert_eq!(history.samples.len(), SAMPLES_MAX);
    }
}
