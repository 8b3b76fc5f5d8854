//! What the process takes from its machine, as the kernel has it. The kernel's files are opened
//! once, and read again through their descriptors: a process that has locked itself up since
//! could not open them any more.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Mutex, PoisonError};

use crate::os::count_dir_entries;

/// Clock ticks of a second in /proc (proc_pid_stat(5)): user space sees 100 on every
/// architecture that this runs on.
const TICKS_PER_S: f64 = 100.0;

/// What is known of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessUsage {
    /// Processor time used by all threads, in user space and in the kernel, in seconds.
    pub cpu_s: f64,
    /// Bytes of memory that are in use.
    pub resident_bytes: u64,
    /// Bytes of addresses that are set apart.
    pub virtual_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Descriptors that are open.
    pub descriptors: u64,
    /// Descriptors that may be.
    pub descriptors_max: u64,
}

/// The kernel's files on this process.
#[derive(Debug)]
pub struct ProcFiles {
    /// Behind a lock, because each is read from its start.
    files: Mutex<Files>,
}

#[derive(Debug)]
struct Files {
    stat: File,
    status: File,
    limits: File,
    descriptors: File,
}

impl ProcFiles {
    /// Opens the files of the present process.
    ///
    /// # Errors
    /// There is no /proc.
    pub fn open() -> io::Result<ProcFiles> {
        let open = |name| File::open(format!("/proc/self/{name}"));
        let files = Files {
            stat: open("stat")?,
            status: open("status")?,
            limits: open("limits")?,
            descriptors: open("fd")?,
        };
        Ok(ProcFiles { files: Mutex::new(files) })
    }

    /// What the process takes at this moment.
    ///
    /// # Errors
    /// The files cannot be read.
    pub fn usage(&self) -> io::Result<ProcessUsage> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let Files { stat, status, limits, descriptors } = &mut *files;
        let descriptors = count_dir_entries(descriptors)?;
        parse(&read_again(stat)?, &read_again(status)?, &read_again(limits)?)
            .map(|usage| ProcessUsage { descriptors, ..usage })
            .ok_or_else(|| io::Error::other("/proc/self is not as it should be"))
    }
}

fn read_again(file: &mut File) -> io::Result<String> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// All but the open descriptors, from the texts of the files of these names.
fn parse(stat: &str, status: &str, limits: &str) -> Option<ProcessUsage> {
    // The name, which comes before, may have spaces and parentheses of its own.
    let (_, fields) = stat.rsplit_once(") ")?;
    // The first of these is the third that proc_pid_stat(5) counts.
    let field = |number: usize| fields.split(' ').nth(number - 3)?.parse::<u64>().ok();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let resident_kib: u64 = resident.trim().strip_suffix(" kB")?.parse().ok()?;
    let files_max = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    Some(ProcessUsage {
        cpu_s: (field(14)? + field(15)?) as f64 / TICKS_PER_S,
        threads: field(20)?,
        virtual_bytes: field(23)?,
        resident_bytes: resident_kib * 1024,
        descriptors: 0,
        // The first number is the soft limit, which counts.
        descriptors_max: files_max.split_whitespace().next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::{ProcFiles, ProcessUsage, parse};

    #[test]
    fn the_kernel_s_texts_are_read() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 101 0 0 0 250 50 0 0 20 0 3 0 99 4096000 \
                    25 18446744073709551615";
        let status = "Name:\ta\nVmRSS:\t  1024 kB\nThreads:\t3\n";
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files   1024   4096   files\n";
        let usage = ProcessUsage {
            cpu_s: 3.0,
            resident_bytes: 1024 * 1024,
            virtual_bytes: 4_096_000,
            threads: 3,
            descriptors: 0,
            descriptors_max: 1024,
        };
        assert_eq!(parse(stat, status, limits), Some(usage));
        assert_eq!(parse(stat, "Name:\ta\n", limits), None);
        assert_eq!(parse("7 (a) S 1", status, limits), None);
        assert_eq!(parse(stat, status, ""), None);
    }

    /// Beside other tests of this process, which open files too.
    #[test]
    fn what_is_read_is_of_now() {
        let process = ProcFiles::open().unwrap();
        let held: Vec<File> = (0..500).map(|_| File::open("/dev/null").unwrap()).collect();
        let full = process.usage().unwrap();
        let counted = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        assert!(full.descriptors > 500 && full.descriptors.abs_diff(counted) < 200, "{full:?}");
        drop(held);
        let usage = process.usage().unwrap();
        assert!(usage.descriptors < full.descriptors - 300, "{usage:?}");
        assert!(usage.resident_bytes > 100_000 && usage.virtual_bytes > usage.resident_bytes);
        assert!(usage.threads >= 1);
    }
}
