//! What a tracker keeps: its resident memory after more than a million announces, each of
//! another peer.

use std::io;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use crate::check::check;
use crate::client::{Answer, Client};
use crate::endpoint::{Endpoint, Transport};
use crate::floor::Connections;
use crate::servers::{Server, Setup};
use crate::torrents::{escaped, info_hash, spread};

/// Announces, each of a peer and torrent that was not announced before.
pub(crate) const ANNOUNCES: u64 = 1_100_000;

/// Torrents. Every one is announced once; the rest of the announces favours the first of them.
const TORRENTS: u64 = 500_000;

/// Source addresses, all of them of the loopback network.
const SOURCES: u64 = 100;

/// Requests sent before the first answer is awaited, where connections are kept.
const PIPELINED: usize = 64;

/// Threads of the load where a connection takes one announce: they overlap their waiting.
const THREADS: u64 = 4;

/// A peer's port: one for each of the announces of its source address.
const PORT_FIRST: u64 = 1024;

/// Time after which the filling is given up.
const FILL_WAIT: Duration = Duration::from_secs(300);

const _: () = assert!(ANNOUNCES / SOURCES + PORT_FIRST <= u16::MAX as u64);
const _: () = assert!(SOURCES < 255 && ANNOUNCES.is_multiple_of(SOURCES));

/// Memory before and after.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Resident before the first announce, bytes.
    pub(crate) before: u64,
    /// Resident after the last, bytes.
    pub(crate) after: u64,
    /// Time that the announces took.
    pub(crate) took: Duration,
}

impl Memory {
    /// Starts `server`, fills it, and measures.
    ///
    /// # Errors
    ///
    /// If it cannot be started, or one of the announces is not answered with a peer list.
    pub(crate) fn measure(server: Server, connections: Connections) -> io::Result<Memory> {
        let running = server.start(Setup::plain(connections, TORRENTS))?;
        let at = running.endpoint(Transport::Plain)?;
        check(server, at, connections)?;
        let before = running.resident_bytes()?;
        let pipelined = if server.takes_pipelined() { PIPELINED } else { 1 };
        let started = Instant::now();
        // The threads inherit this one's CPU, that of the load.
        let fillers: Vec<_> = (0..THREADS)
            .map(|thread| {
                thread::spawn(move || {
                    (thread..SOURCES)
                        .step_by(THREADS as usize)
                        .try_for_each(|source| fill(at, source, connections, pipelined, started))
                })
            })
            .collect();
        for filler in fillers {
            filler.join().map_err(|_| io::Error::other("the load panicked"))??;
        }
        let took = started.elapsed();
        Ok(Memory { before, after: running.resident_bytes()?, took })
    }
}

/// Prints all servers' memory, or why it is unknown.
pub(crate) fn print(all: &[(Server, Result<Memory, String>)]) {
    println!("\n### memory: {ANNOUNCES} announces over {TORRENTS} torrents\n");
    println!("| server | bytes/announce | of it grown | MiB before | MiB after | announces/s |");
    println!("|---|---|---|---|---|---|");
    for (server, memory) in all {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        match memory {
            Ok(memory) => println!(
                "| {} | {:.1} | {:.1} | {:.1} | {:.1} | {:.0} |",
                server.name(),
                memory.after as f64 / ANNOUNCES as f64,
                memory.after.saturating_sub(memory.before) as f64 / ANNOUNCES as f64,
                mib(memory.before),
                mib(memory.after),
                ANNOUNCES as f64 / memory.took.as_secs_f64(),
            ),
            Err(why) => println!("| {} | {why} | | | | |", server.name()),
        }
    }
}

/// Sends all announces of one source address.
fn fill(
    server: Endpoint,
    source: u64,
    connections: Connections,
    pipelined: usize,
    started: Instant,
) -> io::Result<()> {
    let address = Ipv4Addr::new(127, 1, 0, 1 + source as u8);
    let announces: Vec<u64> = (source..ANNOUNCES).step_by(SOURCES as usize).collect();
    match connections {
        Connections::Keep => {
            let mut client = Client::connect(address, server)?;
            for batch in announces.chunks(pipelined) {
                let requests: String = batch.iter().map(|n| request(*n, "")).collect();
                client.send(requests.as_bytes())?;
                for _ in batch {
                    judge(&client.receive()?)?;
                }
                in_time(started)?;
            }
        }
        Connections::Close => {
            for announce in announces {
                let mut client = Client::connect(address, server)?;
                client.send(request(announce, "Connection: close\r\n").as_bytes())?;
                judge(&client.receive()?)?;
                in_time(started)?;
            }
        }
    }
    Ok(())
}

fn judge(answer: &Answer) -> io::Result<()> {
    if answer.is_peer_list() {
        return Ok(());
    }
    let body = String::from_utf8_lossy(&answer.body);
    Err(io::Error::other(format!("not a peer list: {} {body}", answer.status)))
}

fn in_time(started: Instant) -> io::Result<()> {
    if started.elapsed() < FILL_WAIT {
        return Ok(());
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn request(announce: u64, connection: &str) -> String {
    let info_hash = escaped(&info_hash(torrent(announce)));
    let port = PORT_FIRST + announce / SOURCES;
    let left = if spread(announce).is_multiple_of(2) { 0 } else { 201_000 };
    format!(
        "GET /announce?info_hash={info_hash}&peer_id=-TR3000-{announce:012}\
         &port={port}&uploaded=0&downloaded=0&left={left}&numwant=1&compact=1&event=started \
         HTTP/1.1\r\nHost: tracker\r\n{connection}\r\n"
    )
}

/// The torrent of an announce: each once, then with a popularity that falls off steeply.
fn torrent(announce: u64) -> u64 {
    if announce < TORRENTS {
        return announce;
    }
    let uniform = spread(announce) as f64 / 2_f64.powi(64);
    ((uniform.powi(3) * TORRENTS as f64) as u64).min(TORRENTS - 1)
}
