//! Process-wide settings that a server needs from the kernel: signals as something to wait
//! for, and its resource limits.
#![allow(unsafe_code)]

use std::fs::File;
use std::hint;
use std::io::{self, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::time::Duration;

use crate::sys::timespec;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: leave.
    Stop,
    /// SIGHUP or SIGUSR1: read the files again.
    Reload,
    /// SIGCHLD: a process that this one has split off has ended, or was stopped or continued.
    Child,
}

/// The signals of [`Signal`], blocked in every thread that is started afterwards.
#[derive(Debug)]
pub struct Signals {
    all: libc::sigset_t,
    stop: libc::sigset_t,
}

impl Signals {
    /// Blocks the signals in the calling thread: to be called before any other thread is
    /// started, so that none of them is interrupted.
    ///
    /// # Errors
    /// When the kernel refuses, which it has no reason to.
    pub fn block() -> io::Result<Signals> {
        // Where it was ignored by whoever started the program, nobody would be told of children.
        // SAFETY: takes no pointers, and sets no handler.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
        let set =
            set_of(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1, libc::SIGCHLD]);
        // SAFETY: the set is initialised, and the old one is not asked for.
        let failed =
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        match failed {
            0 => Ok(Signals { all: set, stop: set_of(&[libc::SIGTERM, libc::SIGINT]) }),
            failed => Err(io::Error::from_raw_os_error(failed)),
        }
    }

    /// Waits for the next signal, at most for `patience` if there is one. One to stop goes before
    /// all others, however many of these come.
    pub fn wait(&self, patience: Option<Duration>) -> Option<Signal> {
        let signal = next(&self.all, patience)?;
        let signal = next(&self.stop, Some(Duration::ZERO)).unwrap_or(signal);
        Some(match signal {
            libc::SIGTERM | libc::SIGINT => Signal::Stop,
            libc::SIGCHLD => Signal::Child,
            _ => Signal::Reload,
        })
    }
}

fn set_of(signals: &[libc::c_int]) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initialises the set that the other calls then use.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        let mut set = set.assume_init();
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        set
    }
}

/// Takes the next of these signals, if it comes in time.
fn next(set: &libc::sigset_t, patience: Option<Duration>) -> Option<libc::c_int> {
    let patience = patience.map(timespec);
    let timeout = patience.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: set and timeout are initialised and only read; no details are asked for.
    let signal = unsafe { libc::sigtimedwait(set, std::ptr::null_mut(), timeout) };
    // -1 when the time is over, and when the wait was interrupted, as by a debugger.
    (signal > 0).then_some(signal)
}

/// Whether a line written to standard error would be taken at once, now or within `patience`. A
/// pipe says so while it has room for 4096 bytes (PIPE_BUF, pipe(7)), a socket while it has some
/// to spare. What is closed or broken says so too: there a write fails without waiting.
pub fn stderr_takes_a_line(patience: Duration) -> bool {
    let mut stderr = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
    let patience_ms = libc::c_int::try_from(patience.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: it is one `pollfd`, live during the call.
    unsafe { libc::poll(&raw mut stderr, 1, patience_ms) != 0 }
}

/// Raises the soft limit of open descriptors to the hard one, and tells what it is then.
///
/// # Errors
/// When the limit cannot be read.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    raise(libc::RLIMIT_NOFILE)
}

/// Raises the soft limit of locked memory, which rings are charged to, to the hard one, and
/// tells what it is then, in bytes. Root, whose rings are not charged, loses both limits: once
/// it has given up its power, its rings are charged like anybody's.
///
/// # Errors
/// When the limit cannot be read.
pub fn raise_locked_memory_limit() -> io::Result<u64> {
    let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `unlimited` is only read.
    if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const unlimited) } == 0 {
        return Ok(libc::RLIM_INFINITY);
    }
    raise(libc::RLIMIT_MEMLOCK)
}

/// Has the calling thread, and those that it starts, run after others where processors are scarce:
/// 10 steps of nice(2), which leaves it a tenth of what another thread gets. It is no failure where
/// that is refused.
pub fn come_after_others() {
    const STEPS: libc::c_int = 10;
    // SAFETY: takes no pointers. On Linux it is about the calling thread alone.
    unsafe { libc::nice(STEPS) };
}

/// How many entries a directory has at this moment, `.` and `..` not included. It is read
/// through the descriptor, and so even where its path leads nowhere any more.
///
/// # Errors
/// When it is no directory.
pub fn entries(directory: &File) -> io::Result<u64> {
    // Behind an entry's inode and offset stands its length (getdents64(2)).
    const LENGTH_AT: usize = 16;
    let mut directory = directory;
    directory.seek(SeekFrom::Start(0))?;
    let mut buffer = [0u8; 4096];
    let mut count: u64 = 0;
    loop {
        // SAFETY: pointer and length describe `buffer`, writable for the call.
        let read = unsafe {
            libc::syscall(
                libc::SYS_getdents64,
                directory.as_raw_fd(),
                buffer.as_mut_ptr(),
                buffer.len(),
            )
        };
        let read = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
        if read == 0 {
            return Ok(count.saturating_sub(2));
        }
        let mut at = 0;
        while at < read {
            let length = [buffer[at + LENGTH_AT], buffer[at + LENGTH_AT + 1]];
            at += usize::from(u16::from_ne_bytes(length));
            count += 1;
        }
    }
}

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
    drop(hint::black_box(Vec::<u8>::with_capacity(UNCOMMON_BYTES)));
}

fn raise(resource: libc::__rlimit_resource_t) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for writes.
    if unsafe { libc::getrlimit(resource, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        // SAFETY: `raised` is only read.
        if unsafe { libc::setrlimit(resource, &raw const raised) } == 0 {
            limit = raised;
        }
    }
    Ok(limit.rlim_cur)
}
