//! The limit of peers of one address in a torrent: one address cannot count out a swarm, its oldest
//! peer is the one that is replaced, and the choice of peers stays uniform.

use std::collections::{BTreeMap, HashSet};
use std::hash::RandomState;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use annulus_swarm::{
    AnnounceRequest, CompactAddr, PeerEvent, Random, Replaced, Sample, SwarmConfig, Swarms,
    TorrentCounts,
};
use quickcheck::{Arbitrary, Gen, QuickCheck};

const INFO_HASH: [u8; 20] = [9; 20];

/// One torrent and the state that announces need.
struct AddressWorld {
    swarms: Swarms,
    random: Random,
    sample: Sample,
    now: u32,
}

impl AddressWorld {
    fn new(peers_per_address_max: u32) -> AddressWorld {
        let config = SwarmConfig {
            torrents_max: 10,
            peers_max: 1_000_000,
            peers_per_torrent_max: 1_000_000,
            peers_per_address_max,
            peer_timeout_s: 2700,
        };
        AddressWorld {
            swarms: Swarms::new(config, RandomState::new()),
            random: Random::seeded(u64::from(peers_per_address_max)),
            sample: Sample::with_capacity(1000),
            now: 5000,
        }
    }

    fn announce(&mut self, ip: IpAddr, port: u16, seeder: bool, numwant: u32) -> TorrentCounts {
        self.process(AnnounceRequest {
            info_hash: INFO_HASH,
            peer: CompactAddr::new(ip, port),
            seeder,
            event: PeerEvent::None,
            numwant,
            own_family_only: false,
        })
    }

    fn process(&mut self, request: AnnounceRequest) -> TorrentCounts {
        self.swarms.announce(&request, self.now, &mut self.random, &mut self.sample)
    }

    fn answer(&self) -> Vec<CompactAddr> {
        let v4 = self.sample.v4().iter().map(|&peer| CompactAddr::V4(peer));
        v4.chain(self.sample.v6().iter().map(|&peer| CompactAddr::V6(peer))).collect()
    }

    /// All peers, as an observer sees them that joins and leaves.
    fn peers(&mut self) -> HashSet<CompactAddr> {
        let observer = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 255));
        self.announce(observer, 1, false, u32::MAX);
        let peers = self.answer();
        self.process(AnnounceRequest {
            info_hash: INFO_HASH,
            peer: CompactAddr::new(observer, 1),
            seeder: false,
            event: PeerEvent::Stopped,
            numwant: 0,
            own_family_only: false,
        });
        peers.into_iter().collect()
    }
}

/// A distinct address for each number; IPv6 ones have distinct /64s.
fn address(v6: bool, number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    match v6 {
        false => IpAddr::V4(Ipv4Addr::new(198, 51, high, low)),
        true => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, number, 0, 0, 0, 1)),
    }
}

/// The addresses of one attacker: one IPv4 address, or those of one /64.
fn attacker(v6: bool, port: u16) -> IpAddr {
    match v6 {
        false => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 66)),
        true => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 66, 0, port, 2, 3, 4)),
    }
}

fn is_attackers(peer: &CompactAddr) -> bool {
    match peer {
        CompactAddr::V4(bytes) => bytes[..4] == [192, 0, 2, 66],
        CompactAddr::V6(bytes) => bytes[..8] == [0x20, 1, 0xd, 0xb8, 0, 66, 0, 0],
    }
}

#[test]
fn one_address_cannot_crowd_out_a_swarm() {
    for v6 in [false, true] {
        for others in [10, 100, 1000] {
            let mut world = AddressWorld::new(16);
            for number in 0..others {
                world.announce(address(v6, number), 6881, number % 3 == 0, 0);
            }
            for port in 1..=35_000 {
                let counts = world.announce(attacker(v6, port), port, port % 2 == 0, 0);
                let peers = counts.complete + counts.incomplete;
                assert_eq!(peers, u32::from(others + port.min(16)));
                assert_eq!(world.sample.replaced(), (port > 16).then_some(Replaced::Peer));
            }
            let complete = u32::from(others.div_ceil(3) + 8);
            for _ in 0..20 {
                let counts = world.announce(address(v6, 0), 6881, false, 200);
                assert_eq!(counts.complete, complete - 1);
                let answer = world.answer();
                assert_eq!(answer.len(), usize::from(others - 1 + 16).min(200));
                let attackers = answer.iter().filter(|peer| is_attackers(peer)).count();
                assert!(attackers <= 16, "{attackers} of {}", answer.len());
            }
            let kept = world.peers();
            for port in 35_000 - 15..=35_000 {
                assert!(kept.contains(&CompactAddr::new(attacker(v6, port), port)), "{port}");
            }
            assert_eq!(world.swarms.totals().peers, u64::from(others) + 16);
        }
    }
}

