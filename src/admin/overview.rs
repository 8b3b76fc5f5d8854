//! A snapshot as a page for people: whole by itself, and alive where scripts may run.
//!
//! `overview.html` is the page around the numbers, with its style and its script, which fetches
//! the page again every few seconds and takes over what has changed. So every number is written
//! here alone, and the page says the same with the script and without.

mod html;
mod numbers;

use html::Html;
use numbers::{bytes, date, duration, grouped, rate, time, within_us};

use super::json::quantile_us;
use crate::admin::process::ProcessUsage;
use crate::admin::rates::{Rates, SPANS_S};
use crate::admin::stats::{Health, Snapshot};
use crate::metrics::counter::{CounterKey, CounterVec};
use crate::metrics::histogram::{BOUNDS, Histogram};
use crate::metrics::labels::{Label, RequestOutcome, RequestType};
use crate::tls::CertificateStatus;

const PAGE: &str = include_str!("page.html");

/// What takes the place of this in [`PAGE`].
const NUMBERS: &str = "<!-- numbers -->";

/// What a browser may do with any answer of this listener: run the style and the script of
/// [`PAGE`], told by their hashes, and fetch from here. A test knows the hashes.
pub(super) const POLICY: &str = "default-src 'none'; \
    style-src 'sha256-7fXkFv1mUerXQVVpyKv6H2+E2ESrOQ7R6/FC9Hjvj1Y='; \
    script-src 'sha256-u31K4GfIcg2q9aJvYebM/8EwTWX8DZZ4jHcPAfddiTM='; \
    img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The whole page.
pub(super) fn write(snapshot: &Snapshot) -> String {
    let mut html = Html::default();
    write_top(&mut html, snapshot);
    html.open("<div class=\"cards\">");
    write_cards(&mut html, snapshot);
    html.close("</div>");
    html.open("<div class=\"tables\">");
    write_rates(&mut html, snapshot);
    write_swarms(&mut html, snapshot);
    write_times(&mut html, snapshot);
    write_troubles(&mut html, snapshot);
    write_program(&mut html, snapshot);
    write_access(&mut html, snapshot);
    write_certificates(&mut html, snapshot);
    html.close("</div>");
    PAGE.replacen(NUMBERS, &html.end(), 1)
}

fn write_top(html: &mut Html, snapshot: &Snapshot) {
    let (class, state) = match snapshot.health {
        Health::Good => ("state good", "Serving".to_owned()),
        Health::Draining => {
            ("state bad", "Draining: what is in flight is answered, nothing new".to_owned())
        }
        Health::Stuck { worker, silence_s } => {
            let silence = duration(i64::from(silence_s));
            ("state bad", format!("Worker {worker} is stuck for {silence}"))
        }
    };
    html.open("<div class=\"top\">");
    html.text("<h1>", "Annulus", "</h1>");
    // Of what is read aloud when it changes, the element that changes is within.
    html.open("<p id=\"state\" role=\"status\">");
    html.text(&format!("<span class=\"{class}\">"), &state, "</span>");
    html.close("</p>");
    let uptime = duration(i64::from(snapshot.uptime_s));
    let age = format!("{}, up {uptime}", time(snapshot.unix_s));
    html.text("<p id=\"age\" class=\"faint\">", &age, "</p>");
    html.close("</div>");
}

fn write_cards(html: &mut Html, snapshot: &Snapshot) {
    let Snapshot { facts, counters, swarms, rates: [minute, _], .. } = snapshot;
    let requests = counters.requests.sum(|(kind, ..)| kind != RequestType::Page);
    html.card(
        "Requests/s",
        &rate(minute.announces + minute.scrapes),
        "in the last minute",
        Some(("requests", "count", requests)),
    );
    let open = counters.connections.get();
    html.card(
        "Connections open",
        &grouped(open),
        &format!("of at most {}", grouped(facts.connections_max)),
        Some(("connections", "level", open)),
    );
    let torrents_max = format!("of at most {}", grouped(facts.torrents_max));
    html.card("Torrents", &grouped(swarms.torrents), &torrents_max, None);
    let [v4, v6] = [swarms.v4, swarms.v6].map(|crowd| crowd.seeders + crowd.leechers);
    let peers_max = format!("of at most {}", grouped(facts.peers_max));
    html.card("Peers", &grouped(v4 + v6), &peers_max, None);
}

