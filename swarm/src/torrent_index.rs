//! The index of a shard: from 16 bits of a torrent's hash to its row.
//!
//! One array under linear probing (Knuth, "The Art of Computer Programming", volume 3, section
//! 6.4), four bytes a slot. An entry has all bits that the index needs, so it grows and shrinks
//! without visiting a torrent or computing a hash, and a look-up rarely visits a wrong torrent.

use super::prefetch::prefetch;

/// The least slots that are allocated.
const SLOTS_MIN: usize = 4;

/// Hashes have 16 bits, and the home slot of each is in proportion.
const SLOTS_MAX: usize = 0x1_0000;

/// Entries of an index of so many slots: one slot in eight stays empty, so that every search ends.
const fn capacity(slots: usize) -> usize {
    slots - slots.div_ceil(8)
}

/// The most entries of an index.
pub(super) const ENTRIES_MAX: usize = capacity(SLOTS_MAX);

/// A torrent's row and 16 bits of its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    /// At least [`ENTRIES_MAX`] if the slot is empty.
    row: u16,
    hash: u16,
}

impl Slot {
    const EMPTY: Slot = Slot { row: u16::MAX, hash: u16::MAX };

    fn is_empty(self) -> bool {
        self.row == u16::MAX
    }
}

/// Rows by hash; several may have the same. Rows are below [`ENTRIES_MAX`].
#[derive(Debug, Default)]
pub(super) struct TorrentIndex {
    /// None, or a power of two.
    slots: Box<[Slot]>,
    len: u32,
}

