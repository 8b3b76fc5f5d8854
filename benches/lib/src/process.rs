//! Child processes: pinned to a CPU, never left behind, and what they cost.

use std::ffi::OsStr;
use std::fmt::Display;
use std::fs;
use std::io;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// The CPUs of the server under test and of the load, and both in the notation of taskset(1).
pub const SERVER_CPU: u32 = 0;
pub const LOAD_CPU: u32 = 1;
pub const BOTH_CPUS: &str = "0,1";

/// How long a process may take to end after SIGTERM.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// A command that runs on `cpu` only, and that is terminated if this process dies without having
/// stopped it. ServerStart it from the main thread: the kernel ties it to the thread.
pub fn pinned(cpu: impl Display, program: impl AsRef<OsStr>) -> Command {
    pinned_with(&[], cpu, program)
}

/// The same without root's rights, for a program that would otherwise drop them itself: a change of
/// user unties it from this process.
pub fn pinned_unprivileged(cpu: u32, program: impl AsRef<OsStr>) -> Command {
    let drop = ["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"];
    let is_root = rustix::process::geteuid().is_root();
    pinned_with(if is_root { &drop } else { &[] }, cpu, program)
}

fn pinned_with(options: &[&str], cpu: impl Display, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(options).args(["--pdeathsig", "TERM", "--", "taskset", "-c", &cpu.to_string()]);
    command.arg(program);
    command
}

/// Moves this thread, and those that it starts, to the CPU of the load.
pub fn pin_self() -> io::Result<()> {
    pin_thread(LOAD_CPU)
}

/// Moves this thread, and those that it starts, to a CPU.
pub fn pin_thread(cpu: u32) -> io::Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu as usize);
    Ok(sched_setaffinity(None, &cpus)?)
}

/// Has this thread run when no other wants its CPU, or nearly.
pub fn lower_priority() {
    let _ = rustix::process::nice(19);
}

/// Raises the limit of descriptors of this process and of all that it starts.
pub fn raise_descriptors(count: u64) -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(count), maximum })?)
}

pub fn signal(child: &Child, signal: Signal) {
    let _ = kill_process(Pid::from_child(child), signal);
}

/// Terminates a process, waits, and kills it if it does not end.
pub fn stop(child: &mut Child) {
    if !matches!(child.try_wait(), Ok(None)) {
        return;
    }
    // Not by `Child::kill`: nginx has workers to stop.
    signal(child, Signal::TERM);
    let asked = Instant::now();
    while asked.elapsed() < STOP_WAIT {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// The CPU time of this thread so far.
pub fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[derive(Clone, Copy, Debug, Default)]
pub struct CpuTime {
    /// User and system time.
    pub ran: Duration,
    /// Time in which they could have run but something else did.
    pub waited: Duration,
}

impl CpuTime {
    /// Sums over all threads of `pid` and its descendants. A thread that has ended is not counted;
    /// the servers here keep theirs.
    pub fn of(pid: u32) -> io::Result<CpuTime> {
        let mut sum = CpuTime::default();
        for process in tree(pid)? {
            for thread in fs::read_dir(format!("/proc/{process}/task"))? {
                // Documentation/scheduler/sched-stats.rst: nanoseconds run, nanoseconds waited.
                let file = thread?.path().join("schedstat");
                let Ok(line) = fs::read_to_string(file) else { continue };
                let mut numbers = line.split_whitespace().map_while(|n| n.parse().ok());
                sum.ran += Duration::from_nanos(numbers.next().unwrap_or(0));
                sum.waited += Duration::from_nanos(numbers.next().unwrap_or(0));
            }
        }
        Ok(sum)
    }

    pub fn since(self, earlier: CpuTime) -> CpuTime {
        CpuTime {
            ran: self.ran.saturating_sub(earlier.ran),
            waited: self.waited.saturating_sub(earlier.waited),
        }
    }
}

/// Resident memory of `pid` and its descendants.
pub fn resident_bytes(pid: u32) -> io::Result<u64> {
    let processes = tree(pid)?;
    let kib: io::Result<u64> =
        processes.iter().map(|process| status(&process.to_string(), "VmRSS:")).sum();
    Ok(kib? * 1024)
}

/// A number of /proc/`process`/status, see proc_pid_status(5); 0 if it is not there.
pub fn status(process: &str, name: &str) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    Ok(value.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0))
}

fn tree(pid: u32) -> io::Result<Vec<u32>> {
    let mut found = vec![pid];
    let mut seen = 0;
    while let Some(parent) = found.get(seen) {
        // proc_pid_task_children(5), of each thread. A process may end meanwhile.
        for thread in fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten() {
            let children = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        seen += 1;
    }
    Ok(found)
}
