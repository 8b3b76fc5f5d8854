//! The swarms on disk, by the real program.
//!
//! `restart`: what a restart keeps and what not. `load`: restarts under load. `killed`: what is
//! left after SIGKILL at any moment. `failing`: writes that fail. `refused`: files that are not
//! used. `sandbox`: other users, chroot and Landlock. `shared`: two trackers on one directory.
//! `check`: what --check-config says. `format`: the bytes.

mod check;
mod failing;
mod format;
mod killed;
mod load;
mod refused;
mod restart;
mod sandbox;
mod shared;

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::requirements::TempDir;
use crate::support::tracker::{Engine, Tracker, config, has_v6};

/// An interval that no test reaches.
const NEVER: u32 = 86_400;

/// A directory for the configuration, with one for the state in it.
struct StateDir(TempDir);

impl StateDir {
    fn new(name: &str) -> StateDir {
        let directory = StateDir(TempDir::new(&format!("state-{name}")));
        fs::create_dir(directory.state()).unwrap();
        directory
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// The directory of the state.
    fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    fn file(&self) -> PathBuf {
        self.state().join("swarms.state")
    }

    /// The names in the directory of the state, sorted.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.state()).unwrap();
        let mut names: Vec<String> =
            entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Launches a tracker that writes every `interval_s`; `tables` are added to its configuration.
    fn launch(&self, engine: Engine, interval_s: u32, tables: &str, runner: &[&str]) -> Tracker {
        let state =
            format!("[state]\nfile = \"state/swarms.state\"\ninterval = {interval_s}\n{tables}");
        Tracker::launch_in(self.path(), &config(engine, 2, &state), runner)
    }

    /// The same, and waits until it serves.
    #[track_caller]
    fn start(&self, engine: Engine, interval_s: u32, tables: &str) -> Tracker {
        ready(self.launch(engine, interval_s, tables, &[]))
    }
}

/// Waits until a tracker listens on loopback addresses of all families.
#[track_caller]
fn ready(mut tracker: Tracker) -> Tracker {
    let ready = tracker.wait_ready(1 + usize::from(has_v6()));
    ready.unwrap_or_else(|log| panic!("the tracker did not start:\n{log}"));
    tracker
}

/// Stops a tracker; its log.
#[track_caller]
fn stop(mut tracker: Tracker) -> String {
    tracker.signal("TERM");
    let (status, log) = tracker.wait_exit();
    assert!(status.success(), "{log}");
    log
}

/// Rewrites a state file as if it had been written so many seconds earlier.
fn age_file(file: &Path, seconds: i64) {
    let mut bytes = fs::read(file).unwrap();
    let written = i64::from_le_bytes(bytes[20..28].try_into().unwrap());
    bytes[20..28].copy_from_slice(&(written - seconds).to_le_bytes());
    seal_header(&mut bytes);
    fs::write(file, bytes).unwrap();
}

/// Makes the checksum of the header right.
fn seal_header(bytes: &mut [u8]) {
    let sum = crc32c::crc32c(&bytes[..36]).to_le_bytes();
    bytes[36..40].copy_from_slice(&sum);
}
