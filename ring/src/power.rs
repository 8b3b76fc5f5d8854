//! Giving up power for good, and splitting off a process that keeps a little of it.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io;
use std::os::fd::IntoRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::ExitStatus;
use std::ptr;
use std::sync::{Mutex, PoisonError};

use crate::channel::Channel;

// Of linux/capability.h, as bits of a set.
const CAP_DAC_OVERRIDE: u64 = 1 << 1;
const CAP_DAC_READ_SEARCH: u64 = 1 << 2;
const CAP_SETGID: u64 = 1 << 6;
const CAP_SETUID: u64 = 1 << 7;
/// The layout that has 64 bits for each set, in two halves.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Whom a process acts for, by numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// Its user.
    pub user: u32,
    /// Its group, and the only one.
    pub group: u32,
}

/// Whether [`give_up_power`] can make this process another user's.
pub fn may_change_user() -> bool {
    let needed = CAP_SETUID | CAP_SETGID;
    capabilities().is_ok_and(|sets| sets.effective() & needed == needed)
}

/// Whether the rights of the file at `path` allow this process to read it; what Landlock has
/// to say is not asked.
pub fn may_read(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: `path` ends with a NUL and outlives the call.
    unsafe { libc::access(path.as_ptr(), libc::R_OK) == 0 }
}

/// Takes all power from this process: its user and group, if `ids` are given; every
/// capability, but, if it `reads`, the one to read any file, where it has that; and the way
/// to new ones by executing programs. Then makes sure that none of it can be had again.
///
/// To be called before any thread is started.
///
/// # Errors
/// There is another thread, or the kernel refuses, or power could be had again. The process
/// may have some of its power left and must not go on.
pub fn give_up_power(ids: Option<Ids>, reads: bool) -> io::Result<()> {
    alone()?;
    let held = capabilities().map_err(|error| about("capget", &error))?.permitted();
    let kept = match held {
        _ if !reads => 0,
        held if held & CAP_DAC_READ_SEARCH != 0 => CAP_DAC_READ_SEARCH,
        // Containers have only this one, and with it could also write.
        held => held & CAP_DAC_OVERRIDE,
    };
    for capability in 0..64 {
        // Ends at the first that the kernel does not know. Without CAP_SETPCAP nothing can be
        // taken from this set, which then only bounds what "no new privileges" rules out.
        if prctl(libc::PR_CAPBSET_DROP, capability).is_err() {
            break;
        }
    }
    if let Some(Ids { user, group }) = ids {
        // Permitted capabilities outlive the change; they are set below.
        step("PR_SET_KEEPCAPS", prctl(libc::PR_SET_KEEPCAPS, 1))?;
        // SAFETY: no list is passed, and the other calls take no pointers.
        unsafe {
            step("setgroups", zero(libc::setgroups(0, ptr::null())))?;
            step("setresgid", zero(libc::setresgid(group, group, group)))?;
            step("setresuid", zero(libc::setresuid(user, user, user)))?;
        }
        step("PR_SET_KEEPCAPS", prctl(libc::PR_SET_KEEPCAPS, 0))?;
    }
    // Where there was none, a filter of system calls may have ruled this one out.
    if held != 0 {
        step("capset", set_capabilities(kept))?;
    }
    step("PR_SET_NO_NEW_PRIVS", prctl(libc::PR_SET_NO_NEW_PRIVS, 1))?;
    verify(ids, kept)
}

/// Fails if this process has, or can get, more than it was left.
fn verify(ids: Option<Ids>, kept: u64) -> io::Result<()> {
    let sets = capabilities().map_err(|error| about("capget", &error))?;
    if sets.permitted() != kept || sets.effective() != kept {
        return Err(io::Error::other("capabilities are left"));
    }
    let Some(Ids { user, group }) = ids else { return Ok(()) };
    // SAFETY: takes no pointers.
    let groups = unsafe { libc::getgroups(0, ptr::null_mut()) };
    if groups != 0 {
        return Err(io::Error::other("groups are left"));
    }
    let (mut users, mut its_groups) = ([0; 3], [0; 3]);
    // SAFETY: each pointer is valid for one number.
    unsafe {
        let [real, effective, saved] = users.each_mut();
        libc::getresuid(real, effective, saved);
        let [real, effective, saved] = its_groups.each_mut();
        libc::getresgid(real, effective, saved);
    }
    if (users, its_groups) != ([user; 3], [group; 3]) {
        return Err(io::Error::other("the user or the group is another"));
    }
    // SAFETY: takes no pointers.
    if unsafe { libc::setuid(0) } == 0 {
        return Err(io::Error::other("it could become root again"));
    }
    Ok(())
}

/// A process that was split off.
#[derive(Debug)]
pub struct Attendant {
    pid: libc::pid_t,
    /// The kernel tells it once.
    status: Mutex<Option<ExitStatus>>,
}

