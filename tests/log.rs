//! The log as an operator gets it: one line an event, in the form that suits its reader; and
//! `unread`, what becomes of a tracker whose log nobody reads.

mod unread;

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::requirements::TempDir;
use crate::support::tracker::wait_for;

/// Runs the tracker until its port is open, stops it, and returns all it said. The variable
/// JOURNAL_STREAM names the file that it speaks to if `journal`, else another one.
fn said(log: &str, journal: bool) -> String {
    let directory = TempDir::new("log");
    let output = directory.path().join("output");
    let text = format!("listen = [\"127.0.0.1:0\"]\nworkers = 1\n[log]\n{log}\n");
    let mut tracker = start(directory.path(), &text, journal);
    wait_for("a listening socket", || listens(tracker.id()).then_some(()));
    let kill = Command::new("kill").args(["-TERM", &tracker.id().to_string()]).status();
    assert!(kill.unwrap().success());
    assert!(tracker.wait().unwrap().success());
    fs::read_to_string(&output).unwrap()
}

/// What it says to this configuration, with which it does not start.
fn complained(text: &str, journal: bool) -> String {
    let directory = TempDir::new("log");
    assert_eq!(start(directory.path(), text, journal).wait().unwrap().code(), Some(1));
    fs::read_to_string(directory.path().join("output")).unwrap()
}

/// Starts the tracker with this configuration; it speaks to the file `output`.
fn start(directory: &Path, text: &str, journal: bool) -> Child {
    let (config, output) = (directory.join("annulus.toml"), directory.join("output"));
    fs::write(&config, text).unwrap();
    let file = File::create(&output).unwrap();
    let (device, inode) = (file.metadata().unwrap().dev(), file.metadata().unwrap().ino());
    let stream = format!("{device}:{}", if journal { inode } else { inode + 1 });
    Command::new(env!("CARGO_BIN_EXE_annulus"))
        .arg("-c")
        .arg(&config)
        .env("JOURNAL_STREAM", stream)
        .stdin(Stdio::null())
        .stderr(file)
        .spawn()
        .unwrap()
}

/// Whether the process has a listening socket, told without the help of its log.
fn listens(pid: u32) -> bool {
    let sockets: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()?.to_str().map(str::to_owned))
        .filter_map(|target| Some(target.strip_prefix("socket:[")?.trim_end_matches(']').into()))
        .collect();
    // The fourth column is the state, 0A for LISTEN; the tenth is the inode.
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|columns| {
        columns.get(3) == Some(&"0A") && sockets.iter().any(|it| columns.get(9) == Some(&&**it))
    })
}

/// Asserts that every line begins like the first, as `is_start` sees it.
fn assert_lines(said: &str, is_start: impl Fn(&str) -> bool) {
    assert!(said.ends_with("stopped\n"), "{said}");
    assert!(said.lines().all(is_start), "{said}");
}

/// `2026-11-24T01:49:00Z annulus: `, whatever the digits.
fn has_timestamp(line: &str) -> bool {
    let shape: String =
        line.chars().take(30).map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T00:00:00Z annulus: " && !line.starts_with("1970")
}

#[test]
fn lines_have_the_time_unless_the_journal_listens() {
    assert_lines(&said("", false), has_timestamp);
    assert_lines(&said("format = \"timestamps\"", true), has_timestamp);
}

#[test]
fn lines_have_a_priority_for_the_journal() {
    assert_lines(&said("", true), |line| line.starts_with("<6>"));
    assert_lines(&said("format = \"journald\"", false), |line| line.starts_with("<6>"));
}

#[test]
fn lines_can_be_plain() {
    assert_lines(&said("format = \"plain\"", true), |line| line.starts_with("annulus: "));
}

#[test]
fn what_is_less_urgent_than_the_level_is_not_said() {
    assert_eq!(said("level = \"warning\"", false), "");
    assert_eq!(said("level = \"error\"", true), "");
}

/// Why it does not start is what one looks for first.
#[test]
fn what_ends_it_is_an_error_like_any_other() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!("listen = [\"{}\"]\nworkers = 1\n", taken.local_addr().unwrap());
    let said = complained(&text, true);
    assert!(said.contains("\n<3>") || said.starts_with("<3>"), "{said}");
    assert!(said.lines().all(|line| line.starts_with('<')), "{said}");
    let said = complained(&text, false);
    assert!(said.lines().all(has_timestamp), "{said}");
    assert!(said.contains("Z annulus: error: "), "{said}");

    let mistakes = "listen = 1\nworkers = -1\n";
    let said = complained(mistakes, true);
    assert!(said.lines().count() == 2 && said.lines().all(|it| it.starts_with("<3>")), "{said}");
    let said = complained(mistakes, false);
    assert!(said.lines().count() == 2 && said.lines().all(|it| it.starts_with('/')), "{said}");
}
