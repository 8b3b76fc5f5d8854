//! What the program says, one line an event, on standard error.
//!
//! Nothing is printed as it came from outside: control characters are escaped, so that no
//! client and no file can forge a line or talk to a terminal. And nobody waits for whoever reads
//! it: see [`queue`].

mod queue;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::env;
use std::fmt::{self, Write as _};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic::{self, PanicHookInfo};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use time::OffsetDateTime;

use crate::limits::{LOG_FLUSH_S_MAX, LOG_LINE_BYTES_MAX, LOG_PAUSE_S};
use queue::LogQueue;

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
pub struct Logger {
    /// Lines of this level and those more urgent are printed.
    pub level: Level,
    /// Never [`Format::Auto`] once it is in use.
    pub format: Format,
    /// Seconds since 1970, for timestamps.
    pub clock: fn() -> i64,
}

static LOG: OnceLock<Logger> = OnceLock::new();

static QUEUE: LogQueue = LogQueue::new(|missing| {
    let plural = if missing == 1 { " was" } else { "s were" };
    let text =
        format_args!("{missing} line{plural} dropped here: the lines of this log were not read");
    log().line(Level::Warning, text)
});

impl Logger {
    /// Has the process log like this from now on, panics included; only the first call counts.
    pub fn begin(self) {
        let format = match self.format {
            Format::Auto if is_journal() => Format::Journald,
            Format::Auto => Format::Timestamps,
            chosen => chosen,
        };
        if LOG.set(Logger { format, ..self }).is_ok() {
            panic::set_hook(Box::new(say_panic));
        }
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
        if line.len() > LOG_LINE_BYTES_MAX {
            let kept = line.floor_char_boundary(LOG_LINE_BYTES_MAX);
            let cut = line.split_off(kept).len();
            let _ = write!(line, "... ({cut} more bytes)");
        }
        line.push('\n');
        line
    }
}

/// How the process logs. Before [`Logger::begin`] all is said, and nothing before the text.
fn log() -> Logger {
    LOG.get().copied().unwrap_or(Logger { level: Level::Info, format: Format::Plain, clock: || 0 })
}

/// Says something, if the log's level is for it. It never waits: what cannot be written at once
/// is queued, and what finds no room in the queue is counted, which the log tells later.
pub fn say(level: Level, text: fmt::Arguments<'_>) {
    let log = log();
    if level <= log.level {
        QUEUE.add(&log.line(level, text));
    }
}

/// Has a thread write what is said from now on. To be called when the process has given up its
/// power, for which it must not have a second thread.
///
/// # Errors
/// There cannot be one more thread.
pub fn start_thread() -> io::Result<()> {
    QUEUE.start_thread()
}

/// Waits until what was said is written; if nobody reads it, for [`LOG_FLUSH_S_MAX`] seconds. To be
/// called before the process ends.
pub fn flush() {
    QUEUE.flush(Duration::from_secs(LOG_FLUSH_S_MAX));
}

/// Says why the program cannot start or go on, one line or more. Before [`Logger::begin`] they are
/// left as they are, but for the priority that the journal wants.
pub fn failure(text: &str) {
    let journal = Logger { level: Level::Error, format: Format::Journald, clock: || 0 };
    for line in text.lines() {
        match LOG.get() {
            Some(_) => error(format_args!("{line}")),
            None if is_journal() => QUEUE.add(&journal.line(Level::Error, format_args!("{line}"))),
            None => QUEUE.add(&format!("{line}\n")),
        }
    }
}

/// Says that a thread has panicked, as the standard library does, but without waiting for whoever
/// reads it, which would keep the process from its end.
fn say_panic(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let place = panic.location().map_or(String::new(), |place| format!(" at {place}"));
    let what = panic.payload_as_str().unwrap_or("no text");
    error(format_args!("thread '{thread}' panicked{place}: {what}"));
    // Only where the environment asks for it.
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        backtrace.to_string().lines().for_each(|line| error(format_args!("{line}")));
    }
    flush();
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
pub struct WarningLimiter {
    next_s: u32,
    withheld: u32,
}

impl WarningLimiter {
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
    use super::{Format, LOG_LINE_BYTES_MAX, Level, Logger};

    fn line(format: Format, level: Level, text: &str) -> String {
        let log = Logger { level: Level::Info, format, clock: || 1_795_484_940 };
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

    #[test]
    fn a_line_is_cut_where_a_character_ends() {
        let fits = "é".repeat((LOG_LINE_BYTES_MAX - "annulus: ".len()) / 2);
        let said = |text: &str| line(Format::Plain, Level::Info, text);
        assert_eq!(said(&fits), format!("annulus: {fits}\n"));
        assert_eq!(said(&format!("{fits}éé")), format!("annulus: {fits}... (4 more bytes)\n"));
    }
}
