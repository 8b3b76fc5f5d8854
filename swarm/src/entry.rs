//! A torrent and its peers as bytes, for a file and for other nodes: an *entry*. Numbers are
//! little-endian.
//!
//! | bytes | |
//! |---|---|
//! | 20 | info hash |
//! | 4 | downloaded |
//! | 2 | IPv4 seeders; bit 15: the torrent is unconfirmed (one peer, which has announced once) |
//! | 2 | IPv4 leechers; bit 15: orders of the IPv4 peers follow |
//! | 2 | IPv6 seeders; bit 15: orders of the IPv6 peers follow |
//! | 2 | IPv6 leechers; bit 15 is 0 |
//! | 6 each | compact IPv4 addresses (BEP 23), seeders first |
//! | 1 each | their ages; bit 7: the peer shares its address with another |
//! | 1 for two | their orders, if bit 15 says so: four bits each, lower half first |
//! | 18, 1 and 1/2 each | the same of the IPv6 peers (BEP 7) |
//!
//! An age is the number of tick boundaries since the peer's last announce; a tick is
//! [`Swarms::tick_s`](super::Swarms::tick_s) seconds. An order tells which of the peers of one
//! address and one tick announced later; it is 0 for a peer that shares its address with none, and
//! if all are, they are left out. So an IPv4 peer is 7 or 7.5 bytes, an IPv6 peer 19 or 19.5, a
//! torrent 32. There is one encoding of an entry; a reader refuses any other.

use std::fmt;
use std::ops::Range;

use super::inline_peers::nibble;
use super::peer_store::PeerStore;
use super::time::{AgeRange, SHARES_ADDRESS, tick};
use super::{CompactAddr, InfoHash};

/// Bytes of an entry before its peers.
const HEAD_BYTES: usize = 32;

const COUNTS_AT: usize = 24;

/// The bit of a count that is not part of the number.
const FLAG: u16 = 0x8000;

/// The most bytes of a torrent with so many peers.
pub(super) fn entry_bytes_max(v4: usize, v6: usize) -> usize {
    HEAD_BYTES + rows_bytes_max::<6>(v4) + rows_bytes_max::<18>(v6)
}

fn rows_bytes_max<const N: usize>(rows: usize) -> usize {
    rows * (N + 1) + rows.div_ceil(2)
}

/// How many peers fit into an entry of so many bytes.
pub(super) const fn rows_max<const N: usize>(bytes: usize) -> usize {
    (bytes - HEAD_BYTES - 1) * 2 / (2 * (N + 1) + 1)
}

/// Rows of one family to write: a range of seeders and two of leechers.
pub(super) struct RowSelection<'a, const N: usize> {
    pub(super) rows: &'a dyn PeerStore<N>,
    pub(super) seeders: Range<usize>,
    pub(super) leechers: [Range<usize>; 2],
}

/// What an entry says of one family.
#[derive(Clone, Copy, Debug, Default)]
struct RowCounts {
    seeders: u16,
    leechers: u16,
    shares_address: bool,
}

impl<'a, const N: usize> RowSelection<'a, N> {
    pub(super) fn all(rows: &'a dyn PeerStore<N>) -> Self {
        let (seeders, len) = (rows.seeders(), rows.len());
        RowSelection { rows, seeders: 0..seeders, leechers: [seeders..len, len..len] }
    }

    /// Visits runs of addresses and stamps, with the row of the first.
    fn visit(&self, range: &Range<usize>, mut visit: impl FnMut(usize, &[[u8; N]], &[u8])) {
        let Range { start: mut at, end } = *range;
        while at < end {
            let addresses = self.rows.addresses_from(at, end);
            visit(at, addresses, self.rows.stamps_from(at, end));
            at += addresses.len();
        }
    }

    fn visit_all(&self, mut visit: impl FnMut(usize, &[[u8; N]], &[u8])) {
        for range in [&self.seeders, &self.leechers[0], &self.leechers[1]] {
            self.visit(range, &mut visit);
        }
    }

    fn count(&self, range: &Range<usize>, ages: AgeRange) -> usize {
        if ages.is_all() {
            return range.len();
        }
        let mut count = 0;
        self.visit(range, |_, _, stamps| {
            count += stamps.iter().filter(|&&stamp| ages.contains(stamp)).count();
        });
        count
    }

