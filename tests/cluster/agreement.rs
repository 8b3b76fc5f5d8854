//! What each node knows, peer by peer, compared with what clients have announced.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use super::load::{Model, TORRENTS, announce_target, exchange, info_hash};
use super::nodes::Cluster;
use crate::support::bencode::{Bencode, decode};
use crate::support::client::get_request;
use crate::support::network::Family;
use crate::support::torrent::{ScrapeCounts, compact_v4, compact_v6, percent_encoded};

/// Who asks for the peers of a torrent; a response leaves out the peer that it is for.
const PROBE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(20, 255, 0, 1), 9));

/// The swarms of a node.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// By torrent: its peers, and whether each is a seeder.
    swarms: Vec<BTreeMap<SocketAddr, bool>>,
    /// By torrent, in a scrape.
    counts: Vec<ScrapeCounts>,
}

impl Snapshot {
    /// Asks a node for everything. An announce as a leecher gets all peers, one as a seeder gets
    /// only leechers; the asking peer stops after them.
    #[track_caller]
    pub(crate) fn of(cluster: &Cluster, node: usize) -> Snapshot {
        let at = cluster.address(node, Family::V4);
        let mut stream = Some(cluster.network.connect(at).unwrap());
        let mut ask = |target: &str| {
            let request = get_request(target);
            let (open, body) = exchange(stream.take().unwrap(), &request).unwrap();
            stream = Some(open);
            decode(&body)
        };
        // First all counts: what asks below is a peer itself for a moment, on all nodes.
        let counts = (0..TORRENTS).map(|torrent| {
            let body = ask(&format!("/scrape?info_hash={}", percent_encoded(&info_hash(torrent))));
            let file = &body.get("files").unwrap().entries()[0].1;
            let [complete, downloaded, incomplete] =
                ["complete", "downloaded", "incomplete"].map(|key| file.integer(key));
            ScrapeCounts { complete, downloaded, incomplete }
        });
        let counts = counts.collect();
        let swarms = (0..TORRENTS).map(|torrent| {
            let [all, leechers, _] = ["left=1", "left=0", "event=stopped"].map(|rest| {
                peers(&ask(&announce_target(torrent, PROBE, &format!("{rest}&numwant=1000"))))
            });
            all.into_iter().map(|peer| (peer, !leechers.contains(&peer))).collect()
        });
        let swarms = swarms.collect();
        Snapshot { swarms, counts }
    }

    /// The `downloaded` counts of all torrents.
    pub(crate) fn downloaded(&self) -> Vec<i64> {
        self.counts.iter().map(|counts| counts.downloaded).collect()
    }
}

fn peers(body: &Bencode) -> BTreeSet<SocketAddr> {
    let mut peers = compact_v4(body.bytes("peers"));
    if let Some(Bencode::Bytes(bytes)) = body.get("peers6") {
        peers.extend(compact_v6(bytes));
    }
    let set: BTreeSet<SocketAddr> = peers.iter().copied().collect();
    assert_eq!(set.len(), peers.len(), "a peer comes twice");
    set
}

/// How nodes differ from the model and from each other, in words.
pub(crate) fn differences(model: &Model, nodes: &[(usize, Snapshot)]) -> Vec<String> {
    let mut found = Vec::new();
    for torrent in 0..TORRENTS {
        let expected = model.swarm(torrent);
        for (node, snapshot) in nodes {
            let swarm = &snapshot.swarms[usize::from(torrent)];
            let strangers = swarm.keys().filter(|peer| !expected.contains_key(peer));
            found.extend(strangers.map(|it| format!("node {node}, torrent {torrent}: {it}?")));
            for (peer, may_be) in &expected {
                let is = swarm.get(peer).copied();
                if !may_be.contains(&is) {
                    found.push(format!(
                        "node {node}, torrent {torrent}: {peer} seeds: {is:?}, not {may_be:?}"
                    ));
                }
            }
            if *swarm != nodes[0].1.swarms[usize::from(torrent)] {
                let first = nodes[0].0;
                found.push(format!("node {node}, torrent {torrent}: not as node {first}"));
            }
            let seeders = swarm.values().filter(|&&seeds| seeds).count() as i64;
            let counts = snapshot.counts[usize::from(torrent)];
            if (counts.complete, counts.incomplete) != (seeders, swarm.len() as i64 - seeders) {
                found.push(format!("node {node}, torrent {torrent}: {counts:?}"));
            }
        }
    }
    found
}
