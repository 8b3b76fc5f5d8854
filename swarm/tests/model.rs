//! The swarm tables against an obviously correct model: plain maps that are scanned for every query
//! and store nothing that can be computed.
//!
//! A scenario is a random list of steps. It has few torrents and few peers, so that they collide,
//! and groups of peers large enough to take a swarm through every representation. After each step
//! everything visible through the public interface must agree. A failure prints the shrunk scenario
//! with its seed, which is the whole input: [`Scenario::run`] repeats it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::hash::RandomState;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use annulus_swarm::{
    AnnounceBatch, AnnounceRequest, CompactAddr, InfoHash, PeerEvent, Random, RankBy, Ranking,
    Replaced, Sample, ScrapeCursor, SwarmConfig, Swarms, Sweep, SweepStatus, TorrentCounts, Totals,
};
use quickcheck::{Arbitrary, Gen, QuickCheck};

const TORRENTS: u8 = 3;
const TIMEOUT_S: u32 = 200;
/// How long a peer may stay beyond the timeout: two ticks of a 25th of it, one sweep round of a
/// quarter of it, and the second in which the sweep runs.
const GRACE_S: u32 = 2 * (TIMEOUT_S / 25) + SWEEP_S;
const SWEEP_S: u32 = TIMEOUT_S / 4 + 1;
const SAMPLE_MAX: u32 = 60;
/// The peers of a family are spread over this many addresses: each has every twelfth peer.
const ADDRESSES: u16 = 12;
/// The numbers of a private and of an exempt address.
const PRIVATE: u16 = 3;
const EXEMPT: u16 = 4;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Announces of `count` peers of one family, numbered from `first`.
    Announce {
        torrent: u8,
        v6: bool,
        first: u16,
        count: u16,
        seeder: bool,
        event: PeerEvent,
        numwant: u32,
        own_family_only: bool,
    },
    /// Time passes, and the sweep runs.
    Wait { seconds: u32 },
    /// A full round of the sweep that does not keep a torrent.
    Drop { torrent: u8 },
}

#[derive(Clone, Debug)]
struct Scenario {
    seed: u64,
    torrents_max: u64,
    peers_max: u64,
    peers_per_torrent_max: u32,
    peers_per_address_max: u32,
    workers: usize,
    steps: Vec<Step>,
}

fn one_of<T: Copy>(g: &mut Gen, choices: &[T]) -> T {
    *g.choose(choices).expect("some choice")
}

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Step {
        if u8::arbitrary(g) < 50 {
            return Step::Wait { seconds: one_of(g, &[0, 1, 7, 30, 52, 110, 200, 260, 600]) };
        }
        if u8::arbitrary(g) < 15 {
            return Step::Drop { torrent: u8::arbitrary(g) % TORRENTS };
        }
        let events = [
            PeerEvent::None,
            PeerEvent::None,
            PeerEvent::Magnet,
            PeerEvent::Completed,
            PeerEvent::Stopped,
        ];
        let event = one_of(g, &events);
        let count = one_of(g, &[1, 1, 1, 2, 4, 60, 130, 170]);
        Step::Announce {
            torrent: u8::arbitrary(g) % TORRENTS,
            v6: bool::arbitrary(g),
            first: one_of(g, &[0, 1, 2, 3, 5, 50, 120, 160]),
            count,
            // Some clients report `completed` with something left.
            seeder: if event == PeerEvent::Completed {
                u8::arbitrary(g) > 30
            } else {
                bool::arbitrary(g)
            },
            event,
            numwant: one_of(g, &[0, 1, 2, 3, 5, 8, 25, 49, 50, 51, SAMPLE_MAX, 1000]),
            own_family_only: u8::arbitrary(g) < 80,
        }
    }
}

