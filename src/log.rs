//! What the program says, one line an event, on standard error.

use std::fmt;
use std::io::Write;

use crate::limits::LOG_PAUSE_S;

/// Says something of note.
pub fn line(text: fmt::Arguments<'_>) {
    // A log that nobody can read any more is no reason to stop.
    let _ = writeln!(std::io::stderr(), "annulus: {text}");
}

/// A cause of log lines that clients can provoke: one line in [`LOG_PAUSE_S`] seconds.
#[derive(Debug, Default)]
pub struct Limited {
    next_s: u32,
    withheld: u32,
}

impl Limited {
    /// Says it, or counts it for the next time.
    pub fn line(&mut self, now_s: u32, text: fmt::Arguments<'_>) {
        if now_s < self.next_s {
            self.withheld = self.withheld.saturating_add(1);
            return;
        }
        match std::mem::take(&mut self.withheld) {
            0 => line(text),
            withheld => line(format_args!("{text} ({withheld} more of these since the last)")),
        }
        self.next_s = now_s.saturating_add(LOG_PAUSE_S);
    }
}
