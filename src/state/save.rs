//! Writing the swarms to the state file: in the background while the workers serve, and once more
//! when they have ended.

use std::io::{self, ErrorKind, PipeReader, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use annulus_swarm::{ENTRY_BYTES_MAX, SnapshotCursor, Swarms};
use rustix::io::Errno;

use super::format::{BLOCK_BYTES_MAX, StateHeader, StateTotals, StateWriter};
use super::peers;
use super::status::{StateReport, StateStatus};
use crate::clock::Clock;
use crate::cluster::ClusterView;
use crate::limits::{STATE_LOG_PAUSE_S, STATE_PAUSE_US};
use crate::log;
use crate::os::{StateDirectory, lower_priority};

/// Ticks that one write may last without making peers older: stamps of the swarms must not be far
/// ahead of the time that their ages are relative to.
const TICKS_MAX: u32 = 4;

/// Writes all torrents and peers. `go_on` is called after each step of the walk, which takes about
/// a tenth of a millisecond, and may wait; if it returns false, the writing is given up. Takes less
/// than a megabyte of memory.
///
/// # Errors
/// Those of `out`, or [`ErrorKind::Interrupted`] if it was given up: what was written is no state
/// file.
pub fn write_swarms<W: Write>(
    swarms: &Swarms,
    out: W,
    (unix_s, node): (u64, u64),
    now: impl Fn() -> u32,
    mut go_on: impl FnMut() -> bool,
) -> io::Result<(StateTotals, u64)> {
    let began = now();
    let (tick_s, phase_s) = (swarms.tick_s(), swarms.tick_phase_s(began));
    let mut writer = StateWriter::begin(out, &StateHeader { tick_s, phase_s, unix_s, node })?;
    let mut cursor = SnapshotCursor::default();
    let mut block = Vec::with_capacity(BLOCK_BYTES_MAX);
    loop {
        // Ages are relative to the beginning, even of peers that announce later.
        let now = began.max(now().saturating_sub(TICKS_MAX * tick_s));
        let room = BLOCK_BYTES_MAX - block.len();
        let more = swarms.snapshot(&mut cursor, now, room, &mut block);
        if !more || BLOCK_BYTES_MAX - block.len() < ENTRY_BYTES_MAX {
            writer.block(&block)?;
            block.clear();
        }
        if !more {
            return writer.finish(cursor.entries(), cursor.peers());
        }
        if !go_on() {
            return Err(ErrorKind::Interrupted.into());
        }
    }
}

/// What a [`StateSaver`] consists of.
pub struct StateSaverParts {
    pub directory: StateDirectory,
    pub swarms: Arc<Swarms>,
    pub clock: Clock,
    /// Between the beginnings of two writes.
    pub interval: Duration,
    pub report: StateReport,
    /// Why nothing may be written.
    pub obstacle: Option<String>,
}

/// Writes the swarms to the file, and keeps account of it.
pub struct StateSaver {
    parts: StateSaverParts,
    pub status: Arc<StateStatus>,
    cluster: OnceLock<ClusterView>,
    /// Held during a write: there is one at a time.
    failures: Mutex<FailureLog>,
    /// Steps of all writes: while one goes on, this grows.
    steps: AtomicU64,
    /// Whether the thread is to end.
    stopped: AtomicBool,
    stop: (Mutex<()>, Condvar),
}

/// How fast the swarms are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// With pauses, and until the thread is to end.
    Background,
    Full,
}

impl StateSaver {
    pub fn new(parts: StateSaverParts) -> StateSaver {
        let status = Arc::new(StateStatus::new(parts.report.clone()));
        let (cluster, failures, steps, stopped, stop) = Default::default();
        let saver = StateSaver { parts, status, cluster, failures, steps, stopped, stop };
        saver.status.lock().problem.clone_from(&saver.parts.obstacle);
        saver
    }

    /// From now on the file says whether this node of a cluster lacked something. Only the first
    /// call counts.
    pub fn set_cluster(&self, view: ClusterView) {
        let _ = self.cluster.set(view);
    }

