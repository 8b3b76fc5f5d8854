//! A snapshot in Prometheus' text format, version 0.0.4.

use std::fmt::{Display, Write};

use super::stats::{Health, Snapshot};
use crate::cluster::status::NodeSeen;
use crate::cluster::{ClusterStatus, ClusterView};
use crate::limits::CLUSTER_NODE_SILENCE_S;
use crate::metrics::counter::{CounterKey, CounterVec};
use crate::metrics::histogram::{BUCKET_BOUNDS, Histogram, bound_s};
use crate::metrics::labels::{AddressFamily, RequestType, TransportKind};
use crate::tls::Validity;

pub(super) fn write(snapshot: &Snapshot<'_>) -> String {
    let mut text = PrometheusText(String::with_capacity(32 * 1024));
    write_program(&mut text, snapshot);
    write_requests(&mut text, snapshot);
    write_connections(&mut text, snapshot);
    write_tls(&mut text, snapshot);
    write_swarms(&mut text, snapshot);
    write_access(&mut text, snapshot);
    write_state(&mut text, snapshot);
    write_cluster(&mut text, snapshot);
    write_process(&mut text, snapshot);
    text.0
}

fn write_program(text: &mut PrometheusText, snapshot: &Snapshot<'_>) {
    let Snapshot { info, health, uptime_s, silences_s, .. } = snapshot;
    text.gauge("annulus_build_info The version; the value is 1.")
        .sample(&[("version", info.version)], 1);
    let mut engines = text.gauge("annulus_engine_info The I/O engines; the value is 1.");
    for engine in &info.engines {
        engines.sample(&[("engine", engine.name), ("tier", engine.tier)], 1);
    }
    text.gauge("annulus_healthy 1 if /health says so, 0 if stopping, warming or stuck.")
        .value(u8::from(*health == Health::Good));
    text.gauge(
        "annulus_reload_possible 1 if certificates and access list can be reloaded as far as is \
         known, 0 if that needs a restart, or if a reload hangs: /health says which.",
    )
    .value(u8::from(snapshot.obstacle.is_none()));
    text.gauge("annulus_uptime_seconds Time since the start.").value(uptime_s);
    let mut silences = text.gauge(
        "annulus_worker_silence_seconds Time since a worker's loop last turned, in whole seconds. \
         It turns at least once a second.",
    );
    for (worker, silence_s) in silences_s.iter().enumerate() {
        silences.sample(&[("worker", &worker.to_string())], silence_s);
    }
    text.histogram(
        "annulus_turn_duration_seconds Turns of the workers' loops, from when the kernel wakes a \
         worker to when all events are handled. The sleep between turns is not included.",
        &snapshot.counters.turns,
    );
}

fn write_requests(text: &mut PrometheusText, snapshot: &Snapshot<'_>) {
    let counters = &snapshot.counters;
    text.counter(
        "annulus_requests_total Requests answered, by what they ask for, by transport, by the \
         client's address family, and by whether they succeeded.",
    )
    .by_possible(
        &["kind", "transport", "family", "outcome"],
        &counters.requests,
        |((kind, transport), (family, _))| {
            let speaks = match transport {
                TransportKind::Udp => kind != RequestType::Page,
                TransportKind::Http | TransportKind::Https => kind != RequestType::Connect,
            };
            speaks && carries(transport, family)
        },
    );
    text.counter(
        "annulus_failures_total Failed requests, and input rejected because it was no complete \
         request, by reason.",
    )
    .by(&["reason"], &counters.failures);
    text.counter(
        "annulus_datagrams_dropped_total Datagrams received by UDP that got no reply, by reason.",
    )
    .by(&["reason"], &counters.datagrams_dropped);
    text.histogram(
        "annulus_request_duration_seconds Requests, from when the last bytes of one were \
         received, or there was room again to answer it, to when the responses of that turn of \
         the loop were ready to be submitted.",
        &counters.latencies,
    );
}

/// Whether clients of this family can come by this transport: Unix sockets are for plain HTTP.
fn carries(transport: TransportKind, family: AddressFamily) -> bool {
    transport == TransportKind::Http || family != AddressFamily::Unix
}

