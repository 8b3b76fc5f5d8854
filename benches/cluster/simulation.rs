//! Clusters of 1 to 16 nodes in simulated time: how busy each part is, how long records take, and
//! what ends first.
//!
//! Announces come at random. A node sends a frame every 20 ms, or when it is full; the server is
//! one queue, its link another, and the subscriber of each node one more. What things cost is
//! measured; all inputs are printed, and options replace them.

use annulus::cluster::frame::{HEADER_BYTES, PAYLOAD_BYTES_MAX};
use annulus::limits::CLUSTER_STREAM_BYTES_PER_S;
use annulus_bench::stats;
use annulus_bench::torrents::mix;

/// How long a record waits for others at most, in seconds.
const BATCH_S: f64 = 0.02;
/// The simulated time that counts, and that before it.
const COUNTED_S: f64 = 5.0;
const WARM_UP_S: f64 = 1.0;

const NODES: [u32; 8] = [1, 2, 3, 4, 6, 8, 12, 16];

/// A delay beyond which a queue is taken to grow without end.
const OVERLOAD_S: f64 = 1.0;

/// What there is, and what it costs. Times are CPU times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inputs([f64; INPUTS.len()]);

/// Names of inputs, which are options too, what they are unless an option says otherwise, and what
/// that means. They are the largest public trackers, on nodes of eight processors and a link of
/// 1 Gbit/s; what an announce costs, and a peer's memory, from README.md; the rest from the other
/// rows of this benchmark on 2026-11-28: in memory, at the server, and for the threads of three
/// nodes, the publisher at 10,000 and the subscriber at 500,000 records a second.
pub(crate) const INPUTS: [(&str, f64, &str); 15] = [
    ("announces", 200_000.0, "announces a second at all nodes together"),
    ("peers", 50e6, "peers"),
    ("torrents", 10e6, "torrents"),
    ("ipv6", 0.2, "share of peers with IPv6, whose records are longer"),
    ("cores", 8.0, "processors of a node"),
    ("link", 1000.0, "Mbit/s that the server can send"),
    ("plain-us", 17.5, "µs of a worker for an announce with a connection of its own"),
    ("tls-us", 106.0, "µs of a worker for one over TLS, with a full handshake"),
    ("hand-over-ns", 4.0, "ns of a worker for handing a record over"),
    ("publish-ns", 800.0, "ns of a node's publisher for a record"),
    ("apply-ns", 880.0, "ns of a node's subscriber for a record of another"),
    ("message-us", 29.0, "µs of the server for a message"),
    ("receiver-us", 5.7, "µs of the server for each receiver of a message"),
    ("byte-ns", 0.26, "ns of the server for each byte to a receiver"),
    ("peer-bytes", 38.4, "bytes of a node's memory for a peer, with its part of the torrent"),
];

impl Default for Inputs {
    fn default() -> Inputs {
        Inputs(INPUTS.map(|(_, value, _)| value))
    }
}

impl Inputs {
    /// Replaces an input; returns whether there is one of this name.
    pub(crate) fn set(&mut self, name: &str, value: f64) -> bool {
        let at = INPUTS.iter().position(|(known, ..)| *known == name);
        at.map(|at| self.0[at] = value).is_some()
    }

    fn get(&self, name: &str) -> f64 {
        let at = INPUTS.iter().position(|(known, ..)| *known == name);
        self.0[at.expect("a name of the list")]
    }

    fn record_bytes(&self) -> f64 {
        27.0 + 12.0 * self.get("ipv6")
    }

    /// Messages a second, if this many records come in all.
    fn messages(&self, nodes: f64, announces: f64) -> f64 {
        let full = announces * self.record_bytes() / PAYLOAD_BYTES_MAX as f64;
        (nodes / BATCH_S).min(announces).max(full)
    }

    /// Bytes a second that the server sends. A node hears itself too.
    fn sent_bytes(&self, nodes: f64, announces: f64) -> f64 {
        let headers = self.messages(nodes, announces) * HEADER_BYTES as f64;
        nodes * (announces * self.record_bytes() + headers)
    }

    /// Seconds of CPU that the server needs in a second.
    fn server(&self, nodes: f64, announces: f64) -> f64 {
        let message_us = self.get("message-us") + nodes * self.get("receiver-us");
        self.messages(nodes, announces) * message_us * 1e-6
            + self.sent_bytes(nodes, announces) * self.get("byte-ns") * 1e-9
    }

