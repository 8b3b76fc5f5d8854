//! The keys of `[privileges]`.

use std::path::PathBuf;

use super::Config;
use super::key::{Key, Kind, Relation, Table};

/// What the tracker may do once it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Privileges {
    /// Whom it acts for: a name of /etc/passwd or a number; empty for whoever started it.
    pub user: String,
    /// The same of groups and /etc/group; empty for the user's own. Needs a `user`.
    pub group: String,
    /// What it sees as the root of the file system; empty for the whole. From
    /// [`Config::load`], a relative path starts at the directory of the configuration file.
    /// Needs a `user`.
    pub chroot: PathBuf,
    /// Whether Landlock is used where the kernel has it.
    pub landlock: bool,
    /// Where the configuration has these.
    pub places: Places,
}

/// Places as `FILE:LINE`, to begin messages with; empty where the key is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Of `user`.
    pub user: String,
    /// Of `group`.
    pub group: String,
    /// Of `chroot`.
    pub chroot: String,
}

impl Default for Privileges {
    fn default() -> Privileges {
        Privileges {
            user: String::new(),
            group: String::new(),
            chroot: PathBuf::new(),
            landlock: true,
            places: Places::default(),
        }
    }
}

pub(super) const PRIVILEGES: Table = Table {
    name: "privileges",
    about: "What the tracker may do once it listens. Capabilities, such as that for ports below \
            1024, it gives up in any case, and what it executes could get no more.",
    keys: &[
        Key {
            name: "user",
            kind: Kind::Account { at: |config| &mut config.privileges.user },
            about: "The user that the tracker, started by root, becomes: a name of /etc/passwd, \
                    or a number. It listens before that, and a second process stays to open the \
                    files that are named here when they are to be read again, so certificates \
                    and lists may go on being readable by root alone.",
            reason: "whoever started it; under systemd, User= does the same without root.",
        },
        Key {
            name: "group",
            kind: Kind::Account { at: |config| &mut config.privileges.group },
            about: "Its group, and the only one: a name of /etc/group, or a number. Needs a user.",
            reason: "the user's own group, or if /etc/passwd knows none, that of the same number.",
        },
        Key {
            name: "chroot",
            kind: Kind::PathOrNone { at: |config| &mut config.privileges.chroot },
            about: "A directory that becomes the root of all it sees, best an empty one. The \
                    user must not be able to write to it. Paths here are not seen from there: \
                    they stay as they are, and a relative one starts at the directory of this \
                    file. Needs a user.",
            reason: "none, as Landlock hides more.",
        },
        Key {
            name: "landlock",
            kind: Kind::Switch { at: |config| &mut config.privileges.landlock },
            about: "Whether Landlock, where the kernel has it (Linux 5.13), takes from the \
                    tracker all files, connections to others and signals. With a user, it can \
                    open no file at all; without, only read what is in the directories of the \
                    files named here, those that links lead to at the start included.",
            reason: "nothing of that is needed.",
        },
    ],
    relations: &[
        Relation {
            keys: ["privileges.user", "privileges.group"],
            broken: |Config { privileges, .. }| {
                (privileges.user.is_empty() && !privileges.group.is_empty())
                    .then(|| "the name of a user".to_string())
            },
        },
        Relation {
            keys: ["privileges.user", "privileges.chroot"],
            broken: |Config { privileges, .. }| {
                (privileges.user.is_empty() && !privileges.chroot.as_os_str().is_empty())
                    .then(|| "the name of a user".to_string())
            },
        },
    ],
};
