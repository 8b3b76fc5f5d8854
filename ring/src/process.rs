//! Process-wide settings that a server needs from the kernel: signals as something to wait
//! for, and its resource limits.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
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
