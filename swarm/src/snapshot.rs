//! Writing the swarms: all torrents and peers as [entries](super::entry), in small steps while
//! others announce.

use super::entry::{EntrySelection, RowSelection, entry_bytes_max, rows_max};
use super::peer_store::PeerStore;
use super::shard::{Shard, Torrent};
use super::table::{SHARDS, Swarms, shard_of};
use super::time::AgeRange;
use super::{InfoHash, keyed_hash};

/// The most bytes of one entry. A torrent that needs more is written as several, each a *piece* of
/// its peers.
pub const ENTRY_BYTES_MAX: usize = 32 * 1024;

/// The work of one step: visiting a torrent of a few peers is 1.
const STEP: usize = 256;

/// The work under one lock, and that of a piece: little, because the thread that writes has a lower
/// priority and may be preempted while it holds the lock.
const LOCKED: usize = 64;

/// The work of locking a shard.
const SHARD_COST: usize = 8;

/// Copying so many peers is as much work as visiting a torrent.
const PEERS_PER_COST: usize = 32;

/// The first leechers of a large swarm that are written ahead of the others; see [`PieceCursor`].
const FRONT_ROWS: usize = 512;

/// Where a walk over all torrents goes on. It begins at the default.
#[derive(Debug, Default)]
pub struct SnapshotCursor {
    since_s: Option<u32>,
    entries: u64,
    peers: u64,
    /// The next shard; `SHARDS` when the walk is complete.
    shard: usize,
    /// The walk goes on before this row, if the shard is partly visited.
    end: Option<usize>,
    /// The torrent that is written in pieces at present.
    pieces: Option<(InfoHash, PieceCursor)>,
}

impl SnapshotCursor {
    /// A walk over the peers that announced in the last `age_s` seconds, rounded up to a tick, and
    /// over their torrents.
    pub fn since(age_s: u32) -> SnapshotCursor {
        SnapshotCursor { since_s: Some(age_s), ..SnapshotCursor::default() }
    }

    /// Entries written so far: torrents, of which large ones and some that moved count more than
    /// once.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Peers written so far; those that moved may count more than once.
    pub fn peers(&self) -> u64 {
        self.peers
    }
}

/// What of a large swarm is still to be written: of each family first leechers, then seeders.
///
/// Rows move between two pieces, and none that stays may move from the rest to what is written
/// already. A leecher that becomes a seeder swaps with the first leecher, a new seeder sends the
/// first leecher to the end, and the last leecher moves to where one is removed. So both ends of
/// the leechers are written first, the rest backward: as long as fewer than [`FRONT_ROWS`] seeders
/// join or leechers complete between two pieces, and fewer leechers leave than a piece has, only
/// rows move that are written already. The last seeder moves to where another leaves: they are
/// written backward. A leecher that becomes a seeder meanwhile is written then. What a walk may
/// miss is a peer whose own announce moved it: one that is new, or a seeder that became a leecher.
#[derive(Clone, Copy, Debug)]
enum PieceCursor {
    Leechers {
        v6: bool,
        /// Leechers before this row are written.
        front: usize,
        /// Leechers from this row on are written.
        back: usize,
    },
    Seeders {
        v6: bool,
        /// Seeders from this row on are written.
        back: usize,
    },
}

impl PieceCursor {
    const START: PieceCursor = PieceCursor::leechers(false);

    const fn leechers(v6: bool) -> PieceCursor {
        PieceCursor::Leechers { v6, front: 0, back: usize::MAX }
    }

    fn is_v6(self) -> bool {
        let (PieceCursor::Leechers { v6, .. } | PieceCursor::Seeders { v6, .. }) = self;
        v6
    }

    /// The rows of the next piece, and where to go on after it.
    fn next_piece<'a, const N: usize>(
        self,
        rows: &'a dyn PeerStore<N>,
    ) -> (RowSelection<'a, N>, Option<PieceCursor>) {
        let max = const { rows_max::<N>(ENTRY_BYTES_MAX) };
        let (seeders, len) = (rows.seeders(), rows.len());
        match self {
            PieceCursor::Leechers { v6, front, back } => {
                let (front, back) = (front.max(seeders), back.min(len));
                let front_end = (seeders + FRONT_ROWS).min(back).max(front);
                let start = back.saturating_sub(max - (front_end - front)).max(front_end);
                let leechers = [front..front_end, start..back.max(start)];
                let next = match start > front_end {
                    true => PieceCursor::Leechers { v6, front: front_end, back: start },
                    false => PieceCursor::Seeders { v6, back: usize::MAX },
                };
                (RowSelection { rows, seeders: 0..0, leechers }, Some(next))
            }
            PieceCursor::Seeders { v6, back } => {
                let back = back.min(seeders);
                let start = back.saturating_sub(max);
                let next = match start > 0 {
                    true => Some(PieceCursor::Seeders { v6, back: start }),
                    false => (!v6).then_some(PieceCursor::leechers(true)),
                };
                (RowSelection { rows, seeders: start..back, leechers: [0..0, 0..0] }, next)
            }
        }
    }

    /// The next piece of a torrent, and where to go on after it.
    fn next_entry(self, torrent: &Torrent) -> (EntrySelection<'_>, Option<PieceCursor>) {
        let mut entry = EntrySelection {
            info_hash: &torrent.info_hash,
            downloaded: torrent.downloaded,
            unconfirmed: false,
            without_peers: false,
            v4: None,
            v6: None,
        };
        let next = match (self.is_v6(), torrent.peers.v4(), torrent.peers.v6()) {
            (false, Some(rows), _) => {
                let (selection, next) = self.next_piece(rows);
                entry.v4 = Some(selection);
                next
            }
            (true, _, Some(rows)) => {
                let (selection, next) = self.next_piece(rows);
                entry.v6 = Some(selection);
                next
            }
            (false, None, _) => Some(PieceCursor::leechers(true)),
            (true, _, None) => None,
        };
        (entry, next)
    }
}

