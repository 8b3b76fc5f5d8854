//! How the C library's allocator is set up for tables that grow for hours and expire at once.
#![allow(unsafe_code)]

/// Has the allocator grow by whole megabytes, from one place, and keep what it has. To be
/// called before any thread is started.
///
/// glibc gives threads heaps of their own, which it extends by one page and one system call
/// at a time: a tracker's tables, which only grow for hours, would pay a call for every forty
/// peers. It can give memory back in one go, hundreds of megabytes after a mass expiry. And
/// it only puts small freed blocks aside (fast bins), to merge millions of them inside the
/// next large `free`: that was 131 ms in one turn of the loop while ten million peers expired,
/// and is 0.7 ms with the blocks merged one by one.
pub fn steady_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointers; no other thread is allocating yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TOP_PAD, 1 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
        libc::mallopt(libc::M_MXFAST, 0);
    }
}

/// Has the allocator sort what was freed since the last time, in a few cache misses a block. To
/// be called after each of many small steps that free much and allocate nothing.
///
/// glibc puts a freed block on a list, and sorts up to 10,000 of the list in the next allocation
/// that finds nothing ready: that was 2 to 3 ms in a turn of the loop when a swarm of millions
/// had expired.
pub fn sort_freed_memory() {
    // Too large for what glibc keeps ready by size, so the list is gone through.
    const UNCOMMON_BYTES: usize = 8 * 1024;
    #[cfg(target_env = "gnu")]
    drop(std::hint::black_box(Vec::<u8>::with_capacity(UNCOMMON_BYTES)));
}
