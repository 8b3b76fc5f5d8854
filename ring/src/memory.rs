//! The allocator of the programs, jemalloc. `.cargo/config.toml` has its options, with reasons.
#![allow(unsafe_code)]

use std::io;
use std::ptr;

pub use tikv_jemallocator::Jemalloc;

/// Starts the thread that gives freed memory back to the kernel. Without it, an allocation does
/// that now and then, in the middle of a turn of the loop.
///
/// To be called when the process has dropped its privileges, which needs a process of one thread.
///
/// # Errors
/// The thread cannot be started.
pub fn start_memory_thread() -> io::Result<()> {
    let mut enabled = true;
    // SAFETY: the name ends with a zero byte, the new value is a `bool` of the given size as
    // jemalloc(3) demands, and the old value is not asked for.
    let error = unsafe {
        tikv_jemalloc_sys::mallctl(
            c"background_thread".as_ptr(),
            ptr::null_mut(),
            ptr::null_mut(),
            (&raw mut enabled).cast(),
            size_of::<bool>(),
        )
    };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}