    /// Share of the server's link that is in use.
    fn link(&self, nodes: f64, announces: f64) -> f64 {
        self.sent_bytes(nodes, announces) * 8.0 / (self.get("link") * 1e6)
    }

    /// Seconds of CPU that a node's subscriber needs in a second.
    fn subscriber(&self, nodes: f64, announces: f64) -> f64 {
        announces * (nodes - 1.0) / nodes * self.get("apply-ns") * 1e-9
    }

    /// Seconds of CPU that a node needs in a second, if an announce costs so much.
    fn node(&self, nodes: f64, announces: f64, announce_us: f64) -> f64 {
        let shared_ns = self.get("hand-over-ns") + self.get("publish-ns");
        let shared_us = if nodes > 1.0 { shared_ns * 1e-3 } else { 0.0 };
        announces / nodes * (announce_us + shared_us) * 1e-6 + self.subscriber(nodes, announces)
    }

    /// The most announces a second for which `load` is at most `bound`.
    fn most(bound: f64, load: impl Fn(f64) -> f64) -> f64 {
        let (mut least, mut most) = (0.0, 1e9);
        for _ in 0..60 {
            let middle = (least + most) / 2.0;
            if load(middle) <= bound { least = middle } else { most = middle }
        }
        least
    }
}

/// Prints inputs and results.
pub(crate) fn print(inputs: &Inputs) {
    println!("### inputs\n");
    let rows = INPUTS.iter().zip(inputs.0).map(|((name, _, what), value)| {
        vec![format!("`--{name}`"), (*what).to_owned(), shown(value)]
    });
    println!("{}", stats::table(&["option", "", "value"], rows));
    // `swarm/src/snapshot.rs`: bytes of a torrent, and of a peer of each family.
    let peer_bytes = 7.0 + 12.0 * inputs.get("ipv6");
    let state = inputs.get("peers") * peer_bytes + inputs.get("torrents") * 32.0;
    let state_s = state / CLUSTER_STREAM_BYTES_PER_S as f64;
    println!(
        "A node that joins without a state gets {:.0} MB in {state_s:.0} s, at the most that a \
         node streams.\n",
        state * 1e-6
    );
    println!("### {} announces a second\n", shown(inputs.get("announces")));
    let titles = [
        "nodes",
        "node, plain: cores",
        "node, TLS: cores",
        "subscriber: of a core",
        "server: of a core",
        "server sends, Mbit/s",
        "delay p50, ms",
        "p99, ms",
        "node's memory, GB",
    ];
    println!("{}", stats::table(&titles, NODES.map(|nodes| loads(inputs, nodes))));
    println!("### the most announces a second\n");
    let titles = [
        "nodes",
        "plain",
        "ends at",
        "TLS",
        "ends at",
        "of them alone: server",
        "subscriber",
        "link",
    ];
    println!("{}", stats::table(&titles, NODES.map(|nodes| limits(inputs, nodes))));
}

fn loads(inputs: &Inputs, count: u32) -> Vec<String> {
    let (nodes, announces) = (f64::from(count), inputs.get("announces"));
    let [plain, tls] = ["plain-us", "tls-us"].map(|name| {
        let needed = inputs.node(nodes, announces, inputs.get(name));
        let short = if needed > inputs.get("cores") { " (too few)" } else { "" };
        format!("{needed:.2}{short}")
    });
    let mut row = vec![count.to_string(), plain, tls];
    if count > 1 {
        let delays = simulate(inputs, count, announces);
        let [p50, p99] = delays.map(|s| {
            if s > OVERLOAD_S { "grows".to_owned() } else { format!("{:.1}", s * 1000.0) }
        });
        row.push(format!("{:.0} %", 100.0 * inputs.subscriber(nodes, announces)));
        row.push(format!("{:.0} %", 100.0 * inputs.server(nodes, announces)));
        row.push(format!("{:.0}", inputs.sent_bytes(nodes, announces) * 8e-6));
        row.extend([p50, p99]);
    } else {
        row.extend(["-"; 5].map(str::to_owned));
    }
    row.push(format!("{:.1}", inputs.get("peers") * inputs.get("peer-bytes") * 1e-9));
    row
}

