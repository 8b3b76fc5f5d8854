//! A large population: rows in blocks, found through an index. No part of it is ever copied as
//! a whole, so that one announce into a swarm of ten million takes no longer than into one of a
//! thousand.

use std::hash::RandomState;

use super::chunked::Chunked;
use super::keyed_hash;
use super::population::Population;
use super::positions::Positions;

/// Peers in a block.
const BLOCK: usize = 128;

/// See the module.
#[derive(Debug)]
pub(super) struct Deep<const N: usize> {
    addresses: Chunked<[u8; N], BLOCK>,
    stamps: Chunked<u8, BLOCK>,
    seeders: u32,
    positions: Positions,
    secret: RandomState,
}

impl<const N: usize> Deep<N> {
    /// The same peers, in the same order, under an index of which nobody can know the hashes:
    /// a stranger has many addresses to choose from, at least in IPv6.
    pub(super) fn copied_from(from: &dyn Population<N>, secret: &RandomState) -> Self {
        let mut deep = Deep {
            addresses: Chunked::new(),
            stamps: Chunked::new(),
            seeders: from.seeders() as u32,
            positions: Positions::new(),
            secret: secret.clone(),
        };
        for at in 0..from.len() {
            let stamp = from.stamps_before(at + 1).last().copied().unwrap_or_default();
            deep.push(from.run(at, at + 1)[0], stamp);
        }
        deep
    }

    fn hash(&self, at: usize) -> u64 {
        keyed_hash(&self.secret, &self.addresses[at])
    }
}

impl<const N: usize> Population<N> for Deep<N> {
    fn len(&self) -> usize {
        self.addresses.len()
    }

    fn seeders(&self) -> usize {
        self.seeders as usize
    }

    fn set_seeders(&mut self, seeders: usize) {
        self.seeders = seeders as u32;
    }

    /// A row number is of 32 bits, and the highest has another meaning in the index.
    fn is_full(&self) -> bool {
        self.len() >= u32::MAX as usize - 1
    }

    /// Up to three changes of the index, each of them three or four cache misses.
    fn removal_cost(&self) -> u32 {
        160
    }

    fn find(&self, address: &[u8; N]) -> Option<usize> {
        let hash = keyed_hash(&self.secret, address);
        self.positions.find(hash, |at| self.addresses[at] == *address)
    }

    fn run(&self, from: usize, to: usize) -> &[[u8; N]] {
        self.addresses.run(from, to)
    }

    fn stamps_before(&self, end: usize) -> &[u8] {
        self.stamps.run_before(end)
    }

    fn set_stamp(&mut self, at: usize, stamp: u8) {
        self.stamps[at] = stamp;
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.positions.exchange((self.hash(a), a), (self.hash(b), b));
        let (address, stamp) = (self.addresses[a], self.stamps[a]);
        self.addresses[a] = self.addresses[b];
        self.stamps[a] = self.stamps[b];
        self.addresses[b] = address;
        self.stamps[b] = stamp;
    }

    fn push(&mut self, address: [u8; N], stamp: u8) {
        let at = self.len();
        self.addresses.push(address);
        self.stamps.push(stamp);
        let (addresses, secret) = (&self.addresses, &self.secret);
        let hash_of = |at: usize| keyed_hash(secret, &addresses[at]);
        self.positions.insert(hash_of(at), at, hash_of);
    }

    fn forget(&mut self, at: usize) {
        let (addresses, secret) = (&self.addresses, &self.secret);
        let hash_of = |at: usize| keyed_hash(secret, &addresses[at]);
        self.positions.remove(hash_of(at), at, hash_of);
    }

    fn fill(&mut self, from: usize, to: usize) {
        self.positions.renumber(self.hash(from), from, to);
        self.addresses[to] = self.addresses[from];
        self.stamps[to] = self.stamps[from];
    }

    fn cut(&mut self) {
        self.addresses.pop();
        self.stamps.pop();
    }
}
