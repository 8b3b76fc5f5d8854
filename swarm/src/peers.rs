//! All peers of one torrent, in the smallest form that holds them.
//!
//! Nearly all swarms have a handful of peers of one family, and they cost nothing beside the
//! torrent itself. The form changes in two functions only, [`Peers::unpack`] and
//! [`Peers::pack`], and no change reorders the rows, so a row number outlives it.

use std::sync::Arc;

use super::address_policy::{AddressPeers, AddressPolicy, same_address, set_latest};
use super::indexed_peers::IndexedPeers;
use super::inline_peers::{ARRAY_MAX, ArrayPeers, InlinePeers};
use super::peer_store::PeerStore;
use super::time::{Budget, ExpiredStamps};
use super::{CompactAddr, PeerCounts, TorrentCounts};

/// IPv4 peers in the torrent itself.
const INLINE_V4_MAX: usize = 4;
/// IPv6 peers in the torrent itself.
const INLINE_V6_MAX: usize = 1;

/// See the module.
#[derive(Debug)]
pub(super) enum Peers {
    Inline4(InlinePeers<6, INLINE_V4_MAX>),
    Inline6(InlinePeers<18, INLINE_V6_MAX>),
    Array4(ArrayPeers<6>),
    Array6(ArrayPeers<18>),
    DualStack(Box<DualStack>),
}

const _: () = assert!(size_of::<Peers>() == 32);

/// A swarm of both families, or one with a deep population.
#[derive(Debug)]
pub(super) struct DualStack {
    v4: FamilyPeers<6>,
    v6: FamilyPeers<18>,
}

/// A population of any size.
#[derive(Debug)]
enum FamilyPeers<const N: usize> {
    Array(ArrayPeers<N>),
    Indexed(Box<IndexedPeers<N>>),
}

