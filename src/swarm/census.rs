//! How many there are of what, kept up to date by whoever changes it, so that to know it nobody
//! has to count.

use std::ops::AddAssign;

use super::Endpoint;

/// The peers of one address family; one that is in two swarms counts twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crowd {
    /// Those that have everything.
    pub seeders: u64,
    /// The others.
    pub leechers: u64,
}

/// Everything in the tables, or in one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Torrents, a few without peers included whose `downloaded` is still remembered.
    pub torrents: u64,
    /// Peers by IPv4.
    pub v4: Crowd,
    /// Peers by IPv6.
    pub v6: Crowd,
    /// Downloads that were completed since the process began, those of torrents that are
    /// forgotten included.
    pub completed: u64,
}

impl Census {
    /// Nobody and nothing.
    pub(super) const ZERO: Census = {
        let nobody = Crowd { seeders: 0, leechers: 0 };
        Census { torrents: 0, v4: nobody, v6: nobody, completed: 0 }
    };

    /// A peer is new.
    pub(super) fn enter(&mut self, peer: &Endpoint, seeder: bool) {
        *self.kind(peer, seeder) += 1;
    }

    /// A peer has gone.
    pub(super) fn exit(&mut self, peer: &Endpoint, seeder: bool) {
        *self.kind(peer, seeder) -= 1;
    }

    /// Peers of some family have gone: there were those `before`, and are those `after`.
    pub(super) fn shrink(&mut self, before: [Crowd; 2], after: [Crowd; 2]) {
        for ((own, before), after) in
            [&mut self.v4, &mut self.v6].into_iter().zip(before).zip(after)
        {
            own.seeders -= before.seeders - after.seeders;
            own.leechers -= before.leechers - after.leechers;
        }
    }

    fn kind(&mut self, peer: &Endpoint, seeder: bool) -> &mut u64 {
        let crowd = match peer {
            Endpoint::V4(_) => &mut self.v4,
            Endpoint::V6(_) => &mut self.v6,
        };
        if seeder { &mut crowd.seeders } else { &mut crowd.leechers }
    }
}

impl AddAssign for Crowd {
    fn add_assign(&mut self, other: Crowd) {
        self.seeders += other.seeders;
        self.leechers += other.leechers;
    }
}

impl AddAssign for Census {
    fn add_assign(&mut self, other: Census) {
        self.torrents += other.torrents;
        self.v4 += other.v4;
        self.v6 += other.v6;
        self.completed += other.completed;
    }
}
