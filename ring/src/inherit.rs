//! Descriptors that the program was started with.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Standard input, output and error are below.
const FIRST: RawFd = 3;

/// Takes `fd`, a descriptor that the program was started with, and has it closed on exec.
///
/// # Errors
/// It is not open, or the program was not started with it. A descriptor that is inherited has no
/// close-on-exec mark, and everything that this process opens or takes has one.
pub fn take_inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    if fd < FIRST || flags & libc::FD_CLOEXEC != 0 {
        return Err(io::Error::other("it is in use by the program itself"));
    }
    close_on_exec(fd);
    // SAFETY: open, and inherited, as its missing mark shows: nothing in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Marks all other descriptors that the program was started with, but the standard ones, so that a
/// program that this one executes gets none of them.
///
/// # Errors
/// There is no /proc.
pub fn close_inherited_on_exec() -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let fd = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        fd.into_iter().filter(|fd| *fd >= FIRST).for_each(close_on_exec);
    }
    Ok(())
}

/// Does nothing to a descriptor that is not open.
fn close_on_exec(fd: RawFd) {
    // SAFETY: takes no pointers, and changes nothing but the mark.
    unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
}
