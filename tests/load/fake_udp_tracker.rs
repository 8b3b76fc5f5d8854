//! A tracker by UDP (BEP 15) that responds as a test says, however wrong that is.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A request by UDP.
pub(super) struct FakeRequest {
    /// How many requests with this action there were before.
    pub(super) number: usize,
    pub(super) action: u32,
    pub(super) transaction: u32,
    /// The whole datagram.
    pub(super) bytes: Vec<u8>,
    pub(super) from: SocketAddr,
}

/// A datagram to send, and after how long.
pub(super) type FakeResponse = (Duration, Vec<u8>);

pub(super) struct FakeUdpTracker {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeUdpTracker {
    /// Responds to announces and scrapes as `respond` says, and to connect requests with an id
    /// that is good for `id_lifetime`; afterwards, requests get the error "expired".
    pub(super) fn start(
        ip: &str,
        id_lifetime: Duration,
        mut respond: impl FnMut(&FakeRequest) -> Vec<FakeResponse> + Send + 'static,
    ) -> FakeUdpTracker {
        let mut ids: HashMap<(u64, SocketAddr), Instant> = HashMap::new();
        FakeUdpTracker::raw(ip, move |request| {
            let id = u64::from_be_bytes(request.bytes[..8].try_into().unwrap());
            if request.action == 0 {
                assert_eq!(id, 0x417_2710_1980);
                let id = 1_000_000 + ids.len() as u64;
                ids.insert((id, request.from), Instant::now());
                return vec![now(response(0, request.transaction, &id.to_be_bytes()))];
            }
            match ids[&(id, request.from)].elapsed() > id_lifetime {
                true => vec![now(response(3, request.transaction, b"expired"))],
                false => respond(request),
            }
        })
    }

    /// Responds to every request, connect requests included, as `respond` says.
    pub(super) fn raw(
        ip: &str,
        respond: impl FnMut(&FakeRequest) -> Vec<FakeResponse> + Send + 'static,
    ) -> FakeUdpTracker {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || serve(&socket, &stopped, respond));
        FakeUdpTracker { address, stop, thread: Some(thread) }
    }

    pub(super) fn url(&self) -> String {
        format!("udp://{}/announce", self.address)
    }
}

impl Drop for FakeUdpTracker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    socket: &UdpSocket,
    stop: &AtomicBool,
    mut respond: impl FnMut(&FakeRequest) -> Vec<FakeResponse>,
) {
    socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let mut counts = [0; 4];
    let mut delayed: Vec<(Instant, Vec<u8>, SocketAddr)> = Vec::new();
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Acquire) {
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) => {
                let bytes = buffer[..length].to_vec();
                let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
                let (action, transaction) = (number(8), number(12));
                let count = &mut counts[action as usize];
                let request = FakeRequest { number: *count, action, transaction, bytes, from };
                *count += 1;
                let due = |(after, bytes)| (Instant::now() + after, bytes, from);
                delayed.extend(respond(&request).into_iter().map(due));
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        for (_, bytes, to) in delayed.extract_if(.., |(due, ..)| *due <= Instant::now()) {
            // A load that has ended is not there any more.
            let _ = socket.send_to(&bytes, to);
        }
    }
}

/// A response without a delay.
pub(super) fn now(bytes: Vec<u8>) -> FakeResponse {
    (Duration::ZERO, bytes)
}

pub(super) fn response(action: u32, transaction: u32, body: &[u8]) -> Vec<u8> {
    [&action.to_be_bytes()[..], &transaction.to_be_bytes(), body].concat()
}

/// A correct response.
pub(super) fn good(request: &FakeRequest) -> Vec<u8> {
    let body = match request.action {
        1 => announced(match request.from {
            SocketAddr::V4(_) => b"\x7f\x09\x09\x09\x20\x20",
            SocketAddr::V6(_) => b"\xfd12345678901234\x01\x20\x20",
        }),
        _ => vec![0; (request.bytes.len() - 16) / 20 * 12],
    };
    response(request.action, request.transaction, &body)
}

/// The body of a response to an announce, with these peers.
pub(super) fn announced(peers: &[u8]) -> Vec<u8> {
    [&[0, 0, 7, 8, 0, 0, 0, 1, 0, 0, 0, 2], peers].concat()
}