/// Before which row of each family an expiry that was interrupted goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowsLeft {
    v4: usize,
    v6: usize,
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

    /// Peers of both families.
    pub(super) fn len(&self) -> usize {
        self.v4().map_or(0, |rows| rows.len()) + self.v6().map_or(0, |rows| rows.len())
    }

    /// Seeders and leechers of both families; `downloaded` is not known here.
    pub(super) fn counts(&self, downloaded: u32) -> TorrentCounts {
        let seeders =
            self.v4().map_or(0, |rows| rows.seeders()) + self.v6().map_or(0, |rows| rows.seeders());
        TorrentCounts {
            complete: seeders as u32,
            incomplete: (self.len() - seeders) as u32,
            downloaded,
        }
    }

    /// As [`PeerStore::refresh`].
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

    /// Adds a peer that is not here yet; says at which row of its family it is.
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

    /// The endpoints that the address of a peer, which is limited, has here, at tick `now`.
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

    /// Puts a peer that is not here yet in the place of the one at row `at` of its family; says
    /// whether that was a seeder, and at which row the new one is.
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

    /// Of all endpoints of its address the peer, which is at row `at` of its family, is the last
    /// that announced.
    pub(super) fn set_latest(&mut self, peer: &CompactAddr, at: usize) {
        match peer {
            CompactAddr::V4(_) => self.v4_mut().into_iter().for_each(|rows| set_latest(rows, at)),
            CompactAddr::V6(_) => self.v6_mut().into_iter().for_each(|rows| set_latest(rows, at)),
        }
    }

    /// Takes a peer out; says whether it was a seeder, or nothing if it was not here.
    pub(super) fn remove(&mut self, peer: &CompactAddr) -> Option<bool> {
        let was_seeder = match peer {
            CompactAddr::V4(address) => remove(self.v4_mut()?, address),
            CompactAddr::V6(address) => remove(self.v6_mut()?, address),
        }?;
        self.shrink_form();
        Some(was_seeder)
    }

    /// Whether there is one peer, which has announced once.
    pub(super) fn is_unconfirmed(&self) -> bool {
        match self {
            Peers::Inline4(inline) => inline.is_unconfirmed(),
            Peers::Inline6(inline) => inline.is_unconfirmed(),
            _ => false,
        }
    }

    /// Says whether there is one peer, which has announced once.
    pub(super) fn set_unconfirmed(&mut self, single: bool) {
        match self {
            Peers::Inline4(inline) => inline.set_unconfirmed(single),
            Peers::Inline6(inline) => inline.set_unconfirmed(single),
            _ => {}
        }
    }

    /// The peers of IPv4 and of IPv6.
    pub(super) fn peer_counts(&self) -> [PeerCounts; 2] {
        [
            self.v4().map_or_else(PeerCounts::default, counts_of),
            self.v6().map_or_else(PeerCounts::default, counts_of),
        ]
    }

    /// All rows, for an expiry that begins.
    pub(super) fn rows_left(&self) -> RowsLeft {
        RowsLeft {
            v4: self.v4().map_or(0, |rows| rows.len()),
            v6: self.v6().map_or(0, |rows| rows.len()),
        }
    }

    /// Takes out what is past the deadline, until done or the budget is spent; says what is left
    /// to look at.
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

    /// After a removal: a smaller form, if one will do with a little room to spare (a swarm that
    /// goes to and fro over the border shall not change with every announce).
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

    /// Does something in the roomiest form and comes back to the smallest.
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

    /// The rows, with room for one more.
    fn with_room_for_one(&mut self, policy: &Arc<AddressPolicy>) -> &mut dyn PeerStore<N> {
        if let FamilyPeers::Array(array) = self
            && PeerStore::is_full(array)
        {
            *self = FamilyPeers::Indexed(Box::new(IndexedPeers::copy_of(array, policy)));
        }
        self.rows_mut()
    }

    /// After a removal: flat again, if the rows would fill half of it at most.
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
            Peers::Inline4(_) => "few 4",
            Peers::Inline6(_) => "few 6",
            Peers::Array4(_) => "flat 4",
            Peers::Array6(_) => "flat 6",
            Peers::DualStack(dual) => match (&dual.v4, &dual.v6) {
                (FamilyPeers::Array(_), FamilyPeers::Array(_)) => "both flat",
                (FamilyPeers::Indexed(_), FamilyPeers::Array(_)) => "deep 4",
                (FamilyPeers::Array(_), FamilyPeers::Indexed(_)) => "deep 6",
                (FamilyPeers::Indexed(_), FamilyPeers::Indexed(_)) => "both deep",
            },
        }
    }

    /// The form at each length on the way up, then on the way down.
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
    fn the_form_is_the_smallest_with_some_inertia() {
        let (up, down) = forms(false, 200);
        assert!(up[..4].iter().all(|&form| form == "few 4"));
        assert!(up[4..ARRAY_MAX].iter().all(|&form| form == "flat 4"));
        assert!(up[ARRAY_MAX..].iter().all(|&form| form == "deep 4"));
        assert!(down[..200 - ARRAY_MAX / 2 - 1].iter().all(|&form| form == "deep 4"));
        assert!(down[200 - ARRAY_MAX / 2 - 1..196].iter().all(|&form| form == "flat 4"));
        assert!(down[196..].iter().all(|&form| form == "few 4"));

        let (up, down) = forms(true, 200);
        assert_eq!((up[0], up[1], up[127], up[128]), ("few 6", "flat 6", "flat 6", "deep 6"));
        assert_eq!((down[134], down[135]), ("deep 6", "flat 6"));
        assert_eq!((down[197], down[198]), ("flat 6", "few 6"));
    }

    #[test]
    fn a_second_family_comes_and_goes() {
        let policy = Arc::new(AddressPolicy::new(RandomState::new(), 0));
        for first_v6 in [false, true] {
            let mut peers = Peers::EMPTY;
            peers.add(&peer(1, first_v6), true, 0, &policy);
            peers.add(&peer(2, !first_v6), false, 0, &policy);
            assert_eq!(form(&peers), "both flat");
            let counts = TorrentCounts { complete: 1, incomplete: 1, downloaded: 5 };
            assert_eq!(peers.counts(5), counts);
            peers.remove(&peer(1, first_v6));
            assert_eq!(form(&peers), if first_v6 { "few 4" } else { "few 6" });
            let renewed = peers.refresh(&peer(2, !first_v6), true, 0);
            assert_eq!(renewed, Some((false, 0)));
        }
    }
}
