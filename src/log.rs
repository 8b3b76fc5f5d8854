//! The log: one line per event on standard error.
//!
//! Control characters are escaped, so that no client and no file can forge a line or control a
//! terminal. No caller waits until a line is read: see [`queue`].

mod queue;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::env;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic::{self, PanicHookInfo};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use time::OffsetDateTime;

use crate::clock::Clock;
use crate::limits::{LOG_FLUSH_S_MAX, LOG_LINE_BYTES_MAX, LOG_PAUSE_S};
use queue::LogQueue;

/// The urgency of a line, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Error,
    Warning,
    Info,
}

/// The prefix of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// [`Format::Journald`] if standard error is systemd's journal, else
    /// [`Format::Timestamps`].
    Auto,
    /// The time in UTC (RFC 3339).
    Timestamps,
    /// A priority for the journal (sd-daemon(3)), which removes it and adds the time.
    Journald,
    /// The name of the program.
    Plain,
}

/// How the process logs.
#[derive(Clone, Copy, Debug)]
pub struct Logger {
    /// Lines that are less urgent are dropped.
    pub level: Level,
    /// [`Logger::begin`] replaces [`Format::Auto`].
    pub format: Format,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

static QUEUE: LogQueue = LogQueue::new(|dropped| {
    let plural = if dropped == 1 { " was" } else { "s were" };
    let text =
        format_args!("{dropped} line{plural} dropped here: the lines of this log were not read");
    logger().line(Level::Warning, text)
});

impl Logger {
    /// Makes this the logger of the process, also for panics. Only the first call has an effect.
    pub fn begin(self) {
        let format = match self.format {
            Format::Auto if is_journal() => Format::Journald,
            Format::Auto => Format::Timestamps,
            chosen => chosen,
        };
        if LOGGER.set(Logger { format, ..self }).is_ok() {
            panic::set_hook(Box::new(log_panic));
        }
    }

    /// The line for `text`, with its newline; control characters are written as `\u{1b}`.
    fn line(&self, level: Level, text: fmt::Arguments<'_>) -> String {
        let mut line = match (self.format, level) {
            (Format::Journald, Level::Error) => "<3>".to_owned(),
            (Format::Journald, Level::Warning) => "<4>".to_owned(),
            (Format::Journald, Level::Info) => "<6>".to_owned(),
            (Format::Timestamps, _) => format!("{} annulus: ", timestamp(Clock::unix_s())),
            (Format::Plain | Format::Auto, _) => "annulus: ".to_owned(),
        };
        line += match (self.format, level) {
            (Format::Journald, _) | (_, Level::Info) => "",
            (_, Level::Warning) => "warning: ",
            (_, Level::Error) => "error: ",
        };
        for character in text.to_string().chars() {
            match character.is_control() {
                true => line.extend(character.escape_unicode()),
                false => line.push(character),
            }
        }
        if line.len() > LOG_LINE_BYTES_MAX {
            let kept = line.floor_char_boundary(LOG_LINE_BYTES_MAX);
            let cut = line.split_off(kept).len();
            line += &format!("... ({cut} more bytes)");
        }
        line.push('\n');
        line
    }
}

/// The logger of the process. Before [`Logger::begin`] it logs everything.
fn logger() -> Logger {
    let default = Logger { level: Level::Info, format: Format::Plain };
    LOGGER.get().copied().unwrap_or(default)
}

/// Logs a line. It never waits: what cannot be written at once is queued, and what has no room in
/// the queue is counted, and the count logged later.
fn log(level: Level, text: fmt::Arguments<'_>) {
    let logger = logger();
    if level <= logger.level {
        QUEUE.add(&logger.line(level, text));
    }
}

/// The process does not do, or stops doing, what it should.
pub fn error(text: fmt::Arguments<'_>) {
    log(Level::Error, text);
}

/// The process goes on, but the operator should do something.
pub fn warning(text: fmt::Arguments<'_>) {
    log(Level::Warning, text);
}

pub fn info(text: fmt::Arguments<'_>) {
    log(Level::Info, text);
}

/// Starts the thread that writes lines from now on. The process must have dropped its privileges
/// before, which needs a single thread.
///
/// # Errors
/// A thread cannot be started.
pub fn start_thread() -> io::Result<()> {
    QUEUE.start_thread()
}

/// Waits until all lines are written, at most [`LOG_FLUSH_S_MAX`] seconds. To be called before the
/// process ends.
pub fn flush() {
    QUEUE.flush(Duration::from_secs(LOG_FLUSH_S_MAX));
}

/// Logs why the program cannot start or go on, in one line or more. Before [`Logger::begin`] the
/// lines have no prefix but the journal's.
pub fn failure(text: &str) {
    let journal = Logger { level: Level::Error, format: Format::Journald };
    for line in text.lines() {
        match LOGGER.get() {
            Some(_) => error(format_args!("{line}")),
            None if is_journal() => QUEUE.add(&journal.line(Level::Error, format_args!("{line}"))),
            None => QUEUE.add(&format!("{line}\n")),
        }
    }
}

/// The panic hook: like that of the standard library, which would wait until the line is read.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let place = panic.location().map_or(String::new(), |place| format!(" at {place}"));
    let what = panic.payload_as_str().unwrap_or("no text");
    error(format_args!("thread '{thread}' panicked{place}: {what}"));
    // Captured only if the environment asks for it.
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        backtrace.to_string().lines().for_each(|line| error(format_args!("{line}")));
    }
    flush();
}

/// Limits warnings of one cause that clients can provoke to one in [`LOG_PAUSE_S`] seconds.
#[derive(Debug, Default)]
pub struct WarningLimiter {
    next_s: u32,
    withheld: u32,
}

impl WarningLimiter {
    /// Logs the warning, or counts it for the next one that is logged.
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

/// As in 2026-11-24T01:49:00Z.
fn timestamp(unix_s: i64) -> String {
    // A year beyond 9999 cannot be written.
    let Ok(time) = OffsetDateTime::from_unix_timestamp(unix_s) else { return unix_s.to_string() };
    let (hour, minute, second) = time.to_hms();
    format!("{}T{hour:02}:{minute:02}:{second:02}Z", time.date())
}

/// Whether standard error is the journal: systemd puts its device and inode into a variable,
/// which a process whose standard error is something else may have inherited.
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

    fn line(text: &str) -> String {
        Logger { level: Level::Info, format: Format::Plain }
            .line(Level::Info, format_args!("{text}"))
    }

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let text = "a\nannulus: forged\r\u{1b}[31m\u{85}\u{7f}é\0";
        let escaped = "a\\u{a}annulus: forged\\u{d}\\u{1b}[31m\\u{85}\\u{7f}é\\u{0}";
        assert_eq!(line(text), format!("annulus: {escaped}\n"));
    }

    #[test]
    fn a_line_is_cut_where_a_character_ends() {
        let fits = "é".repeat((LOG_LINE_BYTES_MAX - "annulus: ".len()) / 2);
        assert_eq!(line(&fits), format!("annulus: {fits}\n"));
        assert_eq!(line(&format!("{fits}éé")), format!("annulus: {fits}... (4 more bytes)\n"));
    }
}
