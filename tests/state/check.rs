//! What --check-config says of a state that could not be written.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use super::StateDir;
use crate::support::requirements::{can_run, missing_root};
use crate::support::tracker::ANNULUS;

/// The exit status and the lines of `--check-config` with this configuration.
fn check(directory: &StateDir, text: &str, variable: Option<&Path>) -> (Option<i32>, String) {
    fs::write(directory.path().join("annulus.toml"), text).unwrap();
    let mut program = Command::new(ANNULUS);
    program.args(["--check-config", "-c", "annulus.toml"]).current_dir(directory.path());
    program.envs(variable.map(|path| ("STATE_DIRECTORY", path)));
    let output = program.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn names_what_is_wrong_and_the_cure() {
    let directory = StateDir::new("check");
    fs::write(directory.path().join("plain"), "").unwrap();
    for (file, what) in [
        (
            "none/swarms.state",
            "annulus.toml:3: state.file = \"none/swarms.state\": its directory none cannot be \
             opened: No such file or directory (os error 2): make it, and let the user of the \
             tracker read and write it (StateDirectory= of a systemd unit does)\n",
        ),
        ("plain/swarms.state", "its directory plain cannot be opened: Not a directory"),
        ("state", "annulus.toml:3: state.file = \"state\": it is not a file: name a file"),
        ("state/", "annulus.toml:3: state.file = \"state/\": expected the path of a file (not of"),
    ] {
        let text = format!("workers = 1\n[state]\nfile = \"{file}\"\n");
        let (status, said) = check(&directory, &text, None);
        assert!(status == Some(1) && said.contains(what), "{what}\n{said}");
    }
    let good = "[state]\nfile = \"state/swarms.state\"\n";
    assert_eq!(check(&directory, good, None), (Some(0), String::new()));
    // It leaves nothing behind.
    assert_eq!(directory.names(), Vec::<String>::new());
    let (status, said) = check(&directory, "", Some(&directory.path().join("none")));
    let what = "STATE_DIRECTORY=\"";
    assert!(status == Some(1) && said.starts_with(what), "{said}");
    assert_eq!(check(&directory, "", Some(&directory.state())), (Some(0), String::new()));
}

#[test]
fn knows_the_user_that_the_tracker_becomes() {
    let test = "state::check::knows_the_user_that_the_tracker_becomes";
    if !can_run(test, &Vec::from_iter(missing_root("to have files of others"))) {
        return;
    }
    let directory = StateDir::new("check-user");
    let nobody = "[state]\nfile = \"state/swarms.state\"\n[privileges]\nuser = \"nobody\"\n";
    let refused = |what: &str| {
        let (status, said) = check(&directory, nobody, None);
        assert!(status == Some(1) && said.contains(what), "{what}\n{said}");
    };
    let what = "annulus.toml:2: state.file = \"state/swarms.state\": it cannot be written: \
                Permission denied (os error 13): user 65534 must be able to write to its directory";
    refused(what);
    for (owner, group, mode) in [(65534, 0, 0o700), (0, 65534, 0o770), (0, 0, 0o777)] {
        chown(directory.state(), Some(owner), Some(group)).unwrap();
        fs::set_permissions(directory.state(), Permissions::from_mode(mode)).unwrap();
        assert_eq!(check(&directory, nobody, None), (Some(0), String::new()), "{mode:o}");
    }
    // A file that it could not read would be moved aside.
    fs::write(directory.file(), "").unwrap();
    fs::set_permissions(directory.file(), Permissions::from_mode(0o600)).unwrap();
    refused(what);
    fs::remove_file(directory.file()).unwrap();
    // Root checks for whom it does not know.
    chown(directory.state(), Some(65534), Some(65534)).unwrap();
    fs::set_permissions(directory.state(), Permissions::from_mode(0o700)).unwrap();
    let (status, said) = check(&directory, "[state]\nfile = \"state/swarms.state\"\n", None);
    let warned = said.contains("Permission denied") && said.contains("root itself gives up");
    assert!(status == Some(0) && warned, "{said}");
}