impl Arbitrary for Scenario {
    fn arbitrary(g: &mut Gen) -> Scenario {
        Scenario {
            seed: u64::arbitrary(g),
            torrents_max: one_of(g, &[0, 1, 2, 100, 100, 100]),
            peers_max: one_of(g, &[0, 1, 3, 200, 10_000, 10_000, 10_000]),
            peers_per_torrent_max: one_of(g, &[0, 1, 4, 129, 10_000, 10_000, 10_000]),
            peers_per_address_max: one_of(g, &[0, 1, 2, 5, 15, 16]),
            workers: one_of(g, &[1, 2, 3]),
            steps: (0..60).map(|_| Step::arbitrary(g)).collect(),
        }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Scenario>> {
        let whole = self.clone();
        let without = move |from: usize, count: usize| {
            let mut less = whole.clone();
            less.steps.drain(from..(from + count).min(less.steps.len()));
            less
        };
        let len = self.steps.len();
        let pieces = [len / 2, len / 4, len / 8, 1].into_iter().filter(|&count| count > 0);
        Box::new(pieces.flat_map(move |count| {
            let without = without.clone();
            (0..len).step_by(count).map(move |from| without(from, count))
        }))
    }
}

fn info_hash(torrent: u8) -> InfoHash {
    [torrent; 20]
}

/// IPv6 addresses with one number are different addresses in one /64.
fn ip(v6: bool, number: u16) -> IpAddr {
    match (v6, number % ADDRESSES) {
        (false, PRIVATE) => IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        (false, address) => IpAddr::V4(Ipv4Addr::new(192, 0, 2, address as u8)),
        (true, address) => {
            let first = if address == PRIVATE { 0xfd00 } else { 0x2001 };
            IpAddr::V6(Ipv6Addr::new(first, 0xdb8, 0, address, 0, 0, 0, number / 2))
        }
    }
}

fn endpoint(v6: bool, number: u16) -> CompactAddr {
    CompactAddr::new(ip(v6, number), 7000 + number)
}

fn is_exempt(ip: IpAddr) -> bool {
    ip == Ipv4Addr::new(192, 0, 2, EXEMPT as u8)
        || matches!(ip, IpAddr::V6(ip) if ip.segments()[3] == EXEMPT)
}

#[derive(Clone, Copy)]
struct ModelPeer {
    seeder: bool,
    /// The time of its last announce.
    seen: u32,
    /// The number of announces before its last one.
    order: u64,
}

#[derive(Default)]
struct ModelSwarm {
    peers: BTreeMap<(bool, u16), ModelPeer>,
    downloaded: u32,
    /// When its last peer was removed.
    empty_since: Option<u32>,
    /// It is no longer unconfirmed: there was more than one announce.
    is_established: bool,
}

impl ModelSwarm {
    fn counts(&self) -> TorrentCounts {
        let complete = self.peers.values().filter(|peer| peer.seeder).count();
        TorrentCounts {
            complete: complete as u32,
            incomplete: (self.peers.len() - complete) as u32,
            downloaded: self.downloaded,
        }
    }

    fn remove(&mut self, peer: (bool, u16), now: u32) {
        if self.peers.remove(&peer).is_some() {
            self.is_established = true;
            if self.peers.is_empty() {
                self.empty_since = Some(now);
            }
        }
    }
}

struct ModelWorld {
    scenario: Scenario,
    swarms: Swarms,
    sweeps: Vec<Sweep>,
    random: Random,
    sample: Sample,
    now: u32,
    /// Announces so far.
    announces: u64,
    /// The model; it contains exactly the torrents that the tables know.
    model: BTreeMap<u8, ModelSwarm>,
}

impl Scenario {
    /// Runs all steps.
    ///
    /// # Panics
    /// When tables and model disagree.
    fn run(self) {
        let config = SwarmConfig {
            torrents_max: self.torrents_max,
            peers_max: self.peers_max,
            peers_per_torrent_max: self.peers_per_torrent_max,
            peers_per_address_max: self.peers_per_address_max,
            peer_timeout_s: TIMEOUT_S,
        };
        let mut world = ModelWorld {
            swarms: Swarms::new(config, RandomState::new()).with_exemption(is_exempt),
            sweeps: (0..self.workers).map(|w| Sweep::new(w, self.workers)).collect(),
            random: Random::seeded(self.seed),
            sample: Sample::with_capacity(SAMPLE_MAX),
            now: 1000,
            announces: 0,
            model: BTreeMap::new(),
            scenario: self,
        };
        let mut batch = AnnounceBatch::new();
        world.wait(0);
        for step in world.scenario.steps.clone() {
            match step {
                Step::Announce {
                    torrent,
                    v6,
                    first,
                    count,
                    seeder,
                    event,
                    numwant,
                    own_family_only,
                } => {
                    // What is fetched early changes nothing, whatever state the torrent is in.
                    for number in first..first + count {
                        batch.push(info_hash(torrent), Some(endpoint(v6, number)));
                    }
                    batch.push(info_hash(torrent.wrapping_add(1)), None);
                    batch.push_scrape(info_hash(torrent));
                    world.swarms.prefetch(&mut batch);
                    for number in first..first + count {
                        let a = AnnounceRequest {
                            info_hash: info_hash(torrent),
                            peer: endpoint(v6, number),
                            seeder,
                            event,
                            numwant,
                            own_family_only,
                        };
                        world.announce(torrent, (v6, number), &a);
                    }
                }
                Step::Wait { seconds } => world.wait(seconds),
                Step::Drop { torrent } => world.drop_torrent(torrent),
            }
            world.compare();
        }
    }
}

impl ModelWorld {
    fn announce(&mut self, torrent: u8, peer: (bool, u16), a: &AnnounceRequest) {
        let counts = self.swarms.announce(a, self.now, &mut self.random, &mut self.sample);
        if self.sample.replaced() == Some(Replaced::Torrent) {
            self.drop_replaced(torrent);
        } else {
            assert!(!self.replaces_torrent(torrent, a), "none went for {a:?}");
        }
        let expected = self.expect(torrent, peer, a);
        assert_eq!(counts, expected, "{a:?}");
        self.check_sample(torrent, peer, a);
    }