fn write_connections(text: &mut PrometheusText, snapshot: &Snapshot<'_>) {
    let counters = &snapshot.counters;
    text.gauge("annulus_connections_open Open connections.").value(counters.connections.get());
    text.gauge("annulus_connections_limit Connections that can be open at once.")
        .value(snapshot.info.connections_max);
    text.counter(
        "annulus_connections_accepted_total Connections accepted, by transport and by the address \
         family of the other side.",
    )
    .by_possible(&["transport", "family"], &counters.accepted, |(transport, family)| {
        transport != TransportKind::Udp && carries(transport, family)
    });
    text.counter("annulus_connections_rejected_total Connections reset at a limit, by reason.")
        .by(&["reason"], &counters.rejected);
    text.counter(
        "annulus_connections_timed_out_total Connections closed because the client took too long, \
         by what was waited for.",
    )
    .by(&["waiting_for"], &counters.timeouts);
    text.counter(
        "annulus_connections_evicted_total Connections closed early to make room for new ones, by \
         what they were waiting for.",
    )
    .by(&["waiting_for"], &counters.evicted);
    text.counter(
        "annulus_accept_pauses_total How often a worker stopped accepting for a while, so that new \
         connections waited in the kernel, by reason.",
    )
    .by(&["reason"], &counters.accept_pauses);
    text.counter("annulus_received_bytes_total Bytes received from clients, TLS included.")
        .value(counters.bytes_received.get());
    text.counter("annulus_sent_bytes_total Bytes sent to clients, TLS included.")
        .value(counters.bytes_sent.get());
}

fn write_tls(text: &mut PrometheusText, snapshot: &Snapshot<'_>) {
    let counters = &snapshot.counters;
    text.counter(
        "annulus_tls_handshakes_total TLS handshakes completed, by version, and by whether an \
         earlier session was resumed.",
    )
    .by(&["version", "kind"], &counters.handshakes);
    text.counter(
        "annulus_tls_handshakes_failed_total Connections to TLS addresses that ended before their \
         handshake was complete, for whatever reason.",
    )
    .value(counters.handshakes_failed.get());
    if snapshot.certificates.is_empty() {
        return;
    }
    let mut write = |help: &str, value: fn(&Validity) -> i64| {
        let mut gauge = text.gauge(help);
        for (index, certificate) in snapshot.certificates.iter().enumerate() {
            let index = index.to_string();
            let labels = [("certificate", index.as_str()), ("names", &certificate.names)];
            gauge.sample(&labels, value(&certificate.validity));
        }
    };
    write(
        "annulus_tls_certificate_not_before_timestamp_seconds Start of a certificate's validity, \
         by its place in the configuration.",
        |validity| validity.from_unix_s,
    );
    write(
        "annulus_tls_certificate_not_after_timestamp_seconds End of a certificate's validity, by \
         its place in the configuration.",
        |validity| validity.until_unix_s,
    );
    write(
        "annulus_tls_certificate_expiry_notice_timestamp_seconds When the tracker begins to warn \
         that a certificate expires: a third of its life before its end, or 30 days, whichever is \
         less.",
        Validity::notice_unix_s,
    );
}

fn write_swarms(text: &mut PrometheusText, snapshot: &Snapshot<'_>) {
    let Snapshot { swarms, info, counters, .. } = snapshot;
    text.gauge("annulus_torrents Torrents stored.").value(swarms.torrents);
    text.gauge("annulus_torrents_limit Torrents that can be stored.").value(info.torrents_max);
    let mut peers = text.gauge(
        "annulus_peers Peers stored, by whether they have everything and by address family; one \
         that is in two swarms counts twice.",
    );
    for (family, counts) in [("ipv4", swarms.v4), ("ipv6", swarms.v6)] {
        for (kind, count) in [("seeder", counts.seeders), ("leecher", counts.leechers)] {
            peers.sample(&[("kind", kind), ("family", family)], count);
        }
    }
    text.gauge("annulus_peers_limit Peers that can be stored.").value(info.peers_max);
    text.counter(
        "annulus_peers_not_stored_total Announces of new peers that were answered, but not stored \
         for lack of room, by the key of [swarms] that was reached.",
    )
    .by(&["reason"], &counters.unstored);
    text.counter(
        "annulus_peers_replaced_total Peers replaced by a new endpoint of their address, because \
         of swarms.max_peers_per_address.",
    )
    .value(counters.peers_replaced.get());
    text.counter(
        "annulus_torrents_replaced_total Torrents with one peer that had announced once, replaced \
         by a new one when there were swarms.max_torrents.",
    )
    .value(counters.torrents_replaced.get());
    text.counter("annulus_downloads_completed_total Downloads that peers have completed.")
        .value(swarms.completed);
}

fn write_access(text: &mut PrometheusText, snapshot: &Snapshot<'_>) {
    let Some(access) = snapshot.access else { return };
    let mode = if access.allows { "allow" } else { "deny" };
    text.gauge("annulus_access_list_entries Info hashes in the access list.")
        .sample(&[("mode", mode)], access.entries);
    text.gauge("annulus_access_list_loaded_timestamp_seconds When the access list was read.")
        .value(access.loaded_unix_s);
    text.gauge("annulus_access_list_age_seconds Time since the access list was read.")
        .value((snapshot.unix_s - access.loaded_unix_s).max(0));
}

