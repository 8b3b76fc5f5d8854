//! All peers of one torrent, in the smallest form that holds them.
//!
//! Nearly all swarms have a handful of peers of one family, and they cost nothing beside the
//! torrent itself. The form changes in two functions only, [`Peers::unpack`] and
//! [`Peers::pack`], and no change reorders the rows, so a row number outlives it.

use std::sync::Arc;

use super::address::{Addresses, Neighbours, neighbours, set_latest};
use super::indexed_peers::IndexedPeers;
use super::inline_peers::{ArrayPeers, FLAT_MAX, InlinePeers};
use super::peer_store::PeerStore;
use super::time::{Budget, Deadline};
use super::{CompactAddr, Counts, PeerCounts};

/// IPv4 peers in the torrent itself.
const FEW_4: usize = 4;
/// IPv6 peers in the torrent itself.
const FEW_6: usize = 1;

/// See the module.
#[derive(Debug)]
pub(super) enum Peers {
    Few4(InlinePeers<6, FEW_4>),
    Few6(InlinePeers<18, FEW_6>),
    Flat4(ArrayPeers<6>),
    Flat6(ArrayPeers<18>),
    DualStack(Box<DualStack>),
}

const _: () = assert!(size_of::<Peers>() == 32);

/// A swarm of both families, or one with a deep population.
#[derive(Debug)]
pub(super) struct DualStack {
    v4: Large<6>,
    v6: Large<18>,
}

/// A population of any size.
#[derive(Debug)]
enum Large<const N: usize> {
    ArrayPeers(ArrayPeers<N>),
    IndexedPeers(Box<IndexedPeers<N>>),
}

/// Before which row of each family an expiry that was interrupted goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowsLeft {
    v4: usize,
    v6: usize,
}

impl Peers {
    pub(super) const EMPTY: Peers = Peers::Few4(InlinePeers::EMPTY);

    pub(super) fn v4(&self) -> Option<&dyn PeerStore<6>> {
        match self {
            Peers::Few4(few) => Some(few),
            Peers::Flat4(flat) => Some(flat),
            Peers::DualStack(both) => Some(both.v4.rows()),
            Peers::Few6(_) | Peers::Flat6(_) => None,
        }
    }

    pub(super) fn v6(&self) -> Option<&dyn PeerStore<18>> {
        match self {
            Peers::Few6(few) => Some(few),
            Peers::Flat6(flat) => Some(flat),
            Peers::DualStack(both) => Some(both.v6.rows()),
            Peers::Few4(_) | Peers::Flat4(_) => None,
        }
    }

    fn v4_mut(&mut self) -> Option<&mut dyn PeerStore<6>> {
        match self {
            Peers::Few4(few) => Some(few),
            Peers::Flat4(flat) => Some(flat),
            Peers::DualStack(both) => Some(both.v4.rows_mut()),
            Peers::Few6(_) | Peers::Flat6(_) => None,
        }
    }

    fn v6_mut(&mut self) -> Option<&mut dyn PeerStore<18>> {
        match self {
            Peers::Few6(few) => Some(few),
            Peers::Flat6(flat) => Some(flat),
            Peers::DualStack(both) => Some(both.v6.rows_mut()),
            Peers::Few4(_) | Peers::Flat4(_) => None,
        }
    }

    /// Peers of both families.
    pub(super) fn len(&self) -> usize {
        self.v4().map_or(0, |rows| rows.len()) + self.v6().map_or(0, |rows| rows.len())
    }

    /// Seeders and leechers of both families; `downloaded` is not known here.
    pub(super) fn counts(&self, downloaded: u32) -> Counts {
        let seeders =
            self.v4().map_or(0, |rows| rows.seeders()) + self.v6().map_or(0, |rows| rows.seeders());
        Counts { complete: seeders as u32, incomplete: (self.len() - seeders) as u32, downloaded }
    }

    /// As [`PeerStore::renew`].
    pub(super) fn renew(
        &mut self,
        peer: &CompactAddr,
        seeder: bool,
        stamp: u8,
    ) -> Option<(bool, usize)> {
        match peer {
            CompactAddr::V4(address) => self.v4_mut()?.renew(address, seeder, stamp),
            CompactAddr::V6(address) => self.v6_mut()?.renew(address, seeder, stamp),
        }
    }

