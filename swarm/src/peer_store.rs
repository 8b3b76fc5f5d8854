//! The peers of one torrent in one address family.
//!
//! A store is an array of rows, each a compact address and the stamp of its last announce. It is
//! partitioned: rows `0..seeders` are the seeders, the rest the leechers, so that each kind is a
//! contiguous range. The operations that maintain the partition are written here once, on top of a
//! few primitives of each layout ([`inline_peers`](super::inline_peers),
//! [`indexed_peers`](super::indexed_peers)).

use super::time::{Budget, ExpiredStamps, SHARES_ADDRESS, tick};

/// The highest order that four bits hold: the order of 16 peers with one tick is exact; with more,
/// the oldest share the lowest.
pub(super) const ORDER_MAX: u8 = 15;

/// When a peer announced last.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastAnnounce {
    /// Its tick, and [`SHARES_ADDRESS`].
    pub(super) stamp: u8,
    /// The order among the peers of the address with the same tick: later ones are higher. 0 for a
    /// peer that shares its address with none.
    pub(super) order: u8,
}

/// A function that sees a row, its endpoint and its last announce, and may change the latter.
pub(super) type RowVisitor<'a, const N: usize> = dyn FnMut(usize, &[u8; N], &mut LastAnnounce) + 'a;

/// Rows of `N`-byte addresses: 6 for IPv4 (BEP 23), 18 for IPv6 (BEP 7).
pub(super) trait PeerStore<const N: usize> {
    fn len(&self) -> usize;

    fn seeders(&self) -> usize;

    /// Moves the boundary of the partition; the caller moves the rows.
    fn set_seeders(&mut self, seeders: usize);

    /// Whether `push` must not be called.
    fn is_full(&self) -> bool;

    /// The cost of removing one peer in a sweep, in stamps checked.
    fn removal_cost(&self) -> u32;

    fn find(&self, address: &[u8; N]) -> Option<usize>;

    /// The longest contiguous slice of addresses from row `from` to at most `to`.
    fn addresses_from(&self, from: usize, to: usize) -> &[[u8; N]];

    /// The stamps of the same rows.
    fn stamps_from(&self, from: usize, to: usize) -> &[u8];

    /// The longest contiguous slice of stamps that ends before row `end`.
    fn stamps_before(&self, end: usize) -> &[u8];

    /// Records an announce at `tick`; returns whether the row has its
    /// [`SHARES_ADDRESS`] bit set.
    fn set_tick(&mut self, at: usize, tick: u8) -> bool;

    /// The order of a row among those of its address; see
    /// [`LastAnnounce`].
    fn order(&self, at: usize) -> u8;

