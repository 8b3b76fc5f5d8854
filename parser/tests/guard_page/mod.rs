//! Memory that ends where reading on would kill the test.

use std::ptr::null_mut;
use std::slice::from_raw_parts_mut;

/// Some pages, and behind them one that cannot be read.
pub(crate) struct GuardPage {
    start: *mut u8,
    /// Bytes that can be used.
    usable: usize,
    page: usize,
}

impl GuardPage {
    /// Room for `capacity` bytes.
    pub(crate) fn new(capacity: usize) -> GuardPage {
        // SAFETY: asks for a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let usable = capacity.next_multiple_of(page).max(page);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, at an address of the kernel's choice, touches no other.
        let start = unsafe { libc::mmap(null_mut(), usable + page, access, flags, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        let start = start.cast::<u8>();
        // SAFETY: the last page of the mapping just made, which nothing refers to.
        let denied = unsafe { libc::mprotect(start.add(usable).cast(), page, libc::PROT_NONE) };
        assert_eq!(denied, 0);
        GuardPage { start, usable, page }
    }

    /// A copy of `bytes` that ends where the unreadable page begins.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> &[u8] {
        let before = self.usable.checked_sub(bytes.len()).unwrap();
        // SAFETY: lies within the usable pages, which are readable, writable, initialised by
        // the kernel, and borrowed through `self` alone.
        let place = unsafe { from_raw_parts_mut(self.start.add(before), bytes.len()) };
        place.copy_from_slice(bytes);
        place
    }
}

impl Drop for GuardPage {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`; every borrow of it has ended with that of `self`.
        let unmapped = unsafe { libc::munmap(self.start.cast(), self.usable + self.page) };
        assert_eq!(unmapped, 0);
    }
}
