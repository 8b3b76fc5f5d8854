//! The index of [`IndexedPeers`](super::indexed_peers::IndexedPeers): from a hash to a row.
//!
//! A hash table that doubles would stall its worker for a second when a swarm of ten million grows.
//! This index consists of many small tables under linear hashing (Litwin, "Linear hashing: a new
//! tool for file and table addressing", VLDB 1980): when the mean load is exceeded, the next table
//! in turn gives half of its entries to a new one. At any size an insertion or removal moves a few
//! dozen entries at worst.

use hashbrown::HashTable;

use super::chunked_vec::ChunkedVec;

/// The mean number of entries above which a table is added. Less would cost memory in headers, more
/// would make the longest insertion longer.
const LOAD: usize = 32;

/// Which bits of a hash choose the table: hashbrown uses the lowest (ten in tables this small) and
/// the highest seven; these are between.
const TABLE_SHIFT: u32 = 16;

/// A placeholder while two entries swap their rows.
const NO_ROW: u32 = u32::MAX;

/// The caller computes the hashes, and can compute that of any row.
#[derive(Debug)]
pub(super) struct PeerIndex {
    tables: ChunkedVec<HashTable<u32>, 16>,
    len: usize,
}

impl PeerIndex {
    pub(super) fn new() -> Self {
        let mut tables = ChunkedVec::new();
        tables.push(HashTable::new());
        PeerIndex { tables, len: 0 }
    }

    pub(super) fn find(&self, hash: u64, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        let table = &self.tables[table_of(hash, self.tables.len())];
        table.find(hash, |&row| is_it(row as usize)).map(|&row| row as usize)
    }

    /// Visits all rows with this hash, and perhaps some with others.
    pub(super) fn visit(&self, hash: u64, visit: impl FnMut(usize)) {
        let table = &self.tables[table_of(hash, self.tables.len())];
        table.iter_hash(hash).map(|&row| row as usize).for_each(visit);
    }

    /// The first row with this hash, or perhaps with another.
    pub(super) fn first(&self, hash: u64) -> Option<usize> {
        let table = &self.tables[table_of(hash, self.tables.len())];
        table.iter_hash(hash).next().map(|&row| row as usize)
    }

    /// Has the table fetched that a search for this hash visits.
    pub(super) fn prefetch(&self, hash: u64) {
        self.tables.prefetch(table_of(hash, self.tables.len()));
    }

    /// Adds a row; `hash_of` gives the hash of any row in the index.
    pub(super) fn insert(&mut self, hash: u64, row: usize, hash_of: impl Fn(usize) -> u64) {
        let hash_of = |&row: &u32| hash_of(row as usize);
        let table = table_of(hash, self.tables.len());
        self.tables[table].insert_unique(hash, row as u32, hash_of);
        self.len += 1;
        if self.len > self.tables.len() * LOAD {
            let (source, added) = (split_source(self.tables.len()), self.tables.len());
            self.tables.push(HashTable::new());
            let mut moved = HashTable::new();
            let is_moving = |row: &mut u32| table_of(hash_of(row), added + 1) == added;
            for row in self.tables[source].extract_if(is_moving) {
                moved.insert_unique(hash_of(&row), row, hash_of);
            }
            self.tables[source].shrink_to(LOAD, hash_of);
            self.tables[added] = moved;
        }
    }

    /// Removes `row`, which is in the index with this hash.
    pub(super) fn remove(&mut self, hash: u64, row: usize, hash_of: impl Fn(usize) -> u64) {
        let table = table_of(hash, self.tables.len());
        let found = self.tables[table].find_entry(hash, |&known| known == row as u32);
        debug_assert!(found.is_ok(), "every row is in the index");
        if let Ok(entry) = found {
            entry.remove();
            self.len -= 1;
        }
        if self.tables.len() > 1 && self.len * 2 < self.tables.len() * LOAD {
            let hash_of = |&row: &u32| hash_of(row as usize);
            let last = self.tables.pop();
            let source = split_source(self.tables.len());
            for row in last {
                self.tables[source].insert_unique(hash_of(&row), row, hash_of);
            }
        }
    }