/// Every peer is named equally often, including the attacker's.
#[test]
fn the_choice_of_peers_stays_uniform() {
    for v6 in [false, true] {
        let mut world = AddressWorld::new(16);
        for number in 0..284 {
            world.announce(address(v6, number), 6881, false, 0);
            for port in number * 7 + 1..number * 7 + 8 {
                world.announce(attacker(v6, port), port, false, 0);
            }
        }
        let rounds = 6000;
        let mut named: BTreeMap<Vec<u8>, f64> = BTreeMap::new();
        for _ in 0..rounds {
            world.announce(address(v6, 0), 6881, false, 50);
            for peer in world.answer() {
                let bytes = match peer {
                    CompactAddr::V4(bytes) => bytes.to_vec(),
                    CompactAddr::V6(bytes) => bytes.to_vec(),
                };
                *named.entry(bytes).or_default() += 1.0;
            }
        }
        // Each answer names 50 of 299 other peers.
        assert_eq!(named.len(), 299);
        let chance = 50.0 / 299.0;
        let expected = f64::from(rounds) * chance;
        let statistic: f64 = named
            .values()
            .map(|count| (count - expected).powi(2) / (expected * (1.0 - chance)))
            .sum::<f64>()
            * (298.0 / 299.0);
        assert!((statistic - 298.0).abs() < 6.0 * (2.0_f64 * 298.0).sqrt() + 6.0, "{statistic}");
    }
}

#[test]
fn a_peer_that_announces_again_stays_and_counts_once() {
    for v6 in [false, true] {
        // Inline peers, an array, and an index.
        for others in [0, 20, 500] {
            for max in [1, 2, 4, 15, 16] {
                let mut world = AddressWorld::new(u32::from(max));
                for number in 0..others {
                    world.announce(address(v6, number), 6881, false, 0);
                }
                for port in 1..=max {
                    world.announce(attacker(v6, 0), port, true, 0);
                }
                // The oldest becomes the latest, and a leecher among seeders.
                for _ in 0..3 {
                    let counts = world.announce(attacker(v6, 0), 1, false, 0);
                    assert_eq!(counts.complete, u32::from(max - 1));
                    assert_eq!(world.sample.replaced(), None);
                }
                for port in 101..101 + max - 1 {
                    world.announce(attacker(v6, 0), port, false, 0);
                }
                let kept = world.peers();
                assert!(kept.contains(&CompactAddr::new(attacker(v6, 0), 1)), "{others} {max}");
                assert_eq!(kept.len(), usize::from(others + max));
                world.announce(attacker(v6, 0), 200, false, 0);
                let kept = world.peers();
                assert!(!kept.contains(&CompactAddr::new(attacker(v6, 0), 1)), "{others} {max}");
                assert_eq!(kept.len(), usize::from(others + max));
            }
        }
    }
}

/// With more peers than an order distinguishes, their number is still right and the latest are
/// kept.
#[test]
fn a_large_limit_holds_and_the_latest_peers_are_kept() {
    for v6 in [false, true] {
        let mut world = AddressWorld::new(100);
        for port in 1..=5000 {
            world.announce(attacker(v6, 0), port, port % 3 == 0, 0);
            if port % 97 == 0 {
                let kept = world.peers();
                assert_eq!(kept.len(), usize::from(port.min(100)));
                for last in port.saturating_sub(14).max(1)..=port {
                    assert!(kept.contains(&CompactAddr::new(attacker(v6, 0), last)));
                }
            }
        }
    }
}

