//! All peers of one torrent, in the smallest representation that holds them.
//!
//! Nearly all swarms have a few peers of one address family, which need no memory besides the
//! torrent itself. Only [`Peers::unpack`] and [`Peers::pack`] change the representation; neither
//! reorders rows, so a row number stays valid.

mod prefetch;

use std::sync::Arc;

use super::address_policy::{AddressPeers, AddressPolicy, same_address};
use super::indexed_peers::IndexedPeers;
use super::inline_peers::{ARRAY_MAX, ArrayPeers, InlinePeers};
use super::peer_store::{PeerStore, set_latest, set_order};
use super::time::{Budget, ExpiredStamps};
use super::{CompactAddr, PeerCounts, TorrentCounts};

/// The most IPv4 peers in the torrent itself.
const INLINE_V4_MAX: usize = 4;
/// The most IPv6 peers in the torrent itself.
const INLINE_V6_MAX: usize = 1;

/// The peers of a torrent.
#[derive(Debug)]
pub(super) enum Peers {
    Inline4(InlinePeers<6, INLINE_V4_MAX>),
    Inline6(InlinePeers<18, INLINE_V6_MAX>),
    Array4(ArrayPeers<6>),
    Array6(ArrayPeers<18>),
    DualStack(Box<DualStack>),
}

const _: () = assert!(size_of::<Peers>() == 32);

/// Peers of both families, or a family that needs an index.
#[derive(Debug)]
pub(super) struct DualStack {
    v4: FamilyPeers<6>,
    v6: FamilyPeers<18>,
}

/// Any number of peers of one family.
#[derive(Debug)]
enum FamilyPeers<const N: usize> {
    Array(ArrayPeers<N>),
    Indexed(Box<IndexedPeers<N>>),
}

/// An interrupted expiry goes on before these rows of the two families.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowsLeft {
    v4: usize,
    v6: usize,
}

/// A peer that is stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct KnownPeer {
    pub(super) seeder: bool,
    /// The stamp of its last announce.
    pub(super) stamp: u8,
}

impl Peers {
    pub(super) const EMPTY: Peers = Peers::Inline4(InlinePeers::EMPTY);

    pub(super) fn v4(&self) -> Option<&dyn PeerStore<6>> {
        match self {
            Peers::Inline4(inline) => Some(inline),
            Peers::Array4(array) => Some(array),
            Peers::DualStack(dual) => Some(dual.v4.rows()),
            Peers::Inline6(_) | Peers::Array6(_) => None,
        }
    }

    pub(super) fn v6(&self) -> Option<&dyn PeerStore<18>> {
        match self {
            Peers::Inline6(inline) => Some(inline),
            Peers::Array6(array) => Some(array),
            Peers::DualStack(dual) => Some(dual.v6.rows()),
            Peers::Inline4(_) | Peers::Array4(_) => None,
        }
    }

    fn v4_mut(&mut self) -> Option<&mut dyn PeerStore<6>> {
        match self {
            Peers::Inline4(inline) => Some(inline),
            Peers::Array4(array) => Some(array),
            Peers::DualStack(dual) => Some(dual.v4.rows_mut()),
            Peers::Inline6(_) | Peers::Array6(_) => None,
        }
    }

