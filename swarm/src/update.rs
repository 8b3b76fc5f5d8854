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
    /// the same tick or the next a seeder. It makes no leecher of a seeder of the tick before.
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

    /// What it makes of a peer that is known, if anything. Ages that were rounded up may be a tick
    /// too much: within a tick it is unclear which announce was the later, and a leecher that
    /// becomes a seeder is likelier than a seeder that becomes a leecher.
    fn merged(&self, known: KnownPeer) -> Option<Self> {
        let (own, before) = (self.ticks_since(), ticks_since(known.stamp, self.now));
        let is_in_order = matches!(self.order, AddressOrder::Latest);
        let is_unclear = !is_in_order && own.abs_diff(before) <= 1;
        let seeder = self.seeder || known.seeder && is_unclear;
        if self.is_later(known) {
            Some(Arrival { seeder, ..*self })
        } else if seeder && !known.seeder && own <= before + 1 {
            Some(Arrival { stamp: tick(known.stamp), ..*self })
        } else {
            None
        }
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
        let Some(known) = torrent.peers.find(arrival.peer) else {
            return self.add(torrent, stats, arrival).map(Merged::Added);
        };
        let Some(arrival) = arrival.merged(known) else { return Ok(Merged::Stale) };
        refresh(torrent, stats, &arrival);
        Ok(Merged::Updated)
    }
}
