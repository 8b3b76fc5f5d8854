//! What an announce does and a scrape counts, whatever protocol the request came by.

use std::net::IpAddr;

use annulus_parser::{AnnounceEvent, Numwant};

use super::Server;
use crate::access_list::serves;
use crate::addresses::is_unreachable;
use crate::cluster::PeerRecord;
use crate::limits::{INTERVAL_SPREAD_PERCENT, PREFETCH_SCRAPES_PEERS_MIN};
use crate::metrics::labels::{RefusalReason, Unstored};
use crate::response::Intervals;
use annulus_swarm::{
    AnnounceRequest, BATCH_MAX, CapacityError, CompactAddr, InfoHash, PeerEvent, Replaced,
    TorrentCounts,
};

/// An announce as every protocol has it.
pub(super) struct AnnounceParts {
    pub(super) info_hash: InfoHash,
    pub(super) addresses: PeerAddresses,
    pub(super) event: AnnounceEvent,
    pub(super) left: Option<u64>,
    pub(super) downloaded: Option<u64>,
    pub(super) numwant: Numwant,
    /// The most peers that a response has room for.
    pub(super) peers_max: u32,
    /// Whether a response has no room for peers of the other address family.
    pub(super) own_family_only: bool,
}

/// The addresses that one announce registers, of one family each.
pub(super) struct PeerAddresses {
    pub(super) first: (IpAddr, u16),
    pub(super) second: Option<(IpAddr, u16)>,
}

impl Server {
    /// Stores the peer of an announce. The counts of its torrent are returned, and the peers to
    /// answer with are in the sample.
    ///
    /// # Errors
    /// Why the announce is refused; nothing is stored then.
    #[inline]
    pub(super) fn serve_announce(
        &mut self,
        announce: &AnnounceParts,
    ) -> Result<TorrentCounts, RefusalReason> {
        if !self.serves(&announce.info_hash) {
            return Err(RefusalReason::TorrentNotServed);
        }
        let (ip, port) = announce.addresses.first;
        if is_unreachable(ip) {
            return Err(RefusalReason::ClientUnreachable);
        }
        let stopped = announce.event == AnnounceEvent::Stopped;
        let numwant = match announce.numwant {
            _ if stopped => 0,
            Numwant::Default => self.protocol.default_numwant as u32,
            Numwant::AtMost(number) => number.min(self.protocol.max_numwant as u32),
        };
        let request = AnnounceRequest {
            info_hash: announce.info_hash,
            peer: CompactAddr::new(ip, port),
            seeder: announce.left == Some(0),
            event: peer_event(announce),
            numwant: numwant.min(announce.peers_max),
            own_family_only: announce.own_family_only,
        };
        if let Some((ip, port)) = announce.addresses.second {
            // The client's address of the other family: it gets no peers for it, and its completed
            // download is counted once.
            let event = if stopped { PeerEvent::Stopped } else { PeerEvent::None };
            let peer = CompactAddr::new(ip, port);
            self.store(&AnnounceRequest { peer, event, numwant: 0, ..request });
        }
        let counts = self.store(&request);
        if let Some(external) = &mut self.external_addresses {
            external.translate(ip, &request.peer, &mut self.sample);
        }
        Ok(counts)
    }

    /// Stores a peer, and draws the peers of the response into the sample.
    fn store(&mut self, request: &AnnounceRequest) -> TorrentCounts {
        let counts = self.swarms.announce(request, self.now_s, &mut self.random, &mut self.sample);
        if let Some(full) = self.sample.capacity_error() {
            self.counters.unstored.add(match full {
                CapacityError::Torrents => Unstored::Torrents,
                CapacityError::Peers => Unstored::Peers,
                CapacityError::PeersPerTorrent => Unstored::PeersOfTorrent,
            });
        } else if let Some(outbox) = &mut self.outbox
            && !outbox.add(&PeerRecord::of(request))
        {
            self.counters.records_dropped.add(1);
        }
        match self.sample.replaced() {
            Some(Replaced::Peer) => self.counters.peers_replaced.add(1),
            Some(Replaced::Torrent) => self.counters.torrents_replaced.add(1),
            None => {}
        }
        counts
    }

    /// Counts the torrents of the scrape at hand.
    pub(super) fn count_torrents(&mut self) {
        let looks_ahead = self.torrents.len() > 1 && self.has_peers(PREFETCH_SCRAPES_PEERS_MIN);
        for from in (0..self.torrents.len()).step_by(BATCH_MAX) {
            let batch = from..self.torrents.len().min(from + BATCH_MAX);
            if looks_ahead {
                for (info_hash, _) in &self.torrents[batch.clone()] {
                    self.expected.push_scrape(*info_hash);
                }
                self.prefetch();
            }
            for at in batch {
                self.torrents[at].1 = self.count_torrent(&self.torrents[at].0);
            }
        }
    }

    /// The counts of a torrent for a scrape: zeros if it is unknown or not served. libtorrent takes
    /// a missing one for an error.
    fn count_torrent(&self, info_hash: &InfoHash) -> TorrentCounts {
        match self.serves(info_hash) {
            true => self.swarms.scrape(info_hash),
            false => TorrentCounts::default(),
        }
    }

    pub(super) fn serves(&self, info_hash: &InfoHash) -> bool {
        serves(self.access_list.as_ref(), info_hash)
    }

    /// When the client may announce again.
    pub(super) fn intervals(&mut self) -> Intervals {
        let interval_s = self.protocol.interval_s;
        let spread = self.random.below(interval_s * INTERVAL_SPREAD_PERCENT / 100 + 1);
        Intervals { interval_s: interval_s + spread, min_interval_s: self.protocol.min_interval_s }
    }
}

fn peer_event(announce: &AnnounceParts) -> PeerEvent {
    match announce.event {
        AnnounceEvent::Stopped => PeerEvent::Stopped,
        AnnounceEvent::Completed => PeerEvent::Completed,
        AnnounceEvent::Started if announce.left == Some(0) && announce.downloaded == Some(0) => {
            PeerEvent::Magnet
        }
        AnnounceEvent::Started | AnnounceEvent::None => PeerEvent::None,
    }
}
