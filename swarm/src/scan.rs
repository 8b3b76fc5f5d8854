//! A scan of all torrents, a few under each lock, so that no shard is locked for long.

use super::shard::Torrent;
use super::table::{SHARDS, Swarms};

/// The cost of locking a shard, in torrents visited.
pub(super) const SHARD_COST: usize = 8;

/// Where a scan goes on; it begins at the default.
#[derive(Debug, Default)]
pub(super) struct ScanCursor {
    /// The next shard; `SHARDS` when the scan is complete.
    shard: usize,
    /// The scan goes on before this row, if the shard is partly visited.
    end: Option<usize>,
}

impl ScanCursor {
    pub(super) const COMPLETE: ScanCursor = ScanCursor { shard: SHARDS, end: None };

    pub(super) fn is_complete(&self) -> bool {
        self.shard == SHARDS
    }
}

impl Swarms {
    /// Visits the next torrents of one shard, at most `max` and at most as many as `visits` allow,
    /// and subtracts the cost from `visits`. A torrent that exists during the whole scan is visited
    /// at least once; perhaps twice, because a removal moves the last torrent of a shard to another
    /// row.
    pub(super) fn scan_slice(
        &self,
        scan: &mut ScanCursor,
        max: usize,
        visits: &mut usize,
        mut visit: impl FnMut(&Torrent),
    ) {
        *visits = visits.saturating_sub(SHARD_COST);
        let shard = self.lock(scan.shard);
        // Backward: a removal moves the last torrent to a lower row.
        let end = scan.end.unwrap_or(shard.len()).min(shard.len());
        let start = end.saturating_sub(max.min(*visits));
        (start..end).for_each(|row| visit(shard.torrent(row)));
        drop(shard);
        *visits -= end - start;
        if start > 0 {
            scan.end = Some(start);
        } else {
            *scan = ScanCursor { shard: scan.shard + 1, end: None };
        }
    }
}
