//! A large store: rows in blocks, found through an index. It is never copied as a whole, so an
//! announce into a swarm of ten million peers takes no longer than into one of a thousand.

use std::sync::Arc;

use super::address_policy::{AddressPolicy, address_prefix};
use super::chunked_vec::ChunkedVec;
use super::inline_peers::{nibble, set_nibble};
use super::peer_index::PeerIndex;
use super::peer_store::{LastAnnounce, PeerStore, RowVisitor};
use super::time::SHARES_ADDRESS;

const BLOCK: usize = 128;

#[derive(Debug)]
pub(super) struct IndexedPeers<const N: usize> {
    addresses: ChunkedVec<[u8; N], BLOCK>,
    stamps: ChunkedVec<u8, BLOCK>,
    orders: Orders,
    seeders: u32,
    index: PeerIndex,
    policy: Arc<AddressPolicy>,
}

impl<const N: usize> IndexedPeers<N> {
    /// The same peers in the same order. The index is keyed with the secret: a client has many
    /// addresses to choose from, at least in IPv6, and must not be able to choose their hashes.
    pub(super) fn copy_of(from: &dyn PeerStore<N>, policy: &Arc<AddressPolicy>) -> Self {
        let mut indexed = IndexedPeers {
            addresses: ChunkedVec::new(),
            stamps: ChunkedVec::new(),
            orders: Orders(ChunkedVec::new()),
            seeders: from.seeders() as u32,
            index: PeerIndex::new(),
            policy: Arc::clone(policy),
        };
        for at in 0..from.len() {
            let stamp = from.stamps_before(at + 1).last().copied().unwrap_or_default();
            indexed.push(from.addresses_from(at, at + 1)[0], stamp);
            indexed.orders.set(at, from.order(at));
        }
        indexed
    }

    /// Has the table of the index fetched that finds an address; returns the hash of the address.
    pub(super) fn prefetch_table(&self, address: &[u8; N]) -> u64 {
        let hash = self.policy.hash(address);
        self.index.prefetch(hash);
        hash
    }

    /// Has a row with this hash fetched.
    pub(super) fn prefetch_row(&self, hash: u64) {
        if let Some(row) = self.index.first(hash) {
            self.addresses.prefetch(row);
            self.stamps.prefetch(row);
        }
    }

    fn hash(&self, at: usize) -> u64 {
        self.policy.hash(&self.addresses[at])
    }
}

/// Orders, two in a byte. The order of a row without [`SHARES_ADDRESS`] is 0 and need not be read.
#[derive(Debug)]
struct Orders(ChunkedVec<u8, { BLOCK / 2 }>);

impl Orders {
    fn get(&self, at: usize) -> u8 {
        nibble(&[self.0[at / 2]], at % 2)
    }

    fn set(&mut self, at: usize, order: u8) {
        let mut pair = [self.0[at / 2]];
        set_nibble(&mut pair, at % 2, order);
        self.0[at / 2] = pair[0];
    }
}

impl<const N: usize> PeerStore<N> for IndexedPeers<N> {
    fn len(&self) -> usize {
        self.addresses.len()
    }

    fn seeders(&self) -> usize {
        self.seeders as usize
    }

    fn set_seeders(&mut self, seeders: usize) {
        self.seeders = seeders as u32;
    }

    /// Row numbers have 32 bits, and the index reserves the highest.
    fn is_full(&self) -> bool {
        self.len() >= u32::MAX as usize - 1
    }

    /// Up to three changes of the index, each with three or four cache misses.
    fn removal_cost(&self) -> u32 {
        160
    }

    fn find(&self, address: &[u8; N]) -> Option<usize> {
        let hash = self.policy.hash(address);
        self.index.find(hash, |at| self.addresses[at] == *address)
    }

    fn addresses_from(&self, from: usize, to: usize) -> &[[u8; N]] {
        self.addresses.slice_from(from, to)
    }

    fn stamps_from(&self, from: usize, to: usize) -> &[u8] {
        self.stamps.slice_from(from, to)
    }

    fn stamps_before(&self, end: usize) -> &[u8] {
        self.stamps.slice_before(end)
    }

    fn set_tick(&mut self, at: usize, tick: u8) -> bool {
        let stamp = &mut self.stamps[at];
        let shared = *stamp & SHARES_ADDRESS;
        *stamp = tick | shared;
        shared > 0
    }

    fn order(&self, at: usize) -> u8 {
        self.orders.get(at)
    }

    /// The address of `endpoint` is limited: only those share a hash.
    fn visit_same_address(&mut self, endpoint: &[u8; N], change: &mut RowVisitor<'_, N>) {
        let IndexedPeers { addresses, stamps, orders, .. } = self;
        self.index.visit(self.policy.hash(endpoint), |at| {
            if address_prefix(&addresses[at]) == address_prefix(endpoint) {
                let mut age = LastAnnounce { stamp: stamps[at], order: orders.get(at) };
                change(at, &addresses[at], &mut age);
                stamps[at] = age.stamp;
                orders.set(at, age.order);
            }
        });
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.index.swap_rows((self.hash(a), a), (self.hash(b), b));
        let (address, stamp) = (self.addresses[a], self.stamps[a]);
        self.addresses[a] = self.addresses[b];
        self.stamps[a] = self.stamps[b];
        self.addresses[b] = address;
        self.stamps[b] = stamp;
        if (self.stamps[a] | stamp) & SHARES_ADDRESS > 0 {
            let (order_a, order_b) = (self.orders.get(a), self.orders.get(b));
            self.orders.set(a, order_b);
            self.orders.set(b, order_a);
        }
    }

    fn push(&mut self, address: [u8; N], stamp: u8) {
        let at = self.len();
        self.addresses.push(address);
        self.stamps.push(stamp);
        if at.is_multiple_of(2) {
            self.orders.0.push(0);
        }
        self.orders.set(at, 0);
        let (addresses, policy) = (&self.addresses, &self.policy);
        let hash_of = |at: usize| policy.hash(&addresses[at]);
        self.index.insert(hash_of(at), at, hash_of);
    }

    fn unindex(&mut self, at: usize) {
        let (addresses, policy) = (&self.addresses, &self.policy);
        let hash_of = |at: usize| policy.hash(&addresses[at]);
        self.index.remove(hash_of(at), at, hash_of);
    }

    fn move_row(&mut self, from: usize, to: usize) {
        self.index.renumber(self.hash(from), from, to);
        self.addresses[to] = self.addresses[from];
        if (self.stamps[to] | self.stamps[from]) & SHARES_ADDRESS > 0 {
            self.orders.set(to, self.orders.get(from));
        }
        self.stamps[to] = self.stamps[from];
    }

    fn pop(&mut self) {
        self.addresses.pop();
        self.stamps.pop();
        if self.len().is_multiple_of(2) {
            self.orders.0.pop();
        }
    }
}
