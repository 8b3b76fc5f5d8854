//! The log of the tracker: one line per event, in each format; and `unread`, how the tracker works
//! while its log is not read.

mod unread;

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::requirements::TempDir;
use crate::support::tracker::wait_for;

/// Runs the tracker with these keys of `[log]` until its port is open, stops it, and returns its
/// log. The variable JOURNAL_STREAM names its standard error if `journal`, else another file.
fn log_with(log: &str, journal: bool) -> String {
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

/// The log of a tracker that does not start with this configuration.
fn log_of_failure(text: &str, journal: bool) -> String {
    let directory = TempDir::new("log");
    assert_eq!(start(directory.path(), text, journal).wait().unwrap().code(), Some(1));
    fs::read_to_string(directory.path().join("output")).unwrap()
}

/// Starts the tracker with this configuration and the file `output` as its standard error.
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

/// Whether the process has a listening socket, according to /proc.
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

/// Asserts that every line is as `is_expected` says.
fn assert_lines(log: &str, is_expected: impl Fn(&str) -> bool) {
    assert!(log.ends_with("stopped\n"), "{log}");
    assert!(log.lines().all(is_expected), "{log}");
}

/// Whether it begins as in `2026-11-24T01:49:00Z annulus: `, whatever the digits.
fn has_timestamp(line: &str) -> bool {
    let shape: String =
        line.chars().take(30).map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T00:00:00Z annulus: "
}

/// The time in the form of the log.
fn now() -> String {
    let date = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]).output().unwrap();
    String::from_utf8(date.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn lines_have_the_time_unless_standard_error_is_the_journal() {
    let before = now();
    let log = log_with("", false);
    let after = now();
    assert_lines(&log, has_timestamp);
    // In this form the order of texts is that of times.
    assert_lines(&log, |line| (&*before..=&*after).contains(&&line[..before.len()]));
    assert_lines(&log_with("format = \"timestamps\"", true), has_timestamp);
}

#[test]
fn lines_have_a_priority_for_the_journal() {
    assert_lines(&log_with("", true), |line| line.starts_with("<6>"));
    let operations = "[operations]\nlisten = [\"0.0.0.0:0\"]";
    let log = log_with(&format!("format = \"journald\"\n{operations}"), false);
    let is_warning = |line: &str| line.starts_with("<4>operations on 0.0.0.0:");
    assert_lines(&log, |line| line.starts_with("<6>") || is_warning(line));
    assert_eq!(log.lines().filter(|line| is_warning(line)).count(), 1, "{log}");
}

#[test]
fn lines_can_be_plain() {
    assert_lines(&log_with("format = \"plain\"", true), |line| line.starts_with("annulus: "));
}

#[test]
fn lines_less_urgent_than_the_level_are_dropped() {
    assert_eq!(log_with("level = \"warning\"", false), "");
    assert_eq!(log_with("level = \"error\"", true), "");
}

/// A failure to start is what an operator searches the log for first.
#[test]
fn a_failure_to_start_is_logged_as_an_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!("listen = [\"{}\"]\nworkers = 1\n", taken.local_addr().unwrap());
    let log = log_of_failure(&text, true);
    assert!(log.contains("\n<3>") || log.starts_with("<3>"), "{log}");
    assert!(log.lines().all(|line| line.starts_with('<')), "{log}");
    let log = log_of_failure(&text, false);
    assert!(log.lines().all(has_timestamp), "{log}");
    assert!(log.contains("Z annulus: error: "), "{log}");

    let mistakes = "listen = 1\nworkers = -1\n";
    let log = log_of_failure(mistakes, true);
    assert!(log.lines().count() == 2 && log.lines().all(|it| it.starts_with("<3>")), "{log}");
    let log = log_of_failure(mistakes, false);
    assert!(log.lines().count() == 2 && log.lines().all(|it| it.starts_with('/')), "{log}");
}
