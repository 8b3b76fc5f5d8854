//! Starts that must fail, with their causes and cures.

use super::place::{Layout, Public, is_root};
use crate::support::tracker::{Engine, Tracker, test_both_engines};

test_both_engines!(
    what_does_not_exist,
    by_an_ordinary_user,
    without_the_privileges_for_it,
    files_that_only_root_could_read,
);

/// Asserts that a tracker with these keys does not start, and logs a line with all these parts.
#[track_caller]
fn refused(engine: Engine, privileges: &str, runner: &[&str], parts: &[&str]) {
    let files = Layout::new();
    let text = files.config(engine, privileges);
    let (status, log) = Tracker::launch_in(files.directory(), &text, runner).wait_exit();
    assert_eq!(status.code(), Some(1), "{log}");
    let says_all = |line: &str| parts.iter().all(|part| line.contains(part));
    assert!(log.lines().any(says_all), "no line with {parts:?} in {log}");
    assert!(!log.contains("listening"), "{log}");
}

fn what_does_not_exist(engine: Engine) {
    if !is_root() {
        return;
    }
    let user = [".toml:11: privileges.user = \"nobdy\": no such user in /etc/passwd: create it"];
    refused(engine, "user = \"nobdy\"", &[], &user);
    let chroot = "user = \"nobody\"\nchroot = \"none\"";
    let directory = [".toml:12: privileges.chroot = ", "No such file or directory", "mkdir -m 755"];
    refused(engine, chroot, &[], &directory);
}

fn by_an_ordinary_user(engine: Engine) {
    if !is_root() {
        return;
    }
    let public = Public::new(&format!("by-nobody-{}", engine.name()));
    let engine = engine.name();
    let text = format!("engine = \"{engine}\"\n[privileges]\nuser = \"nobody\"\n");
    let (status, log) = public.launch_as_nobody(&text, &[]).wait_exit();
    assert_eq!(status.code(), Some(1), "{log}");
    let what = ".toml:3: privileges.user = \"nobody\": only root can become another user: start \
                it by root (CAP_SETUID and CAP_SETGID), or leave the user empty";
    assert!(log.ends_with(what), "{log}");
}

fn without_the_privileges_for_it(engine: Engine) {
    if !is_root() {
        return;
    }
    let chroot = "user = \"nobody\"\nchroot = \"empty\"";
    let parts = [".toml:12: privileges.chroot = ", "not permitted", "CAP_SYS_CHROOT is needed"];
    refused(engine, chroot, &["setpriv", "--bounding-set=-sys_chroot"], &parts);
    let parts = ["privileges.user = ", "only root can become another user"];
    refused(engine, chroot, &["setpriv", "--bounding-set=-setuid"], &parts);
}

/// A file that could not be reloaded is refused at the start.
fn files_that_only_root_could_read(engine: Engine) {
    if !is_root() {
        return;
    }
    let runner = ["setpriv", "--bounding-set=-dac_read_search,-dac_override"];
    let parts = ["live/key.pem: cannot be read: Permission denied (os error 13)"];
    refused(engine, "user = \"nobody\"", &runner, &parts);
}
