//! A snapshot in Prometheus' text format, version 0.0.4.

use std::fmt::{Display, Write};

use crate::admin::stats::{Health, Snapshot};
use crate::metrics::histogram::{BOUNDS, Histogram, bound_s};
use crate::metrics::labels::Label;
use crate::tls::{CertificateStatus, Validity};

/// The whole text.
pub(super) fn write(snapshot: &Snapshot) -> String {
    let mut text = Text(String::with_capacity(32 * 1024));
    write_program(&mut text, snapshot);
    write_requests(&mut text, snapshot);
    write_connections(&mut text, snapshot);
    write_tls(&mut text, snapshot);
    write_swarms(&mut text, snapshot);
    write_access(&mut text, snapshot);
    write_process(&mut text, snapshot);
    text.0
}

fn write_program(text: &mut Text, snapshot: &Snapshot) {
    let Snapshot { facts, health, uptime_s, silences_s, .. } = snapshot;
    text.gauge("annulus_build_info", "The program: always 1.");
    text.sample("annulus_build_info", &[("version", facts.version)], 1);
    text.gauge("annulus_engine_info", "How workers talk to this kernel: always 1 for each way.");
    for engine in &facts.engines {
        let labels = [("engine", engine.name), ("tier", engine.tier)];
        text.sample("annulus_engine_info", &labels, 1);
    }
    text.gauge("annulus_healthy", "1 if /health says so, 0 if stopping or stuck.");
    text.sample("annulus_healthy", &[], u8::from(*health == Health::Good));
    text.gauge(
        "annulus_reload_possible",
        "1 if certificates and access list can be read again as far as is known, 0 if a restart is \
         needed for that, or a reload hangs: /health says which.",
    );
    text.sample("annulus_reload_possible", &[], u8::from(snapshot.obstacle.is_none()));
    text.gauge("annulus_uptime_seconds", "Time since the start.");
    text.sample("annulus_uptime_seconds", &[], uptime_s);
    text.gauge(
        "annulus_worker_silence_seconds",
        "Time since a worker's loop last went round, in whole seconds. It does so once a second \
         at least.",
    );
    for (worker, silence_s) in silences_s.iter().enumerate() {
        let worker = worker.to_string();
        text.sample("annulus_worker_silence_seconds", &[("worker", &worker)], silence_s);
    }
    text.histogram(
        "annulus_turn_duration_seconds",
        "Turns of the workers' loops: from the kernel's wake to the end of acting on what it \
         brought. The sleep between them is not included.",
        &snapshot.counters.turns,
    );
}

fn write_requests(text: &mut Text, snapshot: &Snapshot) {
    let counters = &snapshot.counters;
    text.counter(
        "annulus_requests_total",
        "Requests answered, by what they ask for, by the client's address family, and by whether \
         they got it.",
    );
    for ((kind, family, outcome), count) in counters.requests.iter() {
        let (kind, family, outcome) = (kind.label(), family.label(), outcome.label());
        let labels = [("kind", kind), ("family", family), ("outcome", outcome)];
        text.sample("annulus_requests_total", &labels, count);
    }
    text.counter(
        "annulus_failures_total",
        "Requests that failed, and what was refused because it was no whole request, by reason.",
    );
    for (failure, count) in counters.failures.iter() {
        text.sample("annulus_failures_total", &[("reason", failure.label())], count);
    }
    text.histogram(
        "annulus_request_duration_seconds",
        "Requests: from when the kernel had handed over the bytes that completed one, or there \
         was room again to answer it, to when its answer was ready to be submitted, with all \
         answers of the same turn of the loop.",
        &counters.latencies,
    );
}

