//! What operators see of the state file.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Clock;

/// What is known of the file at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateReport {
    pub path: PathBuf,
    /// Between two writes.
    pub interval_s: u32,
    /// When what is in the file was written, in seconds since 1970; `None` if there is no file.
    pub written_unix_s: Option<i64>,
    /// The node that wrote it; 0 if it was in no cluster, or lacked something then.
    pub node: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// How long the last write took; zero before the first.
    pub took: Duration,
    /// Since the start, those that failed not included.
    pub writes: u64,
    pub failures: u64,
    /// Why the last write has failed, or why there is none.
    pub problem: Option<String>,
}

impl StateReport {
    /// How many seconds ago what is in the file was written, by the wall clock. `None` if there is
    /// no file, or if the clock was set back since.
    pub fn age_s(&self) -> Option<u32> {
        u32::try_from(Clock::unix_s() - self.written_unix_s?).ok()
    }

    /// [`StateReport::age_s`] if nothing older is to be asked of the other nodes of a cluster.
    pub fn whole_age_s(&self) -> Option<u32> {
        self.age_s().filter(|_| self.node != 0)
    }
}

/// The report, which the thread that writes changes, and others read.
#[derive(Debug)]
pub struct StateStatus(Mutex<StateReport>);

impl StateStatus {
    pub fn new(report: StateReport) -> StateStatus {
        StateStatus(Mutex::new(report))
    }

    pub fn report(&self) -> StateReport {
        self.lock().clone()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, StateReport> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