    /// Adds a peer that is not here yet; says at which row of its family it is.
    pub(super) fn add(
        &mut self,
        peer: &CompactAddr,
        seeder: bool,
        stamp: u8,
        rules: &Arc<Addresses>,
    ) -> usize {
        match *peer {
            CompactAddr::V4(address) => match self.v4_mut() {
                Some(rows) if !rows.is_full() => rows.add(address, seeder, stamp),
                _ => self.unpacked(|both| both.v4.roomy(rules).add(address, seeder, stamp)),
            },
            CompactAddr::V6(address) => match self.v6_mut() {
                Some(rows) if !rows.is_full() => rows.add(address, seeder, stamp),
                _ => self.unpacked(|both| both.v6.roomy(rules).add(address, seeder, stamp)),
            },
        }
    }

    /// The endpoints that the address of a peer, which is limited, has here, at tick `now`.
    pub(super) fn neighbours(
        &mut self,
        peer: &CompactAddr,
        rules: &Addresses,
        now: u8,
    ) -> Option<Neighbours> {
        Some(match peer {
            CompactAddr::V4(endpoint) => neighbours(self.v4_mut()?, endpoint, rules, now),
            CompactAddr::V6(endpoint) => neighbours(self.v6_mut()?, endpoint, rules, now),
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
        self.tighten();
        Some(was_seeder)
    }

    /// Whether there is one peer, which has announced once.
    pub(super) fn is_single(&self) -> bool {
        match self {
            Peers::Few4(few) => few.is_single(),
            Peers::Few6(few) => few.is_single(),
            _ => false,
        }
    }

    /// Says whether there is one peer, which has announced once.
    pub(super) fn set_single(&mut self, single: bool) {
        match self {
            Peers::Few4(few) => few.set_single(single),
            Peers::Few6(few) => few.set_single(single),
            _ => {}
        }
    }

    /// The peers of IPv4 and of IPv6.
    pub(super) fn crowds(&self) -> [PeerCounts; 2] {
        [
            self.v4().map_or_else(PeerCounts::default, crowd),
            self.v6().map_or_else(PeerCounts::default, crowd),
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
        deadline: Deadline,
        budget: &mut Budget,
    ) -> RowsLeft {
        let before = self.len();
        left.v4 = self.v4_mut().map_or(0, |rows| rows.expire(left.v4, deadline, budget));
        left.v6 = self.v6_mut().map_or(0, |rows| rows.expire(left.v6, deadline, budget));
        if self.len() < before {
            self.tighten();
        }
        left
    }

    /// After a removal: a smaller form, if one will do with a little room to spare (a swarm that
    /// goes to and fro over the border shall not change with every announce).
    fn tighten(&mut self) {
        let fits_smaller = match self {
            Peers::Few4(_) | Peers::Few6(_) => false,
            Peers::Flat4(flat) => flat.len() < FEW_4,
            Peers::Flat6(flat) => flat.len() <= FEW_6,
            Peers::DualStack(both) => {
                both.v4.tighten();
                both.v6.tighten();
                match (&both.v4, &both.v6) {
                    (Large::ArrayPeers(v4), Large::ArrayPeers(v6)) => {
                        v4.len() == 0 || v6.len() == 0
                    }
                    _ => false,
                }
            }
        };
        if fits_smaller {
            self.unpacked(|_| ());
        }
    }

    /// Does something in the roomiest form and comes back to the smallest.
    fn unpacked<T>(&mut self, change: impl FnOnce(&mut DualStack) -> T) -> T {
        let mut both = std::mem::replace(self, Peers::EMPTY).unpack();
        let result = change(&mut both);
        *self = Peers::pack(both);
        result
    }

    fn unpack(self) -> DualStack {
        let (mut v4, mut v6) = (Large::default(), Large::default());
        match self {
            Peers::Few4(few) => v4 = Large::ArrayPeers(ArrayPeers::copied_from(&few)),
            Peers::Few6(few) => v6 = Large::ArrayPeers(ArrayPeers::copied_from(&few)),
            Peers::Flat4(flat) => v4 = Large::ArrayPeers(flat),
            Peers::Flat6(flat) => v6 = Large::ArrayPeers(flat),
            Peers::DualStack(both) => return *both,
        }
        DualStack { v4, v6 }
    }

    fn pack(both: DualStack) -> Peers {
        match both {
            DualStack { v4: Large::ArrayPeers(v4), v6: Large::ArrayPeers(v6) } if v6.len() == 0 => {
                if v4.len() <= FEW_4 {
                    Peers::Few4(InlinePeers::copied_from(&v4))
                } else {
                    Peers::Flat4(v4)
                }
            }
            DualStack { v4: Large::ArrayPeers(v4), v6: Large::ArrayPeers(v6) } if v4.len() == 0 => {
                if v6.len() <= FEW_6 {
                    Peers::Few6(InlinePeers::copied_from(&v6))
                } else {
                    Peers::Flat6(v6)
                }
            }
            both => Peers::DualStack(Box::new(both)),
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

fn crowd<const N: usize>(rows: &dyn PeerStore<N>) -> PeerCounts {
    let seeders = rows.seeders();
    PeerCounts { seeders: seeders as u64, leechers: (rows.len() - seeders) as u64 }
}

impl RowsLeft {
    pub(super) fn is_none(self) -> bool {
        self.v4 == 0 && self.v6 == 0
    }
}

impl<const N: usize> Default for Large<N> {
    fn default() -> Self {
        Large::ArrayPeers(ArrayPeers::default())
    }
}

impl<const N: usize> Large<N> {
    fn rows(&self) -> &dyn PeerStore<N> {
        match self {
            Large::ArrayPeers(flat) => flat,
            Large::IndexedPeers(deep) => &**deep,
        }
    }

    fn rows_mut(&mut self) -> &mut dyn PeerStore<N> {
        match self {
            Large::ArrayPeers(flat) => flat,
            Large::IndexedPeers(deep) => &mut **deep,
        }
    }

    /// The rows, with room for one more.
    fn roomy(&mut self, rules: &Arc<Addresses>) -> &mut dyn PeerStore<N> {
        if let Large::ArrayPeers(flat) = self
            && PeerStore::is_full(flat)
        {
            *self = Large::IndexedPeers(Box::new(IndexedPeers::copied_from(flat, rules)));
        }
        self.rows_mut()
    }

    /// After a removal: flat again, if the rows would fill half of it at most.
    fn tighten(&mut self) {
        if let Large::IndexedPeers(deep) = self
            && deep.len() <= FLAT_MAX / 2
        {
            *self = Large::ArrayPeers(ArrayPeers::copied_from(&**deep));
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
            Peers::Few4(_) => "few 4",
            Peers::Few6(_) => "few 6",
            Peers::Flat4(_) => "flat 4",
            Peers::Flat6(_) => "flat 6",
            Peers::DualStack(both) => match (&both.v4, &both.v6) {
                (Large::ArrayPeers(_), Large::ArrayPeers(_)) => "both flat",
                (Large::IndexedPeers(_), Large::ArrayPeers(_)) => "deep 4",
                (Large::ArrayPeers(_), Large::IndexedPeers(_)) => "deep 6",
                (Large::IndexedPeers(_), Large::IndexedPeers(_)) => "both deep",
            },
        }
    }

    /// The form at each length on the way up, then on the way down.
    fn forms(v6: bool, most: u8) -> (Vec<&'static str>, Vec<&'static str>) {
        let rules = Arc::new(Addresses::new(RandomState::new(), 0));
        let mut peers = Peers::EMPTY;
        let up = (0..most).map(|n| {
            peers.add(&peer(n, v6), n % 2 == 0, 0, &rules);
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
        assert!(up[4..FLAT_MAX].iter().all(|&form| form == "flat 4"));
        assert!(up[FLAT_MAX..].iter().all(|&form| form == "deep 4"));
        assert!(down[..200 - FLAT_MAX / 2 - 1].iter().all(|&form| form == "deep 4"));
        assert!(down[200 - FLAT_MAX / 2 - 1..196].iter().all(|&form| form == "flat 4"));
        assert!(down[196..].iter().all(|&form| form == "few 4"));

        let (up, down) = forms(true, 200);
        assert_eq!((up[0], up[1], up[127], up[128]), ("few 6", "flat 6", "flat 6", "deep 6"));
        assert_eq!((down[134], down[135]), ("deep 6", "flat 6"));
        assert_eq!((down[197], down[198]), ("flat 6", "few 6"));
    }

    #[test]
    fn a_second_family_comes_and_goes() {
        let rules = Arc::new(Addresses::new(RandomState::new(), 0));
        for first_v6 in [false, true] {
            let mut peers = Peers::EMPTY;
            peers.add(&peer(1, first_v6), true, 0, &rules);
            peers.add(&peer(2, !first_v6), false, 0, &rules);
            assert_eq!(form(&peers), "both flat");
            let counts = Counts { complete: 1, incomplete: 1, downloaded: 5 };
            assert_eq!(peers.counts(5), counts);
            peers.remove(&peer(1, first_v6));
            assert_eq!(form(&peers), if first_v6 { "few 4" } else { "few 6" });
            let renewed = peers.renew(&peer(2, !first_v6), true, 0);
            assert_eq!(renewed, Some((false, 0)));
        }
    }
}