fn write_connections(text: &mut Text, snapshot: &Snapshot) {
    let counters = &snapshot.counters;
    text.gauge("annulus_connections_open", "Connections held.");
    text.sample("annulus_connections_open", &[], counters.connections.get());
    text.gauge("annulus_connections_limit", "Connections that can be held at once.");
    text.sample("annulus_connections_limit", &[], snapshot.facts.connections_max);
    text.counter(
        "annulus_connections_accepted_total",
        "Connections accepted, by transport and by the address family of the other side.",
    );
    for ((transport, family), count) in counters.accepted.iter() {
        let labels = [("transport", transport.label()), ("family", family.label())];
        text.sample("annulus_connections_accepted_total", &labels, count);
    }
    text.counter(
        "annulus_connections_rejected_total",
        "Connections reset because they were too much, by reason.",
    );
    for (rejection, count) in counters.rejected.iter() {
        let labels = [("reason", rejection.label())];
        text.sample("annulus_connections_rejected_total", &labels, count);
    }
    text.counter(
        "annulus_connections_timed_out_total",
        "Connections whose client took too long, by what for.",
    );
    for (timeout, count) in counters.timeouts.iter() {
        let labels = [("waiting_for", timeout.label())];
        text.sample("annulus_connections_timed_out_total", &labels, count);
    }
    text.counter(
        "annulus_connections_evicted_total",
        "Connections closed before their time to make room for new ones, by what they were waiting \
         for.",
    );
    for (waiting_for, count) in counters.evicted.iter() {
        let labels = [("waiting_for", waiting_for.label())];
        text.sample("annulus_connections_evicted_total", &labels, count);
    }
    text.counter(
        "annulus_accept_pauses_total",
        "How often a worker stopped accepting for a while, so that new connections waited in the \
         kernel, by reason.",
    );
    for (pause, count) in counters.accept_pauses.iter() {
        text.sample("annulus_accept_pauses_total", &[("reason", pause.label())], count);
    }
    text.counter("annulus_received_bytes_total", "Bytes received of clients, TLS included.");
    text.sample("annulus_received_bytes_total", &[], counters.bytes_received.get());
    text.counter("annulus_sent_bytes_total", "Bytes sent to clients, TLS included.");
    text.sample("annulus_sent_bytes_total", &[], counters.bytes_sent.get());
}

fn write_tls(text: &mut Text, snapshot: &Snapshot) {
    let counters = &snapshot.counters;
    text.counter(
        "annulus_tls_handshakes_total",
        "TLS handshakes completed, by version, and by whether an earlier session was resumed.",
    );
    for ((version, resumption), count) in counters.handshakes.iter() {
        let labels = [("version", version.label()), ("kind", resumption.label())];
        text.sample("annulus_tls_handshakes_total", &labels, count);
    }
    text.counter(
        "annulus_tls_handshakes_failed_total",
        "Connections to TLS addresses that ended before their handshake did, for whatever reason.",
    );
    text.sample("annulus_tls_handshakes_failed_total", &[], counters.handshakes_failed.get());
    if snapshot.certificates.is_empty() {
        return;
    }
    let mut write = |name: &str, help: &str, value: fn(&Validity) -> i64| {
        text.gauge(name, help);
        for (index, CertificateStatus { names, validity }) in
            snapshot.certificates.iter().enumerate()
        {
            let index = index.to_string();
            let labels = [("certificate", index.as_str()), ("names", names)];
            text.sample(name, &labels, value(validity));
        }
    };
    write(
        "annulus_tls_certificate_not_before_timestamp_seconds",
        "When a certificate begins, in seconds since 1970, by its place in the configuration.",
        |validity| validity.from_unix_s,
    );
    write(
        "annulus_tls_certificate_not_after_timestamp_seconds",
        "When a certificate ends, in seconds since 1970, by its place in the configuration.",
        |validity| validity.until_unix_s,
    );
    write(
        "annulus_tls_certificate_expiry_notice_timestamp_seconds",
        "From when on the end of a certificate is warned of, in seconds since 1970: a third of \
         its life before it, or 30 days, whichever is less.",
        Validity::notice_unix_s,
    );
}

