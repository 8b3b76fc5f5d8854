//! Bytes that wait to be completed, or consumed.
//!
//! Bounds count [`BufferedBytes::allocated`], not the length, for that is what they cost. A growing
//! buffer allocates a quarter more than it needs at most, and consumed bytes are given back.

use std::mem;

/// Bytes allocated beyond twice the length that are not worth giving back.
const SLACK_BYTES: usize = 256;

/// The most bytes that are allocated for `len` buffered ones.
pub(crate) const fn allocated_max(len: usize) -> usize {
    // Half of it is in use, or it has just grown.
    2 * len + SLACK_BYTES
}

/// Bytes that are added at the end and consumed from the front.
#[derive(Default)]
pub(crate) struct BufferedBytes {
    /// The bytes are those at `start..end`.
    room: Box<[u8]>,
    start: u32,
    end: u32,
}

impl BufferedBytes {
    pub(crate) fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// If so, nothing is allocated.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(crate) fn allocated(&self) -> usize {
        self.room.len()
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.room[self.start as usize..self.end as usize]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.room[self.start as usize..self.end as usize]
    }

    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        let len = self.len() + bytes.len();
        if self.room.len() - (self.end as usize) < bytes.len() {
            // Bytes are moved to the front only if that frees as much as it moves: many small
            // additions must not move the others again and again.
            if len <= self.room.len() && self.start as usize >= self.len() {
                self.room.copy_within(self.start as usize..self.end as usize, 0);
                self.end -= mem::take(&mut self.start);
            } else {
                let spare = if self.is_empty() { 0 } else { len / 4 };
                self.reallocate(len + spare);
            }
        }
        let end = self.end as usize + bytes.len();
        self.room[self.end as usize..end].copy_from_slice(bytes);
        self.end = end as u32;
    }

    /// Removes bytes from the front.
    pub(crate) fn consume(&mut self, count: usize) {
        assert!(count <= self.len());
        self.start += count as u32;
        if self.is_empty() {
            *self = BufferedBytes::default();
        } else if self.room.len() > allocated_max(self.len()) {
            self.reallocate(self.len());
        }
    }

    fn reallocate(&mut self, bytes: usize) {
        let mut room = vec![0; bytes].into_boxed_slice();
        let len = self.len();
        room[..len].copy_from_slice(self.as_slice());
        *self = BufferedBytes { room, start: 0, end: len as u32 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use annulus_swarm::Random;

    #[test]
    fn is_a_queue_of_bytes_that_allocates_little_more_than_their_length() {
        for seed in 0..200 {
            let mut random = Random::seeded(seed);
            let (mut buffered, mut model) = (BufferedBytes::default(), Vec::new());
            for _ in 0..300 {
                let most = [1, 10, 1000, 10_000][random.below(4) as usize];
                if random.below(2) == 0 {
                    let added: Vec<u8> =
                        (0..random.below(most)).map(|_| random.below(256) as u8).collect();
                    buffered.extend(&added);
                    model.extend(added);
                } else {
                    let count = (random.below(most) as usize).min(model.len());
                    buffered.consume(count);
                    model.drain(..count);
                }
                assert_eq!(buffered.as_slice(), model, "seed {seed}");
                assert_eq!(buffered.as_mut_slice(), model, "seed {seed}");
                assert_eq!(buffered.len(), model.len(), "seed {seed}");
                assert_eq!(buffered.is_empty(), model.is_empty(), "seed {seed}");
                let (allocated, len) = (buffered.allocated(), model.len());
                assert!(allocated >= len, "seed {seed}");
                assert!(allocated <= allocated_max(len), "seed {seed}: {allocated} for {len}");
                assert!(allocated == 0 || len > 0, "seed {seed}: {allocated} for none");
            }
        }
    }

    #[test]
    fn bytes_added_one_by_one_are_moved_rarely() {
        let (mut buffered, mut moves) = (BufferedBytes::default(), 0);
        for _ in 0..100_000 {
            let before = buffered.allocated();
            buffered.extend(&[0]);
            moves += u32::from(buffered.allocated() != before);
        }
        assert!(moves < 100, "moved {moves} times");
    }

    #[test]
    fn a_single_addition_allocates_its_length() {
        let mut buffered = BufferedBytes::default();
        buffered.extend(&[7; 5000]);
        assert_eq!(buffered.allocated(), 5000);
        buffered.consume(4999);
        assert_eq!((buffered.as_slice(), buffered.allocated()), (&[7][..], 1));
    }
}
