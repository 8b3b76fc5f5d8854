//! A file with a lease (fcntl(2)), which blocks other openers until it is released or
//! `/proc/sys/fs/lease-break-time` (45 seconds) has passed.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// From linux/fcntl.h.
const F_SETSIG: libc::c_int = 10;

/// A file that other processes cannot open until this is dropped.
pub(crate) struct Lease(File);

impl Lease {
    /// Takes a lease on a file, which must not be open elsewhere.
    pub(crate) fn of(path: &Path) -> Lease {
        let file = File::open(path).unwrap();
        // The holder is notified by SIGIO or by another signal; this one is ignored by default.
        for (command, argument) in [(F_SETSIG, libc::SIGWINCH), (libc::F_SETLEASE, libc::F_WRLCK)] {
            // SAFETY: both commands take a number.
            let done = unsafe { libc::fcntl(file.as_raw_fd(), command, argument) };
            assert_eq!(done, 0, "{}", io::Error::last_os_error());
        }
        Lease(file)
    }

    /// Whether a process waits to open the file.
    pub(crate) fn is_waited_for(&self) -> bool {
        // SAFETY: takes no pointers.
        let lease = unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_GETLEASE) };
        lease != libc::F_WRLCK
    }
}
