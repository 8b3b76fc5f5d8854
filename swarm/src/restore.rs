//! Reading the swarms: entries from a file or another node are merged into the tables.

use std::ops::AddAssign;

use super::entry::TorrentEntry;
use super::shard::Shard;
use super::store::{AddressOrder, Arrival};
use super::table::{Swarms, shard_of};
use super::update::Merged;
use super::{CompactAddr, TorrentCounts, keyed_hash};

/// The most peers that are merged under one lock: a tenth of a millisecond, if all of them are new
/// in a swarm of millions.
const LOCKED: usize = 64;

/// Not the tick of a peer: it is left out.
const LEFT_OUT: u8 = u8::MAX;

/// What the ages of entries are relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ages {
    /// [`Swarms::tick_s`] of the process that wrote them.
    pub tick_s: u32,
    /// [`Swarms::tick_phase_s`] when it wrote them.
    pub phase_s: u32,
    /// Seconds from then to the `now` with which they are read; 0 if the clock went backwards.
    pub elapsed_s: u32,
}

impl Ages {
    /// The most seconds since an announce of this age.
    fn age_s(&self, age_ticks: u8) -> u64 {
        let before = u64::from(age_ticks) * u64::from(self.tick_s.max(1));
        before + u64::from(self.phase_s) + u64::from(self.elapsed_s)
    }
}

/// What became of the peers of entries. Peers of which as much or more is known already are in none
/// of the counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// New ones.
    pub stored: u64,
    /// Known ones that had announced in a later tick than was known, or had become seeders.
    pub updated: u64,
    /// Those whose last announce is longer ago than the timeout.
    pub expired: u64,
    /// Those that were not admitted or exceeded a bound.
    pub refused: u64,
}

impl AddAssign for Restored {
    fn add_assign(&mut self, other: Restored) {
        self.stored += other.stored;
        self.updated += other.updated;
        self.expired += other.expired;
        self.refused += other.refused;
    }
}

/// Some peers of an entry, of which those that are not left out are merged under one lock.
struct EntrySlice<'a> {
    entry: &'a TorrentEntry<'a>,
    first: usize,
    /// The tick of each peer, or [`LEFT_OUT`].
    ticks: &'a [u8],
    now: u8,
}

impl EntrySlice<'_> {
    fn arrivals(&self) -> impl Iterator<Item = (usize, u8)> {
        let rows = (self.first..).zip(self.ticks.iter().copied());
        rows.filter(|&(_, tick)| tick != LEFT_OUT)
    }
}

impl Swarms {
    /// Lets ticks go on as in the process that wrote a snapshot, so that reading it rounds no age:
    /// every peer expires when it would have without the restart. `now` is the second that
    /// `ages.elapsed_s` refers to. Without effect if the length of a tick differs: then ages are
    /// rounded up by less than a tick. Call it before the first announce.
    pub fn align_ticks(&mut self, ages: &Ages, now: u32) {
        if ages.tick_s == self.ticks.tick_s() {
            self.ticks.align(u64::from(ages.phase_s) + u64::from(ages.elapsed_s), now);
        }
    }

    /// Merges an entry at second `now`, which `ages.elapsed_s` refers to. Missing peers are added
    /// as far as the bounds allow. Known ones are updated if the entry knows a later tick of their
    /// last announce. A leecher becomes a seeder, and keeps its time, if it was one in the same
    /// tick or the one before: ages are rounded up. `downloaded` becomes the larger of both.
    /// Expired peers are left out. An age in other ticks is rounded up: a peer never becomes
    /// younger. So entries can be merged in any order, and twice.
    ///
    /// `admit` is asked first for each peer that has not expired, with the most seconds that may
    /// have passed since its last announce: less than a tick of the writer more than have.
    ///
    /// Each lock is held for at most 64 peers, and none while `admit` is called.
    pub fn restore(
        &self,
        entry: &TorrentEntry<'_>,
        ages: &Ages,
        now: u32,
        mut admit: impl FnMut(&CompactAddr, u32) -> bool,
    ) -> Restored {
        let mut restored = Restored::default();
        let mut first = 0;
        loop {
            let count = (entry.peer_count() - first).min(LOCKED);
            let mut ticks = [LEFT_OUT; LOCKED];
            for (at, tick) in (first..).zip(&mut ticks[..count]) {
                let peer = entry.peer(at);
                let age_s = ages.age_s(peer.age_ticks);
                match self.ticks.stamp_before(age_s, now) {
                    None => restored.expired += 1,
                    Some(stamp) if admit(&peer.peer, age_s.min(u32::MAX.into()) as u32) => {
                        *tick = stamp;
                    }
                    Some(_) => restored.refused += 1,
                }
            }
            let now = self.ticks.stamp(now);
            self.merge_slice(
                &EntrySlice { entry, first, ticks: &ticks[..count], now },
                &mut restored,
            );
            first += count;
            if first == entry.peer_count() {
                return restored;
            }
        }
    }

    fn merge_slice(&self, slice: &EntrySlice<'_>, restored: &mut Restored) {
        let entry = slice.entry;
        let admitted = slice.arrivals().count() as u64;
        // A torrent whose peers have all expired is gone; one that had none is remembered for its
        // downloads until the sweep visits it.
        if admitted == 0 && entry.peer_count() > 0 {
            return;
        }
        let hash = keyed_hash(&self.secret, &entry.info_hash);
        let mut shard = self.lock(shard_of(hash));
        let known = shard.find(hash, &entry.info_hash);
        let row = match known {
            Some(row) => row,
            None if self.reserve_row(&shard) => shard.insert(hash, entry.info_hash),
            None => {
                restored.refused += admitted;
                return;
            }
        };
        let was_unconfirmed = shard.torrent(row).peers.is_unconfirmed();
        let before = restored.stored + restored.updated;
        self.merge_peers(&mut shard, row, slice, restored);
        let has_changed = restored.stored + restored.updated > before;
        let torrent = shard.torrent_mut(row);
        torrent.downloaded = torrent.downloaded.max(entry.downloaded);
        let (counts, peers) = (torrent.counts(), torrent.peers.len());
        if known.is_none() && (counts == TorrentCounts::default() || (peers == 0 && admitted > 0)) {
            shard.remove(row, &self.secret);
            self.torrents.subtract(1);
        } else if known.is_none() && entry.unconfirmed && peers == 1 {
            shard.mark_unconfirmed(row);
            self.unconfirmed.set(shard_of(hash), shard.unconfirmed());
        } else if was_unconfirmed && (has_changed || !entry.unconfirmed) {
            self.mark_confirmed(&mut shard, row);
        }
    }

    fn merge_peers(
        &self,
        shard: &mut Shard,
        row: usize,
        slice: &EntrySlice<'_>,
        restored: &mut Restored,
    ) {
        for (at, stamp) in slice.arrivals() {
            let peer = slice.entry.peer(at);
            let arrival = Arrival {
                info_hash: &slice.entry.info_hash,
                peer: &peer.peer,
                seeder: peer.seeder,
                completed: false,
                stamp,
                now: slice.now,
                order: AddressOrder::Recorded(peer.order),
            };
            match self.merge(shard, row, &arrival) {
                Ok(Merged::Added(_)) => restored.stored += 1,
                Ok(Merged::Updated) => restored.updated += 1,
                Ok(Merged::Stale) => {}
                Err(_) => restored.refused += 1,
            }
        }
    }
}
