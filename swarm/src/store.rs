//! Storing an announced peer: in its torrent or a new one, if there is room.

use super::address_policy::AddressRank;
use super::lock::ShardGuard;
use super::shard::{Shard, Torrent};
use super::table::{Swarms, shard_of};
use super::time::ticks_since;
use super::{
    AnnounceRequest, CapacityError, CompactAddr, InfoHash, PeerEvent, Random, SwarmStats,
    TorrentCounts, keyed_hash,
};

/// Shards tried for one eviction. One usually suffices; another thread may have taken its
/// unconfirmed torrents, or there may be too few of them in a large shard to hit one.
const SHARDS_TRIED_MAX: usize = 2;

/// A peer to store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival<'a> {
    pub(super) info_hash: &'a InfoHash,
    pub(super) peer: &'a CompactAddr,
    pub(super) seeder: bool,
    /// It has just completed its download, unless it was a seeder before.
    pub(super) completed: bool,
    /// Its tick.
    pub(super) stamp: u8,
    /// The present tick.
    pub(super) now: u8,
    pub(super) order: AddressOrder,
}

/// The order of a peer among those of its address with the same tick.
#[derive(Clone, Copy, Debug)]
pub(super) enum AddressOrder {
    Latest,
    /// As recorded elsewhere; none if it shared its address with no other.
    Recorded(Option<u8>),
}

impl<'a> Arrival<'a> {
    /// The peer that announces itself.
    pub(super) fn announced(request: &'a AnnounceRequest, stamp: u8) -> Arrival<'a> {
        Arrival {
            info_hash: &request.info_hash,
            peer: &request.peer,
            seeder: request.seeder,
            completed: request.event == PeerEvent::Completed && request.seeder,
            stamp,
            now: stamp,
            order: AddressOrder::Latest,
        }
    }

    /// Ticks since it announced.
    pub(super) fn ticks_since(&self) -> u8 {
        ticks_since(self.stamp, self.now)
    }

    /// Whether it is older than all of its address, of which `oldest` is the oldest; see
    /// [`AddressPeers`](super::address_policy::AddressPeers).
    fn is_outranked(&self, oldest: AddressRank) -> bool {
        match self.order {
            AddressOrder::Latest => self.ticks_since() > oldest.ticks.max(ticks_since(0, 0)),
            AddressOrder::Recorded(order) => {
                AddressRank::new(self.ticks_since(), order.unwrap_or(0)) >= oldest
            }
        }
    }
}

/// A peer that is stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredPeer {
    /// Its row among the peers of its address family.
    pub(super) row: usize,
    /// Whether it replaced another peer of its address.
    pub(super) replaced: bool,
}

/// Why a peer is not stored.
#[derive(Clone, Copy, Debug)]
pub(super) enum NotStored {
    Full(CapacityError),
    /// Its address has as many peers as it may have, all of them later.
    Outranked,
}

impl Swarms {
    /// Counts a new torrent of a shard, if there is room.
    pub(super) fn reserve_row(&self, shard: &Shard) -> bool {
        !shard.is_full() && self.torrents.add()
    }

    /// Counts a new torrent of a shard and its first peer, if there is room for both.
    pub(super) fn reserve_torrent(&self, shard: &Shard) -> Result<(), CapacityError> {
        if self.config.peers_per_torrent_max == 0 {
            return Err(CapacityError::PeersPerTorrent);
        }
        if !self.reserve_row(shard) {
            return Err(CapacityError::Torrents);
        }
        if !self.peers.add() {
            self.torrents.subtract(1);
            return Err(CapacityError::Peers);
        }
        Ok(())
    }

    /// Creates a torrent with its first peer; both are counted already.
    pub(super) fn create_torrent(
        &self,
        shard: &mut Shard,
        hash: u64,
        arrival: &Arrival<'_>,
    ) -> TorrentCounts {
        let Arrival { info_hash, peer, seeder, completed, stamp, .. } = *arrival;
        let row = shard.insert(hash, *info_hash);
        let torrent = shard.torrent_mut(row);
        torrent.peers.add(peer, seeder, stamp, &self.addresses);
        torrent.downloaded = u32::from(completed);
        let counts = torrent.counts();
        shard.stats.add_peer(peer, seeder);
        shard.stats.completed += u64::from(counts.downloaded);
        shard.mark_unconfirmed(row);
        self.unconfirmed.set(shard_of(hash), shard.unconfirmed());
        counts
    }

    /// Stores a peer in the torrent at `row`. A second announce confirms the torrent even if there
    /// is no room for its peer.
    pub(super) fn store_and_confirm(
        &self,
        shard: &mut Shard,
        row: usize,
        arrival: &Arrival<'_>,
    ) -> Result<StoredPeer, NotStored> {
        let was_unconfirmed = shard.torrent(row).peers.is_unconfirmed();
        let stored = self.store(shard, row, arrival);
        if was_unconfirmed {
            self.mark_confirmed(shard, row);
        }
        stored
    }

    /// Marks the torrent at `row` as confirmed.
    pub(super) fn mark_confirmed(&self, shard: &mut Shard, row: usize) {
        shard.mark_confirmed(row);
        let hash = keyed_hash(&self.secret, &shard.torrent(row).info_hash);
        self.unconfirmed.set(shard_of(hash), shard.unconfirmed());
    }

