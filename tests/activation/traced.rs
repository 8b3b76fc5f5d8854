//! A thread of another process that is stopped by ptrace(2), as a debugger does.

use std::fs;
use std::io;
use std::mem;
use std::ptr;

/// A thread that stays stopped until this is dropped, which the thread that created it must do.
pub(crate) struct Traced(libc::pid_t);

impl Traced {
    /// Stops the thread of this name.
    pub(crate) fn stop(pid: u32, name: &str) -> Traced {
        let has_name = |path: &std::path::PathBuf| {
            fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
        };
        let mut threads =
            fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|it| it.unwrap().path());
        let path = threads.find(has_name).unwrap_or_else(|| panic!("no thread {name}"));
        let thread = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        for request in [libc::PTRACE_SEIZE, libc::PTRACE_INTERRUPT] {
            trace(request, thread);
        }
        let mut status = 0;
        // SAFETY: `status` is valid for writes.
        let stopped = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) };
        assert_eq!(stopped, thread, "{}", io::Error::last_os_error());
        Traced(thread)
    }

    /// Waits for the end of the thread, which its process waits for.
    pub(crate) fn wait_end(self) {
        let mut status = 0;
        // SAFETY: `status` is valid for writes.
        let ended = unsafe { libc::waitpid(self.0, &raw mut status, libc::__WALL) };
        assert_eq!(ended, self.0, "{}", io::Error::last_os_error());
        mem::forget(self);
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        trace(libc::PTRACE_DETACH, self.0);
    }
}

fn trace(request: libc::c_uint, thread: libc::pid_t) {
    let none = ptr::null_mut::<libc::c_void>();
    // SAFETY: these requests take numbers, which are 0.
    let done = unsafe { libc::ptrace(request, thread, none, none) };
    assert_eq!(done, 0, "ptrace {request}: {}", io::Error::last_os_error());
}
