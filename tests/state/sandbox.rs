//! By another user, from a chroot and under Landlock; and what a thread that hangs can delay.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;

use super::{NEVER, StateDir, ready, stop};
use crate::activation::traced::Traced;
use crate::support::admin::{AdminClient, OPERATIONS};
use crate::support::requirements::{can_run, missing_root};
use crate::support::torrent::TestTorrent;
use crate::support::tracker::{Engine, TIMEOUT, test_both_engines, wait_for};

test_both_engines!(
    for_another_user,
    of_root_without_its_capabilities,
    a_write_that_hangs_delays_nobody,
);

const NOBODY: u32 = 65534;

fn for_another_user(engine: Engine) {
    if !can_run("state::sandbox::for_another_user", &Vec::from_iter(missing_root("to be dropped")))
    {
        return;
    }
    let directory = StateDir::new("user");
    fs::create_dir(directory.path().join("empty")).unwrap();
    chown(directory.state(), Some(NOBODY), Some(NOBODY)).unwrap();
    fs::set_permissions(directory.state(), Permissions::from_mode(0o700)).unwrap();
    let user = "[privileges]\nuser = \"nobody\"\n";
    for (number, more) in ["", "chroot = \"empty\"\n", "landlock = false\n"].into_iter().enumerate()
    {
        let tracker = directory.start(engine, 1, &format!("{user}{more}{OPERATIONS}"));
        // What those before have stored.
        let complete = TestTorrent::new(&tracker, 1).scrape().complete;
        assert_eq!(complete, number as i64, "{more}");
        assert!(!tracker.log().contains("error"), "{}", tracker.log());
        TestTorrent::new(&tracker, 1).announce(1001 + number as u16, "left=0");
        let admin = AdminClient::of(&tracker);
        let writes = || admin.sample("annulus_state_writes_total");
        wait_for("writes", || (writes() >= 2.0).then_some(()));
        let written = fs::metadata(directory.file()).unwrap();
        assert_eq!((written.uid(), written.mode() & 0o777), (NOBODY, 0o600));
        let log = stop(tracker);
        assert!(!log.contains("error"), "{log}");
    }
    // A damaged file is moved aside from there, too.
    fs::write(directory.file(), "?").unwrap();
    let log = stop(directory.start(engine, NEVER, &format!("{user}chroot = \"empty\"\n")));
    assert!(log.contains("moved to "), "{log}");
    assert_eq!(directory.names(), ["swarms.state", "swarms.state.foreign-1"]);
}

/// Without a user, root keeps only the capability to read.
fn of_root_without_its_capabilities(engine: Engine) {
    let test = "state::sandbox::of_root_without_its_capabilities";
    if !can_run(test, &Vec::from_iter(missing_root("which are lost"))) {
        return;
    }
    let directory = StateDir::new("root");
    let tracker = directory.start(engine, NEVER, "");
    TestTorrent::new(&tracker, 1).announce(1001, "left=0");
    stop(tracker);
    let tracker = directory.start(engine, NEVER, "");
    assert_eq!(TestTorrent::new(&tracker, 1).scrape().complete, 1);
    stop(tracker);
    chown(directory.state(), Some(NOBODY), Some(NOBODY)).unwrap();
    let tracker = directory.start(engine, NEVER, "");
    tracker.assert_logged("cannot be written: Permission denied");
    stop(tracker);
}

/// A debugger stops the thread in the middle of a write, as a disk might.
fn a_write_that_hangs_delays_nobody(engine: Engine) {
    let directory = StateDir::new("hung");
    let manager = directory.path().join("manager");
    let socket = UnixDatagram::bind(&manager).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    let variable = format!("NOTIFY_SOCKET={}", manager.display());
    let mut tracker = ready(directory.launch(engine, 1, OPERATIONS, &["env", &variable]));
    let torrent = TestTorrent::new(&tracker, 1);
    torrent.announce(1001, "left=0");
    let admin = AdminClient::of(&tracker);
    let writes = || admin.sample("annulus_state_writes_total");
    wait_for("writes", || (writes() >= 2.0).then_some(()));
    let unfinished = directory.state().join("swarms.state.new");
    let hung = wait_for("a write to be stopped", || {
        if !unfinished.exists() {
            return None;
        }
        let traced = Traced::stop(tracker.pid(), "state");
        // It may have ended before.
        unfinished.exists().then_some(traced)
    });
    torrent.announce(1002, "left=0");
    assert_eq!(torrent.scrape().complete, 2);
    assert_eq!(admin.get("/health").body, b"ok\n");
    let before = fs::read(directory.file()).unwrap();
    let told = |what: &str| {
        let mut message = [0; 4096];
        while let Ok(length) = socket.recv(&mut message) {
            if String::from_utf8_lossy(&message[..length]).contains(what) {
                return;
            }
        }
        panic!("{what:?} was not told");
    };
    tracker.signal("TERM");
    told("STOPPING=1");
    told("EXTEND_TIMEOUT_USEC=60000000\nSTATUS=writing the swarms to disk");
    assert!(tracker.is_running());
    // Only who asks twice does not want it to be written.
    tracker.signal("TERM");
    hung.wait_end();
    let (status, log) = tracker.wait_exit();
    assert!(status.success(), "{log}");
    let what = "error: state: a second signal to stop came while it was written: ";
    assert!(log.contains(what) && log.ends_with("stopped"), "{log}");
    assert_eq!(fs::read(directory.file()).unwrap(), before);
    let tracker = directory.start(engine, NEVER, "");
    assert_eq!(TestTorrent::new(&tracker, 1).scrape().complete, 1);
    stop(tracker);
}
