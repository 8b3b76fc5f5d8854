//! The JSON of `/stats.json` and `/top.json`. Keys are only ever added.
#![expect(non_camel_case_types, reason = "type parameters in `object!` are named after fields")]

use annulus_swarm::{InfoHash, TorrentCounts};
use serde::Serialize;
use serde_json::Error;

use super::stats::{Health, Snapshot};
use crate::cluster::status::NodeSeen;
use crate::cluster::{ClusterStatus, ClusterView};
use crate::metrics::Counters;
use crate::metrics::histogram::{BUCKET_BOUNDS, Histogram, bound_s};
use crate::metrics::labels::{RequestOutcome, RequestType, Resumption, TransportKind};
use crate::state::StateReport;
use crate::tls::CertificateStatus;

/// An object with these keys, in this order: a value of a struct that has no other use. Each of
/// its type parameters has the name of a field.
macro_rules! object {
    ($($(#[$attribute:meta])* $key:ident: $value:expr,)+) => {{
        #[derive(Serialize)]
        struct Object<$($key),+> { $($(#[$attribute])* $key: $key,)+ }
        Object { $($key: $value,)+ }
    }};
}

/// Times are in seconds since 1970.
pub(super) fn stats(snapshot: &Snapshot<'_>) -> Result<String, Error> {
    let Snapshot { info, counters, .. } = snapshot;
    let [minute, five_minutes] = &snapshot.rates;
    let (health, stuck) = match snapshot.health {
        Health::Good => ("ok", None),
        Health::Draining => ("draining", None),
        Health::Warming => ("warming", None),
        Health::Stuck { worker, silence_s } => {
            ("stuck", Some(object! { worker: worker, seconds: silence_s, }))
        }
    };
    let access_list = snapshot.access.map(|access| {
        let mode = if access.allows { "allow" } else { "deny" };
        let (entries, loaded) = (access.entries, access.loaded_unix_s);
        object! { access_list: object! { mode: mode, entries: entries, loaded: loaded, }, }
    });
    let stats = object! {
        version: info.version,
        health: health,
        reload_possible: snapshot.obstacle.is_none(),
        engines: info.engines.iter().map(|engine| engine.name).collect::<Vec<&str>>(),
        workers: snapshot.silences_s.len(),
        time: snapshot.unix_s,
        uptime_seconds: snapshot.uptime_s,
        swarms: swarms(snapshot),
        requests: requests(counters),
        connections: connections(snapshot),
        tls: tls(snapshot),
        per_second: object! {
            #[serde(rename = "60s")]
            minute: minute,
            #[serde(rename = "300s")]
            five_minutes: five_minutes,
        },
        microseconds: object! {
            request: quantiles(&counters.latencies),
            turn: quantiles(&counters.turns),
        },
        // Without UDP, an access list, a state file, a cluster or /proc there is no such key.
        #[serde(flatten)]
        udp: info.udp.then(|| object! { udp: udp(counters), }),
        #[serde(flatten)]
        access_list: access_list,
        #[serde(flatten)]
        state: snapshot.state.as_ref().map(|report| object! { state: state(report), }),
        #[serde(flatten)]
        cluster: snapshot.cluster.map(|view| object! { cluster: cluster(view, snapshot), }),
        #[serde(flatten)]
        process: snapshot.usage.map(|usage| object! { process: usage, }),
        stuck: stuck,
        reload_obstacle: snapshot.obstacle,
        // For each of `engines` the io_uring features that it uses.
        engine_tiers: info.engines.iter().map(|engine| engine.tier).collect::<Vec<&str>>(),
    };
    Ok(serde_json::to_string(&stats)? + "\n")
}

fn swarms(snapshot: &Snapshot<'_>) -> impl Serialize {
    let Snapshot { info, counters, swarms, .. } = snapshot;
    let [v4, v6] = [swarms.v4, swarms.v6];
    object! {
        torrents: swarms.torrents,
        torrents_limit: info.torrents_max,
        peers: v4.seeders + v4.leechers + v6.seeders + v6.leechers,
        peers_limit: info.peers_max,
        seeders: v4.seeders + v6.seeders,
        leechers: v4.leechers + v6.leechers,
        peers_ipv4: v4.seeders + v4.leechers,
        peers_ipv6: v6.seeders + v6.leechers,
        downloads_completed: swarms.completed,
        not_stored: &counters.unstored,
        peers_replaced: counters.peers_replaced.get(),
        torrents_replaced: counters.torrents_replaced.get(),
        seeders_ipv4: v4.seeders,
        seeders_ipv6: v6.seeders,
        leechers_ipv4: v4.leechers,
        leechers_ipv6: v6.leechers,
    }
}

fn requests(counters: &Counters) -> impl Serialize {
    let requests = |wanted| counters.requests.sum(|((kind, _), _)| kind == wanted);
    object! {
        announces: requests(RequestType::Announce),
        scrapes: requests(RequestType::Scrape),
        pages: requests(RequestType::Page),
        failed: counters.requests.sum(|(_, (_, outcome))| outcome == RequestOutcome::Failed),
        failures: &counters.failures,
    }
}

/// What of it came by UDP, which is in the other numbers too.
fn udp(counters: &Counters) -> impl Serialize {
    let requests = |kind| counters.requests.sum(|(key, _)| key == (kind, TransportKind::Udp));
    object! {
        connects: requests(RequestType::Connect),
        announces: requests(RequestType::Announce),
        scrapes: requests(RequestType::Scrape),
        failed: counters.requests.sum(|((_, transport), (_, outcome))| {
            (transport, outcome) == (TransportKind::Udp, RequestOutcome::Failed)
        }),
        dropped: &counters.datagrams_dropped,
    }
}

fn connections(snapshot: &Snapshot<'_>) -> impl Serialize {
    let counters = &snapshot.counters;
    object! {
        open: counters.connections.get(),
        limit: snapshot.info.connections_max,
        accepted: counters.accepted.sum(|_| true),
        rejected: &counters.rejected,
        timed_out: &counters.timeouts,
        accept_pauses: &counters.accept_pauses,
        received_bytes: counters.bytes_received.get(),
        sent_bytes: counters.bytes_sent.get(),
        evicted: &counters.evicted,
    }
}

fn tls(snapshot: &Snapshot<'_>) -> impl Serialize {
    let handshakes = &snapshot.counters.handshakes;
    let certificate = |CertificateStatus { names, validity }: &CertificateStatus| {
        object! {
            names: names.clone(),
            not_after: validity.until_unix_s,
            not_before: validity.from_unix_s,
            expiry_notice: validity.notice_unix_s(),
        }
    };
    object! {
        handshakes: handshakes.sum(|_| true),
        handshakes_resumed: handshakes.sum(|(_, kind)| kind == Resumption::Resumed),
        handshakes_failed: snapshot.counters.handshakes_failed.get(),
        certificates: snapshot.certificates.iter().map(certificate).collect::<Vec<_>>(),
    }
}

/// Null for times that are not known.
fn state(report: &StateReport) -> impl Serialize {
    object! {
        file: report.path.display().to_string(),
        interval_seconds: report.interval_s,
        written: report.written_unix_s,
        bytes: report.bytes,
        write_seconds: (report.writes > 0).then_some(report.took.as_secs_f64()),
        writes: report.writes,
        failures: report.failures,
        problem: report.problem.clone(),
    }
}

fn cluster<'a>(view: &'a ClusterView, snapshot: &'a Snapshot<'_>) -> impl Serialize + 'a {
    let ClusterStatus { publisher, subscriber, .. } = &*view.node;
    object! {
        node: view.id.to_string(),
        server: view.link.server(),
        connected: view.link.is_connected(),
        connections: view.link.connections.get(),
        warming: view.node.is_warming(),
        whole: view.node.is_whole(),
        sent: object! {
            frames: publisher.frames_sent.get(),
            bytes: publisher.bytes_sent.get(),
            records: publisher.records_sent.get(),
            records_dropped: publisher.records_dropped.get(),
            records_without_room: snapshot.counters.records_dropped.get(),
            states: publisher.streams_sent.get(),
            states_cut: publisher.streams_cut.get(),
            requests_dropped: subscriber.requests_dropped.get(),
        },
        received: object! {
            frames: subscriber.frames_received.get(),
            bytes: subscriber.bytes_received.get(),
            records: &subscriber.records,
            frames_refused: &subscriber.frames_refused,
            frames_out_of_order: &subscriber.frames_lost,
            states: subscriber.joins.get(),
            states_cut: subscriber.joins_failed.get(),
            state_peers: &subscriber.state_peers,
        },
        delay_microseconds: quantiles(&subscriber.delay),
        stops_bytes: view.node.stops_bytes.get(),
        stops_reach_seconds: view.node.stops_reach_s.get(),
        nodes: nodes(view.node.nodes(), snapshot.uptime_s),
    }
}

fn nodes(nodes: Vec<NodeSeen>, uptime_s: u32) -> impl Serialize + use<> {
    let node = |node: NodeSeen| {
        object! {
            node: node.id.to_string(),
            silent_seconds: uptime_s.saturating_sub(node.heard_s),
            known_seconds: uptime_s.saturating_sub(node.since_s),
            whole: node.whole,
            peers: node.peers,
            records: node.records,
            frames_lost: node.frames_lost,
            delay_milliseconds: node.delay_ms,
            clock_ahead_milliseconds: node.clock_ahead_ms,
        }
    };
    nodes.into_iter().map(node).collect::<Vec<_>>()
}

/// Upper bounds in microseconds, null before the first duration and beyond the last bucket.
fn quantiles(histogram: &Histogram) -> impl Serialize {
    let cumulative = histogram.cumulative();
    let all = cumulative[BUCKET_BOUNDS];
    let quantile = |share: f64| {
        let wanted = (all as f64 * share).ceil() as u64;
        let bucket = cumulative[..BUCKET_BOUNDS].iter().position(|&count| count >= wanted);
        bucket.filter(|_| all > 0).map(|index| (bound_s(index) * 1e6).round() as u64)
    };
    object! { p50: quantile(0.5), p99: quantile(0.99), p999: quantile(0.999), count: all, }
}

/// A list of these torrents.
pub(super) fn torrents(
    torrents: impl Iterator<Item = (InfoHash, TorrentCounts)>,
) -> Result<String, Error> {
    let torrent = |(info_hash, counts): (InfoHash, TorrentCounts)| {
        object! {
            info_hash: info_hash.map(|byte| format!("{byte:02x}")).concat(),
            complete: counts.complete,
            incomplete: counts.incomplete,
            downloaded: counts.downloaded,
        }
    };
    Ok(serde_json::to_string(&torrents.map(torrent).collect::<Vec<_>>())? + "\n")
}
