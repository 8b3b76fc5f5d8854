//! Writes that fail: the tracker goes on, says so, and tries again; the file is the last whole one.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::{StateDir, stop};
use crate::support::admin::{AdminClient, OPERATIONS};
use crate::support::requirements::{can_run, missing_programs, missing_root};
use crate::support::torrent::TestTorrent;
use crate::support::tracker::{Engine, Tracker, test_both_engines, wait_for};

test_both_engines!(
    for_lack_of_room,
    beyond_the_limit_of_file_sizes,
    without_the_right_to,
    without_the_directory,
);

const WRITES: &str = "annulus_state_writes_total";
const FAILURES: &str = "annulus_state_write_failures_total";

/// Waits until a counter has grown by two: the second write began after this call.
#[track_caller]
fn wait_two(admin: &AdminClient, counter: &str) {
    let enough = admin.sample(counter) + 2.0;
    wait_for(format!("{counter} {enough}"), || (admin.sample(counter) >= enough).then_some(()));
}

fn health(admin: &AdminClient) -> String {
    let response = admin.get("/health");
    assert_eq!(response.status, 200);
    String::from_utf8(response.body).unwrap()
}

/// Has writes fail, and asserts what is said of it; ends the failure, and asserts that writes go
/// on. The state that was written before is whole meanwhile, and holds torrent 1.
#[track_caller]
fn fails(tracker: &Tracker, file: &Path, what: &str, (fail, mend): (&dyn Fn(), &dyn Fn())) {
    let admin = AdminClient::of(tracker);
    let torrent = TestTorrent::new(tracker, 1);
    torrent.announce(1001, "left=0");
    wait_two(&admin, WRITES);
    assert_eq!(health(&admin), "ok\n");
    let before = fs::read(file).unwrap();
    fail();
    wait_two(&admin, FAILURES);
    let text = health(&admin);
    assert!(text.contains("the swarms are not kept on disk: ") && text.contains(what), "{text}");
    let stats = admin.stats();
    assert!(stats["state"]["problem"].as_str().unwrap().contains(what), "{stats}");
    assert!(stats["state"]["failures"].as_u64() >= Some(2), "{stats}");
    // Once, although it has failed more often.
    let lines = |part: &str| tracker.log().lines().filter(|line| line.contains(part)).count();
    assert_eq!((lines("error: state: "), lines(what)), (1, 1), "{}", tracker.log());
    let has_torrent = |bytes: &[u8]| bytes.windows(20).any(|it| it == torrent.info_hash);
    assert!(has_torrent(&before));
    if file.exists() {
        assert!(has_torrent(&fs::read(file).unwrap()));
    }
    mend();
    wait_two(&admin, WRITES);
    assert_eq!(health(&admin), "ok\n");
    tracker.assert_logged("state: 1 peer written to ");
    assert_eq!(admin.stats()["state"]["problem"], serde_json::Value::Null);
}

/// A file system of its own, which is unmounted when the value is dropped.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn new(path: &Path) -> Mounted {
        run("mount", &["-t", "tmpfs", "-o", "size=64k", "tmpfs", path.to_str().unwrap()]);
        Mounted(path.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[track_caller]
fn run(program: &str, arguments: &[&str]) {
    assert!(Command::new(program).args(arguments).status().unwrap().success(), "{arguments:?}");
}

fn can_mount(test: &str) -> bool {
    let mut missing = missing_programs(&["mount", "umount"]);
    missing.extend(missing_root("to mount a file system"));
    can_run(test, &missing)
}

fn for_lack_of_room(engine: Engine) {
    if !can_mount("state::failing::for_lack_of_room") {
        return;
    }
    let directory = StateDir::new("full");
    let mounted = Mounted::new(&directory.state());
    let tracker = directory.start(engine, 1, OPERATIONS);
    let filler = directory.state().join("filler");
    let fill = || {
        let _ = fs::write(&filler, vec![1; 64 * 1024]);
    };
    let make_room = || fs::remove_file(&filler).unwrap();
    let what = "No space left on device (os error 28): make room on its file system";
    fails(&tracker, &directory.file(), what, (&fill, &make_room));
    // And read-only.
    let again = |option: &str| {
        let options = format!("remount,{option}");
        run("mount", &["-o", &options, mounted.0.to_str().unwrap()]);
    };
    let admin = AdminClient::of(&tracker);
    again("ro");
    wait_two(&admin, FAILURES);
    assert!(health(&admin).contains("mounted read-only"), "{}", health(&admin));
    again("rw");
    wait_two(&admin, WRITES);
    assert_eq!(health(&admin), "ok\n");
    stop(tracker);
    assert_eq!(directory.names(), ["swarms.state"]);
}

fn beyond_the_limit_of_file_sizes(engine: Engine) {
    let directory = StateDir::new("limit");
    let tracker = directory.start(engine, 1, OPERATIONS);
    let pid = Pid::from_raw(tracker.pid() as i32);
    let limit = |current| {
        let limit = Rlimit { current, maximum: None };
        prlimit(pid, Resource::Fsize, limit).unwrap();
    };
    let what = "File too large (os error 27): raise the limit of file sizes";
    let file = directory.file();
    fails(&tracker, &file, what, (&|| limit(Some(60)), &|| limit(None)));
    // A stop whose write fails is a stop all the same.
    limit(Some(60));
    let before = fs::read(&file).unwrap();
    let log = stop(tracker);
    assert!(log.ends_with("stopped"), "{log}");
    assert_eq!(fs::read(&file).unwrap(), before);
    assert_eq!(directory.names(), ["swarms.state"]);
}

/// Where it may not write at the start, it says so at once.
fn without_the_right_to(engine: Engine) {
    if !can_run("state::failing::without_the_right_to", &Vec::from_iter(missing_root("to change")))
    {
        return;
    }
    let directory = StateDir::new("denied");
    let tables = format!("[privileges]\nuser = \"nobody\"\n{OPERATIONS}");
    let tracker = directory.start(engine, 1, &tables);
    tracker
        .assert_logged("cannot be written: Permission denied (os error 13): let the user of the");
    let admin = AdminClient::of(&tracker);
    wait_two(&admin, FAILURES);
    std::os::unix::fs::chown(directory.state(), Some(65534), None).unwrap();
    wait_two(&admin, WRITES);
    assert_eq!(health(&admin), "ok\n");
    stop(tracker);
}

fn without_the_directory(engine: Engine) {
    let directory = StateDir::new("vanished");
    let tracker = directory.start(engine, 1, OPERATIONS);
    let admin = AdminClient::of(&tracker);
    wait_two(&admin, WRITES);
    fs::remove_dir_all(directory.state()).unwrap();
    wait_two(&admin, FAILURES);
    let text = health(&admin);
    assert!(
        text.contains("its directory was removed: make it again and restart annulus"),
        "{text}"
    );
    let log = stop(tracker);
    assert!(log.ends_with("stopped"), "{log}");
}
