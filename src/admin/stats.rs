//! Everything that can be known of the tracker at one moment, in one value.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::process::{ProcFiles, ProcessUsage};
use super::rates::{RateHistory, Rates, SPANS_S};
use crate::access_list::{AccessListStatus, SharedAccessList};
use crate::clock::Clock;
use crate::limits::{TOP_TORRENTS_MAX, TOP_TORRENTS_PER_S, WORKER_SILENCE_S_MAX};
use crate::metrics::Counters;
use crate::metrics::labels::RequestType;
use crate::os::ReloadHealth;
use crate::tls::{CertificateStatus, TlsContext};
use annulus_swarm::{InfoHash, Ranking, SwarmStats, Swarms};

/// How a worker talks to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineInfo {
    /// "io_uring" or "epoll".
    pub name: &'static str,
    /// How much of io_uring this kernel has, as in "defer_taskrun", or "none".
    pub tier: &'static str,
}

/// What does not change while the tracker runs.
#[derive(Clone, Debug)]
pub struct StaticInfo {
    /// The program's version.
    pub version: &'static str,
    /// When it began, in seconds since 1970: noted once, so that it stays the same whatever
    /// happens to the machine's clock.
    pub started_unix_s: i64,
    /// The workers' engines, each once.
    pub engines: Vec<EngineInfo>,
    /// Connections that all workers together hold at most.
    pub connections_max: u64,
    /// Torrents that are remembered at most.
    pub torrents_max: u64,
    /// Peers that are remembered at most.
    pub peers_max: u64,
}

