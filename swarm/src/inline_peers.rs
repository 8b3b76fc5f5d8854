//! Small stores, each a contiguous array without an index: a look-up scans at most [`ARRAY_MAX`]
//! addresses. [`InlinePeers`] is part of the torrent itself, [`ArrayPeers`] has a heap block.

use super::address_policy::address_prefix;
use super::peer_store::{LastAnnounce, PeerStore, RowVisitor};
use super::prefetch::prefetch;
use super::time::SHARES_ADDRESS;

/// The most peers of an array. Scanning so many takes about as long as an index look-up, and an
/// index would cost another 9 bytes a peer.
pub(super) const ARRAY_MAX: usize = 128;

/// A contiguous array of rows; [`PeerStore`] is implemented on top of it.
trait Contiguous<const N: usize> {
    /// Addresses and stamps, one of each for every peer.
    fn rows(&self) -> (&[[u8; N]], &[u8]);

    fn rows_mut(&mut self) -> (&mut [[u8; N]], &mut [u8]);

    /// Orders, four bits of each peer.
    fn orders(&self) -> &[u8];

    fn orders_mut(&mut self) -> &mut [u8];

    fn seeders(&self) -> usize;

    fn set_seeders(&mut self, seeders: usize);

    fn is_full(&self) -> bool;

    /// Appends a row with unspecified content.
    fn grow(&mut self);

    fn shrink(&mut self);
}

impl<const N: usize, C: Contiguous<N>> PeerStore<N> for C {
    fn len(&self) -> usize {
        self.rows().1.len()
    }

    fn seeders(&self) -> usize {
        Contiguous::seeders(self)
    }

    fn set_seeders(&mut self, seeders: usize) {
        Contiguous::set_seeders(self, seeders);
    }

    fn is_full(&self) -> bool {
        Contiguous::is_full(self)
    }

    fn removal_cost(&self) -> u32 {
        4
    }

    fn find(&self, address: &[u8; N]) -> Option<usize> {
        self.rows().0.iter().position(|known| known == address)
    }

    fn addresses_from(&self, from: usize, to: usize) -> &[[u8; N]] {
        &self.rows().0[from..to]
    }

    fn stamps_from(&self, from: usize, to: usize) -> &[u8] {
        &self.rows().1[from..to]
    }

    fn stamps_before(&self, end: usize) -> &[u8] {
        &self.rows().1[..end]
    }

    fn set_tick(&mut self, at: usize, tick: u8) -> bool {
        let stamp = &mut self.rows_mut().1[at];
        let shared = *stamp & SHARES_ADDRESS;
        *stamp = tick | shared;
        shared > 0
    }

    fn order(&self, at: usize) -> u8 {
        nibble(self.orders(), at)
    }

