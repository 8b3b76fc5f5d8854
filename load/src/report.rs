//! What is said of a run: lines while it goes on, a report for people, one for programs.

use std::fmt::Write;

use super::fault::{FAULTS, Fault, ODDITIES};
use super::option::Value;
use super::options::{OPTIONS, Options, allowed};
use super::series::{PERCENTILE_NAMES, Point, latency_ms};
use super::tally::Tally;

/// Details of a fault that people are shown.
const DETAILS_SHOWN: usize = 5;

/// A run that is over.
pub struct Outcome<'a> {
    /// What was to be done.
    pub options: &'a Options,
    /// Where it was done: address and engine.
    pub place: String,
    /// Threads that asked.
    pub workers: u32,
    /// How long it took, with the wait for the last answers.
    pub seconds: f64,
    /// What was counted in each second.
    pub points: Vec<Point>,
    /// What was counted in all.
    pub total: Tally,
}

/// One line about the present: the last interval, and what is left to do. It fits into the 80
/// columns of a terminal unless its numbers are very large.
pub fn live_line(point: &Point, faults: u64, left_s: f64) -> String {
    let [p50, _, p99, _, max] = point.latency_ms.map(three_digits);
    format!(
        "{}/s  in flight {}  faults {faults}  p50 {p50}  p99 {p99}  max {max} ms  {:.0} s left",
        separated(point.rate.round() as u64),
        point.in_flight,
        left_s.max(0.0)
    )
}