fn write_swarms(text: &mut Text, snapshot: &Snapshot) {
    let Snapshot { swarms, facts, counters, .. } = snapshot;
    text.gauge("annulus_torrents", "Torrents known.");
    text.sample("annulus_torrents", &[], swarms.torrents);
    text.gauge("annulus_torrents_limit", "Torrents that can be known at once.");
    text.sample("annulus_torrents_limit", &[], facts.torrents_max);
    text.gauge(
        "annulus_peers",
        "Peers known, by whether they have everything and by address family; one that is in two \
         swarms counts twice.",
    );
    for (family, crowd) in [("ipv4", swarms.v4), ("ipv6", swarms.v6)] {
        for (kind, count) in [("seeder", crowd.seeders), ("leecher", crowd.leechers)] {
            text.sample("annulus_peers", &[("kind", kind), ("family", family)], count);
        }
    }
    text.gauge("annulus_peers_limit", "Peers that can be known at once.");
    text.sample("annulus_peers_limit", &[], facts.peers_max);
    text.counter(
        "annulus_peers_not_stored_total",
        "Announces of new peers that were answered, but not remembered for lack of room, by \
         the key of [swarms] that was reached.",
    );
    for (unstored, count) in counters.unstored.iter() {
        text.sample("annulus_peers_not_stored_total", &[("reason", unstored.label())], count);
    }
    text.counter(
        "annulus_peers_replaced_total",
        "Peers that a new endpoint of their address took the place of, because of \
         swarms.max_peers_per_address.",
    );
    text.sample("annulus_peers_replaced_total", &[], counters.peers_replaced.get());
    text.counter(
        "annulus_torrents_replaced_total",
        "Torrents with one peer that had announced once, whose place a new one took when there \
         were swarms.max_torrents.",
    );
    text.sample("annulus_torrents_replaced_total", &[], counters.torrents_replaced.get());
    text.counter("annulus_downloads_completed_total", "Downloads that peers have completed.");
    text.sample("annulus_downloads_completed_total", &[], swarms.completed);
}

fn write_access(text: &mut Text, snapshot: &Snapshot) {
    let Some(access) = snapshot.access else { return };
    text.gauge("annulus_access_list_entries", "Info hashes of the access list.");
    let mode = if access.allows { "allow" } else { "deny" };
    text.sample("annulus_access_list_entries", &[("mode", mode)], access.entries);
    text.gauge(
        "annulus_access_list_loaded_timestamp_seconds",
        "When the access list was read, in seconds since 1970.",
    );
    let name = "annulus_access_list_loaded_timestamp_seconds";
    text.sample(name, &[], access.loaded_unix_s);
    text.gauge("annulus_access_list_age_seconds", "Time since the access list was read.");
    let age_s = snapshot.unix_s - access.loaded_unix_s;
    text.sample("annulus_access_list_age_seconds", &[], age_s.max(0));
}

fn write_process(text: &mut Text, snapshot: &Snapshot) {
    text.gauge("process_start_time_seconds", "When the process began, in seconds since 1970.");
    text.sample("process_start_time_seconds", &[], snapshot.facts.started_unix_s);
    let Some(usage) = snapshot.usage else { return };
    text.counter("process_cpu_seconds_total", "Processor time used, in user space and kernel.");
    text.sample("process_cpu_seconds_total", &[], usage.cpu_s);
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Memory in use.", usage.resident_bytes),
        ("process_virtual_memory_bytes", "Addresses set apart.", usage.virtual_bytes),
        ("process_open_fds", "Descriptors open.", usage.descriptors),
        ("process_max_fds", "Descriptors that can be open at once.", usage.descriptors_max),
        ("process_threads", "Threads.", usage.threads),
    ] {
        text.gauge(name, help);
        text.sample(name, &[], value);
    }
}

/// The text as far as it is written. Writing to a String does not fail.
struct Text(String);

impl Text {
    fn counter(&mut self, name: &str, help: &str) {
        self.begin(name, "counter", help);
    }

    fn gauge(&mut self, name: &str, help: &str) {
        self.begin(name, "gauge", help);
    }

    /// What is said ahead of a metric's samples, which all follow at once.
    fn begin(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0 += name;
        for (index, (label, value)) in labels.iter().enumerate() {
            self.0.push(if index == 0 { '{' } else { ',' });
            let _ = write!(self.0, "{label}=\"{}\"", escaped(value));
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.begin(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        let cumulative = histogram.cumulative();
        for (index, count) in cumulative[..BOUNDS].iter().enumerate() {
            self.sample(&bucket, &[("le", &bound_s(index).to_string())], count);
        }
        let all = cumulative[BOUNDS];
        self.sample(&bucket, &[("le", "+Inf")], all);
        self.sample(&format!("{name}_sum"), &[], histogram.sum_s());
        self.sample(&format!("{name}_count"), &[], all);
    }
}

/// A label's value as it stands between quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::Text;

    #[test]
    fn labels_are_escaped() {
        let mut text = Text(String::new());
        text.sample("a", &[("b", "c\\d\"e\nf"), ("g", "")], 1.5);
        assert_eq!(text.0, "a{b=\"c\\\\d\\\"e\\nf\",g=\"\"} 1.5\n");
    }
}
