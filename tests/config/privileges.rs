//! The keys of `[privileges]`, and the accounts and the directory that they name.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};

use annulus::config::Config;

use super::{ConfigDir, refused};

#[test]
fn a_relative_chroot_starts_where_the_file_is() {
    let dir = ConfigDir::new("chroot-path");
    let path = dir.path("annulus.toml");
    for (named, meant) in [("empty", dir.path("empty")), ("/empty", "/empty".into())] {
        fs::write(&path, format!("[privileges]\nuser = \"1\"\nchroot = \"{named}\"\n")).unwrap();
        let privileges = Config::load(Some(&path)).unwrap().privileges;
        assert_eq!(privileges.chroot, meant);
        assert_eq!(privileges.places.chroot, format!("{}:3", path.display()));
    }
    fs::write(&path, "[privileges]\nuser = \"\"\nchroot = \"\"\n").unwrap();
    assert_eq!(Config::load(Some(&path)).unwrap(), Config::default());
}

#[test]
fn group_and_chroot_need_a_user() {
    refused(
        "account-keys",
        &[
            (
                "[privileges]\ngroup = \"nogroup\"\n",
                &["annulus.toml:2: privileges.user = \"\" (the default): must be the name of a \
                   user, because of privileges.group = \"nogroup\""],
            ),
            (
                "[privileges]\nchroot = \"/var/empty\"\nuser = \"\"\n",
                &["annulus.toml:3: privileges.user = \"\": must be the name of a user, because \
                   of privileges.chroot = \"/var/empty\" (line 2)"],
            ),
            (
                "[privileges]\nuser = 65534\ngroup = [\"a\"]\nchroot = 5\nlandlock = \"auto\"\n",
                &[
                    "annulus.toml:2: privileges.user = 65534: expected a name or a number, in \
                     quotes, or \"\"",
                    "annulus.toml:3: privileges.group = [\"a\"]: expected a name or a number, in \
                     quotes, or \"\"",
                    "annulus.toml:4: privileges.chroot = 5: expected the path of a file, in \
                     quotes, or \"\"",
                    "annulus.toml:5: privileges.landlock = \"auto\": expected true or false",
                ],
            ),
            (
                "[privilege]\nuser = \"nobody\"\n[privileges]\nusers = \"nobody\"\n",
                &[
                    "annulus.toml:1: unknown table \"privilege\"; did you mean \"privileges\"?",
                    "annulus.toml:4: unknown key \"privileges.users\"; did you mean \
                     \"privileges.user\"?",
                ],
            ),
        ],
    );
}

#[test]
fn accounts_must_exist() {
    let cure = "create it, or give its number (those of a directory service are known by number \
                only)";
    let root = "root keeps all privileges: name another user, or leave it empty";
    refused(
        "accounts",
        &[
            (
                "[privileges]\nuser = \"nobdy\"\n",
                &[&format!(
                    "annulus.toml:2: privileges.user = \"nobdy\": no such user in /etc/passwd: \
                     {cure}"
                )],
            ),
            (
                "[privileges]\nuser = \"nobody\"\ngroup = \"nogrp\"\n",
                &[&format!(
                    "annulus.toml:3: privileges.group = \"nogrp\": no such group in /etc/group: \
                     {cure}"
                )],
            ),
            (
                "[privileges]\n\nuser = \"root\"\n",
                &[&format!("annulus.toml:3: privileges.user = \"root\": {root}")],
            ),
            (
                "[privileges]\nuser = \"0\"\n",
                &[&format!("annulus.toml:2: privileges.user = \"0\": {root}")],
            ),
        ],
    );
    let dir = ConfigDir::new("accounts-good");
    for account in ["user = \"nobody\"", "user = \"12345\"", "user = \"nobody\"\ngroup = \"0\""] {
        let said = dir.check(format!("[privileges]\n{account}\n"));
        assert!(said.status.success(), "{account}: {said:?}");
    }
}

/// All that is wrong with each directory of the path, and the cure.
#[test]
fn a_chroot_must_be_safe_from_the_user() {
    let dir = ConfigDir::new("chroot");
    let made = |name: &str, mode: u32, owner: Option<(u32, u32)>| {
        let path = dir.path(name);
        fs::create_dir_all(&path).unwrap();
        if let Some((user, group)) = owner {
            chown(&path, Some(user), Some(group)).expect("root, which the tests of owners need");
        }
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    };
    made("good", 0o755, None);
    made("good-group", 0o775, Some((0, 7)));
    made("own", 0o555, Some((12345, 0)));
    made("group", 0o775, Some((0, 12346)));
    made("all", 0o1777, None);
    fs::write(dir.path("file"), "").unwrap();
    let check = |directory: &str| {
        let account = "user = \"12345\"\ngroup = \"12346\"";
        let output = dir.check(format!("[privileges]\n{account}\nchroot = \"{directory}\"\n"));
        String::from_utf8(output.stderr).unwrap()
    };
    for good in ["good", "good-group"] {
        assert_eq!(check(good), "", "{good}");
    }
    for (directory, what) in [
        ("none", "No such file or directory (os error 2): make it an empty directory of root's"),
        ("file", "not a directory: make it an empty directory of root's: mkdir -m 755 file"),
        ("own", "user 12345 can write to it, and so set traps: chown root:root own"),
        ("group", "user 12345 can write to it, and so set traps: chown root:root group"),
        ("all", "user 12345 can write to it, and so set traps: chown root:root all"),
    ] {
        let said = check(directory);
        let begin = format!("annulus.toml:4: privileges.chroot = \"{directory}\": {what}");
        assert!(said.starts_with(&begin) && said.lines().count() == 1, "{directory}: {said}");
    }
}
