//! What the kernel tells of a process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::tracker::{Tracker, wait_for};

/// The capability to read any file, CAP_DAC_READ_SEARCH, as the kernel prints it.
pub(crate) const READS_ALL: &str = "0000000000000004";
pub(crate) const NONE: &str = "0000000000000000";

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process(pub(crate) u32);

impl Process {
    pub(crate) fn of(tracker: &Tracker) -> Process {
        Process(tracker.pid())
    }

    /// The file broker of a tracker.
    #[track_caller]
    pub(crate) fn broker_of(tracker: &Tracker) -> Process {
        let children = format!("/proc/{0}/task/{0}/children", tracker.pid());
        let children = fs::read_to_string(children).unwrap();
        let [child] = children.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("not one child: {children:?}");
        };
        let broker = Process(child.parse().unwrap());
        assert_eq!(broker.value("Name"), "annulus-broker");
        broker
    }

    /// What its first thread's status has behind `key`, its fields one space apart.
    #[track_caller]
    pub(crate) fn value(self, key: &str) -> String {
        value(&fs::read_to_string(self.file("status")).unwrap(), key)
    }

    /// What all threads' statuses have behind `key`, which must be the same.
    #[track_caller]
    pub(crate) fn value_of_all_threads(self, key: &str) -> String {
        let first = self.value(key);
        let threads: Vec<_> = fs::read_dir(self.file("task")).unwrap().collect();
        assert!(threads.len() >= 3, "two workers, and the first thread");
        for thread in threads {
            let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
            assert_eq!(value(&status, key), first, "{key}");
        }
        first
    }

    /// What its descriptors lead to.
    pub(crate) fn descriptors(self) -> Vec<String> {
        let descriptors = fs::read_dir(self.file("fd")).unwrap();
        let leads = |it: PathBuf| fs::read_link(it).unwrap().display().to_string();
        descriptors.map(|it| leads(it.unwrap().path())).collect()
    }

    /// Where one of its links leads: `root`, `cwd` or `exe`.
    pub(crate) fn link(self, name: &str) -> PathBuf {
        fs::read_link(self.file(name)).unwrap()
    }

    /// Whether the kernel has anything of it, were it only how it has ended.
    pub(crate) fn exists(self) -> bool {
        self.file("status").exists()
    }

    /// Waits for its end. It may stay a zombie of the process that inherits it.
    #[track_caller]
    pub(crate) fn is_gone(self) {
        wait_for(format!("the end of {self:?}"), || {
            let status = fs::read_to_string(self.file("status")).unwrap_or_default();
            (status.is_empty() || value(&status, "State").starts_with('Z')).then_some(())
        });
    }

    /// Its arguments, with a space between them.
    pub(crate) fn command_line(self) -> String {
        fs::read_to_string(self.file("cmdline")).unwrap().replace('\0', " ")
    }

    /// Sends it a signal, by name.
    pub(crate) fn signal(self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.0.to_string()]).status();
        assert!(sent.unwrap().success(), "kill -s {name}");
    }

    fn file(self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.0.to_string()).join(name)
    }
}

#[track_caller]
fn value(status: &str, key: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let fields = line.unwrap_or_else(|| panic!("no {key}")).split_whitespace();
    fields.collect::<Vec<&str>>().join(" ")
}
