//! Everything that the admin listener shows, as one value of one moment.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::process::{ProcFiles, ProcessUsage};
use super::rates::{RateHistory, Rates, SPANS_S};
use crate::access_list::{AccessListStatus, SharedAccessList, serves};
use crate::clock::Clock;
use crate::cluster::ClusterView;
use crate::limits::{TOP_TORRENTS_MAX, TOP_TORRENTS_PER_S, WORKER_SILENCE_S_MAX};
use crate::metrics::Counters;
use crate::os::ReloadHealth;
use crate::state::{StateReport, StateStatus};
use crate::tls::{CertificateStatus, TlsContext};
use annulus_swarm::{InfoHash, Ranking, SwarmStats, Swarms};

/// The I/O engine of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineInfo {
    /// "io_uring" or "epoll".
    pub name: &'static str,
    /// The io_uring features of this kernel, as in "defer_taskrun", or "none".
    pub tier: &'static str,
}

/// What does not change while the tracker runs.
#[derive(Debug)]
pub struct StaticInfo {
    pub version: &'static str,
    /// The start in seconds since 1970, read once: a change of the system's clock must not look
    /// like a restart.
    pub started_unix_s: i64,
    /// The engines of all workers, each once.
    pub engines: Vec<EngineInfo>,
    /// Whether datagrams are received.
    pub udp: bool,
    /// The configured limits.
    pub connections_max: u64,
    pub torrents_max: u64,
    pub peers_max: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Good,
    /// The tracker was told to stop, and answers what is in flight.
    Draining,
    /// The node has just started, and does not have the peers of the other nodes yet.
    Warming,
    /// The loop of worker number `worker` has not completed a turn for `silence_s` seconds.
    Stuck {
        worker: usize,
        silence_s: u32,
    },
}

impl Health {
    /// Whether the loops of all workers turn, while the tracker is not told to stop.
    pub fn of(workers: &[Arc<Counters>], now_s: u32) -> Health {
        health_of(&silences_s(workers, now_s))
    }
}

/// The numbers of one moment.
pub(super) struct Snapshot<'a> {
    pub(super) info: &'a StaticInfo,
    pub(super) health: Health,
    /// The time in seconds since 1970.
    pub(super) unix_s: i64,
    pub(super) uptime_s: u32,
    /// For each worker, the seconds since the last turn of its loop.
    pub(super) silences_s: Vec<u32>,
    /// The counters of all workers together.
    pub(super) counters: Counters,
    pub(super) swarms: SwarmStats,
    /// Over each of [`SPANS_S`].
    pub(super) rates: [Rates; SPANS_S.len()],
    /// None if /proc cannot be read.
    pub(super) usage: Option<ProcessUsage>,
    /// None without an access list.
    pub(super) access: Option<AccessListStatus>,
    pub(super) certificates: Vec<CertificateStatus>,
    /// Why certificates and access list cannot be reloaded, and the cure.
    pub(super) obstacle: Option<&'static str>,
    /// None if the swarms are not kept on disk.
    pub(super) state: Option<StateReport>,
    /// None if this node is alone.
    pub(super) cluster: Option<&'a ClusterView>,
}

/// What a [`StatsSource`] reads.
pub struct StatsParts {
    pub info: StaticInfo,
    pub clock: Clock,
    /// One block for each worker.
    pub workers: Vec<Arc<Counters>>,
    pub swarms: Arc<Swarms>,
    pub access: Option<Arc<SharedAccessList>>,
    pub tls: Option<Arc<TlsContext>>,
    /// Set when the tracker is told to stop.
    pub stop: Arc<AtomicBool>,
    pub process: Option<ProcFiles>,
    pub reload_health: Arc<ReloadHealth>,
    /// None if the swarms are not kept on disk.
    pub state: Option<Arc<StateStatus>>,
    /// None if this node is alone.
    pub cluster: Option<ClusterView>,
}

/// Takes snapshots and searches for the largest torrents. It stops no worker.
pub struct StatsSource {
    pub(super) parts: StatsParts,
    history: Mutex<RateHistory>,
    ranking: Mutex<Option<CachedRanking>>,
}

/// The largest torrents, and the times since the start at which the search began and ended.
struct CachedRanking {
    began: Duration,
    ended: Duration,
    ranking: Arc<Ranking>,
}

impl StatsSource {
    pub fn new(parts: StatsParts) -> StatsSource {
        StatsSource { parts, history: Mutex::default(), ranking: Mutex::default() }
    }