    /// Visits every row with the address of `endpoint`; the visitor may change its last announce.
    fn visit_same_address(&mut self, endpoint: &[u8; N], change: &mut RowVisitor<'_, N>);

    fn swap(&mut self, a: usize, b: usize);

    /// Appends a row of order 0. Its address is not in the store, which is not full.
    fn push(&mut self, address: [u8; N], stamp: u8);

    /// First step of a removal: removes the row from the index. The row itself stays until another
    /// one is moved over it or it is popped.
    fn unindex(&mut self, at: usize);

    /// Moves row `from` over the unindexed row `to`; afterwards `from` counts as unindexed.
    fn move_row(&mut self, from: usize, to: usize);

    /// Drops the last row, which is unindexed.
    fn pop(&mut self);

    /// Adds a peer that is not in the store; returns its row.
    fn add(&mut self, address: [u8; N], seeder: bool, stamp: u8) -> usize {
        debug_assert!(self.find(&address).is_none());
        let at = self.len();
        self.push(address, stamp);
        if seeder { self.make_seeder(at) } else { at }
    }

    /// Updates the stamp and kind of a peer. Returns whether it was a seeder, and its row now;
    /// `None` if it is not in the store.
    fn refresh(&mut self, address: &[u8; N], seeder: bool, stamp: u8) -> Option<(bool, usize)> {
        let at = self.find(address)?;
        let is_shared = self.set_tick(at, stamp);
        let was_seeder = at < self.seeders();
        let at = match (was_seeder, seeder) {
            (false, true) => self.make_seeder(at),
            (true, false) => self.make_leecher(at),
            _ => at,
        };
        if is_shared {
            set_latest(self, at);
        }
        Some((was_seeder, at))
    }

    /// Makes the leecher at row `at` a seeder; returns its new row.
    fn make_seeder(&mut self, at: usize) -> usize {
        let boundary = self.seeders();
        debug_assert!(at >= boundary);
        if at != boundary {
            self.swap(at, boundary);
        }
        self.set_seeders(boundary + 1);
        boundary
    }

    /// Makes the seeder at row `at` a leecher; returns its new row.
    fn make_leecher(&mut self, at: usize) -> usize {
        let boundary = self.seeders() - 1;
        debug_assert!(at <= boundary);
        if at != boundary {
            self.swap(at, boundary);
        }
        self.set_seeders(boundary);
        boundary
    }

    /// Removes row `at`. The rows that move come from behind it, so a sweep that goes backward
    /// misses none.
    fn remove(&mut self, at: usize) {
        self.unindex(at);
        let mut hole = at;
        if at < self.seeders() {
            let last_seeder = self.seeders() - 1;
            if hole != last_seeder {
                self.move_row(last_seeder, hole);
            }
            self.set_seeders(last_seeder);
            hole = last_seeder;
        }
        let last = self.len() - 1;
        if hole != last {
            self.move_row(last, hole);
        }
        self.pop();
    }

    /// Removes the expired peers among the rows before `end`, going backward, until done or the
    /// budget is spent. Returns the row before which to go on; 0 when done.
    fn expire(&mut self, end: usize, expired: ExpiredStamps, budget: &mut Budget) -> usize {
        let mut end = end.min(self.len());
        while end > 0 && !budget.is_spent() {
            let run = self.stamps_before(end);
            let start = end - run.len();
            match run.iter().rposition(|&stamp| expired.contains(stamp)) {
                Some(at) => {
                    budget.spend((run.len() - at) as u32 + self.removal_cost());
                    end = start + at;
                    self.remove(end);
                }
                None => {
                    budget.spend(run.len() as u32);
                    end = start;
                }
            }
        }
        end
    }

    fn gather(&self, rows: &[u32], out: &mut Vec<[u8; N]>) {
        out.extend(rows.iter().map(|&at| self.addresses_from(at as usize, at as usize + 1)[0]));
    }
}

/// Records that the row `at` has announced last of all peers of its address, at the tick it has.
pub(super) fn set_latest<const N: usize>(rows: &mut (impl PeerStore<N> + ?Sized), at: usize) {
    let endpoint = rows.addresses_from(at, at + 1)[0];
    let now = rows.stamps_before(at + 1).last().map_or(0, |&stamp| tick(stamp));
    let mut is_shared = false;
    // One bit for each order that another peer with the same tick has.
    let mut taken: u16 = 0;
    rows.visit_same_address(&endpoint, &mut |row, _, age| {
        is_shared |= row != at;
        if row != at && tick(age.stamp) == now {
            taken |= 1 << age.order;
        }
    });
    let order = (16 - taken.leading_zeros() as u8).min(ORDER_MAX);
    // If the highest order was taken, the orders above the highest free one move down by one. If
    // none is free, the two oldest share the lowest from now on.
    let kept = match taken >> ORDER_MAX {
        0 => ORDER_MAX,
        _ => ORDER_MAX.saturating_sub((!taken).leading_zeros() as u8),
    };
    rows.visit_same_address(&endpoint, &mut |row, _, age| {
        age.stamp = tick(age.stamp) | if is_shared { SHARES_ADDRESS } else { 0 };
        if row == at {
            age.order = order;
        } else if tick(age.stamp) == now && age.order > kept {
            age.order -= 1;
        }
    });
}

/// Records the order of the peer at row `at` among those of its address, with which it shares it.
pub(super) fn set_order<const N: usize>(rows: &mut dyn PeerStore<N>, at: usize, order: u8) {
    let endpoint = rows.addresses_from(at, at + 1)[0];
    rows.visit_same_address(&endpoint, &mut |row, _, last| {
        last.stamp |= SHARES_ADDRESS;
        if row == at {
            last.order = order;
        }
    });
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::hash::RandomState;
    use std::sync::Arc;

    use super::*;
    use crate::Random;
    use crate::address_policy::AddressPolicy;
    use crate::indexed_peers::IndexedPeers;
    use crate::inline_peers::{ARRAY_MAX, ArrayPeers, InlinePeers};
    use crate::time::Ticks;

    /// The expected content of a store: each address with its stamp and whether it is a seeder.
    type ModelRows<const N: usize> = BTreeMap<[u8; N], (u8, bool)>;

    fn contents<const N: usize>(rows: &dyn PeerStore<N>) -> ModelRows<N> {
        let row = |at: usize| {
            let stamp = rows.stamps_before(at + 1).last().copied();
            (rows.addresses_from(at, at + 1)[0], (stamp.expect("a row"), at < rows.seeders()))
        };
        let model: ModelRows<N> = (0..rows.len()).map(row).collect();
        assert_eq!(model.len(), rows.len(), "an address twice");
        for at in 0..rows.len() {
            assert_eq!(rows.find(&rows.addresses_from(at, at + 1)[0]), Some(at));
        }
        model
    }

    /// Random announces, removals and expiries of up to `most` peers, against the model.
    fn follows_the_model<const N: usize>(rows: &mut dyn PeerStore<N>, most: usize) {
        let mut random = Random::seeded(most as u64);
        let mut model = ModelRows::new();
        let ticks = Ticks::new(50);
        for step in 0..6000_u32 {
            // Fast enough that every sweep expires a good part of the peers.
            let now = step * 40 / most as u32;
            let stamp = ticks.stamp(now);
            let mut address = [0; N];
            address[N - 1] = random.below(most as u32 * 2) as u8;
            address[0] = (random.below(most as u32 * 2) >> 7) as u8;
            let seeder = random.below(3) == 0;
            match random.below(8) {
                0 => {
                    let found = rows.find(&address);
                    assert_eq!(found.is_some(), model.remove(&address).is_some());
                    found.into_iter().for_each(|at| rows.remove(at));
                }
                1 if step % 64 == 1 => {
                    let expired = ticks.expired(now);
                    model.retain(|_, (stamp, _)| !expired.contains(*stamp));
                    let mut end = rows.len();
                    while end > 0 {
                        end = rows.expire(end, expired, &mut Budget::new(100));
                    }
                }
                _ => match rows.refresh(&address, seeder, stamp) {
                    Some((was_seeder, at)) => {
                        assert_eq!(rows.find(&address), Some(at));
                        let before = model.insert(address, (stamp, seeder));
                        assert_eq!(before.map(|(_, was_seeder)| was_seeder), Some(was_seeder));
                    }
                    None if model.len() < most => {
                        let at = rows.add(address, seeder, stamp);
                        assert_eq!(rows.find(&address), Some(at));
                        assert_eq!(model.insert(address, (stamp, seeder)), None);
                    }
                    None => assert!(!model.contains_key(&address)),
                },
            }
            assert_eq!(contents(rows), model, "step {step}");
            assert!(rows.len() < most || most > ARRAY_MAX || rows.is_full());
        }
    }

    #[test]
    fn every_layout_follows_the_model() {
        let (mut four, mut one) = (InlinePeers::<6, 4>::EMPTY, InlinePeers::<18, 1>::EMPTY);
        follows_the_model(&mut four, 4);
        follows_the_model(&mut one, 1);
        follows_the_model(&mut ArrayPeers::<6>::default(), ARRAY_MAX);
        follows_the_model(&mut ArrayPeers::<18>::default(), ARRAY_MAX);
        let policy = Arc::new(AddressPolicy::new(RandomState::new(), 0));
        let empty = ArrayPeers::<6>::default();
        follows_the_model(&mut IndexedPeers::copy_of(&empty, &policy), 400);
        let empty = ArrayPeers::<18>::default();
        follows_the_model(&mut IndexedPeers::copy_of(&empty, &policy), 400);
    }

    #[test]
    fn copies_keep_every_row_where_it_is() {
        let policy = Arc::new(AddressPolicy::new(RandomState::new(), 0));
        let mut array = ArrayPeers::<6>::default();
        for n in 0..ARRAY_MAX as u8 {
            array.add([n, 0, 0, 0, 0, 1], n % 3 == 0, n);
        }
        let indexed = IndexedPeers::copy_of(&array, &policy);
        assert_eq!(indexed.addresses_from(0, ARRAY_MAX), array.addresses_from(0, ARRAY_MAX));
        assert_eq!(contents(&indexed), contents(&array));
        let back = ArrayPeers::copy_of(&indexed);
        assert_eq!(back.addresses_from(0, ARRAY_MAX), array.addresses_from(0, ARRAY_MAX));
        assert_eq!(contents(&back), contents(&array));
    }

    #[test]
    fn an_expiry_stops_when_its_budget_is_spent_and_resumes() {
        let mut indexed = IndexedPeers::<6>::copy_of(
            &ArrayPeers::default(),
            &Arc::new(AddressPolicy::new(RandomState::new(), 0)),
        );
        for n in 0..2000_u16 {
            let [high, low] = n.to_be_bytes();
            indexed.add([high, low, 0, 0, 0, 1], n % 2 == 0, 0);
        }
        let expired = Ticks::new(50).expired(100);
        let end = indexed.expire(indexed.len(), expired, &mut Budget::new(1000));
        assert!(indexed.len() > 1980 && end == indexed.len(), "{} {end}", indexed.len());
        let mut slices = 1;
        let mut left = end;
        while left > 0 {
            left = indexed.expire(left, expired, &mut Budget::new(1000));
            slices += 1;
        }
        assert_eq!(indexed.len(), 0);
        assert!(slices > 100);
    }
}
