//! Writing the swarms: all torrents and peers as bytes, in small steps while others announce.
//!
//! A torrent is an *entry*; numbers are little-endian:
//!
//! | bytes | |
//! |---|---|
//! | 20 | info hash |
//! | 4 | downloaded |
//! | 2 | IPv4 seeders; bit 15: the torrent is unconfirmed (one peer, which has announced once) |
//! | 2 | IPv4 leechers; bit 15: orders of the IPv4 peers follow |
//! | 2 | IPv6 seeders; bit 15: orders of the IPv6 peers follow |
//! | 2 | IPv6 leechers; bit 15 is 0 |
//! | 6 each | compact IPv4 addresses (BEP 23), seeders first |
//! | 1 each | their ages in ticks; bit 7: the peer shares its address with another |
//! | 1 for two | their orders, four bits each, lower half first, if bit 15 says so |
//! | 18, 1 and 1/2 each | the same of the IPv6 peers (BEP 7) |
//!
//! An age is the number of tick boundaries since the peer's last announce; a tick is
//! [`Swarms::tick_s`] seconds. An order tells which of the peers of one address and one tick
//! announced later. So an IPv4 peer is 7 or 7.5 bytes, an IPv6 peer 19 or 19.5, a torrent 32.

use super::Swarms;

/// The most bytes of one entry. A torrent that needs more is written as several entries.
pub const ENTRY_BYTES_MAX: usize = 32 * 1024;

/// Where a walk over all torrents goes on. It begins at the default.
#[derive(Debug, Default)]
pub struct SnapshotCursor {
    #[expect(dead_code, reason = "the walk, which follows, reads it")]
    since_s: Option<u32>,
    entries: u64,
    peers: u64,
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

impl Swarms {
    /// Appends entries of the next torrents to `out`, at most `bytes` of them, and returns whether
    /// there is more. `bytes` is [`ENTRY_BYTES_MAX`] or more; less means one entry a call. A call
    /// may append less than there is room for, or nothing, because its work is bounded too: about a
    /// tenth of a millisecond. It holds one lock at a time, for some tens of microseconds at most.
    /// It allocates only by growing `out`.
    ///
    /// Expired peers may be among those written.
    pub fn snapshot(
        &self,
        _cursor: &mut SnapshotCursor,
        _now: u32,
        _bytes: usize,
        _out: &mut Vec<u8>,
    ) -> bool {
        false
    }

    /// The unit of ages, in seconds.
    pub fn tick_s(&self) -> u32 {
        self.ticks.tick_s()
    }

    /// Seconds at second `now` since the present tick began.
    pub fn tick_phase_s(&self, now: u32) -> u32 {
        now % self.ticks.tick_s()
    }
}