    fn v6_mut(&mut self) -> Option<&mut dyn PeerStore<18>> {
        match self {
            Peers::Inline6(inline) => Some(inline),
            Peers::Array6(array) => Some(array),
            Peers::DualStack(dual) => Some(dual.v6.rows_mut()),
            Peers::Inline4(_) | Peers::Array4(_) => None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.v4().map_or(0, |rows| rows.len()) + self.v6().map_or(0, |rows| rows.len())
    }

    /// The counts of both families, with the torrent's `downloaded`.
    pub(super) fn counts(&self, downloaded: u32) -> TorrentCounts {
        let seeders =
            self.v4().map_or(0, |rows| rows.seeders()) + self.v6().map_or(0, |rows| rows.seeders());
        TorrentCounts {
            complete: seeders as u32,
            incomplete: (self.len() - seeders) as u32,
            downloaded,
        }
    }

    /// [`PeerStore::refresh`].
    pub(super) fn refresh(
        &mut self,
        peer: &CompactAddr,
        seeder: bool,
        stamp: u8,
    ) -> Option<(bool, usize)> {
        match peer {
            CompactAddr::V4(address) => self.v4_mut()?.refresh(address, seeder, stamp),
            CompactAddr::V6(address) => self.v6_mut()?.refresh(address, seeder, stamp),
        }
    }

    /// Adds a new peer; returns its row among the peers of its family.
    pub(super) fn add(
        &mut self,
        peer: &CompactAddr,
        seeder: bool,
        stamp: u8,
        policy: &Arc<AddressPolicy>,
    ) -> usize {
        match *peer {
            CompactAddr::V4(address) => match self.v4_mut() {
                Some(rows) if !rows.is_full() => rows.add(address, seeder, stamp),
                _ => self
                    .rebuild(|dual| dual.v4.with_room_for_one(policy).add(address, seeder, stamp)),
            },
            CompactAddr::V6(address) => match self.v6_mut() {
                Some(rows) if !rows.is_full() => rows.add(address, seeder, stamp),
                _ => self
                    .rebuild(|dual| dual.v6.with_room_for_one(policy).add(address, seeder, stamp)),
            },
        }
    }

    /// The peers of the same address as `peer`, which is limited, at tick `now`.
    pub(super) fn same_address(
        &mut self,
        peer: &CompactAddr,
        policy: &AddressPolicy,
        now: u8,
    ) -> Option<AddressPeers> {
        Some(match peer {
            CompactAddr::V4(endpoint) => same_address(self.v4_mut()?, endpoint, policy, now),
            CompactAddr::V6(endpoint) => same_address(self.v6_mut()?, endpoint, policy, now),
        })
    }

    /// Replaces the peer at row `at` of the family with a new one; returns whether the old one was
    /// a seeder, and the row of the new one.
    pub(super) fn replace(
        &mut self,
        at: usize,
        peer: &CompactAddr,
        seeder: bool,
        stamp: u8,
    ) -> Option<(bool, usize)> {
        match peer {
            CompactAddr::V4(address) => Some(replace(self.v4_mut()?, at, *address, seeder, stamp)),
            CompactAddr::V6(address) => Some(replace(self.v6_mut()?, at, *address, seeder, stamp)),
        }
    }

    /// Records that the peer at row `at` of its family announced last of all of its address.
    pub(super) fn set_latest(&mut self, peer: &CompactAddr, at: usize) {
        match peer {
            CompactAddr::V4(_) => self.v4_mut().into_iter().for_each(|rows| set_latest(rows, at)),
            CompactAddr::V6(_) => self.v6_mut().into_iter().for_each(|rows| set_latest(rows, at)),
        }
    }

    /// Records the order of the peer at row `at` of its family among those of its address.
    pub(super) fn set_order(&mut self, peer: &CompactAddr, at: usize, order: u8) {
        match peer {
            CompactAddr::V4(_) => {
                self.v4_mut().into_iter().for_each(|rows| set_order(rows, at, order));
            }
            CompactAddr::V6(_) => {
                self.v6_mut().into_iter().for_each(|rows| set_order(rows, at, order));
            }
        }
    }

    pub(super) fn find(&self, peer: &CompactAddr) -> Option<KnownPeer> {
        match peer {
            CompactAddr::V4(address) => find(self.v4()?, address),
            CompactAddr::V6(address) => find(self.v6()?, address),
        }
    }

    /// Removes a peer; returns whether it was a seeder, or `None` if it was not here.
    pub(super) fn remove(&mut self, peer: &CompactAddr) -> Option<bool> {
        let was_seeder = match peer {
            CompactAddr::V4(address) => remove(self.v4_mut()?, address),
            CompactAddr::V6(address) => remove(self.v6_mut()?, address),
        }?;
        self.shrink_form();
        Some(was_seeder)
    }

    /// Whether the torrent is unconfirmed: one peer, which has announced once.
    pub(super) fn is_unconfirmed(&self) -> bool {
        match self {
            Peers::Inline4(inline) => inline.is_unconfirmed(),
            Peers::Inline6(inline) => inline.is_unconfirmed(),
            _ => false,
        }
    }

    pub(super) fn set_unconfirmed(&mut self, unconfirmed: bool) {
        match self {
            Peers::Inline4(inline) => inline.set_unconfirmed(unconfirmed),
            Peers::Inline6(inline) => inline.set_unconfirmed(unconfirmed),
            _ => {}
        }
    }

    /// IPv4, then IPv6.
    pub(super) fn peer_counts(&self) -> [PeerCounts; 2] {
        [
            self.v4().map_or_else(PeerCounts::default, counts_of),
            self.v6().map_or_else(PeerCounts::default, counts_of),
        ]
    }

    /// All rows: where an expiry begins.
    pub(super) fn rows_left(&self) -> RowsLeft {
        RowsLeft {
            v4: self.v4().map_or(0, |rows| rows.len()),
            v6: self.v6().map_or(0, |rows| rows.len()),
        }
    }

    /// Removes expired peers until done or the budget is spent; returns the rows left to check.
    pub(super) fn expire(
        &mut self,
        mut left: RowsLeft,
        expired: ExpiredStamps,
        budget: &mut Budget,
    ) -> RowsLeft {
        let before = self.len();
        left.v4 = self.v4_mut().map_or(0, |rows| rows.expire(left.v4, expired, budget));
        left.v6 = self.v6_mut().map_or(0, |rows| rows.expire(left.v6, expired, budget));
        if self.len() < before {
            self.shrink_form();
        }
        left
    }

    /// After a removal: changes to a smaller representation if the peers fit with room to spare.
    /// The hysteresis avoids a change at every announce.
    fn shrink_form(&mut self) {
        let fits_smaller = match self {
            Peers::Inline4(_) | Peers::Inline6(_) => false,
            Peers::Array4(array) => array.len() < INLINE_V4_MAX,
            Peers::Array6(array) => array.len() <= INLINE_V6_MAX,
            Peers::DualStack(dual) => {
                dual.v4.shrink_form();
                dual.v6.shrink_form();
                match (&dual.v4, &dual.v6) {
                    (FamilyPeers::Array(v4), FamilyPeers::Array(v6)) => {
                        v4.len() == 0 || v6.len() == 0
                    }
                    _ => false,
                }
            }
        };
        if fits_smaller {
            self.rebuild(|_| ());
        }
    }

    /// Applies a change to the largest representation, and returns to the smallest that fits.
    fn rebuild<T>(&mut self, change: impl FnOnce(&mut DualStack) -> T) -> T {
        let mut dual = std::mem::replace(self, Peers::EMPTY).unpack();
        let result = change(&mut dual);
        *self = Peers::pack(dual);
        result
    }

    fn unpack(self) -> DualStack {
        let (mut v4, mut v6) = (FamilyPeers::default(), FamilyPeers::default());
        match self {
            Peers::Inline4(inline) => v4 = FamilyPeers::Array(ArrayPeers::copy_of(&inline)),
            Peers::Inline6(inline) => v6 = FamilyPeers::Array(ArrayPeers::copy_of(&inline)),
            Peers::Array4(array) => v4 = FamilyPeers::Array(array),
            Peers::Array6(array) => v6 = FamilyPeers::Array(array),
            Peers::DualStack(dual) => return *dual,
        }
        DualStack { v4, v6 }
    }

    fn pack(dual: DualStack) -> Peers {
        match dual {
            DualStack { v4: FamilyPeers::Array(v4), v6: FamilyPeers::Array(v6) }
                if v6.len() == 0 =>
            {
                if v4.len() <= INLINE_V4_MAX {
                    Peers::Inline4(InlinePeers::copy_of(&v4))
                } else {
                    Peers::Array4(v4)
                }
            }
            DualStack { v4: FamilyPeers::Array(v4), v6: FamilyPeers::Array(v6) }
                if v4.len() == 0 =>
            {
                if v6.len() <= INLINE_V6_MAX {
                    Peers::Inline6(InlinePeers::copy_of(&v6))
                } else {
                    Peers::Array6(v6)
                }
            }
            dual => Peers::DualStack(Box::new(dual)),
        }
    }
}

fn find<const N: usize>(rows: &dyn PeerStore<N>, address: &[u8; N]) -> Option<KnownPeer> {
    let at = rows.find(address)?;
    let &stamp = rows.stamps_from(at, at + 1).first()?;
    Some(KnownPeer { seeder: at < rows.seeders(), stamp })
}

fn remove<const N: usize>(rows: &mut dyn PeerStore<N>, address: &[u8; N]) -> Option<bool> {
    let at = rows.find(address)?;
    let was_seeder = at < rows.seeders();
    rows.remove(at);
    Some(was_seeder)
}

fn replace<const N: usize>(
    rows: &mut dyn PeerStore<N>,
    at: usize,
    address: [u8; N],
    seeder: bool,
    stamp: u8,
) -> (bool, usize) {
    let was_seeder = at < rows.seeders();
    rows.remove(at);
    (was_seeder, rows.add(address, seeder, stamp))
}

fn counts_of<const N: usize>(rows: &dyn PeerStore<N>) -> PeerCounts {
    let seeders = rows.seeders();
    PeerCounts { seeders: seeders as u64, leechers: (rows.len() - seeders) as u64 }
}

impl RowsLeft {
    pub(super) fn is_none(self) -> bool {
        self.v4 == 0 && self.v6 == 0
    }
}

impl<const N: usize> Default for FamilyPeers<N> {
    fn default() -> Self {
        FamilyPeers::Array(ArrayPeers::default())
    }
}

impl<const N: usize> FamilyPeers<N> {
    fn rows(&self) -> &dyn PeerStore<N> {
        match self {
            FamilyPeers::Array(array) => array,
            FamilyPeers::Indexed(indexed) => &**indexed,
        }
    }

