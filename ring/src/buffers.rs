//! The memory that the kernel reads or writes for connections.
//!
//! A [`Pool`] is one mapping cut into equal receive buffers. Each buffer has exactly one owner: the
//! kernel (through the provided-buffer ring), the pool's free list, or a [`RecvBuf`], which returns
//! it when dropped. [`Region`] is a plain mapping, for the send arena and the provided-buffer ring.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;

/// Zeroed, page-aligned memory from `mmap(2)` at a fixed address.
pub(crate) struct Region {
    start: NonNull<u8>,
    bytes: usize,
}

impl Region {
    pub(crate) fn new(bytes: usize) -> io::Result<Region> {
        // SAFETY: a fresh anonymous mapping touches no existing memory.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Region { start, bytes })
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The bytes from `from` to the end.
    pub(crate) fn slice_mut(&mut self, from: usize) -> &mut [u8] {
        assert!(from <= self.bytes);
        // SAFETY: the mapping is `bytes` long, initialised (zeroed) and borrowed mutably
        // through `self`. The kernel only ever reads an arena, and only during `enter`.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().add(from), self.bytes - from) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: this mapping was made by `new` with this length; nobody borrows it now.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// Receive buffers of one engine. `!Send`: a pool belongs to its worker's thread.
pub struct Pool {
    memory: Region,
    size: u32,
    count: u16,
    /// Buffers that neither the kernel nor a [`RecvBuf`] owns.
    free: RefCell<Vec<u16>>,
}

impl Pool {
    /// # Errors
    /// The memory cannot be mapped.
    pub fn new(count: u16, size: u32) -> io::Result<Rc<Pool>> {
        let memory = Region::new(usize::from(count) * size as usize)?;
        let free = RefCell::new((0..count).rev().collect());
        Ok(Rc::new(Pool { memory, size, count, free }))
    }

    /// Takes a free buffer, `size` bytes long.
    pub fn take(self: &Rc<Pool>) -> Option<RecvBuf> {
        let id = self.free.borrow_mut().pop()?;
        Some(RecvBuf { pool: Rc::clone(self), id, len: self.size })
    }

    /// The number of free buffers.
    pub fn free(&self) -> usize {
        self.free.borrow().len()
    }

    /// The number of all buffers.
    pub fn count(&self) -> u16 {
        self.count
    }

    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// Gives up to `most` free buffers to the kernel, by number and address: first those that were
    /// returned last, which are still in the cache.
    pub(crate) fn provide(&self, most: usize, mut provide: impl FnMut(u16, *mut u8)) {
        let mut free = self.free.borrow_mut();
        let from = free.len().saturating_sub(most);
        for id in free.drain(from..).rev() {
            provide(id, self.address(id));
        }
    }

    /// Takes a buffer back from the kernel, which wrote `len` bytes.
    ///
    /// # Safety
    /// The buffer must have been given by [`Pool::provide`] and be returned by exactly one
    /// completion, this one.
    pub(crate) unsafe fn take_back(self: &Rc<Pool>, id: u16, len: u32) -> RecvBuf {
        debug_assert!(id < self.count && len <= self.size);
        RecvBuf { pool: Rc::clone(self), id, len: len.min(self.size) }
    }

    fn address(&self, id: u16) -> *mut u8 {
        debug_assert!(id < self.count);
        // SAFETY: `id` is below `count`, so the offset lies within the mapping.
        unsafe { self.memory.as_ptr().add(usize::from(id) * self.size as usize) }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool of {} x {} bytes, {} free", self.count, self.size, self.free())
    }
}

/// Received bytes in a buffer that returns to its pool when dropped.
pub struct RecvBuf {
    pool: Rc<Pool>,
    id: u16,
    len: u32,
}

impl RecvBuf {
    /// Shortens the buffer to `len` bytes; never lengthens it.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(u32::try_from(len).unwrap_or(u32::MAX));
    }

    /// Whether the bytes fill the buffer: more may wait in the socket.
    pub fn is_full(&self) -> bool {
        self.len == self.pool.size
    }
}

impl Deref for RecvBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: this value is the only owner of the buffer (see the module), `len` is at most its
        // size, and the mapping was zeroed, so all of it is initialised.
        unsafe { std::slice::from_raw_parts(self.pool.address(self.id), self.len as usize) }
    }
}

impl DerefMut for RecvBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.pool.address(self.id), self.len as usize) }
    }
}

impl Drop for RecvBuf {
    fn drop(&mut self) {
        self.pool.free.borrow_mut().push(self.id);
    }
}

impl fmt::Debug for RecvBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecvBuf {} of {} bytes", self.id, self.len)
    }
}

/// A send whose bytes outlive the call that queues it.
pub(crate) struct OwnedSend {
    bytes: Box<[u8]>,
    sent: usize,
}

impl OwnedSend {
    pub(crate) fn new(bytes: Box<[u8]>) -> OwnedSend {
        OwnedSend { bytes, sent: 0 }
    }

    /// The bytes that are still to be sent.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Records that so many more bytes were sent; returns whether that was the last of them.
    pub(crate) fn advance(&mut self, sent: usize) -> bool {
        self.sent += sent;
        self.sent == self.bytes.len()
    }
}