    pub(super) fn snapshot(&self) -> Snapshot<'_> {
        let StatsParts { info, clock, workers, access, tls, process, .. } = &self.parts;
        let uptime_s = clock.now_s();
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let rates = SPANS_S.map(|span_s| history.rates(span_s));
        drop(history);
        Snapshot {
            info,
            health: self.health(),
            unix_s: Clock::unix_s(),
            uptime_s,
            silences_s: silences_s(workers, uptime_s),
            counters: self.sum(),
            swarms: self.parts.swarms.stats(),
            rates,
            usage: process.as_ref().and_then(|process| process.usage().ok()),
            access: access.as_ref().map(|access| access.status()),
            certificates: tls.as_ref().map_or_else(Vec::new, |tls| tls.certificates().status()),
            obstacle: self.parts.reload_health.problem(),
            state: self.parts.state.as_ref().map(|state| state.report()),
            cluster: self.parts.cluster.as_ref(),
        }
    }

    pub(super) fn health(&self) -> Health {
        if self.parts.stop.load(Ordering::Acquire) {
            return Health::Draining;
        }
        match Health::of(&self.parts.workers, self.parts.clock.now_s()) {
            Health::Good if self.is_warming() => Health::Warming,
            health => health,
        }
    }

    fn is_warming(&self) -> bool {
        self.parts.cluster.as_ref().is_some_and(|cluster| cluster.node.is_warming())
    }

    /// The largest torrents of those that the access list allows. One search runs at a time:
    /// requests during it wait, and use its result if it began after they arrived. The result of a
    /// search through many torrents is also used for the next seconds: see
    /// [`TOP_TORRENTS_PER_S`]. A search holds the lock of a shard only for a bounded number of
    /// torrents.
    pub(super) fn ranking(&self) -> Arc<Ranking> {
        let StatsParts { clock, swarms, access, .. } = &self.parts;
        let asked = clock.now();
        let mut cached = self.ranking.lock().unwrap_or_else(PoisonError::into_inner);
        let began = clock.now();
        if let Some(cached) = &*cached {
            let lifetime = Duration::from_secs(cached.ranking.scanned() / TOP_TORRENTS_PER_S);
            if cached.began > asked || began < cached.ended + lifetime {
                return Arc::clone(&cached.ranking);
            }
        }
        let list = access.as_ref().map(|access| access.cache());
        let mut ranking = Ranking::new(TOP_TORRENTS_MAX);
        let served = |info_hash: &InfoHash| serves(list.as_ref(), info_hash);
        while swarms.rank(&mut ranking, served) {}
        let ranking = Arc::new(ranking);
        *cached = Some(CachedRanking { began, ended: clock.now(), ranking: Arc::clone(&ranking) });
        ranking
    }

    /// Records a sample of the counters, for the rates.
    pub(super) fn sample(&self) {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.sample(self.parts.clock.now_s(), &self.sum());
    }

    fn sum(&self) -> Counters {
        let sum = Counters::default();
        self.parts.workers.iter().for_each(|worker| sum.absorb(worker));
        sum
    }
}

fn silences_s(workers: &[Arc<Counters>], now_s: u32) -> Vec<u32> {
    let silence = |worker: &Arc<Counters>| {
        let turned_s = u32::try_from(worker.turned_s.get()).unwrap_or(u32::MAX);
        now_s.saturating_sub(turned_s)
    };
    workers.iter().map(silence).collect()
}

fn health_of(silences_s: &[u32]) -> Health {
    let longest = silences_s.iter().enumerate().max_by_key(|&(_, silence_s)| silence_s);
    match longest {
        Some((worker, &silence_s)) if silence_s > WORKER_SILENCE_S_MAX => {
            Health::Stuck { worker, silence_s }
        }
        _ => Health::Good,
    }
}

#[cfg(test)]
mod tests {
    use super::{Health, WORKER_SILENCE_S_MAX, health_of};

    #[test]
    fn a_worker_is_stuck_whose_loop_does_not_turn() {
        let most = WORKER_SILENCE_S_MAX;
        assert_eq!(health_of(&[0, most, 1]), Health::Good);
        let stuck = Health::Stuck { worker: 1, silence_s: most + 1 };
        assert_eq!(health_of(&[most, most + 1, 0]), stuck);
        assert_eq!(health_of(&[]), Health::Good);
    }
}