fn write_state(text: &mut PrometheusText, snapshot: &Snapshot<'_>) {
    let Some(state) = &snapshot.state else { return };
    text.gauge("annulus_state_interval_seconds Time between two writes of the swarms to disk.")
        .value(state.interval_s);
    text.counter("annulus_state_writes_total Writes of the swarms that have succeeded.")
        .value(state.writes);
    text.counter(
        "annulus_state_write_failures_total Writes of the swarms that have failed: the log and \
         /health say why.",
    )
    .value(state.failures);
    if let Some(written_unix_s) = state.written_unix_s {
        text.gauge("annulus_state_written_timestamp_seconds When the state file was written.")
            .value(written_unix_s);
        text.gauge("annulus_state_age_seconds Time since the state file was written.")
            .value((snapshot.unix_s - written_unix_s).max(0));
        text.gauge("annulus_state_size_bytes Bytes of the state file.").value(state.bytes);
    }
    if state.writes > 0 {
        text.gauge(
            "annulus_state_write_duration_seconds How long the last write of the swarms took, \
             with its pauses.",
        )
        .value(state.took.as_secs_f64());
    }
}

fn write_process(text: &mut PrometheusText, snapshot: &Snapshot<'_>) {
    text.gauge("process_start_time_seconds When the process started.")
        .value(snapshot.info.started_unix_s);
    let Some(usage) = snapshot.usage else { return };
    text.counter("process_cpu_seconds_total Processor time in user space and in the kernel.")
        .value(usage.cpu_seconds);
    for (help, value) in [
        ("process_resident_memory_bytes Resident memory.", usage.resident_bytes),
        ("process_virtual_memory_bytes Virtual memory.", usage.virtual_bytes),
        ("process_open_fds Open descriptors.", usage.open_descriptors),
        ("process_max_fds Descriptors that can be open at once.", usage.descriptors_limit),
        ("process_threads Threads.", usage.threads),
    ] {
        text.gauge(help).value(value);
    }
}

fn write_cluster(text: &mut PrometheusText, snapshot: &Snapshot<'_>) {
    let Some(ClusterView { node, link, .. }) = snapshot.cluster else { return };
    text.gauge(
        "annulus_cluster_connected 1 if a server of the cluster is connected, 0 if this node \
         serves alone.",
    )
    .value(u8::from(link.is_connected()));
    text.counter(
        "annulus_cluster_connections_total Connections made to servers of the cluster, with the \
         first: each further one is a reconnection.",
    )
    .value(link.connections.get());
    text.gauge(
        "annulus_cluster_warming 1 if this node has just started and does not have the peers of \
         the others yet: /health is 503.",
    )
    .value(u8::from(node.is_warming()));
    text.gauge(
        "annulus_cluster_whole 1 if this node has been told everything that it knows it lacks.",
    )
    .value(u8::from(node.is_whole()));
    let nodes = node.nodes();
    let heard =
        |node: &&NodeSeen| snapshot.uptime_s.saturating_sub(node.heard_s) <= CLUSTER_NODE_SILENCE_S;
    text.gauge("annulus_cluster_nodes Other nodes heard in the last 5 seconds.")
        .value(nodes.iter().filter(heard).count());
    write_published(text, snapshot, node);
    write_received(text, node);
    text.gauge("annulus_cluster_stops_bytes Memory for peers that have stopped lately.")
        .value(node.stops_bytes.get());
    text.gauge(
        "annulus_cluster_stops_reach_seconds How far back the memory of stopped peers reaches.",
    )
    .value(node.stops_reach_s.get());
}

fn write_published(text: &mut PrometheusText, snapshot: &Snapshot<'_>, node: &ClusterStatus) {
    let sent = &node.publisher;
    text.counter("annulus_cluster_frames_sent_total Frames published to the cluster.")
        .value(sent.frames_sent.get());
    text.counter("annulus_cluster_sent_bytes_total Bytes of the frames published.")
        .value(sent.bytes_sent.get());
    text.counter("annulus_cluster_records_sent_total Records of announces in frames published.")
        .value(sent.records_sent.get());
    let mut dropped = text.counter(
        "annulus_cluster_records_dropped_total Records that were not published: without a \
         connection, or because the thread that publishes did not take them in time. The other \
         nodes notice and ask for what they lack.",
    );
    dropped.sample(&[("reason", "not_connected")], sent.records_dropped.get());
    dropped.sample(&[("reason", "no_room")], snapshot.counters.records_dropped.get());
    text.counter("annulus_cluster_states_sent_total States streamed whole to other nodes.")
        .value(sent.streams_sent.get());
    text.counter("annulus_cluster_states_sent_cut_total States that another node stopped taking.")
        .value(sent.streams_cut.get());
    text.counter("annulus_cluster_states_refused_total States that another node took in vain.")
        .value(sent.streams_refused.get());
    text.gauge("annulus_cluster_states_sending States that are being streamed to other nodes.")
        .value(sent.streams.get());
    text.counter("annulus_cluster_requests_dropped_total Requests of other nodes without room.")
        .value(node.subscriber.requests_dropped.get());
}

