//! Processes that a test starts, and the tracker's figures in `/proc`.

use std::fs;
use std::process::Child;
use std::time::Duration;

use super::tracker::Tracker;

/// A process that is killed when the value is dropped.
pub(crate) struct KillOnDrop(pub(crate) Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Tracker {
    /// The number of its open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Its resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Its processor time, in user space and in the kernel.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let (_, after_name) = stat.rsplit_once(") ").unwrap();
        let ticks =
            after_name.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap());
        // USER_HZ is 100 on every architecture that this runs on.
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }
}
