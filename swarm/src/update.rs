//! Announces that another tracker has received and answered.

use super::peers::KnownPeer;
use super::shard::Shard;
use super::store::{AddressOrder, Arrival, NotStored, StoredPeer, refresh};
use super::table::{Swarms, shard_of};
use super::time::{tick, ticks_since};
use super::{CapacityError, CompactAddr, InfoHash, PeerEvent, Random, Replaced, keyed_hash};

/// An announce without an answer, some time after it.
#[derive(Clone, Copy, Debug)]
pub struct PeerUpdate {
    pub info_hash: InfoHash,
    pub peer: CompactAddr,
    pub seeder: bool,
    pub event: PeerEvent,
    /// Seconds since the announce.
    pub age_s: u32,
    pub order: UpdateOrder,
}

/// Whether updates that were made before this one have come before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateOrder {
    /// In the order of its node: it changes a peer whose last announce is in the same tick or an
    /// earlier one.
    InOrder,
    /// Late: it changes a peer whose last announce is in an earlier tick, and makes a leecher of
    /// the same tick or the next a seeder.
    Late,
}

/// What became of a [`PeerUpdate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The peer is stored, new or updated.
    Stored,
    /// The peer is stored in place of another or of another torrent.
    Replaced(Replaced),
    /// There is no room for the peer, which is new.
    Refused(CapacityError),
    /// More is known: a later announce of the peer, or enough later peers of its address; or the
    /// update is older than the timeout. Nothing has changed.
    Stale,
    /// The peer had stopped and is removed.
    Removed,
    /// The peer had stopped and is not there.
    Unknown,
}

/// What became of a peer of another process.
#[derive(Clone, Copy, Debug)]
pub(super) enum Merged {
    Added(StoredPeer),
    Updated,
    /// As much or more is known of it.
    Stale,
}

impl Arrival<'_> {
    /// Whether it is in a later tick than the last announce that is known of the peer, or in the
    /// same tick and the latest of it.
    fn is_later(&self, known: KnownPeer) -> bool {
        let (own, known) = (self.ticks_since(), ticks_since(known.stamp, self.now));
        own < known || own == known && matches!(self.order, AddressOrder::Latest)
    }

    /// Whether it makes a seeder of a peer that is known as a leecher by an announce of the same
    /// tick, or of the next: an age that was rounded up may be a tick too much.
    fn promotes(&self, known: KnownPeer) -> bool {
        let known_ticks = ticks_since(known.stamp, self.now);
        self.seeder && !known.seeder && self.ticks_since() <= known_ticks + 1
    }
}

impl Swarms {
    /// Applies an announce that another node has received, at second `now`. The peer's time becomes
    /// that of the announce and never a later one: an update does not keep a peer longer than its
    /// announces would. `Completed` counts as in [`Swarms::announce`]. `Stopped` removes a peer
    /// whose last announce is not in a later tick; a late one only if that is in an earlier tick.
    pub fn apply(&self, update: &PeerUpdate, now: u32, random: &mut Random) -> Applied {
        let Some(stamp) = self.ticks.stamp_before(update.age_s.into(), now) else {
            return Applied::Stale;
        };
        let arrival = Arrival {
            info_hash: &update.info_hash,
            peer: &update.peer,
            seeder: update.seeder,
            completed: update.event == PeerEvent::Completed && update.seeder,
            stamp,
            now: self.ticks.stamp(now),
            order: match update.order {
                UpdateOrder::InOrder => AddressOrder::Latest,
                UpdateOrder::Late => AddressOrder::Recorded(None),
            },
        };
        let hash = keyed_hash(&self.secret, &update.info_hash);
        let mut shard = self.lock(shard_of(hash));
        let row = shard.find(hash, &update.info_hash);
        if update.event == PeerEvent::Stopped {
            return row.map_or(Applied::Unknown, |row| self.apply_stop(&mut shard, row, &arrival));
        }
        if let Some(row) = row {
            return self.apply_known(&mut shard, row, &arrival);
        }
        match self.reserve_torrent(&shard) {
            Ok(()) => {
                self.create_torrent(&mut shard, hash, &arrival);
                Applied::Stored
            }
            Err(CapacityError::Torrents) => {
                drop(shard);
                match self.evict_for(hash, arrival.info_hash, random) {
                    Ok((mut shard, None)) => {
                        self.create_torrent(&mut shard, hash, &arrival);
                        Applied::Replaced(Replaced::Torrent)
                    }
                    Ok((mut shard, Some(row))) => self.apply_known(&mut shard, row, &arrival),
                    Err(error) => Applied::Refused(error),
                }
            }
            Err(error) => Applied::Refused(error),
        }
    }

    fn apply_stop(&self, shard: &mut Shard, row: usize, arrival: &Arrival<'_>) -> Applied {
        match shard.torrent(row).peers.find(arrival.peer) {
            None => Applied::Unknown,
            Some(known) if arrival.is_later(known) => {
                self.remove_peer(shard, row, arrival.peer);
                Applied::Removed
            }
            Some(_) => Applied::Stale,
        }
    }

    /// An update for the torrent at `row`.
    fn apply_known(&self, shard: &mut Shard, row: usize, arrival: &Arrival<'_>) -> Applied {
        let was_unconfirmed = shard.torrent(row).peers.is_unconfirmed();
        let applied = match self.merge(shard, row, arrival) {
            Ok(Merged::Added(StoredPeer { replaced: true, .. })) => {
                Applied::Replaced(Replaced::Peer)
            }
            Ok(Merged::Added(_) | Merged::Updated) => Applied::Stored,
            Ok(Merged::Stale) | Err(NotStored::Outranked) => return Applied::Stale,
            Err(NotStored::Full(error)) => Applied::Refused(error),
        };
        // As a second announce does, even if there was no room for its peer.
        if was_unconfirmed {
            self.mark_confirmed(shard, row);
        }
        applied
    }

    /// Stores a peer of another process in the torrent at `row`, unless as much is known of it.
    pub(super) fn merge(
        &self,
        shard: &mut Shard,
        row: usize,
        arrival: &Arrival<'_>,
    ) -> Result<Merged, NotStored> {
        let (torrent, stats) = shard.torrent_and_stats(row);
        let arrival = match torrent.peers.find(arrival.peer) {
            None => return self.add(torrent, stats, arrival).map(Merged::Added),
            Some(known) if arrival.is_later(known) => *arrival,
            Some(known) if arrival.promotes(known) => {
                Arrival { stamp: tick(known.stamp), ..*arrival }
            }
            Some(_) => return Ok(Merged::Stale),
        };
        refresh(torrent, stats, &arrival);
        Ok(Merged::Updated)
    }
}
