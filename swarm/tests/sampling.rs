//! The choice of peers is uniform in every representation of a swarm, and the two address families
//! get their shares of an answer.

use std::collections::BTreeMap;
use std::hash::RandomState;

use annulus_swarm::{AnnounceRequest, CompactAddr, PeerEvent, Random, Sample, SwarmConfig, Swarms};

const INFO_HASH: [u8; 20] = [1; 20];

fn endpoint(n: u16, v6: bool) -> CompactAddr {
    let [high, low] = n.to_be_bytes();
    if v6 {
        CompactAddr::V6([2, high, low, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 9, 9])
    } else {
        CompactAddr::V4([10, 1, high, low, 9, 9])
    }
}

/// One swarm with peers of both families, one of which announces repeatedly.
struct Requester {
    swarms: Swarms,
    random: Random,
    sample: Sample,
    asks: AnnounceRequest,
}

impl Requester {
    /// `v4` and `v6` leechers, and the one that announces among those of its family.
    fn new(v4: u16, v6: u16, asker_v6: bool, numwant: u32) -> Requester {
        let config = SwarmConfig {
            torrents_max: 1,
            peers_max: 1_000_000,
            peers_per_torrent_max: 1_000_000,
            peers_per_address_max: 0,
            peer_timeout_s: 1000,
        };
        let asks = AnnounceRequest {
            info_hash: INFO_HASH,
            peer: endpoint(u16::MAX, asker_v6),
            seeder: false,
            event: PeerEvent::None,
            numwant,
            own_family_only: false,
        };
        let mut requester = Requester {
            swarms: Swarms::new(config, RandomState::new()),
            random: Random::seeded(u64::from(v4) << 32 | u64::from(v6) << 16 | u64::from(numwant)),
            sample: Sample::with_capacity(200),
            asks,
        };
        for (count, is_v6) in [(v4, false), (v6, true)] {
            for n in 0..count {
                if n == count / 2 && is_v6 == asker_v6 {
                    requester.announce(asks);
                }
                requester.announce(AnnounceRequest {
                    peer: endpoint(n, is_v6),
                    numwant: 0,
                    ..asks
                });
            }
        }
        requester
    }

    fn announce(&mut self, request: AnnounceRequest) {
        self.swarms.announce(&request, 0, &mut self.random, &mut self.sample);
    }

    /// The numbers of the peers in one answer; IPv6 ones begin at 10000.
    fn ask(&mut self) -> Vec<usize> {
        self.announce(self.asks);
        let number = |high: u8, low: u8| usize::from(u16::from_be_bytes([high, low]));
        let v4 = self.sample.v4().iter().map(|peer| number(peer[2], peer[3]));
        let v6 = self.sample.v6().iter().map(|peer| 10_000 + number(peer[1], peer[2]));
        v4.chain(v6).collect()
    }
}

/// Whether a chi-square statistic fits a uniform distribution. A correct sampler fails with one in
/// a billion seeds, and the seeds are fixed.
fn is_uniform(statistic: f64, freedom: f64) -> bool {
    (statistic - freedom).abs() < 6.0 * (2.0 * freedom).sqrt() + 6.0
}

#[test]
fn every_subset_is_equally_likely() {
    // Inline peers and arrays; one peer more than wanted, and many more.
    for (peers, numwant, subsets) in
        [(3, 1, 3.0), (3, 2, 3.0), (7, 1, 7.0), (7, 3, 35.0), (7, 6, 7.0), (9, 4, 126.0)]
    {
        for v6 in [false, true] {
            let counts = if v6 { (0, peers) } else { (peers, 0) };
            let mut requester = Requester::new(counts.0, counts.1, v6, numwant);
            let rounds = 40_000.0;
            let mut seen: BTreeMap<Vec<usize>, f64> = BTreeMap::new();
            for _ in 0..rounds as u32 {
                let mut subset = requester.ask();
                subset.sort_unstable();
                *seen.entry(subset).or_default() += 1.0;
            }
            assert_eq!(seen.len() as f64, subsets);
            let expected = rounds / subsets;
            let statistic: f64 =
                seen.values().map(|count| (count - expected).powi(2) / expected).sum();
            assert!(is_uniform(statistic, subsets - 1.0), "{peers} {numwant} {v6}: {statistic}");
        }
    }
}