    fn visit_same_address(&mut self, endpoint: &[u8; N], change: &mut RowVisitor<'_, N>) {
        for at in 0..PeerStore::len(self) {
            let (addresses, stamps) = self.rows();
            if address_prefix(&addresses[at]) == address_prefix(endpoint) {
                let mut age = LastAnnounce { stamp: stamps[at], order: self.order(at) };
                change(at, &addresses[at], &mut age);
                self.rows_mut().1[at] = age.stamp;
                set_nibble(self.orders_mut(), at, age.order);
            }
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        let (addresses, stamps) = self.rows_mut();
        addresses.swap(a, b);
        stamps.swap(a, b);
        let (order_a, order_b) = (self.order(a), self.order(b));
        set_nibble(self.orders_mut(), a, order_b);
        set_nibble(self.orders_mut(), b, order_a);
    }

    fn push(&mut self, address: [u8; N], stamp: u8) {
        self.grow();
        if let ([.., last_address], [.., last_stamp]) = self.rows_mut() {
            *last_address = address;
            *last_stamp = stamp;
        }
        let at = PeerStore::len(self) - 1;
        set_nibble(self.orders_mut(), at, 0);
    }

    fn unindex(&mut self, _at: usize) {}

    fn move_row(&mut self, from: usize, to: usize) {
        let (addresses, stamps) = self.rows_mut();
        addresses[to] = addresses[from];
        stamps[to] = stamps[from];
        let order = self.order(from);
        set_nibble(self.orders_mut(), to, order);
    }

    fn pop(&mut self) {
        self.shrink();
    }
}

/// Number `at` of an array of four-bit numbers.
pub(super) fn nibble(nibbles: &[u8], at: usize) -> u8 {
    nibbles[at / 2] >> (at % 2 * 4) & 0xf
}

pub(super) fn set_nibble(nibbles: &mut [u8], at: usize, value: u8) {
    let (byte, shift) = (&mut nibbles[at / 2], at % 2 * 4);
    *byte = *byte & !(0xf << shift) | value << shift;
}

/// Copies all rows of a store to one of the same length.
fn copy_rows<const N: usize>(from: &dyn PeerStore<N>, to: &mut impl Contiguous<N>) {
    let (addresses, stamps) = to.rows_mut();
    let mut at = 0;
    while at < from.len() {
        let run = from.addresses_from(at, from.len());
        addresses[at..at + run.len()].copy_from_slice(run);
        at += run.len();
    }
    let mut end = from.len();
    while end > 0 {
        let run = from.stamps_before(end);
        stamps[end - run.len()..end].copy_from_slice(run);
        end -= run.len();
    }
    (0..from.len()).for_each(|at| set_nibble(to.orders_mut(), at, from.order(at)));
}

/// Up to `K` peers in the torrent itself; `K` is at most 4.
#[derive(Clone, Copy, Debug)]
pub(super) struct InlinePeers<const N: usize, const K: usize> {
    addresses: [[u8; N]; K],
    stamps: [u8; K],
    orders: [u8; 2],
    /// Bits 0 to 2: peers; bits 4 to 6: seeders; bit 7: [`UNCONFIRMED`].
    counts: u8,
}

/// The torrent is unconfirmed: one peer, which has announced once.
const UNCONFIRMED: u8 = 0x80;

impl<const N: usize, const K: usize> InlinePeers<N, K> {
    pub(super) const EMPTY: Self = {
        assert!(K <= 4);
        InlinePeers { addresses: [[0; N]; K], stamps: [0; K], orders: [0; 2], counts: 0 }
    };

    fn len(&self) -> usize {
        usize::from(self.counts & 7)
    }

    pub(super) fn is_unconfirmed(&self) -> bool {
        self.counts & UNCONFIRMED > 0
    }

    pub(super) fn set_unconfirmed(&mut self, unconfirmed: bool) {
        self.counts = self.counts & !UNCONFIRMED | if unconfirmed { UNCONFIRMED } else { 0 };
    }

    /// The same peers in the same order; there are at most `K`.
    pub(super) fn copy_of(from: &dyn PeerStore<N>) -> Self {
        let mut inline = Self::EMPTY;
        inline.counts = (from.len() | from.seeders() << 4) as u8;
        copy_rows(from, &mut inline);
        inline
    }
}

impl<const N: usize, const K: usize> Contiguous<N> for InlinePeers<N, K> {
    fn rows(&self) -> (&[[u8; N]], &[u8]) {
        let len = self.len();
        (&self.addresses[..len], &self.stamps[..len])
    }

    fn rows_mut(&mut self) -> (&mut [[u8; N]], &mut [u8]) {
        let len = self.len();
        (&mut self.addresses[..len], &mut self.stamps[..len])
    }

    fn orders(&self) -> &[u8] {
        &self.orders
    }

    fn orders_mut(&mut self) -> &mut [u8] {
        &mut self.orders
    }

    fn seeders(&self) -> usize {
        usize::from(self.counts >> 4 & 7)
    }

    fn set_seeders(&mut self, seeders: usize) {
        self.counts = self.counts & (UNCONFIRMED | 7) | (seeders << 4) as u8;
    }

    fn is_full(&self) -> bool {
        self.len() == K
    }

    fn grow(&mut self) {
        self.counts += 1;
    }