fn write_rates(html: &mut Html, snapshot: &Snapshot) {
    let counters = &snapshot.counters;
    let requests = |wanted: RequestType| counters.requests.sum(|(kind, ..)| kind == wanted);
    let spans = SPANS_S.map(|span_s| duration(i64::from(span_s)));
    html.open_table("Traffic", &["per second over", &spans[0], &spans[1], "in all"]);
    let mut row = |name: &str, of: fn(&Rates) -> f64, told: fn(f64) -> String, all: String| {
        let [short, long] = snapshot.rates.each_ref().map(|flow| told(of(flow)));
        html.row("", name, &[&short, &long, &all]);
    };
    row("Announces", |it| it.announces, rate, grouped(requests(RequestType::Announce)));
    row("Scrapes", |it| it.scrapes, rate, grouped(requests(RequestType::Scrape)));
    row("Failures", |it| it.failures, rate, grouped(counters.failures.sum(|_| true)));
    row("Connections", |it| it.connections, rate, grouped(counters.accepted.sum(|_| true)));
    row("TLS handshakes", |it| it.handshakes, rate, grouped(counters.handshakes.sum(|_| true)));
    row("Received", |it| it.received, bytes, bytes(counters.bytes_received.get() as f64));
    row("Sent", |it| it.sent, bytes, bytes(counters.bytes_sent.get() as f64));
    html.close_table();
}

fn write_swarms(html: &mut Html, snapshot: &Snapshot) {
    let swarms = &snapshot.swarms;
    html.open_table("Peers", &["", "IPv4", "IPv6", "all"]);
    let mut row = |name: &str, v4: u64, v6: u64| {
        html.row("", name, &[&grouped(v4), &grouped(v6), &grouped(v4 + v6)]);
    };
    row("Seeders", swarms.v4.seeders, swarms.v6.seeders);
    row("Leechers", swarms.v4.leechers, swarms.v6.leechers);
    html.row("", "Downloads completed", &["", "", &grouped(swarms.completed)]);
    html.close_table();
}

fn write_times(html: &mut Html, snapshot: &Snapshot) {
    html.open_table("Time taken, since the start", &["", "50 %", "99 %", "99.9 %"]);
    let mut row = |name: &str, histogram: &Histogram| {
        let any = histogram.cumulative()[BOUNDS] > 0;
        let told = |share: f64| match any {
            true => within_us(quantile_us(histogram, share)),
            false => "–".to_owned(),
        };
        html.row("", name, &[&told(0.5), &told(0.99), &told(0.999)]);
    };
    row("Requests", &snapshot.counters.latencies);
    row("Turns of the loop", &snapshot.counters.turns);
    html.close_table();
}

/// What went wrong at least once.
fn write_troubles(html: &mut Html, snapshot: &Snapshot) {
    let counters = &snapshot.counters;
    let failed = counters.requests.sum(|(_, _, outcome)| outcome == RequestOutcome::Failed);
    let mut troubles = Vec::new();
    note(&mut troubles, "", &counters.failures);
    note(&mut troubles, "peer not stored: ", &counters.unstored);
    for (what, count) in [
        ("peer replaced: max_peers_per_address", &counters.peers_replaced),
        ("torrent replaced: max_torrents", &counters.torrents_replaced),
    ] {
        if count.get() > 0 {
            troubles.push((what.to_owned(), count.get()));
        }
    }
    note(&mut troubles, "connection rejected: ", &counters.rejected);
    note(&mut troubles, "connection timed out: ", &counters.timeouts);
    note(&mut troubles, "accepting paused: ", &counters.accept_pauses);
    if counters.handshakes_failed.get() > 0 {
        troubles.push(("TLS handshake failed".to_owned(), counters.handshakes_failed.get()));
    }
    html.open_table("Failures, since the start", &["", "times"]);
    html.row("", "Requests that failed", &[&grouped(failed)]);
    for (reason, count) in troubles {
        html.row("", &reason, &[&grouped(count)]);
    }
    html.close_table();
}

fn note<K: CounterKey + Label, const N: usize>(
    troubles: &mut Vec<(String, u64)>,
    prefix: &str,
    counts: &CounterVec<K, N>,
) {
    let some = counts.iter().filter(|&(_, count)| count > 0);
    troubles.extend(
        some.map(|(key, count)| (format!("{prefix}{}", key.label().replace('_', " ")), count)),
    );
}

fn write_program(html: &mut Html, snapshot: &Snapshot) {
    let facts = &snapshot.facts;
    let engines = facts.engines.iter().map(|engine| format!("{} ({})", engine.name, engine.tier));
    html.open_list("Program");
    html.item("Version", facts.version);
    html.item("Engine", &engines.collect::<Vec<String>>().join(", "));
    html.item("Workers", &snapshot.silences_s.len().to_string());
    if let Some(obstacle) = snapshot.obstacle {
        html.item("Reload not possible", obstacle);
    }
    if let Some(usage) = snapshot.usage {
        let ProcessUsage { cpu_s, resident_bytes, descriptors, descriptors_max, .. } = usage;
        html.item("Memory", &bytes(resident_bytes as f64));
        let open = format!("{} of {}", grouped(descriptors), grouped(descriptors_max));
        html.item("Descriptors open", &open);
        html.item("Processor time", &duration(cpu_s as i64));
    }
    html.close_list();
}

