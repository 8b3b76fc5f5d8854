//! A snapshot in Prometheus' text format, version 0.0.4.

use std::fmt::{Display, Write};

use super::stats::{Health, Snapshot};
use crate::metrics::counter::{CounterKey, CounterVec};
use crate::metrics::histogram::{BUCKET_BOUNDS, Histogram, bound_s};
use crate::tls::Validity;

pub(super) fn write(snapshot: &Snapshot<'_>) -> String {
    let mut text = PrometheusText(String::with_capacity(32 * 1024));
    write_program(&mut text, snapshot);
    write_requests(&mut text, snapshot);
    write_connections(&mut text, snapshot);
    write_tls(&mut text, snapshot);
    write_swarms(&mut text, snapshot);
    write_access(&mut text, snapshot);
    write_process(&mut text, snapshot);
    text.0
}

fn write_program(text: &mut PrometheusText, snapshot: &Snapshot<'_>) {
    let Snapshot { info, health, uptime_s, silences_s, .. } = snapshot;
    text.begin("annulus_build_info", "gauge", "The version; the value is 1.");
    text.sample("annulus_build_info", &[("version", info.version)], 1);
    text.begin("annulus_engine_info", "gauge", "The I/O engines; the value is 1.");
    for engine in &info.engines {
        let labels = [("engine", engine.name), ("tier", engine.tier)];
        text.sample("annulus_engine_info", &labels, 1);
    }
    let healthy = u8::from(*health == Health::Good);
    text.gauge("annulus_healthy", "1 if /health says so, 0 if stopping or stuck.", healthy);
    text.gauge(
        "annulus_reload_possible",
        "1 if certificates and access list can be reloaded as far as is known, 0 if that needs a \
         restart, or if a reload hangs: /health says which.",
        u8::from(snapshot.obstacle.is_none()),
    );
    text.gauge("annulus_uptime_seconds", "Time since the start.", uptime_s);
    let name = "annulus_worker_silence_seconds";
    let help = "Whole seconds since the last turn of a worker's loop, at least one a second.";
    text.begin(name, "gauge", help);
    for (worker, silence_s) in silences_s.iter().enumerate() {
        text.sample(name, &[("worker", &worker.to_string())], silence_s);
    }
    text.histogram(
        "annulus_turn_duration_seconds",
        "Turns of the workers' loops, from when the kernel wakes a worker to when all events are \
         handled. The sleep between turns is not included.",
        &snapshot.counters.turns,
    );
}

fn write_requests(text: &mut PrometheusText, snapshot: &Snapshot<'_>) {
    let counters = &snapshot.counters;
    text.counters(
        "annulus_requests_total",
        "Requests answered, by what they ask for, by the client's address family, and by outcome.",
        &["kind", "family", "outcome"],
        &counters.requests,
    );
    text.counters(
        "annulus_failures_total",
        "Failed requests, and input rejected because it was no complete request, by reason.",
        &["reason"],
        &counters.failures,
    );
    text.histogram(
        "annulus_request_duration_seconds",
        "Requests, from when the last bytes of one were received, or there was room again to \
         answer it, to when the responses of that turn of the loop were ready to be submitted.",
        &counters.latencies,
    );
}

fn write_connections(text: &mut PrometheusText, snapshot: &Snapshot<'_>) {
    let counters = &snapshot.counters;
    let (open, limit) = (counters.connections.get(), snapshot.info.connections_max);
    text.gauge("annulus_connections_open", "Open connections.", open);
    text.gauge("annulus_connections_limit", "Connections that can be open at once.", limit);
    text.counters(
        "annulus_connections_accepted_total",
        "Connections accepted, by transport and by the address family of the other side.",
        &["transport", "family"],
        &counters.accepted,
    );
    text.counters(
        "annulus_connections_rejected_total",
        "Connections reset because a limit was exceeded, by reason.",
        &["reason"],
        &counters.rejected,
    );
    text.counters(
        "annulus_connections_timed_out_total",
        "Connections closed because the client took too long, by what was waited for.",
        &["waiting_for"],
        &counters.timeouts,
    );
    text.counters(
        "annulus_connections_evicted_total",
        "Connections closed early to make room for new ones, by what they were waiting for.",
        &["waiting_for"],
        &counters.evicted,
    );
    text.counters(
        "annulus_accept_pauses_total",
        "Times that a worker let new connections wait in the kernel, by reason.",
        &["reason"],
        &counters.accept_pauses,
    );
    let (received, sent) = (counters.bytes_received.get(), counters.bytes_sent.get());
    text.counter("annulus_received_bytes_total", "Bytes received, TLS included.", received);
    text.counter("annulus_sent_bytes_total", "Bytes sent, TLS included.", sent);
}

fn write_tls(text: &mut PrometheusText, snapshot: &Snapshot<'_>) {
    let counters = &snapshot.counters;
    text.counters(
        "annulus_tls_handshakes_total",
        "TLS handshakes completed, by version, and by whether an earlier session was resumed.",
        &["version", "kind"],
        &counters.handshakes,
    );
    text.counter(
        "annulus_tls_handshakes_failed_total",
        "Connections to TLS addresses that ended before their handshake was complete.",
        counters.handshakes_failed.get(),
    );
    if snapshot.certificates.is_empty() {
        return;
    }
    let mut write = |name: &str, help: &str, value: fn(&Validity) -> i64| {
        text.begin(name, "gauge", help);
        for (index, certificate) in snapshot.certificates.iter().enumerate() {
            let index = index.to_string();
            let labels = [("certificate", index.as_str()), ("names", &certificate.names)];
            text.sample(name, &labels, value(&certificate.validity));
        }
    };
    write(
        "annulus_tls_certificate_not_before_timestamp_seconds",
        "Start of a certificate's validity, by its place in the configuration.",
        |validity| validity.from_unix_s,
    );
    write(
        "annulus_tls_certificate_not_after_timestamp_seconds",
        "End of a certificate's validity, by its place in the configuration.",
        |validity| validity.until_unix_s,
    );
    write(
        "annulus_tls_certificate_expiry_notice_timestamp_seconds",
        "When the tracker begins to warn that a certificate expires: a third of its life before \
         its end, or 30 days, whichever is less.",
        Validity::notice_unix_s,
    );
}