    fn shrink(&mut self) {
        self.counts -= 1;
    }
}

/// Up to [`ARRAY_MAX`] peers in one heap block: all addresses, then all stamps, then all orders,
/// each part with the same capacity.
#[derive(Debug, Default)]
pub(super) struct ArrayPeers<const N: usize> {
    block: Box<[u8]>,
    len: u32,
    seeders: u32,
}

impl<const N: usize> ArrayPeers<N> {
    /// The same peers in the same order, with capacity for more; there are at most [`ARRAY_MAX`].
    pub(super) fn copy_of(from: &dyn PeerStore<N>) -> Self {
        let mut array = ArrayPeers::with_capacity(Self::capacity_above(from.len()));
        array.len = from.len() as u32;
        array.seeders = from.seeders() as u32;
        copy_rows(from, &mut array);
        array
    }

    /// Has the rows fetched.
    pub(super) fn prefetch(&self) {
        prefetch(&*self.block);
    }

    fn with_capacity(capacity: usize) -> Self {
        ArrayPeers { block: vec![0; Self::bytes(capacity)].into_boxed_slice(), len: 0, seeders: 0 }
    }

    fn bytes(capacity: usize) -> usize {
        capacity * (N + 1) + capacity.div_ceil(2)
    }

    /// How many peers fit into `bytes`.
    fn capacity_of(bytes: usize) -> usize {
        bytes * 2 / (2 * (N + 1) + 1)
    }

    fn capacity(&self) -> usize {
        Self::capacity_of(self.block.len())
    }

    /// The capacity of the smallest block for more than `len` peers.
    fn capacity_above(len: usize) -> usize {
        Self::capacity_of(size_class(Self::bytes(len + 1))).min(ARRAY_MAX)
    }

    /// Moves the rows to a block of another capacity, which is enough for them.
    fn resize(&mut self, capacity: usize) {
        let mut resized = ArrayPeers::with_capacity(capacity);
        (resized.len, resized.seeders) = (self.len, self.seeders);
        let (addresses, stamps) = resized.rows_mut();
        addresses.copy_from_slice(self.rows().0);
        stamps.copy_from_slice(self.rows().1);
        let orders = stamps.len().div_ceil(2);
        resized.orders_mut()[..orders].copy_from_slice(&self.orders()[..orders]);
        *self = resized;
    }
}

/// The size that the allocator rounds up to: multiples of 16 bytes, and from 128 bytes on four
/// sizes up to each power of two (jemalloc(3), "Size classes").
const fn size_class(bytes: usize) -> usize {
    let step = if bytes <= 128 { 16 } else { 1 << ((bytes - 1).ilog2() - 2) };
    bytes.next_multiple_of(step)
}

impl<const N: usize> Contiguous<N> for ArrayPeers<N> {
    fn rows(&self) -> (&[[u8; N]], &[u8]) {
        let len = self.len as usize;
        let (addresses, stamps) = self.block.split_at(self.capacity() * N);
        (&addresses.as_chunks().0[..len], &stamps[..len])
    }

    fn rows_mut(&mut self) -> (&mut [[u8; N]], &mut [u8]) {
        let len = self.len as usize;
        let (addresses, stamps) = self.block.split_at_mut(self.capacity() * N);
        (&mut addresses.as_chunks_mut().0[..len], &mut stamps[..len])
    }

    fn orders(&self) -> &[u8] {
        &self.block[self.capacity() * (N + 1)..]
    }

    fn orders_mut(&mut self) -> &mut [u8] {
        let from = self.capacity() * (N + 1);
        &mut self.block[from..]
    }

    fn seeders(&self) -> usize {
        self.seeders as usize
    }

    fn set_seeders(&mut self, seeders: usize) {
        self.seeders = seeders as u32;
    }

    fn is_full(&self) -> bool {
        self.len as usize >= ARRAY_MAX
    }

    fn grow(&mut self) {
        let len = self.len as usize;
        if len == self.capacity() {
            self.resize(Self::capacity_above(len));
        }
        self.len += 1;
    }

    fn shrink(&mut self) {
        self.len -= 1;
        let len = self.len as usize;
        if len == 0 {
            *self = ArrayPeers::default();
        } else if Self::capacity_above(len) * 2 <= self.capacity() {
            self.resize(Self::capacity_above(len));
        }
    }
}
