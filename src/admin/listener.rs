//! Accepts a bounded number of connections at once, each for a bounded time. A new connection
//! closes the oldest one, so that clients that connect and stay silent do not keep others from a
//! response. All threads run at a lower priority than the workers.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a few clients of the operator, served by threads that may block"
)]

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::http::respond;
use super::rates::SAMPLE_S;
use super::stats::StatsSource;
use crate::clock::Clock;
use crate::limits::{ADMIN_CONNECTIONS_MAX, ADMIN_TIMEOUT_S};
use crate::log;
use crate::os::lower_priority;

/// The pause after `accept` fails, most likely for lack of a descriptor.
const RETRY: Duration = Duration::from_millis(200);

/// Bytes of a client that are discarded after the response: closing with unread bytes would reset
/// the connection, and with it the response.
const DISCARDED_BYTES_MAX: usize = 64 * 1024;

/// Starts the threads that serve what `source` has on these listening sockets. They end with the
/// process.
///
/// # Errors
/// A thread cannot be started.
pub fn serve(sockets: Vec<OwnedFd>, source: StatsSource) -> io::Result<()> {
    let source = Arc::new(source);
    source.sample();
    let sampled = Arc::clone(&source);
    thread::Builder::new().name("rates".to_owned()).spawn(move || {
        loop {
            thread::sleep(Duration::from_secs(u64::from(SAMPLE_S)));
            sampled.sample();
        }
    })?;
    let connections = Arc::new(OpenConnections::default());
    for socket in sockets {
        let (source, connections) = (Arc::clone(&source), Arc::clone(&connections));
        let socket = TcpListener::from(socket);
        thread::Builder::new()
            .name("operations".to_owned())
            .spawn(move || accept(&socket, &source, &connections))?;
    }
    Ok(())
}

fn accept(
    socket: &TcpListener,
    source: &Arc<StatsSource>,
    connections: &Arc<OpenConnections>,
) -> ! {
    // The threads of the connections inherit the priority.
    lower_priority();
    loop {
        let Ok((stream, _)) = socket.accept() else {
            thread::sleep(RETRY);
            continue;
        };
        let connection = connections.add(stream);
        let source = Arc::clone(source);
        let serve = move || {
            // There is no one to report to: the client is gone, or too slow.
            let _ = serve_connection(&connection.stream, &source);
        };
        if let Err(error) = thread::Builder::new().name("operations".to_owned()).spawn(serve) {
            log::warning(format_args!("operations: cannot start a thread: {error}"));
            thread::sleep(RETRY);
        }
    }
}

fn serve_connection(stream: &TcpStream, source: &StatsSource) -> io::Result<()> {
    let response = respond(&mut TimedStream::new(stream, source.parts.clock), source)?;
    // The time to compute the response is not the client's.
    let mut timed = TimedStream::new(stream, source.parts.clock);
    timed.write_all(&response)?;
    stream.shutdown(Shutdown::Write)?;
    let mut discarded = [0; 4096];
    let mut len = 0;
    while len < DISCARDED_BYTES_MAX {
        match timed.read(&mut discarded)? {
            0 => break,
            more => len += more,
        }
    }
    Ok(())
}

/// A stream with a deadline, [`ADMIN_TIMEOUT_S`] after it was made.
struct TimedStream<'a> {
    stream: &'a TcpStream,
    clock: Clock,
    deadline_s: u32,
}

impl TimedStream<'_> {
    fn new(stream: &TcpStream, clock: Clock) -> TimedStream<'_> {
        TimedStream { stream, clock, deadline_s: clock.now_s() + ADMIN_TIMEOUT_S }
    }

    fn remaining(&self) -> io::Result<Option<Duration>> {
        match self.deadline_s.saturating_sub(self.clock.now_s()) {
            0 => Err(io::ErrorKind::TimedOut.into()),
            remaining_s => Ok(Some(Duration::from_secs(u64::from(remaining_s)))),
        }
    }
}

impl Read for TimedStream<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.remaining()?)?;
        self.stream.read(into)
    }
}

impl Write for TimedStream<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.remaining()?)?;
        self.stream.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// The open connections, the oldest first, at most [`ADMIN_CONNECTIONS_MAX`].
#[derive(Default)]
struct OpenConnections {
    streams: Mutex<VecDeque<Arc<TcpStream>>>,
    closed: Condvar,
}

impl OpenConnections {
    /// Adds a connection. If there are as many as allowed, it shuts the oldest down and waits
    /// until that has ended; new connections wait in the kernel meanwhile.
    fn add(self: &Arc<OpenConnections>, stream: TcpStream) -> AdminConnection {
        let full = |streams: &mut VecDeque<_>| streams.len() >= ADMIN_CONNECTIONS_MAX;
        let mut streams = self.lock();
        if full(&mut streams)
            && let Some(oldest) = streams.front()
        {
            // If this fails, the connection has ended or is about to.
            let _ = oldest.shutdown(Shutdown::Both);
        }
        let mut streams =
            self.closed.wait_while(streams, full).unwrap_or_else(PoisonError::into_inner);
        let stream = Arc::new(stream);
        streams.push_back(Arc::clone(&stream));
        AdminConnection { open: Arc::clone(self), stream }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<TcpStream>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the open connections, until this is dropped.
struct AdminConnection {
    open: Arc<OpenConnections>,
    stream: Arc<TcpStream>,
}

impl Drop for AdminConnection {
    fn drop(&mut self) {
        self.open.lock().retain(|it| !Arc::ptr_eq(it, &self.stream));
        self.open.closed.notify_one();
    }
}