    /// Appends the rows that are in `ages`.
    fn write(&self, ages: AgeRange, out: &mut Vec<u8>) -> RowCounts {
        let mut shares_address = 0;
        if ages.is_all() {
            self.visit_all(|_, addresses, _| out.extend_from_slice(addresses.as_flattened()));
            self.visit_all(|_, _, stamps| {
                shares_address = stamps.iter().fold(shares_address, |all, stamp| all | stamp);
                out.extend(stamps.iter().map(|&stamp| ages.age(stamp)));
            });
        } else {
            self.visit_all(|_, addresses, stamps| {
                let rows = addresses.iter().zip(stamps);
                rows.filter(|&(_, &stamp)| ages.contains(stamp))
                    .for_each(|(address, _)| out.extend_from_slice(address));
            });
            self.visit_all(|_, _, stamps| {
                for &stamp in stamps.iter().filter(|&&stamp| ages.contains(stamp)) {
                    shares_address |= stamp;
                    out.push(ages.age(stamp));
                }
            });
        }
        let shares_address = shares_address & SHARES_ADDRESS > 0;
        if shares_address {
            self.write_orders(ages, out);
        }
        let leechers = self.leechers.iter().map(|range| self.count(range, ages));
        RowCounts {
            seeders: self.count(&self.seeders, ages) as u16,
            leechers: leechers.sum::<usize>() as u16,
            shares_address,
        }
    }

    fn write_orders(&self, ages: AgeRange, out: &mut Vec<u8>) {
        let mut half = None;
        self.visit_all(|first, _, stamps| {
            for (row, &stamp) in (first..).zip(stamps) {
                if !ages.contains(stamp) {
                    continue;
                }
                let shares = stamp & SHARES_ADDRESS > 0;
                let order = if shares { self.rows.order(row) } else { 0 };
                match half.take() {
                    None => half = Some(order),
                    Some(low) => out.push(low | order << 4),
                }
            }
        });
        out.extend(half);
    }
}

/// What of a torrent is to be written.
pub(super) struct EntrySelection<'a> {
    pub(super) info_hash: &'a InfoHash,
    pub(super) downloaded: u32,
    pub(super) unconfirmed: bool,
    /// Whether it is written if no peer is.
    pub(super) without_peers: bool,
    pub(super) v4: Option<RowSelection<'a, 6>>,
    pub(super) v6: Option<RowSelection<'a, 18>>,
}

impl EntrySelection<'_> {
    /// Appends the entry with the peers in `ages`; returns their number, unless nothing is written.
    pub(super) fn write(&self, ages: AgeRange, out: &mut Vec<u8>) -> Option<u64> {
        let start = out.len();
        out.extend_from_slice(self.info_hash);
        out.extend_from_slice(&self.downloaded.to_le_bytes());
        out.extend_from_slice(&[0; HEAD_BYTES - COUNTS_AT]);
        let v4 = self.v4.as_ref().map_or_else(RowCounts::default, |rows| rows.write(ages, out));
        let v6 = self.v6.as_ref().map_or_else(RowCounts::default, |rows| rows.write(ages, out));
        let numbers = [v4.seeders, v4.leechers, v6.seeders, v6.leechers];
        let peers = numbers.into_iter().map(u64::from).sum();
        if peers == 0 && !self.without_peers {
            out.truncate(start);
            return None;
        }
        let flags = [self.unconfirmed, v4.shares_address, v6.shares_address, false];
        let counts = out[start + COUNTS_AT..start + HEAD_BYTES].as_chunks_mut().0;
        for ((count, number), flag) in counts.iter_mut().zip(numbers).zip(flags) {
            *count = (number | if flag { FLAG } else { 0 }).to_le_bytes();
        }
        Some(peers)
    }
}

/// Iterates over the entries in some bytes, from wherever they come: after an error it ends.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    all: &'a [u8],
    rest: &'a [u8],
}

/// Bytes that are no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryError {
    /// Where the entry, or the part of it that is wrong, begins: bytes from the first entry.
    pub at: usize,
    /// What is wrong, to follow "is" or "has".
    pub what: &'static str,
}

impl fmt::Display for EntryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

impl std::error::Error for EntryError {}

/// A torrent, or some of its peers, as it was written.
#[derive(Clone, Copy, Debug)]
pub struct TorrentEntry<'a> {
    pub info_hash: InfoHash,
    /// [`TorrentCounts::downloaded`](super::TorrentCounts::downloaded).
    pub downloaded: u32,
    /// The torrent has one peer, which has announced once.
    pub unconfirmed: bool,
    pub(super) v4: EntryRows<'a, 6>,
    pub(super) v6: EntryRows<'a, 18>,
}

/// The peers of one family in an entry.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EntryRows<'a, const N: usize> {
    seeders: usize,
    addresses: &'a [[u8; N]],
    /// One for each address.
    ages: &'a [u8],
    /// Four bits for each address, or none.
    orders: &'a [u8],
}

/// A peer as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryPeer {
    pub peer: CompactAddr,
    pub seeder: bool,
    /// Tick boundaries of the writer since its last announce.
    pub age_ticks: u8,
    /// If it shares its address with others of the torrent: its [order](self).
    pub(super) order: Option<u8>,
}

