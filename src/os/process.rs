//! Limits and priorities of this process, and what the kernel tells of it.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::RawDir;
use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};

/// Raises the soft limit of open descriptors to the hard one. Returns the limit that holds then.
pub(crate) fn raise_descriptor_limit() -> u64 {
    let limit = raise(Resource::Nofile);
    limit.current.unwrap_or(u64::MAX)
}

/// Raises the soft limit of locked memory, which rings are charged to, to the hard one. Root is not
/// charged, but is so after it has dropped its privileges: it removes both limits.
pub(crate) fn raise_locked_memory_limit() {
    let unlimited = Rlimit { current: None, maximum: None };
    if setrlimit(Resource::Memlock, unlimited).is_err() {
        raise(Resource::Memlock);
    }
}

fn raise(resource: Resource) -> Rlimit {
    let limit = getrlimit(resource);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if setrlimit(resource, raised).is_ok() { raised } else { limit }
}

/// Gives the calling thread, and those that it starts, a tenth of the processor time of other
/// threads where it is scarce: 10 steps of nice(2). A refusal is no failure.
pub(crate) fn lower_priority() {
    lower_priority_by(10);
}

/// The same with so many steps of nice(2), each of which takes a fifth of the rest.
pub(crate) fn lower_priority_by(steps: i32) {
    let _ = nice(steps);
}

/// The number of entries of a directory, `.` and `..` not included. It is read through the
/// descriptor: its path may be out of reach.
pub(crate) fn count_dir_entries(mut directory: &File) -> io::Result<u64> {
    directory.seek(SeekFrom::Start(0))?;
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(directory, &mut buffer);
    let mut count: u64 = 0;
    while let Some(entry) = entries.next() {
        entry?;
        count += 1;
    }
    Ok(count.saturating_sub(2))
}

/// Whether standard error accepts a line without blocking, now or within `timeout`. A pipe is
/// writable while it has room for 4096 bytes (PIPE_BUF, pipe(7)). A closed or broken one is
/// writable too: the write fails without waiting.
pub(crate) fn stderr_writable(timeout: Duration) -> bool {
    let stderr = io::stderr();
    let mut descriptors = [PollFd::new(&stderr, PollFlags::OUT)];
    poll(&mut descriptors, Timespec::try_from(timeout).ok().as_ref()) != Ok(0)
}
