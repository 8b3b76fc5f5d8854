//! A tracker that responds as a test says, however wrong that is.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// Responds to a request, given its number on its connection and the stream. Returns whether the
/// connection is kept.
type Respond = dyn Fn(usize, &mut TcpStream) -> bool + Send + Sync;

pub(super) struct FakeTracker {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeTracker {
    pub(super) fn start(
        respond: impl Fn(usize, &mut TcpStream) -> bool + Send + Sync + 'static,
    ) -> FakeTracker {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, respond) = (Arc::clone(&stop), Arc::new(respond));
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let respond = Arc::clone(&respond);
                thread::spawn(move || serve(stream.unwrap(), &*respond));
            }
        });
        FakeTracker { address, stop, thread: Some(thread) }
    }

    /// Responds to every request with these bytes, and closes the connection.
    pub(super) fn sending(bytes: impl Into<Vec<u8>>) -> FakeTracker {
        let bytes = bytes.into();
        FakeTracker::start(move |_, stream| {
            let _ = stream.write_all(&bytes);
            false
        })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/announce", self.address)
    }
}

impl Drop for FakeTracker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(mut stream: TcpStream, respond: &Respond) {
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    let mut number = 0;
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        received.extend_from_slice(&buffer[..read]);
        while let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            received.drain(..end + 4);
            if !respond(number, &mut stream) {
                let _ = stream.shutdown(Shutdown::Write);
                // Unread bytes would make the close a reset.
                while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
                return;
            }
            number += 1;
        }
    }
}

/// A response with this body, on a kept connection.
pub(super) fn response(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A correct body.
pub(super) const GOOD_BODY: &[u8] = b"d8:intervali1800e5:peers6:\x7f\x09\x09\x09\x20\x20e";
