//! How long an announce at one node takes to be visible at another.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use annulus_bench::net::{BenchClient, Endpoint, Transport};
use annulus_bench::torrents::{announce, info_hash};
use anyhow::{Result, ensure};

use crate::site::{NODES, Site};

/// Torrents of the probes, which nobody else announces: from here on.
const FIRST: u64 = 1 << 40;

/// Between two questions; so exact is a delay.
const POLL: Duration = Duration::from_millis(1);

/// A delay that ends the measurement.
const LOST: Duration = Duration::from_secs(20);

/// Announces a new torrent at one node after another and asks the next one for it, until it is
/// over. Returns delays in microseconds, from the response to the announce.
pub(crate) fn measure(site: &Site, is_over: &AtomicBool) -> Result<Vec<u64>> {
    let mut clients = Vec::new();
    for node in &site.nodes {
        let at = Endpoint { address: node.address, transport: Transport::Plain };
        clients.push(BenchClient::connect(Ipv4Addr::LOCALHOST, at)?);
    }
    let mut delays = Vec::new();
    for number in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let (torrent, at) = (FIRST + number, number as usize % NODES);
        let seeder = announce(torrent, number, "port=6881&left=0", "");
        clients[at].send(seeder.as_bytes())?;
        clients[at].receive_peers()?;
        let begun = Instant::now();
        let asked = &mut clients[(at + 1) % NODES];
        let hash: String = info_hash(torrent).iter().map(|byte| format!("%{byte:02x}")).collect();
        let question = format!("GET /scrape?info_hash={hash} HTTP/1.1\r\nHost: tracker\r\n\r\n");
        loop {
            asked.send(question.as_bytes())?;
            let body = asked.receive()?.body;
            if body.windows(13).any(|part| part == b"8:completei1e") {
                break;
            }
            ensure!(begun.elapsed() < LOST, "an announce has not become visible for {LOST:?}");
            sleep(POLL);
        }
        delays.push(begun.elapsed().as_micros() as u64);
        // So that probes come at all times of a node's 20 ms.
        sleep(POLL * (number % 7) as u32);
    }
    Ok(delays)
}