    /// Starts the thread that writes every interval. That nothing can be written is known before
    /// the first time.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(self: &Arc<StateSaver>) -> io::Result<()> {
        if self.parts.obstacle.is_none()
            && let Err(error) = self.parts.directory.create_new()
        {
            self.note_failure(&mut self.lock_failures(), &error);
        }
        let _ = self.parts.directory.discard_new();
        let saver = Arc::clone(self);
        let work = move || {
            lower_priority();
            let mut began = saver.parts.clock.now();
            while saver.wait_until(began + saver.parts.interval) {
                began = saver.parts.clock.now();
                saver.save(Pace::Background);
            }
        };
        thread::Builder::new().name("state".to_owned()).spawn(work).map(drop)
    }

    /// Has the thread end, and give up what it writes.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        let _waiting = self.stop.0.lock();
        self.stop.1.notify_all();
    }

    /// Writes once more, at full speed, by this thread. The pipe becomes readable when it is about
    /// to end. For after [`StateSaver::stop`].
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn save_last(self: &Arc<StateSaver>) -> io::Result<(JoinHandle<()>, PipeReader)> {
        let (reader, writer) = io::pipe()?;
        let saver = Arc::clone(self);
        let work = move || {
            saver.save(Pace::Full);
            drop(writer);
        };
        let thread = thread::Builder::new().name("state".to_owned()).spawn(work)?;
        Ok((thread, reader))
    }

    pub fn path(&self) -> &Path {
        self.parts.directory.path()
    }

    /// A number that grows while a write goes on.
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Waits until `due`; whether the thread is to go on then.
    fn wait_until(&self, due: Duration) -> bool {
        let mut waiting = self.stop.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = due.saturating_sub(self.parts.clock.now());
            if self.stopped.load(Ordering::Acquire) || left.is_zero() {
                return !self.stopped.load(Ordering::Acquire);
            }
            let woken = self.stop.1.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn save(&self, pace: Pace) {
        if self.parts.obstacle.is_some() {
            return;
        }
        let mut failures = self.lock_failures();
        let began = self.parts.clock.now();
        let unix_s = Clock::unix_s();
        let node = self.whole_node();
        match self.write((unix_s, node), pace) {
            Ok((totals, bytes)) => {
                let took = self.parts.clock.now().saturating_sub(began);
                let mut report = self.status.lock();
                report.written_unix_s = Some(unix_s);
                report.node = node;
                report.writes += 1;
                report.problem = None;
                (report.bytes, report.took) = (bytes, took);
                drop(report);
                let was_failing = failures.last.take().is_some();
                if was_failing || pace == Pace::Full {
                    log::info(format_args!(
                        "state: {} written to {}, {bytes} bytes in {:.3} s",
                        peers(totals.peers),
                        self.parts.directory.path().display(),
                        took.as_secs_f64()
                    ));
                }
            }
            Err(error) => {
                let _ = self.parts.directory.discard_new();
                if error.kind() != ErrorKind::Interrupted {
                    self.note_failure(&mut failures, &error);
                }
            }
        }
    }

    /// For the header: this node's number if it lacks nothing that the others know, else 0.
    fn whole_node(&self) -> u64 {
        self.cluster.get().filter(|view| view.node.is_whole()).map_or(0, |view| view.id.0)
    }

    fn write(&self, (unix_s, node): (i64, u64), pace: Pace) -> io::Result<(StateTotals, u64)> {
        let StateSaverParts { directory, swarms, clock, .. } = &self.parts;
        let file = directory.create_new()?;
        let header = (u64::try_from(unix_s).unwrap_or_default(), node);
        let go_on = || {
            self.steps.fetch_add(1, Ordering::Relaxed);
            pace == Pace::Full || self.pause()
        };
        let written = write_swarms(swarms, &file, header, || clock.now_s(), go_on)?;
        directory.commit_new(&file)?;
        Ok(written)
    }

    /// Leaves the processor to others; whether to go on.
    #[expect(clippy::disallowed_methods, reason = "the thread that writes may wait")]
    fn pause(&self) -> bool {
        thread::sleep(Duration::from_micros(STATE_PAUSE_US));
        !self.stopped.load(Ordering::Acquire)
    }

    /// Counts a failure, and logs it if it is another than the last, or that was long ago.
    fn note_failure(&self, failures: &mut FailureLog, error: &io::Error) {
        let path = self.parts.directory.path().display();
        let problem = format!("{path} cannot be written: {error}: {}", cure(error));
        let mut report = self.status.lock();
        report.failures += 1;
        report.problem = Some(problem.clone());
        let failed = report.failures;
        drop(report);
        let now = self.parts.clock.now();
        let is_logged = failures.last.as_ref().is_some_and(|(last, at)| {
            *last == problem && now < *at + Duration::from_secs(STATE_LOG_PAUSE_S)
        });
        if !is_logged {
            log::error(format_args!(
                "state: {problem} (failure {failed} since the start; it is tried again every {} s)",
                self.parts.interval.as_secs()
            ));
            failures.last = Some((problem, now));
        }
    }

    fn lock_failures(&self) -> MutexGuard<'_, FailureLog> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The failure that was logged last and still lasts, and when that was.
#[derive(Default)]
struct FailureLog {
    last: Option<(String, Duration)>,
}

fn cure(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC | Errno::DQUOT) => "make room on its file system",
        Some(Errno::FBIG) => "raise the limit of file sizes (ulimit -f, LimitFSIZE=)",
        Some(Errno::ROFS) => "its file system is mounted read-only",
        Some(Errno::ACCESS | Errno::PERM) => "let the user of the tracker write to its directory",
        Some(Errno::NOENT) => "its directory was removed: make it again and restart annulus",
        _ => "see what the kernel logs about its disk",
    }
}