impl Outcome<'_> {
    /// Faults that are failures.
    pub fn failures(&self) -> u64 {
        let failing = FAULTS.iter().filter(|fault| !self.allows(**fault));
        failing.map(|fault| self.total.faults.count(*fault)).sum()
    }

    /// Whether there were answers, and all as they should be.
    pub fn is_good(&self) -> bool {
        self.failures() == 0 && self.total.good() > 0
    }

    fn allows(&self, fault: Fault) -> bool {
        allowed(&self.options.allow).any(|name| name == fault.name())
    }

    /// Good answers a second.
    fn rate(&self) -> f64 {
        self.total.good() as f64 / self.seconds.max(1e-9)
    }

    /// How much of its processors the program used, in hundredths.
    fn busy_percent(&self) -> f64 {
        self.total.cpu_ns as f64 / 1e7 / self.seconds.max(1e-9) / f64::from(self.workers)
    }

    /// Microseconds of a processor for each request, or for each that could not be sent.
    fn cpu_us(&self) -> f64 {
        let requests = self.total.sent.max(self.total.latencies.count()).max(1);
        self.total.cpu_ns as f64 / 1e3 / requests as f64
    }

    /// For people.
    pub fn text(&self) -> String {
        let Outcome { options, place, total, .. } = self;
        let pace = match options.rate {
            0 => "as fast as is answered".to_owned(),
            rate => format!("{} requests a second", separated(rate)),
        };
        let mut text = format!(
            "{} ({place})\n{}, {}, {pace}, seed {}\n\n",
            options.url,
            counted(options.connections, "connection"),
            counted(u64::from(self.workers), "thread"),
            options.seed
        );
        let mut line = |name: &str, what: String| {
            let _ = writeln!(text, "{name:<14}{what}");
        };
        line("rate", format!("{} good answers a second", separated(self.rate().round() as u64)));
        let latency: Vec<String> = PERCENTILE_NAMES
            .iter()
            .zip(latency_ms(total))
            .map(|(name, ms)| format!("{name} {}", milliseconds(ms)))
            .collect();
        line("latency", latency.join("  "));
        let duration = format!("{:.2} s", self.seconds);
        let good = separated(total.good());
        line(
            "requests",
            format!("{} sent, {good} good answers, {duration}", separated(total.sent)),
        );
        line(
            "announces",
            format!("{}, {} peers", separated(total.announces), separated(total.peers)),
        );
        let (scrapes, torrents) = (separated(total.scrapes), separated(total.torrents));
        line("scrapes", format!("{scrapes}, {torrents} torrents"));
        let secure = match (total.full_handshakes, total.resumed_handshakes) {
            (0, 0) => String::new(),
            (full, resumed) => {
                format!(", TLS: {} full, {} resumed", separated(full), separated(resumed))
            }
        };
        line("connections", format!("{}{secure}", separated(total.connections)));
        line("received", format!("{} bytes", separated(total.received_bytes)));
        let (busy, cpu) = (self.busy_percent(), self.cpu_us());
        line(
            "this program",
            format!("{busy:.0} % of a processor each thread, {cpu:.2} us a request"),
        );
        if busy > 90.0 {
            line("", "It was the limit, not the tracker: more workers may find more.".to_owned());
        }
        for fault in FAULTS.iter().filter(|fault| total.faults.count(**fault) > 0) {
            let kind = if self.allows(*fault) { "allowed" } else { "FAULT" };
            line(kind, format!("{} {}", separated(total.faults.count(*fault)), fault.name()));
            let details = total.faults.details(*fault);
            for (detail, count) in details.iter().take(DETAILS_SHOWN) {
                line("", format!("    {} {detail}", separated(*count)));
            }
            if details.len() > DETAILS_SHOWN {
                line("", format!("    and {} others", details.len() - DETAILS_SHOWN));
            }
        }
        for oddity in ODDITIES.iter().filter(|oddity| total.oddities.count(**oddity) > 0) {
            line("odd", format!("{} {}", separated(total.oddities.count(*oddity)), oddity.name()));
        }
        let verdict = match (self.failures(), total.good()) {
            (0, 0) => "there was no answer".to_owned(),
            (0, _) => "every answer is as it should be".to_owned(),
            (failures, _) => format!("{} failures", separated(failures)),
        };
        line("verdict", verdict);
        text
    }

    /// For programs: one JSON object.
    pub fn json(&self) -> String {
        let Outcome { options, place, total, .. } = self;
        let latencies = |ms: &[f64; 5]| {
            let pairs =
                PERCENTILE_NAMES.iter().zip(ms).map(|(name, ms)| format!("\"{name}\":{ms:.4}"));
            pairs.collect::<Vec<String>>().join(",")
        };
        let faults = FAULTS.iter().filter(|fault| total.faults.count(**fault) > 0).map(|fault| {
            let details = total.faults.details(*fault).into_iter();
            let details = details.map(|(detail, count)| format!("{}:{count}", quoted(detail)));
            format!(
                "{}:{{\"count\":{},\"allowed\":{},\"details\":{{{}}}}}",
                quoted(fault.name()),
                total.faults.count(*fault),
                self.allows(*fault),
                details.collect::<Vec<String>>().join(",")
            )
        });
        let oddities = ODDITIES.iter().filter(|oddity| total.oddities.count(**oddity) > 0);
        let oddities = oddities
            .map(|oddity| format!("{}:{}", quoted(oddity.name()), total.oddities.count(*oddity)));
        let points = self.points.iter().map(|point| {
            format!(
                "{{\"at_s\":{:.3},\"rate\":{:.1},\"faults\":{},\"in_flight\":{},\
                 \"latency_ms\":{{{}}}}}",
                point.at_s,
                point.rate,
                point.faults,
                point.in_flight,
                latencies(&point.latency_ms)
            )
        });
        let mut told = (*options).clone();
        let told = OPTIONS.iter().map(|option| {
            let value = match option.value(&mut told) {
                Value::Bare(text) => text,
                Value::Quoted(text) => quoted(&text),
            };
            format!("{}:{value}", quoted(option.name))
        });
        let mut fields = vec![
            format!("\"version\":{}", quoted(env!("CARGO_PKG_VERSION"))),
            format!("\"options\":{{{}}}", told.collect::<Vec<String>>().join(",")),
            format!("\"url\":{}", quoted(&options.url)),
            format!("\"place\":{}", quoted(place)),
        ];
        let mut number = |name: &str, value: u64| fields.push(format!("\"{name}\":{value}"));
        number("seed", options.seed);
        number("connections", options.connections);
        number("workers", u64::from(self.workers));
        number("offered_rate", options.rate);
        number("sent", total.sent);
        number("good", total.good());
        number("failures", self.failures());
        number("announces", total.announces);
        number("peers", total.peers);
        number("scrapes", total.scrapes);
        number("torrents", total.torrents);
        number("connections_made", total.connections);
        number("full_handshakes", total.full_handshakes);
        number("resumed_handshakes", total.resumed_handshakes);
        number("received_bytes", total.received_bytes);
        number("latencies", total.latencies.count());
        number("cpu_ns", total.cpu_ns);
        fields.push(format!("\"seconds\":{:.6}", self.seconds));
        fields.push(format!("\"rate\":{:.1}", self.rate()));
        fields.push(format!("\"latency_mean_ms\":{:.4}", total.latencies.mean_ns() / 1e6));
        fields.push(format!("\"latency_ms\":{{{}}}", latencies(&latency_ms(total))));
        fields.push(format!("\"faults\":{{{}}}", faults.collect::<Vec<String>>().join(",")));
        fields.push(format!("\"oddities\":{{{}}}", oddities.collect::<Vec<String>>().join(",")));
        fields.push(format!("\"series\":[{}]", points.collect::<Vec<String>>().join(",\n  ")));
        format!("{{{}}}\n", fields.join(",\n "))
    }
}