    /// The entry of row `from` is that of row `to` now.
    pub(super) fn renumber(&mut self, hash: u64, from: usize, to: usize) {
        self.replace(hash, from as u32, to as u32);
    }

    /// The entries of rows `a` and `b` swap their rows.
    pub(super) fn swap_rows(&mut self, (hash_a, a): (u64, usize), (hash_b, b): (u64, usize)) {
        // Without the placeholder, two entries could have one row and one hash for a moment.
        self.replace(hash_a, a as u32, NO_ROW);
        self.replace(hash_b, b as u32, a as u32);
        self.replace(hash_a, NO_ROW, b as u32);
    }

    fn replace(&mut self, hash: u64, from: u32, to: u32) {
        let table = table_of(hash, self.tables.len());
        let found = self.tables[table].find_mut(hash, |&row| row == from);
        debug_assert!(found.is_some(), "every row is in the index");
        if let Some(row) = found {
            *row = to;
        }
    }
}

/// The table for a hash: chosen by as many bits as number all tables, or one bit less if the table
/// of that number does not exist yet.
fn table_of(hash: u64, tables: usize) -> usize {
    let mask = tables.next_power_of_two() - 1;
    let table = (hash >> TABLE_SHIFT) as usize & mask;
    if table < tables { table } else { table & (mask >> 1) }
}

/// The table that is split to add one to `tables`; also the one into which the last of `tables` + 1
/// is merged.
fn split_source(tables: usize) -> usize {
    tables & ((tables + 1).next_power_of_two() / 2 - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_of(row: usize) -> u64 {
        (row as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
    }

    #[test]
    fn finds_every_row_while_it_grows_and_shrinks() {
        let mut index = PeerIndex::new();
        for row in 0..3000 {
            index.insert(hash_of(row), row, hash_of);
            if row % 97 == 0 {
                (0..=row).for_each(|r| assert_eq!(index.find(hash_of(r), |f| f == r), Some(r)));
            }
        }
        assert!(index.tables.len() >= 3000 / LOAD);
        for row in (0..3000).rev() {
            index.remove(hash_of(row), row, hash_of);
            assert_eq!(index.find(hash_of(row), |f| f == row), None);
            if row % 97 == 0 {
                (0..row).for_each(|r| assert_eq!(index.find(hash_of(r), |f| f == r), Some(r)));
            }
        }
        assert_eq!((index.len, index.tables.len()), (0, 1));
    }

    #[test]
    fn no_table_is_much_fuller_than_the_mean() {
        let mut index = PeerIndex::new();
        for row in 0..50_000 {
            index.insert(hash_of(row), row, hash_of);
        }
        let fullest = (0..index.tables.len()).map(|t| index.tables[t].len()).max();
        assert!(fullest < Some(4 * LOAD), "{fullest:?}");
    }

    #[test]
    fn rows_of_one_hash_can_be_exchanged_and_renumbered() {
        let mut index = PeerIndex::new();
        for row in [1, 2, 3] {
            index.insert(7, row, |_| 7);
        }
        index.swap_rows((7, 1), (7, 3));
        index.renumber(7, 2, 9);
        let mut rows: Vec<u32> = index.tables[0].iter().copied().collect();
        rows.sort_unstable();
        assert_eq!(rows, [1, 3, 9]);
    }

    #[test]
    fn a_split_moves_entries_to_the_new_table_only() {
        for tables in 1..70 {
            for hash in (0..5000).map(hash_of) {
                let (before, after) = (table_of(hash, tables), table_of(hash, tables + 1));
                assert!(after == before || (after == tables && before == split_source(tables)));
            }
        }
    }
}