impl TorrentIndex {
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) fn capacity(&self) -> usize {
        capacity(self.slots.len())
    }

    /// The first row with this hash for which `is_it` is true.
    pub(super) fn find(&self, hash: u16, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        self.position(hash, is_it).map(|at| usize::from(self.slots[at].row))
    }

    /// Adds a row that is not in the index, which has fewer than [`ENTRIES_MAX`].
    pub(super) fn insert(&mut self, hash: u16, row: usize) {
        debug_assert!(row < ENTRIES_MAX && self.len() < ENTRIES_MAX);
        if self.len() == self.capacity() {
            self.resize((self.slots.len() * 2).max(SLOTS_MIN));
        }
        self.place(Slot { row: row as u16, hash });
        self.len += 1;
    }

    /// Removes a row that is in the index with this hash.
    pub(super) fn remove(&mut self, hash: u16, row: usize) {
        let Some(mut hole) = self.position(hash, |known| known == row) else {
            debug_assert!(false, "every row is in the index");
            return;
        };
        // What lies behind the hole moves into it, unless it would come before its home.
        let mask = self.slots.len() - 1;
        let mut at = (hole + 1) & mask;
        while !self.slots[at].is_empty() {
            let from_home = at.wrapping_sub(self.home(self.slots[at].hash)) & mask;
            if from_home >= at.wrapping_sub(hole) & mask {
                self.slots[hole] = self.slots[at];
                hole = at;
            }
            at = (at + 1) & mask;
        }
        self.slots[hole] = Slot::EMPTY;
        self.len -= 1;
    }

    /// The entry of row `from` is that of row `to` now.
    pub(super) fn renumber(&mut self, hash: u16, from: usize, to: usize) {
        let found = self.position(hash, |known| known == from);
        debug_assert!(found.is_some(), "every row is in the index");
        if let Some(at) = found {
            self.slots[at].row = to as u16;
        }
    }

    /// Releases memory if three quarters of it are unused.
    pub(super) fn shrink(&mut self) {
        if self.len() * 4 > self.capacity() {
            return;
        }
        let mut slots = if self.len == 0 { 0 } else { SLOTS_MIN };
        while capacity(slots) < self.len() * 2 {
            slots *= 2;
        }
        if slots < self.slots.len() {
            self.resize(slots);
        }
    }

    /// Has the memory fetched that a search for this hash begins with.
    pub(super) fn prefetch(&self, hash: u16) {
        if let Some(slot) = self.slots.get(self.home(hash)) {
            prefetch(slot);
        }
    }

    /// Where a search for this hash begins. In proportion to the hash: when the index is resized,
    /// both arrays are passed in order.
    fn home(&self, hash: u16) -> usize {
        usize::from(hash) * self.slots.len() / SLOTS_MAX
    }

    /// The first slot with this hash and a row for which `is_it` is true.
    fn position(&self, hash: u16, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = self.home(hash);
        loop {
            let slot = self.slots[at & mask];
            if slot.is_empty() {
                return None;
            }
            if slot.hash == hash && is_it(usize::from(slot.row)) {
                return Some(at & mask);
            }
            at += 1;
        }
    }

    /// Puts an entry into the first empty slot from its home on.
    fn place(&mut self, entry: Slot) {
        let mask = self.slots.len() - 1;
        let mut at = self.home(entry.hash);
        while !self.slots[at & mask].is_empty() {
            at += 1;
        }
        self.slots[at & mask] = entry;
    }

    /// Moves all entries to a new array, which has room for them.
    fn resize(&mut self, slots: usize) {
        debug_assert!(slots <= SLOTS_MAX && capacity(slots) >= self.len());
        let empty = vec![Slot::EMPTY; slots].into_boxed_slice();
        let old = std::mem::replace(&mut self.slots, empty);
        old.into_iter().filter(|slot| !slot.is_empty()).for_each(|slot| self.place(slot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    /// All entries, each found by its hash.
    fn entries(index: &TorrentIndex) -> Vec<(u16, usize)> {
        let filled = index.slots.iter().filter(|slot| !slot.is_empty());
        let mut all: Vec<(u16, usize)> =
            filled.map(|slot| (slot.hash, usize::from(slot.row))).collect();
        for &(hash, row) in &all {
            assert_eq!(index.find(hash, |known| known == row), Some(row));
        }
        assert_eq!(all.len(), index.len());
        all.sort_unstable();
        all
    }

    /// Entries come and go at random; the hashes are drawn by `hash`.
    fn follows_the_model(most: usize, mut hash: impl FnMut(&mut Random) -> u16) {
        let mut random = Random::seeded(most as u64);
        let mut index = TorrentIndex::default();
        let mut model: Vec<(u16, usize)> = Vec::new();
        for step in 0..4000 {
            let grows = step % 1000 < 600;
            if grows && model.len() < most {
                let hash = hash(&mut random);
                index.insert(hash, model.len());
                model.push((hash, model.len()));
            } else if let Some((last_hash, last)) = model.pop() {
                // As a shard removes: the last row moves to the one that is removed.
                let at = random.below(model.len() as u32 + 1) as usize;
                let removed = model.get(at).map_or(last_hash, |entry| entry.0);
                index.remove(removed, at);
                if at < last {
                    index.renumber(last_hash, last, at);
                    model[at] = (last_hash, at);
                }
            }
            if step % 100 == 99 {
                index.shrink();
            }
            let mut sorted = model.clone();
            sorted.sort_unstable();
            assert_eq!(entries(&index), sorted, "step {step}");
            assert!(index.len() <= index.capacity());
        }
    }

    #[test]
    fn follows_the_model_whatever_the_hashes_are() {
        for most in [1, 3, 4, 7, 60, 300] {
            follows_the_model(most, |random| random.below(0x1_0000) as u16);
            // All collide; all collide at the end of the array, from where searches wrap around;
            // a few chains that run into each other.
            follows_the_model(most.min(60), |_| 7);
            follows_the_model(most.min(60), |random| 0xffff - random.below(3) as u16);
            follows_the_model(most.min(60), |random| (random.below(9) * 0x400 + 0xe000) as u16);
        }
    }

    #[test]
    fn an_absent_hash_is_not_found() {
        let mut index = TorrentIndex::default();
        assert_eq!(index.find(1, |_| true), None);
        (0..1000).for_each(|row| index.insert(row as u16 * 64, row));
        assert_eq!(index.find(64, |_| true), Some(1));
        assert_eq!(index.find(65, |_| true), None);
        assert_eq!(index.find(64, |_| false), None);
    }

    #[test]
    fn takes_the_most_entries_and_no_more_memory_than_for_them() {
        let mut index = TorrentIndex::default();
        let mut random = Random::seeded(1);
        let hashes: Vec<u16> = (0..ENTRIES_MAX).map(|_| random.below(0x1_0000) as u16).collect();
        for (row, &hash) in hashes.iter().enumerate() {
            index.insert(hash, row);
            assert!(index.len() * 16 >= index.slots.len() * 7 || index.len() < SLOTS_MIN);
        }
        assert_eq!((index.capacity(), index.slots.len()), (ENTRIES_MAX, SLOTS_MAX));
        assert_eq!(entries(&index).len(), ENTRIES_MAX);
        for (row, &hash) in hashes.iter().enumerate() {
            index.remove(hash, row);
        }
        assert_eq!((index.len(), index.slots.iter().all(|slot| slot.is_empty())), (0, true));
        index.shrink();
        assert_eq!(index.slots.len(), 0);
    }
}
