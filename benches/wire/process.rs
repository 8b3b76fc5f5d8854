//! Child processes: pinned to a CPU, never left behind, and what they cost.

use std::ffi::OsStr;
use std::fmt::Display;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The CPU of the server under test.
pub(crate) const SERVER_CPU: u32 = 0;

/// The CPU of the load.
pub(crate) const LOAD_CPU: u32 = 1;

/// Both of them, in the notation of taskset(1).
pub(crate) const BOTH_CPUS: &str = "0,1";

/// Time that a process has to end after it was asked to.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// A command that will run on `cpu` only, and that is terminated should this process die
/// without having stopped it. Start it from the main thread: the kernel ties it to the thread.
pub(crate) fn pinned(cpu: impl Display, program: impl AsRef<OsStr>) -> Command {
    tie_and_pin(Command::new("setpriv"), cpu, program)
}

/// The same without root's rights, for a program that would otherwise drop them itself: a
/// change of user unties it from this process.
pub(crate) fn pinned_unprivileged(cpu: u32, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]);
    }
    tie_and_pin(command, cpu, program)
}

fn tie_and_pin(mut setpriv: Command, cpu: impl Display, program: impl AsRef<OsStr>) -> Command {
    setpriv.args(["--pdeathsig", "TERM", "--", "taskset", "-c", &cpu.to_string()]).arg(program);
    setpriv
}

/// Whether this process is root's.
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Moves this process to the CPU of the load. Only before other threads exist.
///
/// # Errors
///
/// If there is no such CPU, or no `taskset`.
pub(crate) fn pin_self() -> io::Result<()> {
    let pid = std::process::id().to_string();
    let output = Command::new("taskset").args(["-cp", &LOAD_CPU.to_string(), &pid]).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// Lets this process, and all that it starts, open `count` descriptors each.
///
/// # Errors
///
/// If the hard limit is lower, or there is no `prlimit`.
pub(crate) fn raise_descriptors(count: u32) -> io::Result<()> {
    let pid = std::process::id().to_string();
    let limit = format!("--nofile={count}:");
    let output = Command::new("prlimit").args(["--pid", &pid, &limit]).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// Asks a process to end, waits, and in the end insists.
pub(crate) fn stop(child: &mut Child) {
    if !matches!(child.try_wait(), Ok(None)) {
        return;
    }
    // By signal and not by `Child::kill` at first: nginx has workers to stop.
    let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
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

/// What a process and all its descendants have had of the CPU.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CpuTime {
    /// User and system time.
    pub(crate) ran: Duration,
    /// Time in which they could have run but something else did.
    pub(crate) waited: Duration,
}

impl CpuTime {
    /// Sums over all threads of `pid` and its descendants. A thread that has ended is not
    /// counted; the servers here keep theirs.
    ///
    /// # Errors
    ///
    /// If `pid` is gone.
    pub(crate) fn of(pid: u32) -> io::Result<CpuTime> {
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

    /// Both together.
    pub(crate) fn plus(self, other: CpuTime) -> CpuTime {
        CpuTime { ran: self.ran + other.ran, waited: self.waited + other.waited }
    }

    /// What was added since `earlier`.
    pub(crate) fn since(self, earlier: CpuTime) -> CpuTime {
        CpuTime {
            ran: self.ran.saturating_sub(earlier.ran),
            waited: self.waited.saturating_sub(earlier.waited),
        }
    }
}

/// Bytes of memory that `pid` and its descendants have resident.
///
/// # Errors
///
/// If `pid` is gone.
pub(crate) fn resident_bytes(pid: u32) -> io::Result<u64> {
    let mut sum = 0;
    for process in tree(pid)? {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let kib = status
            .lines()
            .find_map(|line| {
                line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse().ok()
            })
            .unwrap_or(0_u64);
        sum += kib * 1024;
    }
    Ok(sum)
}

/// `pid` and its descendants.
fn tree(pid: u32) -> io::Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        // A process may end between the listing and the reading.
        let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else { continue };
        // proc_pid_stat(5): the name is in parentheses and may contain some itself; state and
        // parent follow.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        parents.push((process, parent.and_then(|p| p.parse().ok()).unwrap_or(0)));
    }
    let mut found: Vec<u32> = vec![pid];
    let mut seen = 0;
    while seen < found.len() {
        let of = found[seen];
        found.extend(parents.iter().filter(|(_, parent)| *parent == of).map(|(p, _)| *p));
        seen += 1;
    }
    Ok(found)
}
