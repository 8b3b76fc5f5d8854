//! Three nodes at a rate: delay, CPU of each part, and whether anything was lost.

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use annulus_bench::process::{BOTH_CPUS, LOAD_CPU, SERVER_CPU, pinned};
use annulus_bench::torrents::{LOAD_TORRENTS, write_list};
use annulus_bench::{scratch, tracker};
use anyhow::{Result, bail};

use crate::delay;
use crate::injection::{Injected, Injector};
use crate::site::{Node, Site, wait};

/// From this rate on one CPU is too little for three trackers and a server.
const SPREAD_FROM: u64 = 300_000;

/// Names of threads as the kernel has them: without their numbers, 15 bytes at most.
pub(crate) const WORKER: &str = "worker";
const PUBLISHER: &str = "cluster-publish";
const SUBSCRIBER: &str = "cluster-subscri";

/// Names of metrics.
const SENT: &str = "annulus_cluster_records_sent_total";
const RECEIVED: &str = "annulus_cluster_records_received_total";
const DROPPED: &str = "annulus_cluster_records_dropped_total";
const LOST: &str = "annulus_cluster_frames_out_of_order_total";

/// Who makes the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Three `annulus-load`, one at each node.
    Announces,
    /// The node of this program.
    Injector,
}

/// What a run has shown.
#[derive(Debug)]
pub(crate) struct Run {
    rate: u64,
    source: Source,
    delays_us: Vec<u64>,
    /// CPU of all nodes' threads, by name, and of the server.
    threads: BTreeMap<String, Duration>,
    server: Duration,
    /// Records that the nodes have sent, and those that they have received, all together.
    sent: u64,
    received: u64,
    injected: Injected,
    /// Records dropped, and frames lost, at any node.
    pub(crate) lost: u64,
}

/// Counters of all nodes together.
struct Counters {
    threads: BTreeMap<String, Duration>,
    server: Duration,
    sent: u64,
    received: u64,
    lost: u64,
}

impl Counters {
    fn of(site: &Site) -> Result<Counters> {
        let mut threads = BTreeMap::new();
        for node in &site.nodes {
            for (name, time) in node.cpu_by_thread()? {
                *threads.entry(name).or_default() += time;
            }
        }
        let sum = |name| site.nodes.iter().map(|node| node.metric(name)).sum::<Result<u64>>();
        Ok(Counters {
            threads,
            server: site.redis.cpu_time()?.ran,
            sent: sum(SENT)?,
            received: sum(RECEIVED)?,
            lost: sum(DROPPED)? + sum(LOST)?,
        })
    }
}

impl Run {
    pub(crate) const TITLES: [&'static str; 10] = [
        "records/s",
        "made by",
        "delays",
        "p50, ms",
        "p99, ms",
        "worker, µs an announce",
        "publisher, µs a record",
        "subscriber, µs a record",
        "server, µs a record",
        "dropped or lost",
    ];

    pub(crate) fn at(rate: u64, source: Source, seconds: u64) -> Result<Run> {
        let cpus = if rate < SPREAD_FROM { SERVER_CPU.to_string() } else { BOTH_CPUS.to_owned() };
        let site = Site::start(&cpus)?;
        let before = Counters::of(&site)?;
        let is_over = AtomicBool::new(false);
        let mut injected = Injected::default();
        let delays_us = thread::scope(|scope| {
            let probes = scope.spawn(|| delay::measure(&site, &is_over));
            let made = match source {
                Source::Announces => announce(&site, rate, seconds),
                Source::Injector => site.redis.connect().and_then(|mut connection| {
                    let time = Duration::from_secs(seconds);
                    injected = Injector::new().run(rate, time, &mut connection)?;
                    Ok(())
                }),
            };
            is_over.store(true, Ordering::Relaxed);
            let delays = probes.join().expect("a thread that does not panic");
            made.and(delays)
        })?;
        // Everything that was sent arrives at two nodes, or at three what came from outside.
        wait("all records to arrive", || {
            let now = Counters::of(&site)?;
            let sent = now.sent - before.sent;
            Ok(now.lost > before.lost
                || now.received - before.received >= 2 * sent + 3 * injected.records)
        })?;
        let after = Counters::of(&site)?;
        let threads = after.threads.iter().map(|(name, time)| {
            let earlier = before.threads.get(name).copied().unwrap_or_default();
            (name.clone(), time.saturating_sub(earlier))
        });
        Ok(Run {
            rate,
            source,
            delays_us,
            threads: threads.collect(),
            server: after.server.saturating_sub(before.server),
            sent: after.sent - before.sent,
            received: after.received - before.received,
            injected,
            lost: after.lost - before.lost,
        })
    }

    /// A line of the table.
    pub(crate) fn line(mut self) -> Vec<String> {
        self.delays_us.sort_unstable();
        let at = |share: f64| {
            let last = self.delays_us.len().saturating_sub(1) as f64;
            let delay = self.delays_us.get((last * share) as usize);
            delay.map_or("-".to_owned(), |us| format!("{:.1}", *us as f64 / 1000.0))
        };
        let per = |time: Duration, count: u64| match count {
            0 => "-".to_owned(),
            _ => format!("{:.3}", time.as_secs_f64() * 1e6 / count as f64),
        };
        let thread = |name: &str| self.threads.get(name).copied().unwrap_or_default();
        let is_announced = self.source == Source::Announces;
        let own = |time, count| if is_announced { per(time, count) } else { "-".to_owned() };
        vec![
            self.rate.to_string(),
            if is_announced { "announces" } else { "injection" }.to_owned(),
            self.delays_us.len().to_string(),
            at(0.5),
            at(0.99),
            own(thread(WORKER), self.sent),
            own(thread(PUBLISHER), self.sent),
            per(thread(SUBSCRIBER), self.received),
            per(self.server, self.sent + self.injected.records),
            self.lost.to_string(),
        ]
    }
}

/// Lets clients announce at all nodes, at this rate in all.
fn announce(site: &Site, rate: u64, seconds: u64) -> Result<()> {
    let mut loads = Vec::new();
    for (number, node) in site.nodes.iter().enumerate() {
        loads.push(start_load(node, number as u64, rate / site.nodes.len() as u64, seconds)?);
    }
    for mut load in loads {
        if !load.wait()?.success() {
            bail!("annulus-load has failed; see {}", scratch("cluster-load-*.log").display());
        }
    }
    Ok(())
}

/// Starts `annulus-load` with peers of its own, at this rate or at full speed if it is 0.
pub(crate) fn start_load(node: &Node, number: u64, rate: u64, seconds: u64) -> Result<Child> {
    let list = scratch(&format!("cluster-torrents-{number}"));
    write_list(&list, LOAD_TORRENTS)?;
    let mut command = pinned(LOAD_CPU, tracker().with_file_name("annulus-load"));
    command.arg(format!("http://{}/announce", node.address)).arg("--torrents-file").arg(list);
    for (option, value) in [
        ("--workers", 1),
        ("--connections", 64),
        ("--peers", 20_000 + number),
        ("--duration", seconds),
        ("--rate", rate),
    ] {
        command.args([option, &value.to_string()]);
    }
    if rate > 0 {
        command.args(["--allow", annulus_bench::load::NEVER_SENT]);
    }
    let log = std::fs::File::create(scratch(&format!("cluster-load-{number}.log")))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(command.spawn()?)
}