fn limits(inputs: &Inputs, count: u32) -> Vec<String> {
    let nodes = f64::from(count);
    let cores = inputs.get("cores");
    let mut shared = vec![
        ("server", Inputs::most(1.0, |rate| inputs.server(nodes, rate))),
        ("subscriber", Inputs::most(1.0, |rate| inputs.subscriber(nodes, rate))),
        ("link", Inputs::most(1.0, |rate| inputs.link(nodes, rate))),
    ];
    if count == 1 {
        shared.clear();
    }
    let mut row = vec![count.to_string()];
    for name in ["plain-us", "tls-us"] {
        let own = Inputs::most(cores, |rate| inputs.node(nodes, rate, inputs.get(name)));
        let all = shared.iter().copied().chain([("node", own)]);
        let first = all.min_by(|a, b| a.1.total_cmp(&b.1)).expect("there is the node");
        row.extend([shown(first.1.round()), first.0.to_owned()]);
    }
    row.extend(shared.iter().map(|(_, most)| shown(most.round())));
    row
}

/// A number with three digits that count.
fn shown(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned(),
        ..1000.0 => format!("{value:.0}"),
        ..1e6 => format!("{:.0} k", value / 1e3),
        _ => format!("{:.1} M", value / 1e6),
    }
}

/// When a queue with one server at a time is done with work that comes at `at` and takes `takes`.
fn pass(free_at: &mut f64, at: f64, takes: f64) -> f64 {
    *free_at = free_at.max(at) + takes;
    *free_at
}

/// Runs the queues; returns the 50th and the 99th percentile of a record's delay in seconds, from
/// its announce until another node has applied it.
fn simulate(inputs: &Inputs, count: u32, announces: f64) -> [f64; 2] {
    let nodes = f64::from(count);
    let mut random = Noise(u64::from(count));
    let (server_us, receiver_us) = (inputs.get("message-us"), inputs.get("receiver-us"));
    let byte_s = inputs.get("byte-ns") * 1e-9;
    let bit_s = 1.0 / (inputs.get("link") * 1e6);
    let (mut server, mut link, mut subscribers) = (0.0, 0.0, vec![0.0; count as usize]);
    // Delays, and how many records had them.
    let mut delays: Vec<(f64, f64)> = Vec::new();
    for (at, node, records, window_s) in frames(inputs, count, announces, &mut random) {
        let bytes = records * inputs.record_bytes() + HEADER_BYTES as f64;
        let work_s = (server_us + nodes * receiver_us) * 1e-6 + nodes * bytes * byte_s;
        let passed = pass(&mut server, at, work_s);
        for (receiver, free_at) in subscribers.iter_mut().enumerate() {
            let arrived = pass(&mut link, passed, bytes * 8.0 * bit_s);
            if receiver == node {
                continue;
            }
            let applied = pass(free_at, arrived, records * inputs.get("apply-ns") * 1e-9);
            if at > WARM_UP_S {
                // Of its records, some have waited for the whole window and some not at all.
                let waits = [0.1, 0.3, 0.5, 0.7, 0.9].map(|share| share * window_s);
                delays.extend(waits.map(|wait| (applied - at + wait, records)));
            }
        }
    }
    delays.sort_by(|a, b| a.0.total_cmp(&b.0));
    let all: f64 = delays.iter().map(|(_, records)| records).sum();
    [0.5, 0.99].map(|share| {
        let mut before = 0.0;
        let found = delays.iter().find(|(_, records)| {
            before += records;
            before >= share * all
        });
        found.map_or(0.0, |(delay, _)| *delay)
    })
}

/// The frames of all nodes in the order of time: when, by which node, how many records, and over
/// how long they were collected.
fn frames(
    inputs: &Inputs,
    count: u32,
    announces: f64,
    random: &mut Noise,
) -> Vec<(f64, usize, f64, f64)> {
    let rate = announces / f64::from(count);
    let full = PAYLOAD_BYTES_MAX as f64 / inputs.record_bytes();
    let window_s = BATCH_S.min(full / rate);
    let mut frames = Vec::new();
    for node in 0..count as usize {
        let mut at = random.next() * window_s;
        while at < WARM_UP_S + COUNTED_S {
            // Close to Poisson for the many records of a frame.
            let mean = rate * window_s;
            let records = (mean + mean.sqrt() * random.normal()).round().clamp(0.0, full);
            if records > 0.0 {
                frames.push((at, node, records, window_s));
            }
            at += window_s;
        }
    }
    frames.sort_by(|a, b| a.0.total_cmp(&b.0));
    frames
}

/// Random numbers that are the same in every run.
struct Noise(u64);

impl Noise {
    /// From 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 += 1;
        (mix(self.0) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// With mean 0 and variance 1: the sum of twelve, less six.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.next()).sum::<f64>() - 6.0
    }
}
