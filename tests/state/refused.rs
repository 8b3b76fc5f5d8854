//! Files that cannot be used: reported, moved aside, never overwritten.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::{NEVER, StateDir, seal_header, stop};
use crate::support::admin::{AdminClient, OPERATIONS};
use crate::support::requirements::{can_run, missing_root};
use crate::support::torrent::TestTorrent;
use crate::support::tracker::{Engine, test_both_engines};

test_both_engines!(
    damage_is_found_and_located,
    what_is_no_state_file_is_left_alone,
    what_cannot_be_moved_aside_is_not_overwritten,
);

/// A state of three torrents.
fn written(engine: Engine) -> (StateDir, Vec<u8>) {
    let directory = StateDir::new("refused");
    let tracker = directory.start(engine, NEVER, "");
    for number in 1..=3 {
        TestTorrent::new(&tracker, number).announce(1001, "left=0");
    }
    stop(tracker);
    let bytes = fs::read(directory.file()).unwrap();
    (directory, bytes)
}

/// Starts a tracker on these bytes. It must say `what`, move them to a file of this name, start
/// without peers, and write its own state at the end.
#[track_caller]
fn refused(directory: &StateDir, engine: Engine, bytes: &[u8], (what, aside): (&str, &str)) {
    fs::write(directory.file(), bytes).unwrap();
    let tracker = directory.start(engine, NEVER, "");
    let line = tracker.log_line("error: state: ");
    assert!(line.contains(what), "no {what:?} in {line}");
    let moved = directory.state().join(aside);
    let told = format!(": moved to {}, starting without peers", moved.display());
    assert!(line.ends_with(&told), "{line}");
    assert_eq!(fs::read(&moved).unwrap(), bytes, "{aside}");
    assert_eq!(TestTorrent::new(&tracker, 1).scrape().complete, 0);
    stop(tracker);
    // What is written then can be read.
    let tracker = directory.start(engine, NEVER, "");
    tracker.assert_logged("state: 0 torrents and 0 peers from ");
    stop(tracker);
    assert_eq!(fs::read(&moved).unwrap(), bytes, "{aside}");
}

fn damage_is_found_and_located(engine: Engine) {
    let (directory, whole) = written(engine);
    let end = whole.len() - 40;
    let changed = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let mut impossible = whole.clone();
    impossible[12..16].fill(0);
    seal_header(&mut impossible);
    for (number, (bytes, what)) in [
        (Vec::new(), "damaged: an empty file at byte 0"),
        (whole[..39].to_vec(), "damaged: an end within the header at byte 39"),
        (changed(21), "damaged: a header with a wrong checksum at byte 0"),
        (impossible, "damaged: a header with impossible values at byte 8"),
        (changed(42), "damaged: a block of impossible length at byte 40"),
        (changed(60), "damaged: a block with a wrong checksum at byte 40"),
        (whole[..end - 1].to_vec(), &format!("an end within a block at byte {}", end - 1)),
        (whole[..end].to_vec(), &format!("an end before the end record at byte {end}")),
        (changed(end + 5), &format!("an end record with a wrong checksum at byte {end}")),
        (
            [&whole[..], b"?"].concat(),
            &format!("something behind the end record at byte {}", end + 40),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let aside = format!("swarms.state.damaged-{}", number + 1);
        refused(&directory, engine, &bytes, (what, &aside));
    }
}

fn what_is_no_state_file_is_left_alone(engine: Engine) {
    let (directory, mut newer) = written(engine);
    let foreign = ("not a state file of annulus (at byte 0)", "swarms.state.foreign-1");
    refused(&directory, engine, b"#!/bin/sh\necho mine\n", foreign);
    newer[8..12].copy_from_slice(&2u32.to_le_bytes());
    let what = "of format version 2 (at byte 8): this annulus reads versions up to 1";
    refused(&directory, engine, &newer, (what, "swarms.state.newer-1"));
    assert_eq!(
        directory.names(),
        ["swarms.state", "swarms.state.foreign-1", "swarms.state.newer-1"]
    );
    // What is no file at all is a mistake of the configuration.
    let file = directory.file();
    for make in [(|file| fs::create_dir(file).unwrap()) as fn(&Path), |file| {
        symlink("/dev/null", file).unwrap()
    }] {
        fs::rename(&file, directory.path().join("elsewhere")).unwrap();
        make(&file);
        let (status, log) = directory.launch(engine, NEVER, "", &[]).wait_exit();
        let says = log.contains("swarms.state\": it is not a file: name a file, which need not");
        assert!(status.code() == Some(1) && says, "{log}");
        fs::rename(&file, directory.path().join("moved")).unwrap();
        fs::rename(directory.path().join("elsewhere"), &file).unwrap();
        let _ = fs::remove_dir(directory.path().join("moved"));
    }
}

/// As an ordinary user, in a directory that it may not write to.
fn what_cannot_be_moved_aside_is_not_overwritten(engine: Engine) {
    let test = "state::refused::what_cannot_be_moved_aside_is_not_overwritten";
    if !can_run(test, &Vec::from_iter(missing_root("to become another user"))) {
        return;
    }
    let directory = StateDir::new("immovable");
    let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    fs::write(directory.file(), "mine").unwrap();
    mode(&directory.file(), 0o644);
    mode(&directory.state(), 0o755);
    let tables = format!("[privileges]\nuser = \"nobody\"\n{OPERATIONS}");
    let tracker = directory.start(engine, 1, &tables);
    tracker.assert_logged("is not overwritten: move it away and restart annulus");
    let admin = AdminClient::of(&tracker);
    let health = admin.get("/health");
    let text = String::from_utf8(health.body.clone()).unwrap();
    assert_eq!(health.status, 200);
    let said = text.contains("not kept on disk: ") && text.contains("not a state file of annulus");
    assert!(said, "{text}");
    // Not later, either, when it could be.
    mode(&directory.state(), 0o777);
    TestTorrent::new(&tracker, 1).announce(1001, "left=0");
    stop(tracker);
    assert_eq!(fs::read(directory.file()).unwrap(), b"mine");
    assert_eq!(directory.names(), ["swarms.state"]);
}
