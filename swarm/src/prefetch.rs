//! Fetching memory before it is needed: while one cache miss lasts, a processor can wait for dozens
//! of others.
#![allow(unsafe_code, reason = "the instructions that prefetch are unsafe functions; see below")]

/// Processors fetch lines of so many bytes, or more.
const LINE_BYTES: usize = 64;

/// Has the memory of `value` fetched into the cache, soon and without waiting for it. A hint that
/// changes nothing else; on processors other than x86-64 and AArch64 it does nothing.
pub(super) fn prefetch<T: ?Sized>(value: &T) {
    let (first, len) = (std::ptr::from_ref(value).cast::<u8>(), size_of_val(value));
    // To the line's begin first, so that a value that straddles two lines counts for both.
    let offset = first.addr() % LINE_BYTES;
    for at in (0..offset + len).step_by(LINE_BYTES) {
        prefetch_line(first.wrapping_sub(offset).wrapping_add(at));
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn prefetch_line(at: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: SSE, which has this instruction, is part of x86-64. It may be given any address, and
    // neither faults nor changes what a program can observe.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn prefetch_line(at: *const u8) {
    // SAFETY: The instruction may be given any address, and neither faults nor changes memory,
    // registers or flags.
    unsafe {
        std::arch::asm!(
            "prfm pldl1keep, [{at}]",
            at = in(reg) at,
            options(nostack, preserves_flags, readonly)
        );
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline(always)]
fn prefetch_line(_at: *const u8) {}
