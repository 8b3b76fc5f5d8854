//! A growable array in blocks of `K` elements. Growing allocates one block and moves nothing, so no
//! announce pays for the size of a table, and blocks of one size do not fragment the heap.

use std::ops::{Index, IndexMut};

use hashbrown::HashTable;

use super::prefetch::prefetch;

/// A value for the unused end of a block.
pub(super) trait ConstDefault {
    /// Owns nothing: making and dropping it is free.
    const DEFAULT: Self;
}

impl<const N: usize> ConstDefault for [u8; N] {
    const DEFAULT: Self = [0; N];
}

impl ConstDefault for u8 {
    const DEFAULT: Self = 0;
}

impl<T> ConstDefault for HashTable<T> {
    const DEFAULT: Self = HashTable::new();
}

/// At most one whole block is unused: it avoids freeing and allocating again when the length goes
/// back and forth over a block boundary.
#[derive(Debug)]
pub(super) struct ChunkedVec<T, const K: usize> {
    blocks: Vec<Box<[T; K]>>,
    len: usize,
}

impl<T: ConstDefault, const K: usize> ChunkedVec<T, K> {
    pub(super) const fn new() -> Self {
        ChunkedVec { blocks: Vec::new(), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, value: T) {
        if self.len == self.blocks.len() * K {
            self.blocks.push(Box::new([const { T::DEFAULT }; K]));
        }
        self.len += 1;
        let at = self.len - 1;
        self[at] = value;
    }

    /// # Panics
    /// If it is empty.
    pub(super) fn pop(&mut self) -> T {
        let last = self.len - 1;
        let value = std::mem::replace(&mut self[last], T::DEFAULT);
        self.len = last;
        let keep = if last == 0 { 0 } else { last.div_ceil(K) + 1 };
        if self.blocks.len() > keep {
            self.blocks.truncate(keep);
            if keep * 4 <= self.blocks.capacity() {
                self.blocks.shrink_to(keep * 2);
            }
        }
        value
    }

    /// Has the pointer fetched that leads to an element.
    pub(super) fn prefetch_block(&self, at: usize) {
        if let Some(block) = self.blocks.get(at / K) {
            prefetch(block);
        }
    }

    /// Has an element fetched.
    pub(super) fn prefetch(&self, at: usize) {
        if let Some(block) = self.blocks.get(at / K) {
            prefetch(&block[at % K]);
        }
    }

    /// Removes the element at `at`; the last one moves there.
    pub(super) fn swap_remove(&mut self, at: usize) -> T {
        let last = self.pop();
        if at == self.len { last } else { std::mem::replace(&mut self[at], last) }
    }

    /// The longest contiguous slice from `from` to at most `to`.
    pub(super) fn slice_from(&self, from: usize, to: usize) -> &[T] {
        debug_assert!(from <= to && to <= self.len);
        if from == to {
            return &[];
        }
        let (block, start) = (from / K, from % K);
        &self.blocks[block][start..K.min(start + (to - from))]
    }

    /// The longest contiguous slice that ends before `end`.
    pub(super) fn slice_before(&self, end: usize) -> &[T] {
        debug_assert!(end <= self.len);
        if end == 0 {
            return &[];
        }
        let (block, last) = ((end - 1) / K, (end - 1) % K);
        &self.blocks[block][..=last]
    }
}

impl<T, const K: usize> Index<usize> for ChunkedVec<T, K> {
    type Output = T;

    fn index(&self, at: usize) -> &T {
        debug_assert!(at < self.len);
        &self.blocks[at / K][at % K]
    }
}

impl<T, const K: usize> IndexMut<usize> for ChunkedVec<T, K> {
    fn index_mut(&mut self, at: usize) -> &mut T {
        debug_assert!(at < self.len);
        &mut self.blocks[at / K][at % K]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves_as_a_vec_over_every_block_boundary() {
        let mut chunked: ChunkedVec<u8, 4> = ChunkedVec::new();
        let mut vec: Vec<u8> = Vec::new();
        for step in 0..400_usize {
            // Growing waves of pushes and removals at the front, the middle and the end.
            if step % 40 < 25 {
                chunked.push(step as u8);
                vec.push(step as u8);
            } else {
                let at = step * 7 % vec.len();
                assert_eq!(chunked.swap_remove(at), vec.swap_remove(at));
            }
            assert_eq!(chunked.len(), vec.len());
            assert!(chunked.blocks.len() * 4 < vec.len() + 8, "more than one block unused");
            for from in 0..vec.len() {
                let slice_from = chunked.slice_from(from, vec.len());
                assert_eq!(slice_from, &vec[from..vec.len().min((from / 4 + 1) * 4)]);
                let before = chunked.slice_before(from + 1);
                assert_eq!(before, &vec[from / 4 * 4..from + 1]);
            }
        }
    }

    #[test]
    fn releases_its_memory() {
        let mut chunked: ChunkedVec<u8, 4> = ChunkedVec::new();
        (0..1000).for_each(|value| chunked.push(value as u8));
        (0..1000).rev().for_each(|value| assert_eq!(chunked.pop(), value as u8));
        assert_eq!(chunked.blocks.len(), 0);
        assert!(chunked.blocks.capacity() < 8);
    }
}