fn write_swarms(text: &mut PrometheusText, snapshot: &Snapshot<'_>) {
    let Snapshot { swarms, info, counters, .. } = snapshot;
    text.gauge("annulus_torrents", "Torrents stored.", swarms.torrents);
    text.gauge("annulus_torrents_limit", "Torrents that can be stored.", info.torrents_max);
    text.begin(
        "annulus_peers",
        "gauge",
        "Peers stored, by kind and by address family; one that is in two swarms counts twice.",
    );
    for (family, counts) in [("ipv4", swarms.v4), ("ipv6", swarms.v6)] {
        for (kind, count) in [("seeder", counts.seeders), ("leecher", counts.leechers)] {
            text.sample("annulus_peers", &[("kind", kind), ("family", family)], count);
        }
    }
    text.gauge("annulus_peers_limit", "Peers that can be stored.", info.peers_max);
    text.counters(
        "annulus_peers_not_stored_total",
        "Announces of new peers that were answered, but not stored for lack of room, by the key \
         of [swarms] that was reached.",
        &["reason"],
        &counters.unstored,
    );
    text.counter(
        "annulus_peers_replaced_total",
        "Peers replaced by a new endpoint of their address, because of \
         swarms.max_peers_per_address.",
        counters.peers_replaced.get(),
    );
    text.counter(
        "annulus_torrents_replaced_total",
        "Torrents with one peer that had announced once, replaced by a new one when there were \
         swarms.max_torrents.",
        counters.torrents_replaced.get(),
    );
    let name = "annulus_downloads_completed_total";
    text.counter(name, "Downloads that peers have completed.", swarms.completed);
}

fn write_access(text: &mut PrometheusText, snapshot: &Snapshot<'_>) {
    let Some(access) = snapshot.access else { return };
    text.begin("annulus_access_list_entries", "gauge", "Info hashes in the access list.");
    let mode = if access.allows { "allow" } else { "deny" };
    text.sample("annulus_access_list_entries", &[("mode", mode)], access.entries);
    text.gauge(
        "annulus_access_list_loaded_timestamp_seconds",
        "When the access list was read.",
        access.loaded_unix_s,
    );
    let age_s = (snapshot.unix_s - access.loaded_unix_s).max(0);
    text.gauge("annulus_access_list_age_seconds", "Time since the access list was read.", age_s);
}

fn write_process(text: &mut PrometheusText, snapshot: &Snapshot<'_>) {
    let started = snapshot.info.started_unix_s;
    text.gauge("process_start_time_seconds", "When the process started.", started);
    let Some(usage) = snapshot.usage else { return };
    let cpu_s = usage.cpu_seconds;
    text.counter("process_cpu_seconds_total", "Processor time, user space and kernel.", cpu_s);
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Resident memory.", usage.resident_bytes),
        ("process_virtual_memory_bytes", "Virtual memory.", usage.virtual_bytes),
        ("process_open_fds", "Open descriptors.", usage.open_descriptors),
        ("process_max_fds", "Descriptors that can be open at once.", usage.descriptors_limit),
        ("process_threads", "Threads.", usage.threads),
    ] {
        text.gauge(name, help, value);
    }
}

/// Writing to a String does not fail.
struct PrometheusText(String);

impl PrometheusText {
    /// Begins a metric; its samples must follow at once.
    fn begin(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.begin(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.begin(name, "counter", help);
        self.sample(name, &[], value);
    }

    /// A counter with these labels.
    fn counters<K: CounterKey, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
        counters: &CounterVec<K, N>,
    ) {
        self.begin(name, "counter", help);
        for (key, count) in counters.iter() {
            let labels: Vec<_> = labels.iter().copied().zip(key.labels()).collect();
            self.sample(name, &labels, count);
        }
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.begin(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        let cumulative = histogram.cumulative();
        for (index, count) in cumulative[..BUCKET_BOUNDS].iter().enumerate() {
            self.sample(&bucket, &[("le", &bound_s(index).to_string())], count);
        }
        let all = cumulative[BUCKET_BOUNDS];
        self.sample(&bucket, &[("le", "+Inf")], all);
        self.sample(&format!("{name}_sum"), &[], histogram.sum_s());
        self.sample(&format!("{name}_count"), &[], all);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0 += name;
        for (index, (label, value)) in labels.iter().enumerate() {
            self.0.push(if index == 0 { '{' } else { ',' });
            let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
            let _ = write!(self.0, "{label}=\"{value}\"");
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::PrometheusText;

    #[test]
    fn label_values_are_escaped() {
        let mut text = PrometheusText(String::new());
        text.sample("a", &[("b", "c\\d\"e\nf"), ("g", "")], 1.5);
        assert_eq!(text.0, "a{b=\"c\\\\d\\\"e\\nf\",g=\"\"} 1.5\n");
    }
}
