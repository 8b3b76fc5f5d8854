//! A tracker that answers as it is told to, however wrong that is.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What is done with a connection: it is given its requests' number and the stream.
type Answer = dyn Fn(usize, &mut TcpStream) -> bool + Send + Sync;

/// A running server of that kind.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    /// One that calls `answer` for every request, numbered on its connection from 0; a
    /// connection lasts as long as it returns true.
    pub(crate) fn start(
        answer: impl Fn(usize, &mut TcpStream) -> bool + Send + Sync + 'static,
    ) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, answer) = (Arc::clone(&stop), Arc::<Box<Answer>>::new(Box::new(answer)));
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let answer = Arc::clone(&answer);
                thread::spawn(move || serve(stream.unwrap(), &**answer));
            }
        });
        Fake { address, stop, thread: Some(thread) }
    }

    /// One that gives every request these bytes, then ends the connection.
    pub(crate) fn saying(bytes: impl Into<Vec<u8>>) -> Fake {
        let bytes = bytes.into();
        Fake::start(move |_, stream| {
            let _ = stream.write_all(&bytes);
            false
        })
    }

    /// Its announce URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/announce", self.address)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(mut stream: TcpStream, answer: &Answer) {
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    let mut number = 0;
    loop {
        while let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            received.drain(..end + 4);
            if !answer(number, &mut stream) {
                let _ = stream.shutdown(Shutdown::Write);
                // Until the other side has seen it: unread bytes would make it a reset.
                while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
                return;
            }
            number += 1;
        }
        match stream.read(&mut buffer) {
            Ok(read @ 1..) => received.extend_from_slice(&buffer[..read]),
            _ => return,
        }
    }
}

/// A whole answer with this body, on a connection that is kept.
pub(crate) fn kept(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A good body.
pub(crate) const GOOD: &[u8] = b"d8:intervali1800e5:peers6:\x7f\x09\x09\x09\x20\x20e";
