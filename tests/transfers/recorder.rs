//! Records what clients send by UDP, for the corpus of the parser's tests.
//!
//! With `ANNULUS_RECORD=directory` in the environment, every datagram that reaches the hub becomes
//! a file of that directory: `PEER-ID-NUMBER-KIND.udp`, or `-v6.udp`. PEER-ID is the beginning of
//! the peer id that its host announced with last.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::{RecvFlags, recvfrom};
use socket2::Socket;

use crate::support::network::{Family, Network};

/// The environment variable that asks for it.
const DIRECTORY: &str = "ANNULUS_RECORD";

/// Numbers the files of all recorders.
static COUNT: AtomicU32 = AtomicU32::new(1);

/// Bytes of a UDP header.
const UDP_HEADER: usize = 8;

pub(crate) fn is_asked_for() -> bool {
    env::var_os(DIRECTORY).is_some()
}

/// Runs until it is dropped.
pub(crate) struct Recorder {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Recorder {
    /// Starts to record what reaches the hub, if it is asked for.
    pub(crate) fn start(network: &Network) -> Option<Recorder> {
        let directory = PathBuf::from(env::var_os(DIRECTORY)?);
        fs::create_dir_all(&directory).expect("a directory");
        let stop = Arc::new(AtomicBool::new(false));
        let threads = [Family::V4, Family::V6].map(|family| {
            let (stop, directory) = (Arc::clone(&stop), directory.clone());
            let socket = network.raw_udp_of_hub(family);
            thread::spawn(move || record(socket, family, &directory, &stop))
        });
        Some(Recorder { stop, threads: threads.into() })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a recorder that does not panic");
        }
    }
}

fn record(socket: Socket, family: Family, directory: &Path, stop: &AtomicBool) {
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    // What hosts sent before their first announce tells who they are.
    let mut waiting: HashMap<IpAddr, Vec<Vec<u8>>> = HashMap::new();
    let mut peer_ids: HashMap<IpAddr, String> = HashMap::new();
    let suffix = if family == Family::V6 { "-v6" } else { "" };
    while !stop.load(Ordering::Relaxed) {
        let mut space = [0; 4096];
        let received = recvfrom(&socket, &mut space[..], RecvFlags::empty());
        let Ok((len, _, Some(source))) = received else { continue };
        let source = SocketAddr::try_from(source).expect("an address").ip();
        // Only IPv4 has its own header in front.
        let header = if source.is_ipv4() { usize::from(space[0] & 15) * 4 } else { 0 };
        let Some(payload) = space[..len].get(header + UDP_HEADER..) else { continue };
        if let Some(peer_id) = payload.get(36..44).filter(|_| payload.len() >= 98) {
            let readable = |byte: &u8| if byte.is_ascii_alphanumeric() { *byte } else { b'_' };
            let name: Vec<u8> = peer_id.iter().map(readable).collect();
            peer_ids.insert(source, String::from_utf8(name).expect("ASCII"));
        }
        let payloads = waiting.entry(source).or_default();
        payloads.push(payload.to_vec());
        let Some(peer_id) = peer_ids.get(&source) else { continue };
        for payload in payloads.drain(..) {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{peer_id}-{number:03}-{}{suffix}.udp", kind(&payload));
            fs::write(directory.join(name), payload).expect("a file");
        }
    }
}

/// What a request is, and the event of an announce.
fn kind(payload: &[u8]) -> &'static str {
    match (payload.get(11), payload.get(83)) {
        (Some(0), _) => "connect",
        (Some(1), Some(0)) => "announce-none",
        (Some(1), Some(1)) => "announce-completed",
        (Some(1), Some(2)) => "announce-started",
        (Some(1), Some(3)) => "announce-stopped",
        (Some(2), _) => "scrape",
        _ => "other",
    }
}
