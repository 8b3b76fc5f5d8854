//! Receive buffers that the kernel takes from when bytes arrive (a provided-buffer ring, 5.19).
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use io_uring::{Submitter, cqueue};

use crate::buffers::{Pool, RecvBuf, Region};

/// A pool, and the ring by which its buffers get to the kernel.
pub(super) struct ProvidedBuffers {
    pool: Rc<Pool>,
    /// `pool.count()` entries; the ring's tail is inside the first.
    ring: Region,
    tail: u16,
    /// Buffers that the kernel has.
    count: usize,
    /// How many it is to have: few at first, so that the same ones stay in the cache, and twice as
    /// many whenever they run out.
    target: usize,
}

impl ProvidedBuffers {
    /// The number of buffers must be a power of two.
    pub(super) fn new(pool: Rc<Pool>, target: usize) -> io::Result<ProvidedBuffers> {
        let ring = Region::new(usize::from(pool.count()) * mem::size_of::<BufRingEntry>())?;
        Ok(ProvidedBuffers { pool, ring, tail: 0, count: 0, target })
    }

    /// Makes the buffers known to the kernel as `group`.
    ///
    /// # Safety
    /// The memory must outlive the ring, or be leaked.
    pub(super) unsafe fn register(&self, submitter: &Submitter, group: u16) -> io::Result<()> {
        let (address, count) = (self.ring.as_ptr() as u64, self.pool.count());
        // SAFETY: page aligned, `count` entries long, zeroed; its lifetime is up to the caller.
        unsafe { submitter.register_buf_ring_with_flags(address, count, group, 0) }
    }

    pub(super) fn pool(&self) -> &Rc<Pool> {
        &self.pool
    }

    /// Gives the kernel as many buffers as it is to have, or as are free.
    pub(super) fn provide(&mut self) {
        let missing = self.target.saturating_sub(self.count);
        let base = self.ring.as_ptr().cast::<BufRingEntry>();
        let mask = self.pool.count() - 1;
        let size = self.pool.size();
        let mut tail = self.tail;
        self.pool.provide(missing, |id, address| {
            // SAFETY: the index is masked to the ring's length. Entries from the published
            // tail on belong to us until the tail passes them. The tail field shares the
            // first entry but not the three fields written here.
            let entry = unsafe { &mut *base.add(usize::from(tail & mask)) };
            entry.set_addr(address as u64);
            entry.set_len(size);
            entry.set_bid(id);
            tail = tail.wrapping_add(1);
        });
        if tail != self.tail {
            self.count += usize::from(tail.wrapping_sub(self.tail));
            self.tail = tail;
            // SAFETY: `base` is the registered ring's first entry; its tail field is a
            // valid, aligned u16 that the kernel reads with acquire.
            unsafe {
                let published = BufRingEntry::tail(base).cast_mut();
                AtomicU16::from_ptr(published).store(tail, Ordering::Release);
            }
        }
    }

    /// The buffer that a completion returns, if any: `result` bytes of it are filled.
    ///
    /// # Safety
    /// To be called once with a completion of a receive from this group.
    pub(super) unsafe fn take_back(&mut self, result: i32, flags: u32) -> Option<RecvBuf> {
        let id = cqueue::buffer_select(flags)?;
        self.count -= 1;
        // SAFETY: the kernel names the provided buffer that this completion returns.
        Some(unsafe { self.pool.take_back(id, u32::try_from(result).unwrap_or(0)) })
    }

    /// The kernel is to have so many buffers from now on. What it has beyond that stays there until
    /// it is used.
    pub(super) fn set_target(&mut self, target: usize) {
        self.target = target;
    }

    /// The kernel has run out of buffers: it is to have more from now on.
    pub(super) fn grow(&mut self) {
        self.target = usize::from(self.pool.count()).min(2 * self.target);
    }

    /// Whether a receive would find a buffer, after [`ProvidedBuffers::provide`].
    pub(super) fn is_exhausted(&self) -> bool {
        self.count == 0 && self.pool.free() == 0
    }
}
