//! The reports of a run: a line while it goes on, a text for people, and JSON for programs.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::failure::{FailureKind, Warning};
use crate::options::{LoadOptions, allowed_names};
use crate::stats::{LatencyPercentiles, LoadStats, SeriesPoint, rounded};

/// Details of a failure that the text has at most.
const DETAILS_SHOWN: usize = 5;

/// A run that is over.
pub struct LoadReport<'a> {
    pub options: &'a LoadOptions,
    /// The address of the tracker, and the engine.
    pub place: String,
    pub workers: u32,
    /// How long the run took, with the wait for the last responses.
    pub seconds: f64,
    /// About one for each second.
    pub points: Vec<SeriesPoint>,
    pub total: LoadStats,
}

/// The line about the last interval. It fits into 80 columns unless its numbers are very large.
pub fn live_line(point: &SeriesPoint, faults: u64, left_s: f64) -> String {
    let LatencyPercentiles { p50, p99, max, .. } = point.latency_ms;
    let lost = match point.lost {
        0 => String::new(),
        lost => format!("  lost {lost}"),
    };
    format!(
        "{}/s  in flight {}  faults {faults}{lost}  p50 {}  p99 {}  max {} ms  {:.0} s left",
        separated(point.rate.round() as u64),
        point.in_flight,
        three_digits(p50),
        three_digits(p99),
        three_digits(max),
        left_s.max(0.0)
    )
}