/// What one step may still do.
struct SnapshotStep<'a> {
    ages: AgeRange,
    out: &'a mut Vec<u8>,
    /// The length of `out` before this step.
    start: usize,
    /// The length of `out` to which this step may append.
    full: usize,
    work: usize,
}

impl SnapshotStep<'_> {
    /// Whether an entry of so many bytes may be appended: the first one always.
    fn has_room(&self, bytes: usize) -> bool {
        self.out.len() == self.start || self.out.len() + bytes <= self.full
    }
}

impl Swarms {
    /// Appends entries of the next torrents to `out`, at most `bytes` of them, and returns whether
    /// there is more. `bytes` is [`ENTRY_BYTES_MAX`] or more; less means one entry a call. A call
    /// may append less than there is room for, or nothing, because its work is bounded too: about a
    /// tenth of a millisecond. It holds one lock at a time, for some tens of microseconds at most.
    /// It allocates only by growing `out`.
    ///
    /// A torrent that exists during the whole walk is written, with each peer that stays: its
    /// stamps, counts and peers are those of one moment, or of one moment for each piece if it
    /// needs more than one entry. It may be written twice. Expired peers may be among those
    /// written.
    pub fn snapshot(
        &self,
        cursor: &mut SnapshotCursor,
        now: u32,
        bytes: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        let start = out.len();
        let mut step = SnapshotStep {
            ages: AgeRange::new(self.ticks, now, cursor.since_s),
            out,
            start,
            full: start.saturating_add(bytes),
            work: STEP,
        };
        while cursor.shard < SHARDS && step.work > 0 {
            step.work = step.work.saturating_sub(SHARD_COST);
            let shard = self.lock(cursor.shard);
            let is_full = !self.write_slice(&shard, cursor, &mut step);
            drop(shard);
            if is_full {
                return true;
            }
            if cursor.end == Some(0) && cursor.pieces.is_none() {
                cursor.shard += 1;
                cursor.end = None;
            }
        }
        cursor.shard < SHARDS
    }

    /// Writes the next torrents of a shard, as many as may be under one lock; returns whether there
    /// was room.
    fn write_slice(
        &self,
        shard: &Shard,
        cursor: &mut SnapshotCursor,
        step: &mut SnapshotStep<'_>,
    ) -> bool {
        let mut work = LOCKED.min(step.work);
        // Backward: a removal moves the last torrent to a lower row.
        let mut end = cursor.end.unwrap_or(shard.len()).min(shard.len());
        cursor.end = Some(end);
        while work > 0 {
            if let Some((info_hash, pieces)) = cursor.pieces {
                let hash = keyed_hash(&self.secret, &info_hash);
                let row = (shard_of(hash) == cursor.shard).then(|| shard.find(hash, &info_hash));
                let Some(row) = row.flatten() else {
                    cursor.pieces = None;
                    continue;
                };
                if !step.has_room(ENTRY_BYTES_MAX) {
                    return false;
                }
                let (entry, next) = pieces.next_entry(shard.torrent(row));
                cursor.count(entry.write(step.ages, step.out));
                cursor.pieces = next.map(|next| (info_hash, next));
                work = work.saturating_sub(LOCKED);
                step.work = step.work.saturating_sub(LOCKED);
                continue;
            }
            let Some(row) = end.checked_sub(1) else { break };
            let torrent = shard.torrent(row);
            let (v4, v6) = (torrent.peers.v4(), torrent.peers.v6());
            let rows = (v4.map_or(0, PeerStore::len), v6.map_or(0, PeerStore::len));
            let bytes = entry_bytes_max(rows.0, rows.1);
            end = row;
            if bytes > ENTRY_BYTES_MAX {
                cursor.pieces = Some((torrent.info_hash, PieceCursor::START));
            } else if step.has_room(bytes) {
                let entry = EntrySelection {
                    info_hash: &torrent.info_hash,
                    downloaded: torrent.downloaded,
                    unconfirmed: torrent.peers.is_unconfirmed(),
                    without_peers: step.ages.is_all(),
                    v4: v4.map(RowSelection::all),
                    v6: v6.map(RowSelection::all),
                };
                cursor.count(entry.write(step.ages, step.out));
            } else {
                return false;
            }
            cursor.end = Some(end);
            let cost = 1 + (rows.0 + rows.1) / PEERS_PER_COST;
            work = work.saturating_sub(cost);
            step.work = step.work.saturating_sub(cost);
        }
        true
    }

    /// The unit of ages, in seconds.
    pub fn tick_s(&self) -> u32 {
        self.ticks.tick_s()
    }

    /// Seconds at second `now` since the present tick began.
    pub fn tick_phase_s(&self, now: u32) -> u32 {
        self.ticks.phase_s(now)
    }
}

impl SnapshotCursor {
    fn count(&mut self, peers: Option<u64>) {
        self.entries += u64::from(peers.is_some());
        self.peers += peers.unwrap_or(0);
    }
}
