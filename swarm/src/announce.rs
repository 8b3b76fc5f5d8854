//! One announce: it is stored, and answered with peers and counts.

use super::sample::SampleRequest;
use super::shard::Shard;
use super::store::{Arrival, NotStored, StoredPeer};
use super::table::{Swarms, shard_of};
use super::{
    AnnounceRequest, CapacityError, PeerEvent, Random, Replaced, Sample, TorrentCounts, keyed_hash,
};

/// What the answer to an announce needs.
struct Answer<'a> {
    request: &'a AnnounceRequest,
    random: &'a mut Random,
    sample: &'a mut Sample,
}

impl Swarms {
    /// Processes one announce at second `now`: fills `sample` with the peers to answer with, and
    /// returns the counts after it. If there was no room for the peer, `sample` has the reason.
    ///
    /// A `Stopped` peer gets no peers, and creates no torrent. A `Completed` counts only if the
    /// peer is stored and was no seeder before: repeated, it counts once.
    pub fn announce(
        &self,
        request: &AnnounceRequest,
        now: u32,
        random: &mut Random,
        sample: &mut Sample,
    ) -> TorrentCounts {
        sample.clear();
        let hash = keyed_hash(&self.secret, &request.info_hash);
        let mut shard = self.lock(shard_of(hash));
        let row = shard.find(hash, &request.info_hash);
        if request.event == PeerEvent::Stopped {
            return match row {
                Some(row) => self.remove_peer(&mut shard, row, &request.peer).0,
                None => TorrentCounts::default(),
            };
        }
        let arrival = Arrival::announced(request, self.ticks.stamp(now));
        if let Some(row) = row {
            let answer = Answer { request, random, sample };
            return self.announce_known(&mut shard, row, &arrival, answer);
        }
        match self.reserve_torrent(&shard) {
            Ok(()) => self.create_torrent(&mut shard, hash, &arrival),
            Err(CapacityError::Torrents) => {
                drop(shard);
                self.announce_by_eviction(hash, &arrival, Answer { request, random, sample })
            }
            Err(error) => {
                sample.set_capacity_error(error);
                TorrentCounts::default()
            }
        }
    }

    /// Creates the torrent of an announce in place of an unconfirmed one.
    fn announce_by_eviction(
        &self,
        hash: u64,
        arrival: &Arrival<'_>,
        answer: Answer<'_>,
    ) -> TorrentCounts {
        match self.evict_for(hash, arrival.info_hash, answer.random) {
            Ok((mut shard, None)) => {
                answer.sample.set_replaced(Replaced::Torrent);
                self.create_torrent(&mut shard, hash, arrival)
            }
            Ok((mut shard, Some(row))) => self.announce_known(&mut shard, row, arrival, answer),
            Err(error) => {
                answer.sample.set_capacity_error(error);
                TorrentCounts::default()
            }
        }
    }

    /// Answers an announce for the torrent at `row`.
    fn announce_known(
        &self,
        shard: &mut Shard,
        row: usize,
        arrival: &Arrival<'_>,
        answer: Answer<'_>,
    ) -> TorrentCounts {
        let stored = self.store_and_confirm(shard, row, arrival);
        let torrent = shard.torrent(row);
        let Answer { request, random, sample } = answer;
        sample.fill(
            &SampleRequest {
                peers: &torrent.peers,
                announcer: &request.peer,
                announcer_row: stored.map(|stored| stored.row).ok(),
                leechers_only: request.seeder && request.event != PeerEvent::Magnet,
                own_family_only: request.own_family_only,
                numwant: request.numwant,
            },
            random,
        );
        match stored {
            Ok(StoredPeer { replaced: true, .. }) => sample.set_replaced(Replaced::Peer),
            Ok(_) => {}
            Err(NotStored::Full(error)) => sample.set_capacity_error(error),
            // An announce is the latest of its address.
            Err(NotStored::Outranked) => {}
        }
        torrent.counts()
    }
}