impl<'a> Entries<'a> {
    pub fn new(bytes: &'a [u8]) -> Entries<'a> {
        Entries { all: bytes, rest: bytes }
    }

    fn error(&self, what: &'static str) -> EntryError {
        EntryError { at: self.all.len() - self.rest.len(), what }
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], EntryError> {
        let (taken, rest) =
            self.rest.split_at_checked(bytes).ok_or_else(|| self.error("a torrent is cut off"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn take_array<const K: usize>(&mut self) -> Result<[u8; K], EntryError> {
        // `take` returns as many bytes as the array has.
        Ok(self.take(K)?.first_chunk().copied().unwrap_or([0; K]))
    }

    fn take_count(&mut self) -> Result<(usize, bool), EntryError> {
        let count = u16::from_le_bytes(self.take_array()?);
        Ok((usize::from(count & !FLAG), count & FLAG > 0))
    }

    fn take_entry(&mut self) -> Result<TorrentEntry<'a>, EntryError> {
        let info_hash = self.take_array()?;
        let downloaded = u32::from_le_bytes(self.take_array()?);
        let counts = self.clone();
        let (seeders_v4, unconfirmed) = self.take_count()?;
        let (leechers_v4, ordered_v4) = self.take_count()?;
        let (seeders_v6, ordered_v6) = self.take_count()?;
        let (leechers_v6, reserved) = self.take_count()?;
        if reserved {
            return Err(counts.error("a torrent has an unknown flag"));
        }
        if unconfirmed && seeders_v4 + leechers_v4 + seeders_v6 + leechers_v6 != 1 {
            return Err(counts.error("a torrent is unconfirmed and has not one peer"));
        }
        let v4 = self.take_rows(seeders_v4, leechers_v4, ordered_v4)?;
        let before_v6 = self.clone();
        let v6 = self.take_rows::<18>(seeders_v6, leechers_v6, ordered_v6)?;
        if v6.addresses.iter().any(|address| address.starts_with(&MAPPED_V4)) {
            return Err(before_v6.error("an IPv4 address is among the IPv6 addresses"));
        }
        Ok(TorrentEntry { info_hash, downloaded, unconfirmed, v4, v6 })
    }

    fn take_rows<const N: usize>(
        &mut self,
        seeders: usize,
        leechers: usize,
        ordered: bool,
    ) -> Result<EntryRows<'a, N>, EntryError> {
        let len = seeders + leechers;
        let (addresses, _) = self.take(len * N)?.as_chunks();
        let before_ages = self.clone();
        let ages = self.take(len)?;
        if ordered != ages.iter().any(|&age| age & SHARES_ADDRESS > 0) {
            return Err(before_ages.error("ages do not agree with the flag for orders"));
        }
        let before_orders = self.clone();
        let orders = self.take(if ordered { len.div_ceil(2) } else { 0 })?;
        let is_wrong = |at: usize| {
            nibble(orders, at) > 0 && ages.get(at).is_none_or(|age| age & SHARES_ADDRESS == 0)
        };
        if (0..orders.len() * 2).any(is_wrong) {
            return Err(before_orders.error("an order belongs to no peer that shares its address"));
        }
        Ok(EntryRows { seeders, addresses, ages, orders })
    }
}

/// The first bytes of an IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2).
const MAPPED_V4: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

impl<'a> Iterator for Entries<'a> {
    type Item = Result<TorrentEntry<'a>, EntryError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let entry = self.take_entry();
        if entry.is_err() {
            self.rest = &[];
        }
        Some(entry)
    }
}

impl<const N: usize> EntryRows<'_, N> {
    fn peer(&self, at: usize, address: impl Fn([u8; N]) -> CompactAddr) -> EntryPeer {
        let age = self.ages[at];
        EntryPeer {
            peer: address(self.addresses[at]),
            seeder: at < self.seeders,
            age_ticks: tick(age),
            order: (age & SHARES_ADDRESS > 0).then(|| nibble(self.orders, at)),
        }
    }
}

impl TorrentEntry<'_> {
    pub fn peer_count(&self) -> usize {
        self.v4.ages.len() + self.v6.ages.len()
    }

    /// The peer at `at`, which is below [`TorrentEntry::peer_count`].
    pub(super) fn peer(&self, at: usize) -> EntryPeer {
        match at.checked_sub(self.v4.ages.len()) {
            None => self.v4.peer(at, CompactAddr::V4),
            Some(at) => self.v6.peer(at, CompactAddr::V6),
        }
    }

    /// IPv4 peers, then IPv6 peers; of each the seeders first.
    pub fn peers(&self) -> impl Iterator<Item = EntryPeer> {
        (0..self.peer_count()).map(|at| self.peer(at))
    }
}
