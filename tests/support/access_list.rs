//! A tracker with an access list.

use std::fs;
use std::path::PathBuf;

use super::bencode::decode;
use super::client::{HttpResponse, fetch, get_request};
use super::requirements::TempDir;
use super::torrent::{TestTorrent, failure_reason};
use super::tracker::{Engine, Tracker, config, has_v6, wait_for};

/// The failure reason of an announce for a torrent that is not served.
pub(crate) const REFUSAL: &str = "this tracker does not serve this torrent";

/// A tracker with a list, in a directory of its own.
pub(crate) struct AccessListTracker {
    pub(crate) tracker: Tracker,
    directory: TempDir,
}

impl AccessListTracker {
    /// Starts a tracker of two workers with a list of this text; `tables` are added to the
    /// configuration.
    pub(crate) fn start(
        engine: Engine,
        mode: &str,
        list: impl AsRef<[u8]>,
        tables: &str,
    ) -> AccessListTracker {
        let mut listed = AccessListTracker::launch(engine, mode, list, tables);
        let ready = listed.tracker.wait_ready(1 + usize::from(has_v6()));
        ready.unwrap_or_else(|log| panic!("the tracker did not start:\n{log}"));
        listed
    }

    /// The same, without waiting for it: it may fail to start.
    pub(crate) fn launch(
        engine: Engine,
        mode: &str,
        list: impl AsRef<[u8]>,
        tables: &str,
    ) -> AccessListTracker {
        let directory = TempDir::new("access");
        fs::write(directory.path().join("list.txt"), list).unwrap();
        let access = format!("[access]\nmode = \"{mode}\"\nfile = \"list.txt\"\n{tables}");
        let text = config(engine, 2, &access);
        let tracker = Tracker::launch_in(directory.path(), &text, &[]);
        AccessListTracker { tracker, directory }
    }

    /// The path of the list.
    pub(crate) fn list(&self) -> PathBuf {
        self.directory.path().join("list.txt")
    }

    /// Replaces the list by a rename.
    pub(crate) fn write(&self, list: impl AsRef<[u8]>) {
        let [new, list_file] = ["new.txt", "list.txt"].map(|name| self.directory.path().join(name));
        fs::write(&new, list).unwrap();
        fs::rename(new, list_file).unwrap();
    }

    /// Removes the list.
    pub(crate) fn remove_list(&self) {
        fs::remove_file(self.directory.path().join("list.txt")).unwrap();
    }

    /// Makes the tracker reload its list, and waits for the log line about it.
    #[track_caller]
    pub(crate) fn reload(&self, signal: &str) -> String {
        let verdicts = || {
            let log = self.tracker.log();
            let is_verdict =
                |line: &&str| line.contains("list reloaded: ") || line.contains("list kept: ");
            log.lines().filter(is_verdict).map(str::to_owned).collect::<Vec<String>>()
        };
        let before = verdicts().len();
        self.tracker.signal(signal);
        wait_for(format!("the verdict on the list after {signal}"), || {
            verdicts().get(before..).filter(|new| !new.is_empty()).map(|new| new.join("\n"))
        })
    }

    /// Replaces the list and reloads it, which must succeed.
    #[track_caller]
    pub(crate) fn relist(&self, list: impl AsRef<[u8]>) {
        self.write(list);
        let verdict = self.reload("HUP");
        assert!(verdict.contains("access list reloaded: "), "{verdict}");
    }

    pub(crate) fn torrent(&self, number: u8) -> TestTorrent<'_> {
        TestTorrent::new(&self.tracker, number)
    }

    /// Asserts that of the torrents 0 to 9 exactly these are served.
    #[track_caller]
    pub(crate) fn assert_serves(&self, numbers: &[u8]) {
        for number in 0..10 {
            let torrent = self.torrent(number);
            if numbers.contains(&number) {
                torrent.announce(1, "left=0");
                assert_eq!(torrent.scrape().complete, 1, "{number}");
            } else {
                assert_eq!(
                    refusal_reason(&fetch(self.tracker.v4, get_request(&torrent.target(1, "")))),
                    REFUSAL
                );
                assert_eq!(torrent.scrape(), Default::default(), "{number}");
            }
        }
    }
}

/// The reason of a failure that asks the client to retry no sooner than in an hour.
#[track_caller]
pub(crate) fn refusal_reason(response: &HttpResponse) -> String {
    let reason = failure_reason(response);
    assert_eq!(decode(&response.body).integer("retry in"), 60, "minutes");
    reason
}

/// The line of a torrent in a list.
pub(crate) fn list_line(number: u8) -> String {
    format!("{}\n", format!("{number:02x}").repeat(20))
}
