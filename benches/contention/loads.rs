//! Swarms of 50,000 peers, and who announces to them.

use annulus_bench::swarms::{announce_request, unbounded};
use annulus_swarm::{AnnounceRequest, Random, Sample, Swarms};

use crate::threads::LockTimes;

/// Peers of all torrents together.
pub(crate) const PEERS: u32 = 50_000;

/// Torrents of all loads but the hot one.
const TORRENTS: u32 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoadKind {
    /// All announce to one torrent.
    Hot,
    /// By Zipf's law, nearly: the most popular torrent has a thirteenth of all peers.
    Zipf,
    /// Five peers each.
    Uniform,
}

pub(crate) const LOADS: [LoadKind; 3] = [LoadKind::Hot, LoadKind::Zipf, LoadKind::Uniform];

impl LoadKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            LoadKind::Hot => "hot",
            LoadKind::Zipf => "Zipf",
            LoadKind::Uniform => "uniform",
        }
    }

    /// The torrent of a client.
    fn torrent(self, client: u32) -> u32 {
        match self {
            LoadKind::Hot => 0,
            LoadKind::Zipf => {
                let unit = f64::from(client) / f64::from(PEERS);
                f64::from(TORRENTS + 1).powf(unit) as u32 - 1
            }
            LoadKind::Uniform => client % TORRENTS,
        }
    }
}

/// Swarms and their clients.
pub(crate) struct Load {
    pub(crate) swarms: Swarms,
    pub(crate) kind: LoadKind,
    /// The torrent of each client.
    torrents: Vec<u32>,
}

impl Load {
    pub(crate) fn new(kind: LoadKind) -> Load {
        let torrents: Vec<u32> = (0..PEERS).map(|client| kind.torrent(client)).collect();
        let swarms = unbounded(2700).with_lock_observer(Box::new(LockTimes));
        let (mut random, mut sample) = (Random::seeded(1), Sample::with_capacity(1));
        for (client, &torrent) in (0..).zip(&torrents) {
            swarms.announce(&announce_request(torrent, client, 0), 0, &mut random, &mut sample);
        }
        assert_eq!(swarms.totals().peers, u64::from(PEERS));
        Load { swarms, kind, torrents }
    }

    /// The announce of a client that is known.
    pub(crate) fn announce_of(&self, client: u32, numwant: u32) -> AnnounceRequest {
        announce_request(self.torrents[client as usize], client, numwant)
    }

    /// What part of the announces each torrent has.
    pub(crate) fn shares(&self) -> Vec<f64> {
        let mut shares = vec![0.0; TORRENTS as usize];
        for &torrent in &self.torrents {
            shares[torrent as usize] += 1.0 / f64::from(PEERS);
        }
        shares
    }
}
