//! From whoever has something to say to standard error, without waiting for whoever reads it.
//!
//! Standard error may be a pipe that nobody reads, a terminal that was stopped, a journal that
//! hangs. Whether a write will wait cannot be known for certain (others may write to the same
//! pipe), and to make the descriptor non-blocking would make it so for all who share it. So lines
//! are queued, and one thread, which has nothing else to do, writes them and may wait.
//!
//! Until there is that thread, lines are written by whoever says them, as far as standard error
//! takes them at once: the tracker has a single thread while it gives up its power.

use std::io::{self, ErrorKind, Write};
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::limits::LOG_QUEUE_BYTES_MAX;
use crate::os::stderr_writable;

/// Bytes for which a pipe has room when it says that it has some (PIPE_BUF, pipe(7)).
const PIPE_BYTES: usize = 4096;

/// How long a non-blocking standard error that takes nothing is left alone.
const RETRY: Duration = Duration::from_millis(10);

/// See the module.
pub(super) struct LogQueue {
    state: Mutex<QueueState>,
    changed: Condvar,
    /// The line that says how many lines are missing.
    notice: fn(u64) -> String,
}

struct QueueState {
    /// Lines, each with its end, in the order in which they were said.
    lines: Vec<u8>,
    /// Lines said after those in `lines` that found no room.
    dropped: u64,
    /// Whether the thread is there.
    has_thread: bool,
    /// Whether the thread has taken lines that it has not written yet.
    writing: bool,
}

impl LogQueue {
    /// An empty one. `notice` is the line that says how many lines are missing in its place.
    pub(super) const fn new(notice: fn(u64) -> String) -> LogQueue {
        let state = QueueState { lines: Vec::new(), dropped: 0, has_thread: false, writing: false };
        LogQueue { state: Mutex::new(state), changed: Condvar::new(), notice }
    }

    /// Adds a line, which has its end, or counts it if there is no room.
    pub(super) fn add(&self, line: &str) {
        let mut state = self.lock();
        // Nothing goes in between lines that were dropped and the notice of it.
        if state.dropped > 0 || state.lines.len() + line.len() > LOG_QUEUE_BYTES_MAX {
            state.dropped += 1;
        } else {
            state.lines.extend_from_slice(line.as_bytes());
        }
        if state.has_thread {
            self.changed.notify_all();
        } else {
            self.write_alone(state, Duration::ZERO);
        }
    }

    /// Has a thread of its own write from now on, which ends with the process.
    pub(super) fn start_thread(&'static self) -> io::Result<()> {
        thread::Builder::new().name("log".to_owned()).spawn(|| self.write_for_ever())?;
        self.lock().has_thread = true;
        Ok(())
    }

    /// Waits until all is written, or for `patience` in vain.
    pub(super) fn flush(&self, patience: Duration) {
        let state = self.lock();
        if !state.has_thread {
            return self.write_alone(state, patience);
        }
        let is_busy = |state: &mut QueueState| state.writing || !state.lines.is_empty();
        // Whether it is done or in vain, nothing more can be.
        drop(self.changed.wait_timeout_while(state, patience, is_busy));
    }

    /// Writes what standard error takes, each piece within `patience`.
    fn write_alone(&self, mut state: MutexGuard<'_, QueueState>, patience: Duration) {
        while !state.lines.is_empty() && stderr_writable(patience) {
            let line =
                state.lines.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
            let written = match io::stderr().write(&line[..line.len().min(PIPE_BYTES)]) {
                Ok(written) => written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Nobody can be told that this one is lost.
                Err(_) => line.len(),
            };
            state.lines.drain(..written);
            if state.lines.is_empty() && state.dropped > 0 {
                state.lines = (self.notice)(mem::take(&mut state.dropped)).into_bytes();
            }
        }
    }

    fn write_for_ever(&self) {
        // Lines that could not be written, before those that are to be written next.
        let mut lost = 0;
        loop {
            let is_idle = |state: &mut QueueState| state.lines.is_empty();
            let state = self.changed.wait_while(self.lock(), is_idle);
            let mut state = state.unwrap_or_else(PoisonError::into_inner);
            let (lines, dropped) = (mem::take(&mut state.lines), mem::take(&mut state.dropped));
            state.writing = true;
            drop(state);
            for line in lines.split_inclusive(|byte| *byte == b'\n') {
                lost = self.write(line, lost);
            }
            if dropped > 0 {
                lost = self.write(&[], lost + dropped);
            }
            self.lock().writing = false;
            self.changed.notify_all();
        }
    }

    /// Writes a line, and before it the notice of lines that are missing, if any are. How many
    /// are missing then.
    fn write(&self, line: &[u8], missing: u64) -> u64 {
        if missing > 0 && write_all((self.notice)(missing).as_bytes()).is_err() {
            return missing + u64::from(!line.is_empty());
        }
        u64::from(write_all(line).is_err())
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes all of it, as long as it may take.
fn write_all(mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match io::stderr().write(line) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => line = &line[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Whoever started the program may have made it non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
