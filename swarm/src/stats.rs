//! How many there are of what, kept up to date by whoever changes it, so that to know it nobody
//! has to count.

use std::ops::AddAssign;

use super::CompactAddr;

/// The peers of one address family; one that is in two swarms counts twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerCounts {
    /// Those that have everything.
    pub seeders: u64,
    /// The others.
    pub leechers: u64,
}

/// Everything in the tables, or in one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwarmStats {
    /// Torrents, a few without peers included whose `downloaded` is still remembered.
    pub torrents: u64,
    /// Peers by IPv4.
    pub v4: PeerCounts,
    /// Peers by IPv6.
    pub v6: PeerCounts,
    /// Downloads that were completed since the process began, those of torrents that are
    /// forgotten included.
    pub completed: u64,
}

impl SwarmStats {
    /// Nobody and nothing.
    pub(super) const ZERO: SwarmStats = {
        let nobody = PeerCounts { seeders: 0, leechers: 0 };
        SwarmStats { torrents: 0, v4: nobody, v6: nobody, completed: 0 }
    };

    /// A peer is new.
    pub(super) fn add_peer(&mut self, peer: &CompactAddr, seeder: bool) {
        *self.count_mut(peer, seeder) += 1;
    }

    /// A peer has gone.
    pub(super) fn remove_peer(&mut self, peer: &CompactAddr, seeder: bool) {
        *self.count_mut(peer, seeder) -= 1;
    }

    /// Peers of some family have gone: there were those `before`, and are those `after`.
    pub(super) fn shrink(&mut self, before: [PeerCounts; 2], after: [PeerCounts; 2]) {
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