#[test]
fn only_private_addresses_are_unlimited() {
    let unlimited = [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.1",
        "192.168.1.1",
        "100.64.0.1",
        "100.127.0.1",
        "169.254.1.1",
        "::1",
        "fc00::1",
        "fd12::1",
        "fe80::1",
        "febf::1",
        "::ffff:10.0.0.1",
    ];
    let limited = [
        "126.0.0.1",
        "11.0.0.1",
        "172.15.0.1",
        "172.32.0.1",
        "192.169.0.1",
        "192.0.2.1",
        "100.63.0.1",
        "100.128.0.1",
        "169.253.1.1",
        "1.2.3.4",
        "203.0.113.1",
        "2001:db8::1",
        "fec0::1",
        "fe00::1",
        "200::1",
        "::2",
        "::1:0:0:0:1",
        "::ffff:9.0.0.1",
    ];
    let stored = |max: u32, ip: &str| {
        let mut world = AddressWorld::new(max);
        (1..=300).for_each(|port| {
            world.announce(ip.parse().unwrap(), port, false, 0);
        });
        world.swarms.totals().peers
    };
    for ip in unlimited {
        assert_eq!(stored(3, ip), 300, "{ip}");
    }
    for ip in limited {
        assert_eq!((stored(3, ip), stored(0, ip)), (3, 300), "{ip}");
    }
}

/// In a small swarm (scanned) and in a large one (indexed).
#[test]
fn an_exempt_address_of_a_limited_64_is_not_counted() {
    for others in [0, 500] {
        let mut world = AddressWorld::new(3);
        let exempt: Ipv6Addr = "2001:db8::5".parse().unwrap();
        world.swarms = world.swarms.with_exemption(move |ip| ip == exempt);
        for number in 0..others {
            world.announce(address(true, number), 6881, false, 0);
        }
        for port in 1..=20 {
            world.announce(exempt.into(), port, false, 0);
            world.announce("2001:db8::6".parse().unwrap(), port, false, 0);
            world.announce("2001:db8::7".parse().unwrap(), port, false, 0);
        }
        assert_eq!(world.swarms.totals().peers, u64::from(others) + 20 + 3);
        let kept = world.peers();
        assert!((1..=20).all(|port| kept.contains(&CompactAddr::new(exempt.into(), port))));
    }
}

#[derive(Clone, Debug)]
struct Sequence {
    max: u32,
    /// Address family, address, port, whether it is a seeder, and the seconds since the last one.
    announces: Vec<(bool, u16, u16, bool, u32)>,
}

impl Arbitrary for Sequence {
    fn arbitrary(g: &mut Gen) -> Sequence {
        let ports = *g.choose(&[3, 20, 60]).unwrap();
        let one = |g: &mut Gen| {
            let seconds = if u8::arbitrary(g) < 20 { u32::from(u8::arbitrary(g)) } else { 0 };
            let address = *g.choose(&[0, 0, 0, 1, 2]).unwrap();
            (bool::arbitrary(g), address, u16::arbitrary(g) % ports, bool::arbitrary(g), seconds)
        };
        Sequence {
            max: *g.choose(&[1, 2, 3, 7, 15, 16]).unwrap(),
            announces: (0..300).map(|_| one(g)).collect(),
        }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Sequence>> {
        let max = self.max;
        Box::new(self.announces.shrink().map(move |announces| Sequence { max, announces }))
    }
}

/// No address exceeds its limit, all peers are counted, and each address keeps its latest ones.
fn keeps_the_latest(sequence: Sequence) {
    let mut world = AddressWorld::new(sequence.max);
    // The peers of each address, the latest last, and whether each is a seeder.
    let mut latest: BTreeMap<(bool, u16), Vec<(u16, bool)>> = BTreeMap::new();
    for &(v6, number, port, seeder, seconds) in &sequence.announces {
        world.now += seconds;
        // IPv6 addresses in one /64 count as one address.
        let ip = |port: u16| match address(v6, number) {
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() + u128::from(port))),
            v4 => v4,
        };
        let counts = world.announce(ip(port), 1000 + port, seeder, 0);
        let own = latest.entry((v6, number)).or_default();
        own.retain(|(known, _)| *known != port);
        own.push((port, seeder));
        let max = sequence.max as usize;
        own.drain(..own.len().saturating_sub(max));
        let all = latest.values().flatten();
        assert_eq!(counts.complete as usize, all.clone().filter(|(_, seeder)| *seeder).count());
        assert_eq!((counts.complete + counts.incomplete) as usize, all.count());
        let kept: HashSet<CompactAddr> = latest[&(v6, number)]
            .iter()
            .map(|&(port, _)| CompactAddr::new(ip(port), 1000 + port))
            .collect();
        assert!(kept.is_subset(&world.peers()), "{kept:?}");
    }
}

#[test]
fn an_address_keeps_its_latest_peers() {
    QuickCheck::new().tests(150).quickcheck(keeps_the_latest as fn(Sequence));
}
