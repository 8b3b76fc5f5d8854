//! Resources that the process uses. The files in /proc are opened once and read again through
//! their descriptors: after Landlock they could not be opened any more.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::os::count_dir_entries;

/// Clock ticks per second in /proc (proc_pid_stat(5)): user space sees 100 on every architecture.
const TICKS_PER_S: f64 = 100.0;

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct ProcessUsage {
    /// Of all threads, in user space and in the kernel.
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: u64,
    pub(super) virtual_bytes: u64,
    pub(super) open_descriptors: u64,
    pub(super) descriptors_limit: u64,
    pub(super) threads: u64,
}

/// The open files in /proc of this process, behind a lock, because each is read from its start.
#[derive(Debug)]
pub struct ProcFiles(Mutex<[File; 4]>);

impl ProcFiles {
    /// # Errors
    /// There is no /proc.
    pub fn open() -> io::Result<ProcFiles> {
        let open = |name| File::open(format!("/proc/self/{name}"));
        Ok(ProcFiles(Mutex::new([open("stat")?, open("status")?, open("limits")?, open("fd")?])))
    }

    /// # Errors
    /// The files cannot be read.
    pub(super) fn usage(&self) -> io::Result<ProcessUsage> {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let [stat, status, limits, descriptors] = &mut *files;
        let open_descriptors = count_dir_entries(descriptors)?;
        parse(&read_again(stat)?, &read_again(status)?, &read_again(limits)?)
            .map(|usage| ProcessUsage { open_descriptors, ..usage })
            .ok_or_else(|| io::Error::other("/proc/self has an unknown format"))
    }
}

fn read_again(file: &mut File) -> io::Result<String> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// Everything but the open descriptors, from the contents of the files of these names.
fn parse(stat: &str, status: &str, limits: &str) -> Option<ProcessUsage> {
    // The name of the process, which comes before, may contain spaces and parentheses.
    let (_, fields) = stat.rsplit_once(") ")?;
    // The first of these is field 3 in proc_pid_stat(5).
    let field = |number: usize| fields.split(' ').nth(number - 3)?.parse::<u64>().ok();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let resident_kib: u64 = resident.trim().strip_suffix(" kB")?.parse().ok()?;
    let files_max = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    Some(ProcessUsage {
        cpu_seconds: (field(14)? + field(15)?) as f64 / TICKS_PER_S,
        threads: field(20)?,
        virtual_bytes: field(23)?,
        resident_bytes: resident_kib * 1024,
        open_descriptors: 0,
        // The first number is the soft limit, which is the one in force.
        descriptors_limit: files_max.split_whitespace().next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::{ProcessUsage, parse};

    #[test]
    fn the_files_in_proc_are_parsed() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 101 0 0 0 250 50 0 0 20 0 3 0 99 4096000 \
                    25 18446744073709551615";
        let status = "Name:\ta\nVmRSS:\t  1024 kB\nThreads:\t3\n";
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files   1024   4096   files\n";
        let usage = ProcessUsage {
            cpu_seconds: 3.0,
            resident_bytes: 1024 * 1024,
            virtual_bytes: 4_096_000,
            threads: 3,
            open_descriptors: 0,
            descriptors_limit: 1024,
        };
        assert_eq!(parse(stat, status, limits), Some(usage));
        assert_eq!(parse(stat, "Name:\ta\n", limits), None);
        assert_eq!(parse("7 (a) S 1", status, limits), None);
        assert_eq!(parse(stat, status, ""), None);
    }
}