impl Attendant {
    /// How it has ended, if it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        let mut known = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            let mut status = 0;
            // SAFETY: `status` is valid for writes.
            let ended = unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG) };
            *known = (ended == self.pid).then(|| ExitStatus::from_raw(status));
        }
        *known
    }
}

/// Splits off a process that does `work` and ends with it: which should be when its channel
/// does, so that it ends with this one. It is called `name` (15 bytes at most), has its end of
/// a channel and no other descriptor, none of standard error either, and the signals blocked
/// that are blocked here.
///
/// To be called before any thread is started.
///
/// # Errors
/// There is another thread, or no room for a process.
pub fn attend(name: &CStr, work: impl FnOnce(&Channel)) -> io::Result<(Attendant, Channel)> {
    alone()?;
    let (ours, theirs) = Channel::pair()?;
    // SAFETY: this is the only thread, so nothing is left half done in the copy.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // An unwinding panic must not go on into what this process was copied from.
            let done = panic::catch_unwind(AssertUnwindSafe(|| {
                // SAFETY: the name ends with a NUL and outlives the call.
                unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
                close_all_but(&theirs);
                work(&theirs);
            }));
            // SAFETY: takes no pointers. Nothing of the other process is to be flushed here.
            unsafe { libc::_exit(i32::from(done.is_err())) }
        }
        pid => Ok((Attendant { pid, status: Mutex::default() }, ours)),
    }
}

/// Closes every descriptor but the channel's, and has the standard ones lead nowhere.
fn close_all_but(channel: &Channel) {
    // Above the standard ones, which every program of Rust has.
    let kept = channel.raw() as u32;
    for (first, last) in [(0, kept - 1), (kept + 1, u32::MAX)] {
        // SAFETY: takes no pointers. Nothing in this process uses what is closed here.
        let closed = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0;
        if closed {
            continue;
        }
        // Linux 5.8 has no such call.
        for fd in first..=last.min(highest_descriptor()) {
            // SAFETY: as above.
            unsafe { libc::close(fd as i32) };
        }
    }
    if let Ok(null) = File::open("/dev/null") {
        let null = null.into_raw_fd();
        for standard in 0..3 {
            // SAFETY: takes no pointers.
            unsafe { libc::dup2(null, standard) };
        }
    }
}

fn highest_descriptor() -> u32 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for writes.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    u32::try_from(limit.rlim_cur).unwrap_or(u32::MAX)
}

/// Fails if this is not the only thread. Where there is no /proc, that is taken on trust.
fn alone() -> io::Result<()> {
    let threads = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads == 1 { Ok(()) } else { Err(io::Error::other("another thread is running")) }
}

/// The sets of the calling thread, each in two halves.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Sets {
    low: Half,
    high: Half,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

impl Sets {
    fn effective(&self) -> u64 {
        u64::from(self.high.effective) << 32 | u64::from(self.low.effective)
    }

    fn permitted(&self) -> u64 {
        u64::from(self.high.permitted) << 32 | u64::from(self.low.permitted)
    }
}

fn capabilities() -> io::Result<Sets> {
    let mut header = Header { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut sets = Sets::default();
    // SAFETY: header and sets have the layout of this version and are valid for writes.
    zero(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, &raw mut sets) } as i32)?;
    Ok(sets)
}

/// Leaves these capabilities and none that could be passed on.
fn set_capabilities(kept: u64) -> io::Result<()> {
    let mut header = Header { version: CAPABILITY_VERSION_3, pid: 0 };
    let half = |bits: u32| Half { effective: bits, permitted: bits, inheritable: 0 };
    let sets = Sets { low: half(kept as u32), high: half((kept >> 32) as u32) };
    // SAFETY: header and sets have the layout of this version; the sets are only read.
    zero(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, &raw const sets) } as i32)
}

fn prctl(option: libc::c_int, argument: libc::c_ulong) -> io::Result<()> {
    let none: libc::c_ulong = 0;
    // SAFETY: the options used here take a number and no pointer.
    zero(unsafe { libc::prctl(option, argument, none, none, none) })
}

fn zero(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Names the call that failed.
fn step(call: &str, result: io::Result<()>) -> io::Result<()> {
    result.map_err(|error| about(call, &error))
}

fn about(call: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{call}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::{attend, give_up_power};

    #[test]
    fn nothing_is_done_beside_another_thread() {
        let done = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| done.wait());
            let given_up = give_up_power(None, false);
            let attended = attend(c"nobody", |_| ());
            done.wait();
            let (one, other) = (given_up.unwrap_err(), attended.unwrap_err());
            assert_eq!([one, other].map(|it| it.to_string()), ["another thread is running"; 2]);
        });
    }
}
