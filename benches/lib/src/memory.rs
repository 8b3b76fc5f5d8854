//! What a tracker keeps: its resident memory after more than a million announces, each of another
//! peer.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::net::{BenchClient, Endpoint, KeepAlive, Transport, check};
use crate::results::{Filled, Memory};
use crate::servers::{ServerKind, Setup};
use crate::torrents::{announce, mix};

/// Announces, each of a peer and torrent that was not announced before.
const ANNOUNCES: u64 = 1_100_000;

/// Torrents. Each is announced once; the rest of the announces favours the first of them.
const TORRENTS: u64 = 500_000;

/// Source addresses, all of the loopback network, and the first port of each.
const SOURCES: u64 = 100;
const PORT_FIRST: u64 = 1024;

/// Requests sent before the first response is awaited, if connections are kept.
const PIPELINED: usize = 64;

const FILL_WAIT: Duration = Duration::from_secs(300);

const _: () = assert!(ANNOUNCES / SOURCES + PORT_FIRST <= u16::MAX as u64);
const _: () = assert!(SOURCES < 255 && ANNOUNCES.is_multiple_of(SOURCES));

pub fn measure_all(servers: &[ServerKind], wanted: impl Fn(ServerKind) -> bool) -> Vec<Filled> {
    let measure = |server: ServerKind| {
        eprintln!("memory, {}", server.name());
        let outcome = measure(server).map_err(|error| format!("{error:#}")).into();
        Filled { server: server.name().to_owned(), outcome }
    };
    servers.iter().copied().filter(|server| wanted(*server)).map(measure).collect()
}

/// Starts `server`, fills it in the way in which it takes announces fastest, and measures.
fn measure(server: ServerKind) -> Result<Memory> {
    let keep_alive = match server.serves(KeepAlive::Keep, Transport::Plain) {
        true => KeepAlive::Keep,
        false => KeepAlive::Close,
    };
    let running = server.start(&Setup::plain(keep_alive, TORRENTS))?;
    let at = running.endpoint(Transport::Plain)?;
    check(server, at, keep_alive)?;
    let before = running.resident_bytes()?;
    let started = Instant::now();
    for source in 0..SOURCES {
        // aquatic_http resets a connection with pipelined requests.
        let pipelined = if server == ServerKind::Aquatic { 1 } else { PIPELINED };
        fill(at, source, keep_alive, pipelined)?;
        ensure!(started.elapsed() < FILL_WAIT, "not full in time");
    }
    let [before_bytes, after_bytes] = [before, running.resident_bytes()?].map(|it| it as f64);
    Ok(Memory { announces: ANNOUNCES as f64, before_bytes, after_bytes })
}

fn fill(at: Endpoint, source: u64, keep_alive: KeepAlive, pipelined: usize) -> Result<()> {
    let address = Ipv4Addr::new(127, 1, 0, 1 + source as u8);
    let announces: Vec<u64> = (source..ANNOUNCES).step_by(SOURCES as usize).collect();
    let batch = if keep_alive == KeepAlive::Keep { announces.len() } else { 1 };
    for of_connection in announces.chunks(batch) {
        let mut client = BenchClient::connect(address, at)?;
        for batch in of_connection.chunks(pipelined) {
            let requests: String =
                batch.iter().map(|number| request(*number, keep_alive)).collect();
            client.send(requests.as_bytes())?;
            for _ in batch {
                client.receive_peers()?;
            }
        }
    }
    Ok(())
}

fn request(number: u64, keep_alive: KeepAlive) -> String {
    let port = PORT_FIRST + number / SOURCES;
    let left = if mix(number).is_multiple_of(2) { 0 } else { 201_000 };
    let query = format!("port={port}&left={left}&numwant=1&event=started");
    announce(torrent(number), number, &query, keep_alive.headers())
}

/// The torrent of an announce: each once, then with a popularity that falls off steeply.
fn torrent(number: u64) -> u64 {
    if number < TORRENTS {
        return number;
    }
    let uniform = mix(number) as f64 / 2_f64.powi(64);
    ((uniform.powi(3) * TORRENTS as f64) as u64).min(TORRENTS - 1)
}