    /// Whether this announce is for a new torrent that replaces another.
    fn replaces_torrent(&self, torrent: u8, a: &AnnounceRequest) -> bool {
        a.event != PeerEvent::Stopped
            && self.scenario.peers_per_torrent_max > 0
            && self.model.len() as u64 >= self.scenario.torrents_max
            && !self.model.contains_key(&torrent)
            && self.model.values().any(|swarm| !swarm.is_established)
    }

    /// Exactly one torrent has been replaced, and it was unconfirmed.
    fn drop_replaced(&mut self, for_torrent: u8) {
        assert_eq!(self.model.len() as u64, self.scenario.torrents_max);
        assert!(!self.model.contains_key(&for_torrent));
        let is_gone =
            |torrent: &u8| self.swarms.scrape(&info_hash(*torrent)) == TorrentCounts::default();
        let gone: Vec<u8> = self.model.keys().copied().filter(is_gone).collect();
        let [gone] = gone[..] else { panic!("{gone:?} went for {for_torrent}") };
        let swarm = self.model.remove(&gone).expect("it was there");
        assert!(!swarm.is_established && swarm.peers.len() == 1, "{gone} went");
    }

    /// The peer that a new one replaces, if its address is at its limit.
    fn replaced(&self, torrent: u8, (v6, number): (bool, u16)) -> Option<(bool, u16)> {
        let address = number % ADDRESSES;
        let max = match self.scenario.peers_per_address_max {
            0 => return None,
            _ if [PRIVATE, EXEMPT].contains(&address) => return None,
            max => max as usize,
        };
        let peers = &self.model.get(&torrent)?.peers;
        let of_address = || {
            peers
                .iter()
                .filter(|((is_v6, number), _)| *is_v6 == v6 && number % ADDRESSES == address)
        };
        assert!(of_address().count() <= max);
        let oldest = of_address().min_by_key(|(_, peer)| peer.order)?;
        (of_address().count() == max).then_some(*oldest.0)
    }

    /// Applies an announce to the model.
    fn expect(&mut self, torrent: u8, peer: (bool, u16), a: &AnnounceRequest) -> TorrentCounts {
        self.announces += 1;
        if a.event == PeerEvent::Stopped {
            let Some(swarm) = self.model.get_mut(&torrent) else {
                return TorrentCounts::default();
            };
            swarm.remove(peer, self.now);
            let counts = swarm.counts();
            if counts == TorrentCounts::default() {
                self.model.remove(&torrent);
            }
            return counts;
        }
        let torrents = self.model.len() as u64;
        let known = self.model.get(&torrent);
        let is_known = known.is_some_and(|swarm| swarm.peers.contains_key(&peer));
        if !is_known && let Some(replaced) = self.replaced(torrent, peer) {
            self.model.get_mut(&torrent).map(|swarm| swarm.peers.remove(&replaced));
        }
        let peers = self.totals().peers;
        let known = self.model.get(&torrent);
        let of_torrent = known.map_or(0, |swarm| swarm.peers.len() as u32);
        let has_room = peers < self.scenario.peers_max
            && of_torrent < self.scenario.peers_per_torrent_max
            && (known.is_some() || torrents < self.scenario.torrents_max);
        if !is_known && !has_room {
            return self.model.get_mut(&torrent).map_or_else(TorrentCounts::default, |swarm| {
                swarm.is_established = true;
                swarm.counts()
            });
        }
        let is_established = self.model.contains_key(&torrent);
        let swarm = self.model.entry(torrent).or_default();
        swarm.is_established = is_established;
        let before = swarm
            .peers
            .insert(peer, ModelPeer { seeder: a.seeder, seen: self.now, order: self.announces });
        swarm.empty_since = None;
        let was_seeder = before.is_some_and(|peer| peer.seeder);
        if a.event == PeerEvent::Completed && a.seeder && !was_seeder {
            swarm.downloaded += 1;
        }
        swarm.counts()
    }