    /// Removes an unconfirmed torrent for one that is new, and locks the shard of the new one. It
    /// is to be created with its first peer, both counted already; or it has been created by
    /// another thread meanwhile and is at the row.
    pub(super) fn evict_for(
        &self,
        hash: u64,
        info_hash: &InfoHash,
        random: &mut Random,
    ) -> Result<(ShardGuard<'_>, Option<usize>), CapacityError> {
        if !self.evict_unconfirmed(random) {
            return Err(CapacityError::Torrents);
        }
        let shard = self.lock(shard_of(hash));
        let row = shard.find(hash, info_hash);
        if row.is_none() && !shard.is_full() {
            return Ok((shard, None));
        }
        self.torrents.subtract(1);
        self.peers.subtract(1);
        if row.is_some() { Ok((shard, row)) } else { Err(CapacityError::Torrents) }
    }

    /// Removes a random unconfirmed torrent; returns whether one was found. The torrent and its
    /// peer stay counted in the totals: the caller puts others in their place.
    ///
    /// Reads the count of each shard and visits at most 256 torrents.
    fn evict_unconfirmed(&self, random: &mut Random) -> bool {
        (0..SHARDS_TRIED_MAX).any(|_| {
            let Some(number) = self.unconfirmed.draw(random) else { return false };
            let mut shard = self.lock(number);
            let Some(row) = shard.pick_unconfirmed(random) else { return false };
            let (torrent, stats) = shard.torrent_and_stats(row);
            stats.subtract_peers(torrent.peers.peer_counts(), Default::default());
            shard.remove(row, &self.secret);
            self.unconfirmed.set(number, shard.unconfirmed());
            true
        })
    }

    /// Updates a peer of the torrent at `row`, or adds it if it is new and there is room.
    fn store(
        &self,
        shard: &mut Shard,
        row: usize,
        arrival: &Arrival<'_>,
    ) -> Result<StoredPeer, NotStored> {
        let (torrent, stats) = shard.torrent_and_stats(row);
        match refresh(torrent, stats, arrival) {
            Some(row) => Ok(StoredPeer { row, replaced: false }),
            None => self.add(torrent, stats, arrival),
        }
    }

    /// Adds a new peer to a torrent. If its address is at its limit, it replaces that address's
    /// oldest peer; otherwise there must be room.
    pub(super) fn add(
        &self,
        torrent: &mut Torrent,
        stats: &mut SwarmStats,
        arrival: &Arrival<'_>,
    ) -> Result<StoredPeer, NotStored> {
        let Arrival { peer, seeder, completed, stamp, now, order, .. } = *arrival;
        let peers = &mut torrent.peers;
        let limit = self.addresses.limit_of(peer);
        let same_address = limit.and_then(|_| peers.same_address(peer, &self.addresses, now));
        let same_address = same_address.unwrap_or_default();
        let is_over = limit.is_some_and(|limit| same_address.count >= limit);
        if is_over && arrival.is_outranked(same_address.rank) {
            return Err(NotStored::Outranked);
        }
        let replaced =
            if is_over { peers.replace(same_address.oldest, peer, seeder, stamp) } else { None };
        let row = match replaced {
            Some((was_seeder, row)) => {
                stats.remove_peer(peer, was_seeder);
                row
            }
            None => {
                if peers.len() >= self.config.peers_per_torrent_max as usize {
                    return Err(NotStored::Full(CapacityError::PeersPerTorrent));
                }
                if !self.peers.add() {
                    return Err(NotStored::Full(CapacityError::Peers));
                }
                peers.add(peer, seeder, stamp, &self.addresses)
            }
        };
        stats.add_peer(peer, seeder);
        if completed {
            count_download(torrent, stats);
        }
        let peers = &mut torrent.peers;
        match order {
            AddressOrder::Latest if same_address.count > 0 => peers.set_latest(peer, row),
            AddressOrder::Latest => {}
            AddressOrder::Recorded(order) => {
                if limit.is_some() && (order.is_some() || same_address.count > 0) {
                    peers.set_order(peer, row, order.unwrap_or(0));
                }
            }
        }
        Ok(StoredPeer { row, replaced: replaced.is_some() })
    }

    /// Removes a peer that leaves from the torrent at `row`; returns the torrent's counts, and
    /// whether the peer was there.
    pub(super) fn remove_peer(
        &self,
        shard: &mut Shard,
        row: usize,
        peer: &CompactAddr,
    ) -> (TorrentCounts, bool) {
        let torrent = shard.torrent_mut(row);
        let was_unconfirmed = torrent.peers.is_unconfirmed();
        let removed = torrent.peers.remove(peer);
        let counts = torrent.counts();
        if let Some(was_seeder) = removed {
            self.peers.subtract(1);
            shard.stats.remove_peer(peer, was_seeder);
            if was_unconfirmed {
                self.mark_confirmed(shard, row);
            }
        }
        // A torrent with downloads stays until the sweep visits it: peers often leave and come
        // back.
        if counts == TorrentCounts::default() {
            shard.remove(row, &self.secret);
            self.torrents.subtract(1);
        }
        (counts, removed.is_some())
    }
}

/// Updates a peer, if the torrent has it; returns its row.
pub(super) fn refresh(
    torrent: &mut Torrent,
    stats: &mut SwarmStats,
    arrival: &Arrival<'_>,
) -> Option<usize> {
    let Arrival { peer, seeder, completed, stamp, .. } = *arrival;
    let (was_seeder, row) = torrent.peers.refresh(peer, seeder, stamp)?;
    if was_seeder != seeder {
        stats.remove_peer(peer, was_seeder);
        stats.add_peer(peer, seeder);
    }
    if completed && !was_seeder {
        count_download(torrent, stats);
    }
    Some(row)
}

fn count_download(torrent: &mut Torrent, stats: &mut SwarmStats) {
    torrent.downloaded = torrent.downloaded.saturating_add(1);
    stats.completed += 1;
}
