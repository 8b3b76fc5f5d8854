//! Counts of torrents and peers that every change keeps up to date, so that reading them scans
//! nothing.

use std::ops::AddAssign;

use super::CompactAddr;

/// The peers of one address family; a peer in two swarms counts twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerCounts {
    pub seeders: u64,
    pub leechers: u64,
}

/// The counts of all shards, or of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwarmStats {
    /// Includes the few torrents without peers whose `downloaded` is still remembered.
    pub torrents: u64,
    pub v4: PeerCounts,
    pub v6: PeerCounts,
    /// Downloads completed since the process began, including those of forgotten torrents.
    pub completed: u64,
}

impl SwarmStats {
    pub(super) const ZERO: SwarmStats = {
        let none = PeerCounts { seeders: 0, leechers: 0 };
        SwarmStats { torrents: 0, v4: none, v6: none, completed: 0 }
    };

    pub(super) fn add_peer(&mut self, peer: &CompactAddr, seeder: bool) {
        *self.count_mut(peer, seeder) += 1;
    }

    pub(super) fn remove_peer(&mut self, peer: &CompactAddr, seeder: bool) {
        *self.count_mut(peer, seeder) -= 1;
    }

    /// Subtracts the peers of a torrent that are gone: the difference of its counts (IPv4, IPv6).
    pub(super) fn subtract_peers(&mut self, before: [PeerCounts; 2], after: [PeerCounts; 2]) {
        for ((own, before), after) in
            [&mut self.v4, &mut self.v6].into_iter().zip(before).zip(after)
        {
            own.seeders -= before.seeders - after.seeders;
            own.leechers -= before.leechers - after.leechers;
        }
    }

    fn count_mut(&mut self, peer: &CompactAddr, seeder: bool) -> &mut u64 {
        let counts = match peer {
            CompactAddr::V4(_) => &mut self.v4,
            CompactAddr::V6(_) => &mut self.v6,
        };
        if seeder { &mut counts.seeders } else { &mut counts.leechers }
    }
}

impl AddAssign for PeerCounts {
    fn add_assign(&mut self, other: PeerCounts) {
        self.seeders += other.seeders;
        self.leechers += other.leechers;
    }
}

impl AddAssign for SwarmStats {
    fn add_assign(&mut self, other: SwarmStats) {
        self.torrents += other.torrents;
        self.v4 += other.v4;
        self.v6 += other.v6;
        self.completed += other.completed;
    }
}