    fn rows_mut(&mut self) -> &mut dyn PeerStore<N> {
        match self {
            FamilyPeers::Array(array) => array,
            FamilyPeers::Indexed(indexed) => &mut **indexed,
        }
    }

    /// The rows, with room for one more peer.
    fn with_room_for_one(&mut self, policy: &Arc<AddressPolicy>) -> &mut dyn PeerStore<N> {
        if let FamilyPeers::Array(array) = self
            && PeerStore::is_full(array)
        {
            *self = FamilyPeers::Indexed(Box::new(IndexedPeers::copy_of(array, policy)));
        }
        self.rows_mut()
    }

    /// After a removal: back to an array, if that is at most half full then.
    fn shrink_form(&mut self) {
        if let FamilyPeers::Indexed(indexed) = self
            && indexed.len() <= ARRAY_MAX / 2
        {
            *self = FamilyPeers::Array(ArrayPeers::copy_of(&**indexed));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use super::*;

    fn peer(n: u8, v6: bool) -> CompactAddr {
        if v6 { CompactAddr::V6([n; 18]) } else { CompactAddr::V4([n; 6]) }
    }

    fn form(peers: &Peers) -> &'static str {
        match peers {
            Peers::Inline4(_) => "inline 4",
            Peers::Inline6(_) => "inline 6",
            Peers::Array4(_) => "array 4",
            Peers::Array6(_) => "array 6",
            Peers::DualStack(dual) => match (&dual.v4, &dual.v6) {
                (FamilyPeers::Array(_), FamilyPeers::Array(_)) => "dual, arrays",
                (FamilyPeers::Indexed(_), FamilyPeers::Array(_)) => "indexed 4",
                (FamilyPeers::Array(_), FamilyPeers::Indexed(_)) => "indexed 6",
                (FamilyPeers::Indexed(_), FamilyPeers::Indexed(_)) => "dual, indexed",
            },
        }
    }

    /// The representation at each length while peers are added, then while they are removed.
    fn forms(v6: bool, most: u8) -> (Vec<&'static str>, Vec<&'static str>) {
        let policy = Arc::new(AddressPolicy::new(RandomState::new(), 0));
        let mut peers = Peers::EMPTY;
        let up = (0..most).map(|n| {
            peers.add(&peer(n, v6), n % 2 == 0, 0, &policy);
            form(&peers)
        });
        let up: Vec<&str> = up.collect();
        let down = (0..most).map(|n| {
            assert_eq!(peers.remove(&peer(n, v6)), Some(n % 2 == 0));
            assert_eq!(peers.remove(&peer(n, v6)), None);
            form(&peers)
        });
        (up, down.collect())
    }

    #[test]
    fn the_representation_is_the_smallest_with_hysteresis() {
        let (up, down) = forms(false, 200);
        assert!(up[..4].iter().all(|&form| form == "inline 4"));
        assert!(up[4..ARRAY_MAX].iter().all(|&form| form == "array 4"));
        assert!(up[ARRAY_MAX..].iter().all(|&form| form == "indexed 4"));
        assert!(down[..200 - ARRAY_MAX / 2 - 1].iter().all(|&form| form == "indexed 4"));
        assert!(down[200 - ARRAY_MAX / 2 - 1..196].iter().all(|&form| form == "array 4"));
        assert!(down[196..].iter().all(|&form| form == "inline 4"));

        let (up, down) = forms(true, 200);
        assert_eq!(
            (up[0], up[1], up[127], up[128]),
            ("inline 6", "array 6", "array 6", "indexed 6")
        );
        assert_eq!((down[134], down[135]), ("indexed 6", "array 6"));
        assert_eq!((down[197], down[198]), ("array 6", "inline 6"));
    }

    #[test]
    fn a_second_family_is_added_and_removed() {
        let policy = Arc::new(AddressPolicy::new(RandomState::new(), 0));
        for first_v6 in [false, true] {
            let mut peers = Peers::EMPTY;
            peers.add(&peer(1, first_v6), true, 0, &policy);
            peers.add(&peer(2, !first_v6), false, 0, &policy);
            assert_eq!(form(&peers), "dual, arrays");
            let counts = TorrentCounts { complete: 1, incomplete: 1, downloaded: 5 };
            assert_eq!(peers.counts(5), counts);
            peers.remove(&peer(1, first_v6));
            assert_eq!(form(&peers), if first_v6 { "inline 4" } else { "inline 6" });
            let renewed = peers.refresh(&peer(2, !first_v6), true, 0);
            assert_eq!(renewed, Some((false, 0)));
        }
    }
}
