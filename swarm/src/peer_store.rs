//! The peers of one torrent in one address family, whatever they are kept in.
//!
//! A population is an array of rows, each an address as it goes on the wire and the age of its
//! last announce. It is partitioned: rows `0..seeders` are the seeders, the rest the leechers,
//! so either kind is a contiguous range. Everything that keeps it so is written here, once, over
//! the few moves that [`small`](super::small) and [`indexed`](super::deep) provide for their
//! layouts.

use std::ops::Range;

use super::address_policy::{RowVisitor, set_latest};
use super::time::{Budget, ExpiredStamps};

/// Rows of `N`-byte addresses: 6 for IPv4 (BEP 23), 18 for IPv6 (BEP 7).
pub(super) trait PeerStore<const N: usize> {
    fn len(&self) -> usize;

    fn seeders(&self) -> usize;

    /// Moves the border between the populations; the rows are the caller's business.
    fn set_seeders(&mut self, seeders: usize);

    /// Whether `push` must not be called.
    fn is_full(&self) -> bool;

    /// What a slice of the sweep pays for taking one peer out, in stamps looked at.
    fn removal_cost(&self) -> u32;

    /// The row that holds `address`.
    fn find(&self, address: &[u8; N]) -> Option<usize>;

    /// The longest slice of addresses that starts at row `from` and goes no further than `to`.
    fn addresses_from(&self, from: usize, to: usize) -> &[[u8; N]];

    /// The longest slice of stamps that ends before row `end`.
    fn stamps_before(&self, end: usize) -> &[u8];

    /// Notes a new announce at `tick`; says whether the row's address has, or had, others here.
    fn set_tick(&mut self, at: usize, tick: u8) -> bool;

    /// The order of a row among those of its address; see [`LastAnnounce`](super::address::Age).
    fn order(&self, at: usize) -> u8;

    /// Shows every row that has its address in common with `endpoint`, and keeps what is changed
    /// of its age.
    fn visit_same_address(&mut self, endpoint: &[u8; N], change: &mut RowVisitor<'_, N>);

    fn swap(&mut self, a: usize, b: usize);

    /// Appends a row of order 0. There is none with this address, and the population is not full.
    fn push(&mut self, address: [u8; N], stamp: u8);

    /// First step of a removal: `find` will not name this row any more. The row itself stays
    /// until another is moved over it or it is cut off.
    fn unindex(&mut self, at: usize);

    /// Moves row `from` over the forgotten row `to`; now `from` counts as forgotten.
    fn move_row(&mut self, from: usize, to: usize);

    /// Cuts off the last row, which is forgotten.
    fn pop(&mut self);

    /// Adds a peer that is not here yet; says at which row it is.
    fn add(&mut self, address: [u8; N], seeder: bool, stamp: u8) -> usize {
        debug_assert!(self.find(&address).is_none());
        let at = self.len();
        self.push(address, stamp);
        if seeder { self.make_seeder(at) } else { at }
    }

    /// Takes the new announce of a peer: its stamp, and the population it belongs to now. Says
    /// whether it was a seeder and at which row it is; nothing if it is not here.
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

    /// Makes the leecher at row `at` a seeder; says at which row it is now.
    fn make_seeder(&mut self, at: usize) -> usize {
        let boundary = self.seeders();
        debug_assert!(at >= boundary);
        if at != boundary {
            self.swap(at, boundary);
        }
        self.set_seeders(boundary + 1);
        boundary
    }

    /// Makes the seeder at row `at` a leecher; says at which row it is now.
    fn make_leecher(&mut self, at: usize) -> usize {
        let boundary = self.seeders() - 1;
        debug_assert!(at <= boundary);
        if at != boundary {
            self.swap(at, boundary);
        }
        self.set_seeders(boundary);
        boundary
    }

    /// Takes out the row `at`. The rows that take its place come from behind it, which is what
    /// lets a sweep that goes backward miss nothing.
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

    /// Takes out what is past the deadline among the rows before `end`, going backward, until
    /// nothing or no budget is left. Says before which row to go on; 0 when done.
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

    /// Appends the addresses of some rows.
    fn gather(&self, rows: &[u32], out: &mut Vec<[u8; N]>) {
        out.extend(rows.iter().map(|&at| self.addresses_from(at as usize, at as usize + 1)[0]));
    }

    /// The rows whose peers are of use to a peer: a seeder has no use for seeders.
    fn eligible_rows(&self, seeder: bool) -> Range<usize> {
        if seeder { self.seeders()..self.len() } else { 0..self.len() }
    }
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

    /// What a population should hold: each address with its stamp and whether it is a seeder.
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

    /// Random announces, departures and expiries, up to `most` peers, against the model.
    fn follows_the_model<const N: usize>(rows: &mut dyn PeerStore<N>, most: usize) {
        let mut random = Random::seeded(most as u64);
        let mut model = ModelRows::new();
        let ticks = Ticks::new(50);
        for step in 0..6000_u32 {
            // Of so many steps that a good part of the peers is expired by every sweep.
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
                        end = rows.expire(end, expired, &mut Budget::of(100));
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
    fn an_expiry_stops_when_its_budget_is_spent_and_goes_on_where_it_was() {
        let mut indexed = IndexedPeers::<6>::copy_of(
            &ArrayPeers::default(),
            &Arc::new(AddressPolicy::new(RandomState::new(), 0)),
        );
        for n in 0..2000_u16 {
            let [high, low] = n.to_be_bytes();
            indexed.add([high, low, 0, 0, 0, 1], n % 2 == 0, 0);
        }
        let expired = Ticks::new(50).expired(100);
        let end = indexed.expire(indexed.len(), expired, &mut Budget::of(1000));
        assert!(indexed.len() > 1980 && end == indexed.len(), "{} {end}", indexed.len());
        let mut slices = 1;
        let mut left = end;
        while left > 0 {
            left = indexed.expire(left, expired, &mut Budget::of(1000));
            slices += 1;
        }
        assert_eq!(indexed.len(), 0);
        assert!(slices > 100);
    }
}