/// Whether the tracker does what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Good,
    /// It was told to stop, and answers what is in flight.
    Draining,
    /// A worker has not gone round for too long.
    Stuck {
        /// Which, from 0.
        worker: usize,
        /// For how many seconds.
        silence_s: u32,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Snapshot {
    /// What does not change.
    pub facts: Arc<StaticInfo>,
    /// Whether all is well.
    pub health: Health,
    /// The present, in seconds since 1970.
    pub unix_s: i64,
    /// Seconds since the start.
    pub uptime_s: u32,
    /// For each worker, how many seconds ago its loop last went round.
    pub silences_s: Vec<u32>,
    /// What all workers together have counted.
    pub counters: Counters,
    /// What there is in the swarms.
    pub swarms: SwarmStats,
    /// What happens in a second, over each of [`SPANS_S`].
    pub rates: [Rates; SPANS_S.len()],
    /// What the process takes, unless the kernel does not say.
    pub usage: Option<ProcessUsage>,
    /// The access list, if there is one.
    pub access: Option<AccessListStatus>,
    /// The certificates that are served.
    pub certificates: Vec<CertificateStatus>,
    /// What keeps certificates and access list from being read again, if anything does.
    pub obstacle: Option<&'static str>,
}

/// Where snapshots come from: handles on all that is looked at.
pub struct StatsSource {
    /// What does not change.
    pub facts: Arc<StaticInfo>,
    /// The time.
    pub clock: Clock,
    /// One block for each worker.
    pub workers: Vec<Arc<Counters>>,
    /// The swarms.
    pub swarms: Arc<Swarms>,
    /// The access list, if there is one.
    pub access: Option<Arc<SharedAccessList>>,
    /// HTTPS, if it is spoken.
    pub tls: Option<Arc<TlsContext>>,
    /// Set when the tracker is told to stop.
    pub stop: Arc<AtomicBool>,
    /// The kernel's files, if there are any.
    pub process: Option<ProcFiles>,
    /// What keeps files from being read again.
    pub reload_health: Arc<ReloadHealth>,
    /// What was counted a while ago.
    pub history: Mutex<RateHistory>,
    /// The largest torrents that were last asked for.
    pub found: Mutex<Option<CachedRanking>>,
}

/// The largest torrents, and when the search for them began and ended, since the start.
pub struct CachedRanking {
    began: Duration,
    ended: Duration,
    ranking: Arc<Ranking>,
}

impl StatsSource {
    /// What can be known at this moment. It stops no worker.
    pub fn snapshot(&self) -> Snapshot {
        let uptime_s = self.clock.now_s();
        let counters = self.sum();
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let rates = SPANS_S.map(|span_s| history.rate(span_s));
        drop(history);
        Snapshot {
            facts: Arc::clone(&self.facts),
            health: self.health(),
            unix_s: Clock::unix_s(),
            uptime_s,
            silences_s: silences_s(&self.workers, uptime_s),
            counters,
            swarms: self.swarms.stats(),
            rates,
            usage: self.process.as_ref().and_then(|process| process.usage().ok()),
            access: self.access.as_ref().map(|access| access.status()),
            certificates: self
                .tls
                .as_ref()
                .map_or_else(Vec::new, |tls| tls.certificates().status()),
            obstacle: self.reload_health.problem(),
        }
    }

    /// Whether all is well, which is cheap to know.
    pub fn health(&self) -> Health {
        if self.stop.load(Ordering::Acquire) {
            return Health::Draining;
        }
        health_of(&self.workers, self.clock.now_s())
    }

    /// The largest torrents of those that are served. There is one search at a time: whoever asks
    /// during it waits, and takes what another has searched for meanwhile. Of many torrents, the
    /// result is also for those who ask in the next seconds: see [`TOP_TORRENTS_PER_S`]. No worker
    /// waits for longer than it takes to look at some torrents of one shard.
    pub fn ranking(&self) -> Arc<Ranking> {
        let asked = self.clock.now();
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let began = self.clock.now();
        if let Some(found) = &*found {
            let shared = Duration::from_secs(found.ranking.scanned() / TOP_TORRENTS_PER_S);
            if found.began > asked || began < found.ended + shared {
                return Arc::clone(&found.ranking);
            }
        }
        let gate = self.access.as_ref().map(|access| access.cache());
        let mut ranking = Ranking::new(TOP_TORRENTS_MAX);
        let served = |info_hash: &InfoHash| gate.as_ref().is_none_or(|it| it.allows(info_hash));
        while self.swarms.rank(&mut ranking, served) {}
        let ranking = Arc::new(ranking);
        let ended = self.clock.now();
        *found = Some(CachedRanking { began, ended, ranking: Arc::clone(&ranking) });
        ranking
    }

    /// Remembers what has been counted until now, for the rates.
    pub fn sample(&self) {
        let flow = flow(&self.sum());
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.add(self.clock.now_s(), flow);
    }

    fn sum(&self) -> Counters {
        let sum = Counters::default();
        self.workers.iter().for_each(|worker| sum.absorb(worker));
        sum
    }
}

/// Whether all workers go round, while they are not to stop.
pub fn health_of(workers: &[Arc<Counters>], now_s: u32) -> Health {
    judge(&silences_s(workers, now_s))
}

fn silences_s(workers: &[Arc<Counters>], now_s: u32) -> Vec<u32> {
    let silence = |worker: &Arc<Counters>| {
        let turned_s = u32::try_from(worker.turned_s.get()).unwrap_or(u32::MAX);
        now_s.saturating_sub(turned_s)
    };
    workers.iter().map(silence).collect()
}

/// What the workers' silence means.
fn judge(silences_s: &[u32]) -> Health {
    let longest = silences_s.iter().enumerate().max_by_key(|&(_, silence_s)| silence_s);
    match longest {
        Some((worker, &silence_s)) if silence_s > WORKER_SILENCE_S_MAX => {
            Health::Stuck { worker, silence_s }
        }
        _ => Health::Good,
    }
}

fn flow(counters: &Counters) -> Rates {
    let requests = |wanted: RequestType| counters.requests.sum(|(kind, ..)| kind == wanted) as f64;
    Rates {
        announces: requests(RequestType::Announce),
        scrapes: requests(RequestType::Scrape),
        failures: counters.failures.sum(|_| true) as f64,
        connections: counters.accepted.sum(|_| true) as f64,
        handshakes: counters.handshakes.sum(|_| true) as f64,
        received: counters.bytes_received.get() as f64,
        sent: counters.bytes_sent.get() as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::{Health, WORKER_SILENCE_S_MAX, judge};

    #[test]
    fn a_worker_is_stuck_that_does_not_go_round() {
        let most = WORKER_SILENCE_S_MAX;
        assert_eq!(judge(&[0, most, 1]), Health::Good);
        let stuck = Health::Stuck { worker: 1, silence_s: most + 1 };
        assert_eq!(judge(&[most, most + 1, 0]), stuck);
        assert_eq!(judge(&[]), Health::Good);
    }
}
