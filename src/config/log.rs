//! The keys of `[log]`.

use super::key::{Key, Kind, Table, Word};
use crate::log::{Format, Level};

/// What is said on standard error, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least urgent that is said.
    pub level: Level,
    /// What stands before each line.
    pub format: Format,
}

impl Default for Log {
    fn default() -> Log {
        Log { level: Level::Info, format: Format::Auto }
    }
}

impl Word for Level {
    fn words(&self) -> &'static [&'static str] {
        &["error", "warning", "info"]
    }
    fn index(&self) -> usize {
        *self as usize
    }
    fn set(&mut self, index: usize) {
        *self = [Level::Error, Level::Warning, Level::Info][index];
    }
}

impl Word for Format {
    fn words(&self) -> &'static [&'static str] {
        &["auto", "timestamps", "journald", "plain"]
    }
    fn index(&self) -> usize {
        *self as usize
    }
    fn set(&mut self, index: usize) {
        *self = [Format::Auto, Format::Timestamps, Format::Journald, Format::Plain][index];
    }
}

pub(super) const LOG: Table = Table {
    name: "log",
    about: "What is said on standard error, one line an event.",
    keys: &[
        Key {
            name: "level",
            kind: Kind::Word { at: |config| &mut config.log.level },
            about: "The least urgent that is said. Warnings that clients can provoke come at \
                    most once in ten seconds for each cause and worker, with the count of the \
                    others.",
            reason: "a start takes a few lines, and then little happens.",
        },
        Key {
            name: "format",
            kind: Kind::Word { at: |config| &mut config.log.format },
            about: "What stands before each line: the time in UTC, a priority for systemd's \
                    journal (which knows the time), or only the program's name. \"auto\" tells \
                    by JOURNAL_STREAM whether the journal listens, and else takes timestamps.",
            reason: "right under systemd and everywhere else.",
        },
    ],
    relations: &[],
};