impl LoadReport<'_> {
    /// Failures that are not allowed.
    pub fn failures(&self) -> u64 {
        self.failed_kinds().filter(|kind| !self.allows(*kind)).map(|kind| self.count(kind)).sum()
    }

    /// Whether there were responses, and all were correct.
    pub fn is_good(&self) -> bool {
        self.failures() == 0 && self.total.good() > 0
    }

    fn allows(&self, kind: FailureKind) -> bool {
        allowed_names(&self.options.allow).any(|name| name == kind.name())
    }

    fn count(&self, kind: FailureKind) -> u64 {
        self.total.failures.of(kind)
    }

    /// The kinds that there were.
    fn failed_kinds(&self) -> impl Iterator<Item = FailureKind> {
        FailureKind::ALL.iter().copied().filter(|kind| self.count(*kind) > 0)
    }

    fn warnings(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = Warning::ALL.iter().map(|it| (it.name(), self.total.warnings.of(*it)));
        counts.filter(|(_, count)| *count > 0)
    }

    fn is_udp(&self) -> bool {
        self.options.url.starts_with("udp://")
    }

    /// Correct responses per second.
    fn rate(&self) -> f64 {
        self.total.good() as f64 / self.seconds.max(1e-9)
    }

    /// For people.
    pub fn text(&self) -> String {
        let LoadReport { options, place, total, .. } = self;
        let pace = match options.rate {
            0 => "as fast as the tracker responds".to_owned(),
            rate => format!("{} requests a second", separated(rate)),
        };
        let connections = match self.is_udp() {
            true => format!("{} in flight", counted(options.connections, "request")),
            false => counted(options.connections, "connection"),
        };
        let threads = counted(u64::from(self.workers), "thread");
        let (url, seed) = (&options.url, options.seed);
        let mut text =
            format!("{url} ({place})\n{connections}, {threads}, {pace}, seed {seed}\n\n");
        let mut line = |name: &str, what: &str| {
            let _ = writeln!(text, "{name:<14}{what}");
        };
        let rate = separated(self.rate().round() as u64);
        line("rate", &format!("{rate} correct responses a second"));
        let LatencyPercentiles { p50, p90, p99, p999, max } = total.latency_ms();
        let latencies = [("p50", p50), ("p90", p90), ("p99", p99), ("p99.9", p999), ("max", max)];
        let latencies = latencies.map(|(name, ms)| format!("{name} {}", milliseconds(ms)));
        line("latency", &latencies.join("  "));
        let (sent, good) = (separated(total.requests_sent), separated(total.good()));
        line("requests", &format!("{sent} sent, {good} correct responses, {:.2} s", self.seconds));
        let [announces, peers, scrapes, torrents] =
            [total.announces, total.peers, total.scrapes, total.torrents].map(separated);
        line("announces", &format!("{announces}, {peers} peers"));
        line("scrapes", &format!("{scrapes}, {torrents} torrents"));
        for (name, what) in self.connection_lines() {
            line(name, &what);
        }
        line("received", &format!("{} bytes", separated(total.received_bytes)));
        let (cpu, is_bottleneck) = self.cpu_line();
        line("this program", &cpu);
        if is_bottleneck {
            line("", "It was the bottleneck, not the tracker: try more workers.");
        }
        for kind in self.failed_kinds() {
            let allowed = if self.allows(kind) { "allowed" } else { "FAULT" };
            line(allowed, &format!("{} {}", separated(self.count(kind)), kind.name()));
            for (detail, count) in total.failures.details(kind).take(DETAILS_SHOWN) {
                line("", &format!("    {} {detail}", separated(count)));
            }
        }
        for (name, count) in self.warnings() {
            line("odd", &format!("{} {name}", separated(count)));
        }
        let verdict = match (self.failures(), total.good()) {
            (0, 0) => "there was no response".to_owned(),
            (0, _) => "all responses are correct".to_owned(),
            (failures, _) => format!("{} failures", separated(failures)),
        };
        line("verdict", &verdict);
        text
    }

    /// What the text says of connections, or in their place of datagrams.
    fn connection_lines(&self) -> Vec<(&'static str, String)> {
        let total = &self.total;
        let [connections, full, resumed, lost, late] = [
            total.connections,
            total.full_handshakes,
            total.resumed_handshakes,
            total.lost,
            total.late,
        ]
        .map(separated);
        if self.is_udp() {
            let part = 100.0 * total.lost as f64 / total.requests_sent.max(1) as f64;
            let lost = format!("{lost} ({part:.3} %), {late} responses too late");
            return vec![("lost", lost), ("connected", format!("{connections} connection ids"))];
        }
        let tls = match total.full_handshakes + total.resumed_handshakes {
            0 => String::new(),
            _ => format!(", TLS: {full} full, {resumed} resumed"),
        };
        vec![("connections", format!("{connections}{tls}"))]
    }

    /// What the text says of this program's own CPU time, and whether there was too little of it.
    fn cpu_line(&self) -> (String, bool) {
        let total = &self.total;
        let cpu_s = total.cpu_ns as f64 / 1e9;
        let per_thread = 100.0 / self.seconds.max(1e-9) / f64::from(self.workers);
        let busy = cpu_s * per_thread;
        let polling = total.polling_ns as f64 / 1e9 * per_thread;
        let requests = total.requests_sent.max(total.latencies.0.len()).max(1);
        let cpu_us = cpu_s * 1e6 / requests as f64;
        let vain = if self.is_udp() { format!(" ({polling:.0} % in vain)") } else { String::new() };
        // Polling a few sockets finds something so often that it looks like work.
        let polls = self.is_udp() && self.options.rate == 0;
        let line = format!("{busy:.0} % CPU per thread{vain}, {cpu_us:.2} us per request");
        (line, busy - polling > 90.0 && !polls)
    }

    /// For programs: one JSON object.
    pub fn json(&self) -> String {
        let LoadReport { options, total, .. } = self;
        let fault = |kind: FailureKind| {
            let details: Map<_, _> = total.failures.details(kind).map(entry).collect();
            let (count, allowed) = (self.count(kind), self.allows(kind));
            let fault = json!({ "count": count, "allowed": allowed, "details": details });
            (kind.name().to_owned(), fault)
        };
        let report = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "options": options,
            "url": options.url,
            "place": self.place,
            "seed": options.seed,
            "connections": options.connections,
            "workers": self.workers,
            "offered_rate": options.rate,
            "sent": total.requests_sent,
            "good": total.good(),
            "failures": self.failures(),
            "lost": total.lost,
            "late": total.late,
            "announces": total.announces,
            "peers": total.peers,
            "scrapes": total.scrapes,
            "torrents": total.torrents,
            "connections_made": total.connections,
            "full_handshakes": total.full_handshakes,
            "resumed_handshakes": total.resumed_handshakes,
            "received_bytes": total.received_bytes,
            "latencies": total.latencies.0.len(),
            "cpu_ns": total.cpu_ns,
            "polling_ns": total.polling_ns,
            "seconds": rounded(self.seconds, 6),
            "rate": rounded(self.rate(), 1),
            "latency_mean_ms": rounded(total.latencies.0.mean() / 1e6, 4),
            "latency_ms": total.latency_ms(),
            "faults": self.failed_kinds().map(fault).collect::<Map<_, _>>(),
            "oddities": self.warnings().map(entry).collect::<Map<_, _>>(),
            "series": self.points,
        });
        format!("{report:#}\n")
    }
}

fn entry((name, count): (&str, u64)) -> (String, Value) {
    (name.to_owned(), count.into())
}

/// With a unit that fits: in ms, or in s from ten on.
fn milliseconds(ms: f64) -> String {
    match ms {
        ..10_000.0 => three_digits(ms) + " ms",
        _ => format!("{:.1} s", ms / 1000.0),
    }
}

fn three_digits(ms: f64) -> String {
    match ms {
        ..10.0 => format!("{ms:.3}"),
        ..100.0 => format!("{ms:.1}"),
        _ => format!("{ms:.0}"),
    }
}

fn counted(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", separated(number))
}

fn separated(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().flat_map(str::from_utf8).collect();
    groups.join(",")
}