    /// The answer names the right number of eligible peers.
    fn check_sample(&self, torrent: u8, announcer: (bool, u16), a: &AnnounceRequest) {
        let answer: Vec<CompactAddr> = self
            .sample
            .v4()
            .iter()
            .map(|&peer| CompactAddr::V4(peer))
            .chain(self.sample.v6().iter().map(|&peer| CompactAddr::V6(peer)))
            .collect();
        if a.event == PeerEvent::Stopped {
            assert_eq!(answer, [], "a peer that leaves wants none");
            return;
        }
        let none = ModelSwarm::default();
        let swarm = self.model.get(&torrent).unwrap_or(&none);
        let no_seeders = a.seeder && a.event != PeerEvent::Magnet;
        let eligible: HashSet<CompactAddr> = swarm
            .peers
            .iter()
            .filter(|(peer, state)| **peer != announcer && !(no_seeders && state.seeder))
            .filter(|((v6, _), _)| *v6 == announcer.0 || !a.own_family_only)
            .map(|(&(v6, number), _)| endpoint(v6, number))
            .collect();
        let distinct: HashSet<CompactAddr> = answer.iter().copied().collect();
        assert_eq!(distinct.len(), answer.len(), "a peer twice for {a:?}");
        assert!(distinct.is_subset(&eligible), "{a:?}: {:?}", distinct.difference(&eligible));

        let is_own = |peer: &&CompactAddr| matches!(peer, CompactAddr::V6(_)) == announcer.0;
        let own = eligible.iter().filter(is_own).count();
        let other = eligible.len() - own;
        let numwant = a.numwant.min(SAMPLE_MAX) as usize;
        let of_own = answer.iter().filter(is_own).count();
        let of_other = answer.len() - of_own;
        assert_eq!(answer.len(), numwant.min(eligible.len()), "of {own} and {other} for {a:?}");
        if eligible.len() > numwant {
            // The other family has its quarter, and more only where the own one has no more.
            assert!(of_other >= other.min(numwant / 4), "{of_own} of {own}, {of_other} of {other}");
            assert!(of_other <= numwant / 4 || of_own == own, "{of_own} of {own}, {of_other}");
        }
    }

    /// Time passes. Peers that must be expired are gone, and those that must not be are there.
    /// Those in between, which may be either, leave by `Stopped`, so that the model stays exact.
    fn wait(&mut self, seconds: u32) {
        self.now += seconds;
        for part in &mut self.sweeps {
            while self.swarms.sweep(part, self.now, |_| true) == SweepStatus::Pending {}
        }
        for torrent in 0..TORRENTS {
            let Some(swarm) = self.model.get_mut(&torrent) else { continue };
            let now = self.now;
            let is_past = |seen: u32, grace_s: u32| now - seen > TIMEOUT_S + grace_s;
            swarm.peers.retain(|_, peer| !is_past(peer.seen, GRACE_S));
            let doubtful: Vec<(bool, u16)> = swarm
                .peers
                .iter()
                .filter_map(|(&number, peer)| is_past(peer.seen, 0).then_some(number))
                .collect();
            let found = self.swarms.scrape(&info_hash(torrent));
            let (most, least) =
                (swarm.peers.len() as u32, (swarm.peers.len() - doubtful.len()) as u32);
            let peers = found.complete + found.incomplete;
            assert!(
                (least..=most).contains(&peers),
                "{least} to {most} peers of {torrent}: {found:?}"
            );

            for peer in doubtful {
                let (peer_endpoint, random) = (endpoint(peer.0, peer.1), &mut self.random);
                let leaves = AnnounceRequest {
                    info_hash: info_hash(torrent),
                    peer: peer_endpoint,
                    seeder: false,
                    event: PeerEvent::Stopped,
                    numwant: 0,
                    own_family_only: false,
                };
                self.swarms.announce(&leaves, now, random, &mut self.sample);
                swarm.peers.remove(&peer);
                swarm.is_established = true;
            }
            if swarm.peers.is_empty() {
                // The sweep removes the torrent with its downloads when it visits it.
                let empty_since = *swarm.empty_since.get_or_insert(now);
                let downloaded = self.swarms.scrape(&info_hash(torrent)).downloaded;
                assert!(downloaded == 0 || downloaded == swarm.downloaded);
                assert!(downloaded == 0 || now - empty_since <= SWEEP_S, "still known: {torrent}");
                if downloaded == 0 {
                    self.model.remove(&torrent);
                }
            }
        }
    }

