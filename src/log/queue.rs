//! A queue between the threads that log and the one that writes to standard error.
//!
//! Standard error may be a pipe that is not read, a stopped terminal, or a journal that hangs.
//! Whether a write would block cannot be known for certain, because other processes may write to
//! the same pipe, and a non-blocking descriptor would be non-blocking for all processes that share
//! it. So lines are queued, and one thread, which has no other task, writes them and may block.
//!
//! Before that thread starts, the thread that logs writes as much as standard error takes without
//! blocking: the tracker has a single thread while it drops its privileges.

use std::io::{self, ErrorKind, Write};
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::limits::LOG_QUEUE_BYTES_MAX;
use crate::os::stderr_writable;

/// A pipe that is writable has room for so many bytes (PIPE_BUF, pipe(7)).
const PIPE_BYTES: usize = 4096;

/// The pause before another write to a non-blocking standard error that is full.
const RETRY: Duration = Duration::from_millis(10);

pub(super) struct LogQueue {
    state: Mutex<QueueState>,
    changed: Condvar,
    /// Makes the line that reports how many lines were dropped.
    notice: fn(u64) -> String,
}

struct QueueState {
    /// Lines with their newlines, the oldest first.
    lines: Vec<u8>,
    /// Lines dropped after those in `lines`, for lack of room.
    dropped: u64,
    has_thread: bool,
    /// Whether the thread has taken lines that are not written yet.
    writing: bool,
}

impl LogQueue {
    pub(super) const fn new(notice: fn(u64) -> String) -> LogQueue {
        let state = QueueState { lines: Vec::new(), dropped: 0, has_thread: false, writing: false };
        LogQueue { state: Mutex::new(state), changed: Condvar::new(), notice }
    }

    /// Adds a line with its newline, or counts it as dropped if there is no room.
    pub(super) fn add(&self, line: &str) {
        let mut state = self.lock();
        // The notice of dropped lines is written where they are missing: nothing is added before.
        if state.dropped > 0 || state.lines.len() + line.len() > LOG_QUEUE_BYTES_MAX {
            state.dropped += 1;
        } else {
            state.lines.extend_from_slice(line.as_bytes());
        }
        if state.has_thread {
            self.changed.notify_all();
        } else {
            self.write_without_thread(state, Duration::ZERO);
        }
    }

    /// Starts the thread that writes from now on. It ends with the process.
    pub(super) fn start_thread(&'static self) -> io::Result<()> {
        thread::Builder::new().name("log".to_owned()).spawn(|| self.write_forever())?;
        self.lock().has_thread = true;
        Ok(())
    }

    /// Waits until all lines are written, for at most `timeout`.
    pub(super) fn flush(&self, timeout: Duration) {
        let state = self.lock();
        if !state.has_thread {
            return self.write_without_thread(state, timeout);
        }
        let is_busy = |state: &mut QueueState| state.writing || !state.lines.is_empty();
        // After the timeout there is nothing more to do.
        drop(self.changed.wait_timeout_while(state, timeout, is_busy));
    }

    /// Writes as long as standard error becomes writable within `timeout`.
    fn write_without_thread(&self, mut state: MutexGuard<'_, QueueState>, timeout: Duration) {
        while !state.lines.is_empty() && stderr_writable(timeout) {
            let line =
                state.lines.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
            let written = match io::stderr().write(&line[..line.len().min(PIPE_BYTES)]) {
                Ok(written) => written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The line is lost: there is nowhere to report it.
                Err(_) => line.len(),
            };
            state.lines.drain(..written);
            if state.lines.is_empty() && state.dropped > 0 {
                state.lines = (self.notice)(mem::take(&mut state.dropped)).into_bytes();
            }
        }
    }

    fn write_forever(&self) {
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

    /// Writes a line, after the notice of `missing` lines if there are any. Returns how many lines
    /// are missing after it.
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

/// Writes all of it, however long that takes.
#[expect(clippy::disallowed_methods, reason = "the thread of the log may wait")]
fn write_all(mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match io::stderr().write(line) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => line = &line[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The parent process may have made it non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