#[test]
fn every_order_is_equally_likely() {
    let mut requester = Requester::new(20, 0, false, 3);
    let rounds = 60_000.0;
    let mut seen: BTreeMap<Vec<bool>, f64> = BTreeMap::new();
    for _ in 0..rounds as u32 {
        let peers = requester.ask();
        let order = vec![peers[0] < peers[1], peers[1] < peers[2], peers[0] < peers[2]];
        *seen.entry(order).or_default() += 1.0;
    }
    let expected = rounds / 6.0;
    let statistic: f64 = seen.values().map(|count| (count - expected).powi(2) / expected).sum();
    assert!(seen.len() == 6 && is_uniform(statistic, 5.0), "{seen:?}");
}

/// Counts how often each peer, and each pair of one family, is in an answer.
#[test]
fn peers_and_pairs_are_even_in_every_layout() {
    // IPv4 peers, IPv6 peers, whether the announcer is IPv6, numwant, whether it wants its own
    // family only, and the share of each family.
    for (v4, v6, asker_v6, numwant, own_only, share_v4, share_v6) in [
        (60, 0, false, 50, false, 50, 0),
        (51, 0, false, 50, false, 50, 0),
        (300, 0, false, 50, false, 50, 0),
        (0, 300, true, 199, false, 0, 199),
        (300, 300, false, 51, false, 39, 12),
        (300, 40, true, 50, false, 12, 38),
        (300, 20, true, 50, false, 30, 20),
        (300, 300, false, 1, false, 1, 0),
        (300, 300, true, 7, false, 1, 6),
        (300, 300, false, 51, true, 51, 0),
        (300, 300, true, 51, true, 0, 51),
        (300, 40, true, 50, true, 0, 40),
        (20, 300, false, 50, true, 20, 0),
        (60, 60, false, 200, true, 60, 0),
    ] {
        let mut requester = Requester::new(v4, v6, asker_v6, numwant);
        requester.asks.own_family_only = own_only;
        let rounds = 6000.0;
        let (v4, v6) = (usize::from(v4), usize::from(v6));
        let mut together = vec![0_u32; (v4 + v6) * (v4 + v6)];
        for _ in 0..rounds as u32 {
            let mut peers = requester.ask();
            assert_eq!(peers.iter().filter(|&&peer| peer < 10_000).count(), share_v4);
            assert_eq!(peers.len(), share_v4 + share_v6);
            peers.iter_mut().filter(|peer| **peer >= 10_000).for_each(|p| *p -= 10_000 - v4);
            for &one in &peers {
                peers.iter().for_each(|&other| together[one * (v4 + v6) + other] += 1);
            }
        }
        for (family, share) in [(0..v4, share_v4 as f64), (v4..v4 + v6, share_v6 as f64)] {
            let n = family.len() as f64;
            // With a large share, those left out are the better statistic.
            let few = share.min(n - share);
            let (chance, chance_of_two) = (few / n, few / n * (few - 1.0) / (n - 1.0));
            let count = |one: usize, other: usize| {
                let [one_alone, other_alone, both] = [(one, one), (other, other), (one, other)]
                    .map(|(a, b)| f64::from(together[a * (v4 + v6) + b]));
                if few == share { both } else { rounds - one_alone - other_alone + both }
            };
            let square = |count: f64, chance: f64| {
                (count - rounds * chance).powi(2) / (rounds * chance * (1.0 - chance))
            };
            let (mut unconfirmed, mut pairs) = (0.0, 0.0);
            for one in family.clone() {
                unconfirmed += square(count(one, one), chance);
                let others = one + 1..family.end;
                pairs += others.map(|other| square(count(one, other), chance_of_two)).sum::<f64>();
            }
            let what = format!("{v4} {v6} {asker_v6} {numwant}: {unconfirmed} {pairs} of {n}");
            if few > 0.0 {
                assert!(is_uniform(unconfirmed * (n - 1.0) / n, n - 1.0), "{what}");
            }
            if few > 1.0 {
                // The pairs of one peer are slightly correlated, so their mean varies more than
                // that of as many independent squares.
                let mean = pairs / (n * (n - 1.0) / 2.0);
                let spread = 0.05 + 6.0 * chance * (2.0 / n).sqrt();
                assert!((mean - 1.0).abs() < spread, "{what}: {mean} {spread}");
            }
        }
    }
}