    /// A full round removes a torrent with all peers and downloads, and all torrents without peers.
    fn drop_torrent(&mut self, torrent: u8) {
        let keep = |known: &InfoHash| *known != info_hash(torrent);
        for part in &mut self.sweeps {
            part.start_full_round();
            while self.swarms.sweep(part, self.now, keep) == SweepStatus::Pending {}
        }
        self.model.remove(&torrent);
        self.model.retain(|_, swarm| !swarm.peers.is_empty());
    }

    /// All queries agree with the model.
    fn compare(&self) {
        assert_eq!(self.swarms.totals(), self.totals());
        for torrent in 0..TORRENTS {
            let expected =
                self.model.get(&torrent).map_or_else(TorrentCounts::default, ModelSwarm::counts);
            assert_eq!(self.swarms.scrape(&info_hash(torrent)), expected, "{torrent}");
        }
        let (mut cursor, mut all) = (ScrapeCursor::default(), Vec::new());
        while self.swarms.scrape_chunk(&mut cursor, 2, &mut all) {}
        let expected: BTreeMap<InfoHash, TorrentCounts> = self
            .model
            .iter()
            .map(|(&torrent, swarm)| (info_hash(torrent), swarm.counts()))
            .collect();
        assert_eq!(all, expected.into_iter().collect::<Vec<(InfoHash, TorrentCounts)>>());
        let mut ranking = Ranking::new(2);
        while self.swarms.rank(&mut ranking, |_| true) {}
        for by in RankBy::ALL {
            let mut largest = all.clone();
            largest.sort_by_key(|(_, counts)| match by {
                RankBy::Leechers => Reverse(counts.incomplete),
                RankBy::Seeders => Reverse(counts.complete),
                RankBy::Downloads => Reverse(counts.downloaded),
            });
            largest.truncate(2);
            assert_eq!(ranking.top(by).collect::<Vec<_>>(), largest, "{by:?}");
        }
    }

    fn totals(&self) -> Totals {
        Totals {
            torrents: self.model.len() as u64,
            peers: self.model.values().map(|swarm| swarm.peers.len() as u64).sum(),
        }
    }
}

#[test]
fn tables_agree_with_the_model() {
    // A step has up to 170 announces, and the model scans everything for each.
    QuickCheck::new().tests(120).quickcheck(Scenario::run as fn(Scenario));
}

/// From one peer to 300 and back, of either family and of both alternating, with the seeders or the
/// leechers first.
#[test]
fn every_size_up_and_down_agrees_with_the_model() {
    for (families, seeders_first) in [
        ([false, false], true),
        ([true, true], false),
        ([false, true], true),
        ([true, false], false),
    ] {
        let one = |number: u16, event: PeerEvent, seeder: bool| Step::Announce {
            torrent: 0,
            v6: families[usize::from(number % 2)],
            first: number,
            count: 1,
            seeder,
            event,
            numwant: 10,
            own_family_only: false,
        };
        let up =
            (0..300).map(|number| one(number, PeerEvent::None, (number < 150) == seeders_first));
        let turn =
            (0..300).map(|number| one(number * 7 % 300, PeerEvent::Completed, number % 3 > 0));
        let down = (0..300).map(|number| one(number * 11 % 300, PeerEvent::Stopped, false));
        let steps = up.chain(turn).chain(down).collect();
        let scenario = Scenario {
            seed: 5,
            torrents_max: 1,
            peers_max: 300,
            peers_per_torrent_max: 300,
            peers_per_address_max: 0,
            workers: 1,
            steps,
        };
        scenario.run();
    }
}

/// Peers that keep announcing stay; one that stops announcing expires in time.
#[test]
fn a_peer_expires_only_after_it_stops_announcing() {
    let announce = |first, count| Step::Announce {
        torrent: 1,
        v6: false,
        first,
        count,
        seeder: false,
        event: PeerEvent::None,
        numwant: 50,
        own_family_only: false,
    };
    let mut steps = vec![announce(0, 200)];
    for _ in 0..40 {
        // 4000 seconds: stamps wrap around four times.
        steps.extend([Step::Wait { seconds: 100 }, announce(0, 100)]);
    }
    let scenario = Scenario {
        seed: 6,
        torrents_max: 10,
        peers_max: 1000,
        peers_per_torrent_max: 1000,
        peers_per_address_max: 0,
        workers: 2,
        steps,
    };
    scenario.run();
}
