//! A file that whoever opens it has to wait for: a lease (fcntl(2)) holds back everybody else
//! until it is given up, or `/proc/sys/fs/lease-break-time` is over, which is 45 seconds.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Of linux/fcntl.h.
const F_SETSIG: libc::c_int = 10;

/// A file that nobody else can open while this is there.
pub(crate) struct Lease(File);

impl Lease {
    /// Holds a file that nobody has open.
    pub(crate) fn of(path: &Path) -> Lease {
        let file = File::open(path).unwrap();
        // Who is waited for is told by SIGIO, unless by another signal; this one does nothing.
        for (command, argument) in [(F_SETSIG, libc::SIGWINCH), (libc::F_SETLEASE, libc::F_WRLCK)] {
            // SAFETY: both commands take a number.
            let done = unsafe { libc::fcntl(file.as_raw_fd(), command, argument) };
            assert_eq!(done, 0, "{}", io::Error::last_os_error());
        }
        Lease(file)
    }

    /// Whether somebody waits to open the file.
    pub(crate) fn is_waited_for(&self) -> bool {
        // SAFETY: takes no pointers.
        let lease = unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_GETLEASE) };
        lease != libc::F_WRLCK
    }
}
