//! Bytes that wait to be completed, or consumed.
//!
//! Bounds count [`BufferedBytes::allocated`], not the length, for that is what they cost. A growing
//! buffer allocates a quarter more than it needs at most, and consumed bytes are given back.

use std::mem;

/// Bytes allocated beyond twice the length that are not worth giving back.
const SLACK_BYTES: usize = 256;

/// The most bytes that are allocated for `len` buffered ones.
pub const fn allocated_max(len: usize) -> usize {
    // Half of it is in use, or it has just grown.
    2 * len + SLACK_BYTES
}

/// Bytes that are added at the end and consumed from the front.
#[derive(Default)]
pub struct BufferedBytes {
    /// The bytes are those at `start..end`.
    room: Box<[u8]>,
    start: u32,
    end: u32,
}

impl BufferedBytes {
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// If so, nothing is allocated.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub fn allocated(&self) -> usize {
        self.room.len()
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.room[self.start as usize..self.end as usize]
    }

    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.room[self.start as usize..self.end as usize]
    }

    pub fn extend(&mut self, bytes: &[u8]) {
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
    pub fn consume(&mut self, count: usize) {
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
