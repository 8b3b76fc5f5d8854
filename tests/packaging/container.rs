//! The image of the Dockerfile, run by a container runtime under seccomp profiles.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{dist, printed};
use crate::support::redis::{REDIS, RedisServer};
use crate::support::requirements::{TempDir, can_run, missing_programs};
use crate::support::tracker::Tracker;

/// A default profile of Docker's form, from Debian's golang-github-containers-common.
const DEFAULT: &str = "/usr/share/containers/seccomp.json";

fn is_here(test: &str) -> bool {
    let mut missing = missing_programs(&["runc", "setpriv", "python3", REDIS]);
    if !Path::new(DEFAULT).exists() {
        missing.push(format!("the file {DEFAULT}"));
    }
    can_run(test, &missing)
}

/// Runs the image under this profile, until it listens, has logged its engine and is connected to a
/// server of a cluster.
#[track_caller]
pub(crate) fn serves_with(engine: &str, profile: &Path) {
    let runner = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/packaging/container.py");
    let server = RedisServer::start("");
    let config = format!(
        "listen = [\"127.0.0.1:0\"]\nworkers = 2\n[cluster]\nserver = \"{}\"\n",
        server.url()
    );
    let mut tracker = Tracker::launch(&config, &["python3", runner, profile.to_str().unwrap()]);
    tracker.assert_logged("listening on 127.0.0.1:");
    tracker.assert_logged(engine);
    tracker.assert_logged("cluster: connected to ");
    tracker.signal("TERM");
    let (status, log) = tracker.wait_exit();
    assert!(status.success() && log.contains("stopped"), "{log}");
}

#[test]
fn the_default_profile_leaves_epoll() {
    if !is_here("container::the_default_profile_leaves_epoll") {
        return;
    }
    let scratch = TempDir::new("default-profile");
    // Docker's profile returns EPERM for all calls that it does not list, this one ENOSYS.
    let text = fs::read_to_string(DEFAULT).unwrap();
    let docker = text.replace("\"defaultErrnoRet\": 38", "\"defaultErrnoRet\": 1");
    assert_ne!(docker, text);
    let profile = scratch.path().join("docker.json");
    fs::write(&profile, docker).unwrap();
    serves_with("engine epoll, because a seccomp filter refuses io_uring_setup", &profile);
}

#[test]
fn the_widened_profile_gives_io_uring() {
    if !is_here("container::the_widened_profile_gives_io_uring") {
        return;
    }
    let scratch = TempDir::new("widened-profile");
    let profile = scratch.path().join("widened.json");
    fs::write(&profile, printed(Command::new(dist("seccomp")).arg(DEFAULT))).unwrap();
    serves_with("engine io_uring, ", &profile);
}

#[test]
fn an_invalid_profile_is_refused() {
    let output = Command::new(dist("seccomp")).arg(dist("Dockerfile")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("not a seccomp profile"));
    assert!(output.stdout.is_empty());
}