fn write_received(text: &mut PrometheusText, node: &ClusterStatus) {
    let received = &node.subscriber;
    text.counter("annulus_cluster_frames_received_total Frames of other nodes, refused ones too.")
        .value(received.frames_received.get());
    text.counter("annulus_cluster_received_bytes_total Bytes of the frames of other nodes.")
        .value(received.bytes_received.get());
    text.counter("annulus_cluster_frames_refused_total Messages refused as no frames, by reason.")
        .by(&["reason"], &received.frames_refused);
    text.counter(
        "annulus_cluster_frames_out_of_order_total Frames of records that were lost on the way (a \
         gap in their numbers), came twice or late.",
    )
    .by(&["reason"], &received.frames_lost);
    text.counter("annulus_cluster_records_received_total Records of other nodes, by outcome.")
        .by(&["outcome"], &received.records);
    text.counter("annulus_cluster_states_received_total States received whole from other nodes.")
        .value(received.joins.get());
    text.counter(
        "annulus_cluster_states_received_cut_total States of other nodes that ended early.",
    )
    .value(received.joins_failed.get());
    text.counter(
        "annulus_cluster_state_peers_total Peers in states of other nodes, by outcome; those that \
         were known are left out.",
    )
    .by(&["outcome"], &received.state_peers);
    text.histogram(
        "annulus_cluster_delay_seconds Time from the sending of a frame of records to its arrival \
         from the node concerned, beyond the shortest of the last two minutes.",
        &received.delay,
    );
}

struct PrometheusText(String);

/// A metric whose samples are written next. Writing to a String does not fail.
struct MetricText<'a> {
    text: &'a mut String,
    name: &'a str,
}

impl PrometheusText {
    fn gauge<'a>(&'a mut self, help: &'a str) -> MetricText<'a> {
        self.begin("gauge", help)
    }

    fn counter<'a>(&'a mut self, help: &'a str) -> MetricText<'a> {
        self.begin("counter", help)
    }

    /// `help` is the name of the metric, a space, and the help text.
    fn begin<'a>(&'a mut self, kind: &str, help: &'a str) -> MetricText<'a> {
        let (name, _) = help.split_once(' ').unwrap_or((help, ""));
        let _ = write!(self.0, "# HELP {help}\n# TYPE {name} {kind}\n");
        MetricText { text: &mut self.0, name }
    }

    fn histogram(&mut self, help: &str, histogram: &Histogram) {
        let mut metric = self.begin("histogram", help);
        let cumulative = histogram.cumulative();
        for (index, count) in cumulative[..BUCKET_BOUNDS].iter().enumerate() {
            metric.write("_bucket", &[("le", &bound_s(index).to_string())], count);
        }
        let all = cumulative[BUCKET_BOUNDS];
        metric.write("_bucket", &[("le", "+Inf")], all);
        metric.write("_sum", &[], histogram.sum_s());
        metric.write("_count", &[], all);
    }
}

impl MetricText<'_> {
    /// The only sample, without labels.
    fn value(&mut self, value: impl Display) {
        self.sample(&[], value);
    }

    /// A sample for each counter, with labels of these names.
    fn by<K: CounterKey, const N: usize>(&mut self, names: &[&str], counters: &CounterVec<K, N>) {
        self.by_possible(names, counters, |_| true);
    }

    /// The same, without the keys that nothing is ever counted under.
    fn by_possible<K: CounterKey, const N: usize>(
        &mut self,
        names: &[&str],
        counters: &CounterVec<K, N>,
        is_possible: impl Fn(K) -> bool,
    ) {
        for (key, count) in counters.iter().filter(|(key, _)| is_possible(*key)) {
            let labels: Vec<_> = names.iter().copied().zip(key.labels()).collect();
            self.sample(&labels, count);
        }
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.write("", labels, value);
    }

    fn write(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.text, "{}{suffix}", self.name);
        for (index, (label, value)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
            let _ = write!(self.text, "{label}=\"{value}\"");
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::PrometheusText;

    #[test]
    fn label_values_are_escaped() {
        let mut text = PrometheusText(String::new());
        text.gauge("a help").sample(&[("b", "c\\d\"e\nf"), ("g", "")], 1.5);
        let sample = "a{b=\"c\\\\d\\\"e\\nf\",g=\"\"} 1.5\n";
        assert_eq!(text.0, format!("# HELP a help\n# TYPE a gauge\n{sample}"));
    }
}
