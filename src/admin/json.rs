//! A snapshot as JSON (RFC 8259), for people's programs: the numbers of `/metrics` in the terms
//! in which one speaks of them. Keys are only ever added.

use std::fmt::{Display, Write};

use crate::admin::rates::{Rates, SPANS_S};
use crate::admin::stats::{Health, Snapshot};
use crate::metrics::counter::{CounterKey, CounterVec};
use crate::metrics::histogram::{BOUNDS, Histogram, bound_s};
use crate::metrics::labels::{Label, RequestOutcome, RequestType, Resumption};
use crate::tls::CertificateStatus;

/// The whole text, which is one object.
pub(super) fn write(snapshot: &Snapshot) -> String {
    let Snapshot { facts, counters, swarms, .. } = snapshot;
    let mut all = Object::default();
    all.text("version", facts.version);
    all.text(
        "health",
        match snapshot.health {
            Health::Good => "ok",
            Health::Draining => "draining",
            Health::Stuck { .. } => "stuck",
        },
    );
    all.number("reload_possible", snapshot.obstacle.is_none());
    all.list("engines", facts.engines.iter().map(|engine| quoted(engine.name)));
    all.number("workers", snapshot.silences_s.len());
    all.number("time", snapshot.unix_s);
    all.number("uptime_seconds", snapshot.uptime_s);

    let mut object = Object::default();
    object.number("torrents", swarms.torrents);
    object.number("torrents_limit", facts.torrents_max);
    let seeders = swarms.v4.seeders + swarms.v6.seeders;
    let leechers = swarms.v4.leechers + swarms.v6.leechers;
    object.number("peers", seeders + leechers);
    object.number("peers_limit", facts.peers_max);
    object.number("seeders", seeders);
    object.number("leechers", leechers);
    object.number("peers_ipv4", swarms.v4.seeders + swarms.v4.leechers);
    object.number("peers_ipv6", swarms.v6.seeders + swarms.v6.leechers);
    object.number("downloads_completed", swarms.completed);
    object.object("not_stored", named(&counters.unstored));
    object.number("peers_replaced", counters.peers_replaced.get());
    object.number("torrents_replaced", counters.torrents_replaced.get());
    all.object("swarms", object);

    let requests = |wanted: RequestType| counters.requests.sum(|(kind, ..)| kind == wanted);
    let mut object = Object::default();
    object.number("announces", requests(RequestType::Announce));
    object.number("scrapes", requests(RequestType::Scrape));
    object.number("pages", requests(RequestType::Page));
    object.number(
        "failed",
        counters.requests.sum(|(_, _, outcome)| outcome == RequestOutcome::Failed),
    );
    object.object("failures", named(&counters.failures));
    all.object("requests", object);

    let mut object = Object::default();
    object.number("open", counters.connections.get());
    object.number("limit", facts.connections_max);
    object.number("accepted", counters.accepted.sum(|_| true));
    object.object("rejected", named(&counters.rejected));
    object.object("timed_out", named(&counters.timeouts));
    object.object("accept_pauses", named(&counters.accept_pauses));
    object.number("received_bytes", counters.bytes_received.get());
    object.number("sent_bytes", counters.bytes_sent.get());
    all.object("connections", object);

    let resumed = |(_, resumption)| resumption == Resumption::Resumed;
    let mut object = Object::default();
    object.number("handshakes", counters.handshakes.sum(|_| true));
    object.number("handshakes_resumed", counters.handshakes.sum(resumed));
    object.number("handshakes_failed", counters.handshakes_failed.get());
    let certificates = snapshot.certificates.iter().map(|CertificateStatus { names, validity }| {
        let mut certificate = Object::default();
        certificate.text("names", names);
        certificate.number("not_after", validity.until_unix_s);
        certificate.number("not_before", validity.from_unix_s);
        certificate.number("expiry_notice", validity.notice_unix_s());
        certificate.end()
    });
    object.list("certificates", certificates);
    all.object("tls", object);

    let mut object = Object::default();
    for (span_s, flow) in SPANS_S.iter().zip(&snapshot.rates) {
        object.object(&format!("{span_s}s"), rates(flow));
    }
    all.object("per_second", object);

    let mut object = Object::default();
    object.object("request", quantiles(&counters.latencies));
    object.object("turn", quantiles(&counters.turns));
    all.object("microseconds", object);

    if let Some(access) = snapshot.access {
        let mut object = Object::default();
        object.text("mode", if access.allows { "allow" } else { "deny" });
        object.number("entries", access.entries);
        object.number("loaded", access.loaded_unix_s);
        all.object("access_list", object);
    }
    if let Some(usage) = snapshot.usage {
        let mut object = Object::default();
        object.number("cpu_seconds", usage.cpu_s);
        object.number("resident_bytes", usage.resident_bytes);
        object.number("virtual_bytes", usage.virtual_bytes);
        object.number("open_descriptors", usage.descriptors);
        object.number("descriptors_limit", usage.descriptors_max);
        object.number("threads", usage.threads);
        all.object("process", object);
    }
    all.end() + "\n"
}

fn named<K: CounterKey + Label, const N: usize>(counts: &CounterVec<K, N>) -> Object {
    let mut object = Object::default();
    counts.iter().for_each(|(key, count)| object.number(key.label(), count));
    object
}

fn rates(flow: &Rates) -> Object {
    let mut object = Object::default();
    for (name, rate) in [
        ("announces", flow.announces),
        ("scrapes", flow.scrapes),
        ("failures", flow.failures),
        ("connections", flow.connections),
        ("tls_handshakes", flow.handshakes),
        ("received_bytes", flow.received),
        ("sent_bytes", flow.sent),
    ] {
        object.number(name, format_args!("{rate:.1}"));
    }
    object
}

/// As [`quantile_us`], null for none.
fn quantiles(histogram: &Histogram) -> Object {
    let mut object = Object::default();
    for (name, share) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)] {
        match quantile_us(histogram, share) {
            Some(us) => object.number(name, us),
            None => object.number(name, "null"),
        }
    }
    object
}

/// Since the start: the end of the range within which this share of all ended, in microseconds.
/// None where there is none yet, or it is beyond the last range.
pub(super) fn quantile_us(histogram: &Histogram, share: f64) -> Option<f64> {
    let cumulative = histogram.cumulative();
    let all = cumulative[BOUNDS];
    let wanted = (all as f64 * share).ceil() as u64;
    let index = cumulative[..BOUNDS].iter().position(|&count| count >= wanted);
    index.filter(|_| all > 0).map(|index| (bound_s(index) * 1e6).round())
}

/// An object as far as it is written. Names and texts are escaped, numbers are written as they
/// are. Writing to a String does not fail.
#[derive(Default)]
struct Object(String);

impl Object {
    fn number(&mut self, name: &str, value: impl Display) {
        let comma = if self.0.is_empty() { "" } else { "," };
        let _ = write!(self.0, "{comma}{}:{value}", quoted(name));
    }

    fn text(&mut self, name: &str, value: &str) {
        self.number(name, quoted(value));
    }

    fn object(&mut self, name: &str, value: Object) {
        self.number(name, value.end());
    }

    /// A list of what is JSON already.
    fn list(&mut self, name: &str, values: impl Iterator<Item = String>) {
        self.number(name, format_args!("[{}]", values.collect::<Vec<String>>().join(",")));
    }

    fn end(self) -> String {
        format!("{{{}}}", self.0)
    }
}

/// A string of JSON.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn strings_are_escaped() {
        assert_eq!(quoted("a\"b\\c\n\u{1f}é"), "\"a\\\"b\\\\c\\u000a\\u001fé\"");
    }
}