fn write_access(html: &mut Html, snapshot: &Snapshot) {
    let Some(access) = snapshot.access else { return };
    html.open_list("Access list");
    html.item("Serves", if access.allows { "its torrents only" } else { "all but its torrents" });
    html.item("Torrents listed", &grouped(access.entries));
    let age = duration((snapshot.unix_s - access.loaded_unix_s).max(0));
    html.item("Read", &format!("{age} ago"));
    html.close_list();
}

fn write_certificates(html: &mut Html, snapshot: &Snapshot) {
    if snapshot.certificates.is_empty() {
        return;
    }
    html.open_table("Certificates", &["", "end", ""]);
    for CertificateStatus { names, validity } in &snapshot.certificates {
        let left_s = validity.until_unix_s - snapshot.unix_s;
        let class = if snapshot.unix_s > validity.notice_unix_s() { "bad" } else { "" };
        let when = match left_s {
            ..0 => format!("{} ago", duration(-left_s)),
            _ => format!("in {}", duration(left_s)),
        };
        html.row(class, names, &[&date(validity.until_unix_s), &when]);
    }
    html.close_table();
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::write;
    use crate::admin::rates::Rates;
    use crate::admin::stats::{EngineInfo, Health, Snapshot, StaticInfo};
    use crate::metrics::Counters;
    use crate::tls::{CertificateStatus, Validity};
    use annulus_swarm::SwarmStats;

    /// A tracker that has just started.
    fn snapshot() -> Snapshot {
        let facts = StaticInfo {
            version: "1.2.3",
            started_unix_s: 0,
            engines: vec![EngineInfo { name: "epoll", tier: "none" }],
            connections_max: 1000,
            torrents_max: 2000,
            peers_max: 3000,
        };
        Snapshot {
            facts: Arc::new(facts),
            health: Health::Good,
            unix_s: 0,
            uptime_s: 0,
            silences_s: vec![0],
            counters: Counters::default(),
            swarms: SwarmStats::default(),
            rates: [Rates::default(); 2],
            usage: None,
            access: None,
            certificates: Vec::new(),
            obstacle: None,
        }
    }

    #[test]
    fn a_certificate_that_ends_soon_is_marked() {
        let day_s = 86_400;
        let row = |life_s: i64, left_s: i64| {
            let validity = Validity { from_unix_s: left_s - life_s, until_unix_s: left_s };
            let certificates = vec![CertificateStatus { names: "<a>".to_owned(), validity }];
            let page = write(&Snapshot { certificates, ..snapshot() });
            let (before, rest) = page.split_once(">&lt;a&gt;</th>").unwrap();
            let (_, row) = before.rsplit_once("<tr").unwrap();
            format!("{row} {}", rest.split_once("</tr>").unwrap().0)
        };
        let scope = "<th scope=\"row\"";
        let bad = format!(" class=\"bad\">{scope}");
        let month = "<td>1970-01-31</td><td>in 30 d</td>";
        assert_eq!(row(90 * day_s, 30 * day_s), format!(">{scope} {month}"));
        assert_eq!(row(100 * day_s, 30 * day_s), format!(">{scope} {month}"));
        assert_eq!(row(89 * day_s, 30 * day_s), format!(">{scope} {month}"));
        let days = "<td>1970-01-03</td><td>in 2 d</td>";
        assert_eq!(row(6 * day_s, 2 * day_s), format!(">{scope} {days}"));
        assert_eq!(row(6 * day_s + 3, 2 * day_s), format!("{bad} {days}"));
        assert_eq!(row(90 * day_s, 2 * day_s), format!("{bad} {days}"));
        assert_eq!(row(90 * day_s, 3600), format!("{bad} <td>1970-01-01</td><td>in 1 h</td>"));
        assert_eq!(row(90 * day_s, -60), format!("{bad} <td>1969-12-31</td><td>1 min ago</td>"));
    }

    #[test]
    fn what_is_wrong_is_said_on_top() {
        let stuck = Health::Stuck { worker: 1, silence_s: 61 };
        let page = write(&Snapshot { health: stuck, ..snapshot() });
        let state = "<span class=\"state bad\">Worker 1 is stuck for 1 min 1 s</span>";
        assert!(page.contains(state), "{page}");
        assert!(!write(&snapshot()).contains("state bad\">"));
    }
}
