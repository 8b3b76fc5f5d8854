//! What the program says, one line an event, on standard error.
//!
//! Nothing is printed as it came from outside: control characters are escaped, so that no
//! client and no file can forge a line or talk to a terminal.

use std::env;
use std::fmt::{self, Write as _};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use annulus_ring::stderr_takes_a_line;
use time::OffsetDateTime;

use crate::limits::LOG_PAUSE_S;

/// How much an operator needs to know of something, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It does not do what it is for.
    Error,
    /// It goes on, but something should be done.
    Warning,
    /// It goes on as it should.
    Info,
}

/// What stands before the text of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// [`Format::Journald`] if standard error is systemd's journal, else
    /// [`Format::Timestamps`].
    Auto,
    /// The time in UTC, as RFC 3339 has it.
    Timestamps,
    /// A priority that the journal takes off again (sd-daemon(3)): it knows the time.
    Journald,
    /// The program's name.
    Plain,
}

/// How the whole process logs.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    /// Lines of this level and those more urgent are printed.
    pub level: Level,
    /// Never [`Format::Auto`] once it is in use.
    pub format: Format,
    /// Seconds since 1970, for timestamps.
    pub clock: fn() -> i64,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Lines that nobody took, since the last that somebody did.
static LOST: AtomicU32 = AtomicU32::new(0);

impl Log {
    /// Has the process log like this from now on; only the first call counts.
    pub fn begin(self) {
        let format = match self.format {
            Format::Auto if is_journal() => Format::Journald,
            Format::Auto => Format::Timestamps,
            chosen => chosen,
        };
        let _ = LOG.set(Log { format, ..self });
    }

    /// The line for `text`, its end included.
    fn line(&self, level: Level, text: fmt::Arguments<'_>) -> String {
        let mut line = match (self.format, level) {
            (Format::Journald, Level::Error) => "<3>".to_owned(),
            (Format::Journald, Level::Warning) => "<4>".to_owned(),
            (Format::Journald, Level::Info) => "<6>".to_owned(),
            (Format::Timestamps, _) => format!("{} annulus: ", timestamp((self.clock)())),
            (Format::Plain | Format::Auto, _) => "annulus: ".to_owned(),
        };
        line += match (self.format, level) {
            (Format::Journald, _) | (_, Level::Info) => "",
            (_, Level::Warning) => "warning: ",
            (_, Level::Error) => "error: ",
        };
        // Writing to a String does not fail.
        let _ = write!(Escaping(&mut line), "{text}");
        line.push('\n');
        line
    }
}

/// Says something, if the log's level is for it. Before [`Log::begin`] all is said.
pub fn say(level: Level, text: fmt::Arguments<'_>) {
    let default = Log { level: Level::Info, format: Format::Plain, clock: || 0 };
    let log = LOG.get().unwrap_or(&default);
    if level > log.level {
        return;
    }
    if !stderr_takes_a_line() {
        // A pipe that is full, because nobody reads it: to wait would stop whoever serves.
        LOST.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let mut line = match LOST.swap(0, Ordering::Relaxed) {
        0 => String::new(),
        lost => log.line(Level::Warning, format_args!("{lost} lines of this log were not read")),
    };
    line += &log.line(level, text);
    // In one piece, lest two threads' lines mix. A log that nobody can read any more is no reason
    // to stop.
    let _ = io::stderr().write_all(line.as_bytes());
}

/// Why the program cannot start or go on, one line or more, as they stand in the log. Before
/// [`Log::begin`] they are left as they are, but for the priority that the journal wants.
pub fn failure(text: &str) -> String {
    let lines = |log: &Log| -> String {
        text.lines().map(|line| log.line(Level::Error, format_args!("{line}"))).collect()
    };
    let journal = Log { level: Level::Error, format: Format::Journald, clock: || 0 };
    match LOG.get() {
        Some(log) => lines(log).trim_end().to_owned(),
        None if is_journal() => lines(&journal).trim_end().to_owned(),
        None => text.to_owned(),
    }
}

/// Says that something is not done.
pub fn error(text: fmt::Arguments<'_>) {
    say(Level::Error, text);
}

/// Says that something should be looked into.
pub fn warning(text: fmt::Arguments<'_>) {
    say(Level::Warning, text);
}

/// Says something of note.
pub fn info(text: fmt::Arguments<'_>) {
    say(Level::Info, text);
}

/// A cause of warnings that clients can provoke: one line in [`LOG_PAUSE_S`] seconds.
#[derive(Debug, Default)]
pub struct Limited {
    next_s: u32,
    withheld: u32,
}

impl Limited {
    /// Says it, or counts it for the next time.
    pub fn warning(&mut self, now_s: u32, text: fmt::Arguments<'_>) {
        if now_s < self.next_s {
            self.withheld = self.withheld.saturating_add(1);
            return;
        }
        match std::mem::take(&mut self.withheld) {
            0 => warning(text),
            withheld => warning(format_args!("{text} ({withheld} more of these since the last)")),
        }
        self.next_s = now_s.saturating_add(LOG_PAUSE_S);
    }
}

/// Writes control characters as `\u{1b}`.
struct Escaping<'a>(&'a mut String);

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character.is_control() {
                true => self.0.extend(character.escape_unicode()),
                false => self.0.push(character),
            }
        }
        Ok(())
    }
}

/// As in 2026-11-24T01:49:00Z.
fn timestamp(unix_s: i64) -> String {
    // Of no clock in this millennium.
    let Ok(time) = OffsetDateTime::from_unix_timestamp(unix_s) else { return unix_s.to_string() };
    let (hour, minute, second) = time.to_hms();
    format!("{}T{hour:02}:{minute:02}:{second:02}Z", time.date())
}

/// Whether standard error is the journal's: systemd names its device and inode, in a variable
/// that also those inherit whose standard error is something else.
fn is_journal() -> bool {
    let (Ok(stream), Ok(stderr)) = (env::var("JOURNAL_STREAM"), fs::metadata("/proc/self/fd/2"))
    else {
        return false;
    };
    stream == format!("{}:{}", stderr.dev(), stderr.ino())
}

#[cfg(test)]
mod tests {
    use super::{Format, Level, Log};

    fn line(format: Format, level: Level, text: &str) -> String {
        let log = Log { level: Level::Info, format, clock: || 1_795_484_940 };
        log.line(level, format_args!("{text}"))
    }

    #[test]
    fn a_line_has_its_time_or_its_priority() {
        for (format, level, expected) in [
            (Format::Plain, Level::Info, "annulus: said\n"),
            (Format::Plain, Level::Warning, "annulus: warning: said\n"),
            (Format::Timestamps, Level::Info, "2026-11-24T01:49:00Z annulus: said\n"),
            (Format::Timestamps, Level::Error, "2026-11-24T01:49:00Z annulus: error: said\n"),
            (Format::Journald, Level::Info, "<6>said\n"),
            (Format::Journald, Level::Warning, "<4>said\n"),
            (Format::Journald, Level::Error, "<3>said\n"),
        ] {
            assert_eq!(line(format, level, "said"), expected);
        }
    }

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let text = "a\nannulus: forged\r\u{1b}[31m\u{85}\u{7f}é\0";
        let escaped = "a\\u{a}annulus: forged\\u{d}\\u{1b}[31m\\u{85}\\u{7f}é\\u{0}";
        assert_eq!(line(Format::Plain, Level::Info, text), format!("annulus: {escaped}\n"));
    }
}
