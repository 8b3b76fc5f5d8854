//! A look at all torrents, a few under each lock, so that nobody waits long for a shard.

use super::shard::Torrent;
use super::table::{SHARDS, Swarms};

/// What a look into a shard costs, in visits to torrents.
pub(super) const SHARD_COST: usize = 8;

/// How far such a look has come; it begins with the default.
#[derive(Debug, Default)]
pub(super) struct ScanCursor {
    /// Which shard is next; all have been looked at after the last.
    shard: usize,
    /// Before which row of it, once it has been begun.
    end: Option<usize>,
}

impl ScanCursor {
    /// A look that has been at all torrents.
    pub(super) const COMPLETE: ScanCursor = ScanCursor { shard: SHARDS, end: None };

    /// Whether it has been at all torrents.
    pub(super) fn is_complete(&self) -> bool {
        self.shard == SHARDS
    }
}

impl Swarms {
    /// Looks at the next torrents of one shard, at most `most` and as many as `visits` allow, and
    /// takes off from these what it costs. A torrent that is there during the whole look is seen,
    /// perhaps twice: a removal moves the last torrent of a shard to another row.
    pub(super) fn scan_slice(
        &self,
        scan: &mut ScanCursor,
        most: usize,
        visits: &mut usize,
        mut see: impl FnMut(&Torrent),
    ) {
        *visits = visits.saturating_sub(SHARD_COST);
        let shard = self.lock(scan.shard);
        // From the end, because a removal moves the last torrent down.
        let end = scan.end.unwrap_or(shard.len()).min(shard.len());
        let start = end.saturating_sub(most.min(*visits));
        (start..end).for_each(|row| see(shard.torrent(row)));
        drop(shard);
        *visits -= end - start;
        if start > 0 {
            scan.end = Some(start);
        } else {
            *scan = ScanCursor { shard: scan.shard + 1, end: None };
        }
    }
}
