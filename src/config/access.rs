//! The keys of `[access]`.

use std::path::PathBuf;

use super::Config;
use super::key::{Key, Kind, Relation, Table, Word};
use crate::limits::{ACCESS_BAD_LINES_SHOWN, ACCESS_ENTRIES_MAX, ACCESS_LINE_BYTES_MAX};

/// Which torrents are served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// What the list means.
    pub mode: AccessMode,
    /// The list, one info hash a line; empty only if there is none, with [`AccessMode::Off`].
    /// From [`Config::load`], a relative path starts at the directory of the configuration
    /// file.
    pub file: PathBuf,
    /// What becomes of a list with bad lines.
    pub bad_lines: BadLines,
    /// Where the configuration names the file, as `FILE:LINE`, to begin messages with; empty
    /// where it does not.
    pub place: String,
}

/// What a list of info hashes means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessMode {
    /// Nothing: all torrents are served.
    #[default]
    Off,
    /// The torrents of the list are served, and no others.
    Allow,
    /// All torrents but those of the list are served.
    Deny,
}

impl Word for AccessMode {
    fn words(&self) -> &'static [&'static str] {
        &["off", "allow", "deny"]
    }
    fn index(&self) -> usize {
        *self as usize
    }
    fn set(&mut self, index: usize) {
        *self = [AccessMode::Off, AccessMode::Allow, AccessMode::Deny][index];
    }
}

/// What becomes of a list in which some lines are no info hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BadLines {
    /// It is not used.
    #[default]
    Refuse,
    /// Its other lines are used.
    Skip,
}

impl Word for BadLines {
    fn words(&self) -> &'static [&'static str] {
        &["refuse", "skip"]
    }
    fn index(&self) -> usize {
        *self as usize
    }
    fn set(&mut self, index: usize) {
        *self = [BadLines::Refuse, BadLines::Skip][index];
    }
}

pub(super) const ACCESS: Table = Table {
    name: "access",
    about: "Which torrents are served.",
    keys: &[
        Key {
            name: "mode",
            kind: Kind::Word { at: |config| &mut config.access.mode },
            about: "\"allow\" serves the torrents of the file below and no others, \"deny\" all \
                    but those, \"off\" all torrents. An announce of another torrent fails, with \
                    the advice to try again in an hour; a scrape shows zeros for it, as for one \
                    that nobody has, and a scrape of all torrents leaves it out.",
            reason: "a public tracker serves everybody.",
        },
        Key {
            name: "file",
            kind: Kind::PathOrNone { at: |config| &mut config.access.file },
            about: "The list: one info hash a line, 40 hex digits in either case, or the 64 of \
                    a v2 torrent, of which the first 40 count as they do in announces. What \
                    follows after white space or # is a comment; blank lines are nothing. A \
                    line may have 1024 bytes, and a list 50 million info hashes. A relative \
                    path starts at the directory of this file. SIGHUP and SIGUSR1 have the list \
                    read again; if that fails, the old one stays.",
            reason: "none.",
        },
        Key {
            name: "bad_lines",
            kind: Kind::Word { at: |config| &mut config.access.bad_lines },
            about: "What becomes of a list with lines that are no info hashes. \"refuse\": it is \
                    not used, so the tracker does not start, or keeps the old one. \"skip\": \
                    the other lines are used. The log names the first 20 of them either way.",
            reason: "a list that is half read would let in, or keep out, what it should not.",
        },
    ],
    relations: &[Relation {
        keys: ["access.file", "access.mode"],
        broken: |Config { access, .. }| {
            (access.mode != AccessMode::Off && access.file.as_os_str().is_empty())
                .then(|| "the path of a file".to_string())
        },
    }],
};

// What the text above says.
const _: () = assert!(ACCESS_LINE_BYTES_MAX == 1024 && ACCESS_ENTRIES_MAX == 50_000_000);
const _: () = assert!(ACCESS_BAD_LINES_SHOWN == 20);