/// A string of JSON (RFC 8259 section 7).
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// A latency, to three digits or to the microsecond.
fn milliseconds(ms: f64) -> String {
    match ms {
        ..10_000.0 => three_digits(ms) + " ms",
        _ => format!("{:.1} s", ms / 1000.0),
    }
}

/// The same without its unit.
fn three_digits(ms: f64) -> String {
    match ms {
        ..10.0 => format!("{ms:.3}"),
        ..100.0 => format!("{ms:.1}"),
        _ => format!("{ms:.0}"),
    }
}

/// So many of something.
fn counted(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", separated(number))
}

/// In groups of three.
fn separated(number: u64) -> String {
    let digits = number.to_string();
    let first = (digits.len() - 1) % 3 + 1;
    let (head, tail) = digits.split_at(first);
    tail.as_bytes().chunks(3).fold(head.to_owned(), |mut text, group| {
        text.push(',');
        text.extend(group.iter().copied().map(char::from));
        text
    })
}

#[cfg(test)]
mod tests {
    use super::{Outcome, live_line, milliseconds, quoted, separated};
    use crate::fault::{Fault, Wrong};
    use crate::options::Options;
    use crate::series::Point;
    use crate::tally::Tally;

    #[test]
    fn numbers_are_readable() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(separated(number), text);
        }
        for (ms, text) in
            [(0.1234, "0.123 ms"), (12.34, "12.3 ms"), (1234.5, "1234 ms"), (65_000.0, "65.0 s")]
        {
            assert_eq!(milliseconds(ms), text);
        }
    }

    #[test]
    fn the_line_about_the_present_fits_into_a_terminal() {
        let latency_ms = [8.123, 9.0, 99.94, 2000.0, 3001.0];
        let point = Point { at_s: 3.0, rate: 147_520.4, faults: 7, in_flight: 64, latency_ms };
        let line = live_line(&point, 12, 57.2);
        assert_eq!(
            line,
            "147,520/s  in flight 64  faults 12  p50 8.123  p99 99.9  max 3001 ms  57 s left"
        );
        assert!(line.len() <= 80);
    }

    #[test]
    fn strings_are_escaped() {
        assert_eq!(quoted("a\"b\\c\n\u{1}é"), "\"a\\\"b\\\\c\\u000a\\u0001é\"");
    }

    #[test]
    fn only_faults_that_are_not_allowed_fail() {
        let mut total = Tally { announces: 1, ..Tally::default() };
        total.faults.note(Wrong::because(Fault::Refused, "no"));
        total.faults.note(Fault::OwnAddress.into());
        let judged = |allow: &str, total: &Tally| {
            let options = Options { allow: allow.to_owned(), ..Options::default() };
            let outcome = Outcome {
                options: &options,
                place: String::new(),
                workers: 1,
                seconds: 1.0,
                points: Vec::new(),
                total: total.clone(),
            };
            (outcome.failures(), outcome.is_good())
        };
        assert_eq!(judged("", &total), (2, false));
        assert_eq!(judged("refused", &total), (1, false));
        assert_eq!(judged("refused, own-address", &total), (0, true));
        assert_eq!(judged("", &Tally::default()), (0, false));
    }
}
