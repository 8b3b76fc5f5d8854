//! Accepting, a bounded number of connections at once, each for a bounded time. The oldest makes
//! room for the newest, so that who connects and says nothing, again and again, keeps nobody from
//! an answer; and all of it comes after the workers where processors are scarce.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::http::answer;
use crate::admin::rates::SAMPLE_S;
use crate::admin::stats::StatsSource;
use crate::clock::Clock;
use crate::limits::{OPERATIONS_CONNECTIONS_MAX, OPERATIONS_PATIENCE_S};
use crate::log;
use crate::os::lower_priority;

/// How long accepting pauses that failed: for want of a descriptor, most likely.
const RETRY: Duration = Duration::from_millis(200);

/// Bytes of a client's that are dropped after the answer, so that it is not reset away.
const DROPPED_BYTES_MAX: usize = 64 * 1024;

/// A socket that listens.
pub type Door = OwnedFd;

/// Serves what `observer` sees on these sockets from now on, by threads that end with the
/// process.
///
/// # Errors
/// A thread cannot be started.
pub fn serve(doors: Vec<Door>, observer: StatsSource) -> io::Result<()> {
    let observer = Arc::new(observer);
    observer.sample();
    let sampled = Arc::clone(&observer);
    thread::Builder::new().name("rates".to_owned()).spawn(move || {
        loop {
            thread::sleep(Duration::from_secs(u64::from(SAMPLE_S)));
            sampled.sample();
        }
    })?;
    let places = Arc::new(Places::default());
    for door in doors {
        let (observer, places) = (Arc::clone(&observer), Arc::clone(&places));
        let door = TcpListener::from(door);
        thread::Builder::new()
            .name("operations".to_owned())
            .spawn(move || accept(&door, &observer, &places))?;
    }
    Ok(())
}

/// Accepts for ever.
fn accept(door: &TcpListener, observer: &Arc<StatsSource>, places: &Arc<Places>) {
    // So do the threads that it starts.
    lower_priority();
    loop {
        let Ok((stream, _)) = door.accept() else {
            thread::sleep(RETRY);
            continue;
        };
        let place = places.take(stream);
        let observer = Arc::clone(observer);
        let conversation = move || {
            // Who goes away or takes too long has nothing to be told.
            let _ = converse(&place.stream, &observer);
            drop(place);
        };
        let thread = thread::Builder::new().name("operations".to_owned()).spawn(conversation);
        if let Err(error) = thread {
            log::warning(format_args!("operations: cannot start a thread: {error}"));
            thread::sleep(RETRY);
        }
    }
}

/// One connection, to its end.
fn converse(stream: &TcpStream, observer: &StatsSource) -> io::Result<()> {
    let mut timed = Timed::begin(stream, observer.clock);
    let answer = answer(&mut timed, observer)?;
    // What the answer took was no doing of the client's.
    let mut timed = Timed::begin(stream, observer.clock);
    timed.write_all(&answer)?;
    timed.stream.shutdown(Shutdown::Write)?;
    let mut space = [0; 4096];
    let mut dropped = 0;
    while dropped < DROPPED_BYTES_MAX {
        match timed.read(&mut space)? {
            0 => break,
            len => dropped += len,
        }
    }
    Ok(())
}

/// A stream with an end of its time.
struct Timed<'a> {
    stream: &'a TcpStream,
    clock: Clock,
    deadline_s: u32,
}

impl Timed<'_> {
    /// The time begins now.
    fn begin(stream: &TcpStream, clock: Clock) -> Timed<'_> {
        Timed { stream, clock, deadline_s: clock.now_s() + OPERATIONS_PATIENCE_S }
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        match self.deadline_s.saturating_sub(self.clock.now_s()) {
            0 => Err(io::ErrorKind::TimedOut.into()),
            left_s => Ok(Some(Duration::from_secs(u64::from(left_s)))),
        }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(into)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// The connections that there are, the oldest first.
#[derive(Default)]
struct Places {
    taken: Mutex<VecDeque<Arc<TcpStream>>>,
    freed: Condvar,
}

impl Places {
    /// A place for this connection. If there is none, the oldest is broken off and its place
    /// waited for: whoever would connect meanwhile waits in the kernel.
    fn take(self: &Arc<Places>, stream: TcpStream) -> Place {
        let full = |taken: &mut VecDeque<_>| taken.len() >= OPERATIONS_CONNECTIONS_MAX;
        let mut taken = self.lock();
        if full(&mut taken)
            && let Some(oldest) = taken.front()
        {
            // It has gone by itself if this fails, or is about to.
            let _ = oldest.shutdown(Shutdown::Both);
        }
        let mut taken = self.freed.wait_while(taken, full).unwrap_or_else(PoisonError::into_inner);
        let stream = Arc::new(stream);
        taken.push_back(Arc::clone(&stream));
        Place { places: Arc::clone(self), stream }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<TcpStream>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection in its place, which is free again when this goes.
struct Place {
    places: Arc<Places>,
    stream: Arc<TcpStream>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().retain(|it| !Arc::ptr_eq(it, &self.stream));
        self.places.freed.notify_one();
    }
}
