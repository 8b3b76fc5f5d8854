//! What must be true of the datagrams of every run, whatever became of them on their way.
//!
//! Each that the worker was handed is handed to a server that does nothing else, in the same order
//! and at the same second: the worker must have replied the same, but for chance. And a model of
//! the clients' torrents, which knows nothing of servers, must expect it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use annulus::metrics::Counters;
use annulus::metrics::counter::CounterKey;
use annulus::metrics::labels::{DatagramDrop, TransportKind};
use annulus::server::Server;
use annulus_ring::REPLY_BYTES_MAX;

use super::datagram_client::{DatagramClient, IdState, Outcome};
use super::datagram_script::AnnounceBody;
use super::datagrams::Delivery;
use super::run::reference_server;

/// Seconds for which a connection id is good at least, and at most.
const ID_GOOD_S: u32 = 120;
const ID_BAD_S: u32 = 180;
/// More peers than any torrent of a client has.
const MANY: usize = 50;

/// What the worker did with the datagrams of one run.
pub(crate) struct DatagramReport {
    pub(crate) deliveries: Vec<Delivery>,
    /// Replies that the kernel did not take, and of which the worker heard.
    pub(crate) unsent: u64,
    pub(crate) clients: Vec<DatagramClient>,
    pub(crate) counters: Arc<Counters>,
    /// Of the worker's server.
    pub(crate) seed: u64,
}

impl DatagramReport {
    /// Checks every reply, and that each datagram without one is counted.
    pub(crate) fn check(&self) {
        let mut reference = reference_server(self.seed);
        let mut dropped = [0; DatagramDrop::COUNT];
        let mut model = Model::default();
        for delivery in &self.deliveries {
            let outcome = answer(&mut reference, delivery);
            let expected = expected(delivery);
            match (&outcome, &delivery.reply) {
                (Ok(reference), Some(reply)) => {
                    let told = Reply::read(reply, delivery);
                    let reference = Reply::read(reference, delivery);
                    assert_eq!(told.stable(), reference.stable());
                    assert!(is_expected(&told, delivery, &expected), "{told:?} to {delivery:?}");
                    model.check(delivery, &told, &reference);
                }
                (Err(reason), None) => {
                    let wanted = expected.contains(&Outcome::Dropped(*reason));
                    assert!(wanted, "dropped for {reason:?}: {delivery:?}");
                    dropped[reason.index()] += 1;
                }
                (outcome, _) => panic!("instead of {outcome:?}: {delivery:?}"),
            }
        }
        dropped[DatagramDrop::Unsent.index()] += self.unsent;
        for (reason, count) in self.counters.datagrams_dropped.iter() {
            assert_eq!(count, dropped[reason.index()], "datagrams dropped for {reason:?}");
        }
        let replied = self.deliveries.iter().filter(|delivery| delivery.reply.is_some());
        // Any other action is no request.
        let known = replied.filter(|delivery| delivery.packet.bytes[8..12] < [0, 0, 0, 3][..]);
        let counted = |((_, transport), _)| transport == TransportKind::Udp;
        let counted = self.counters.requests.sum(counted);
        assert_eq!(counted, known.count() as u64, "requests by UDP");
    }

    /// Without faults, everybody has every reply, and the first time.
    pub(crate) fn check_calm(&self) {
        assert_eq!(self.unsent, 0);
        for (number, client) in self.clients.iter().enumerate() {
            let own = self.deliveries.iter().filter(|delivery| delivery.packet.client == number);
            let replied =
                own.filter(|delivery| delivery.reply.is_some() && delivery.packet.from.port() != 0);
            assert_eq!(client.replies as usize, replied.count(), "undisturbed: {client:?}");
            assert_eq!(client.repeated, 0, "undisturbed: {client:?}");
            assert!(client.has_asked_everything(), "undisturbed: {client:?}");
        }
    }
}

/// What a server makes of a datagram that does not see the network.
fn answer(server: &mut Server, delivery: &Delivery) -> Result<Vec<u8>, DatagramDrop> {
    if delivery.is_truncated() {
        return Err(DatagramDrop::Truncated);
    }
    let mut out = vec![0; REPLY_BYTES_MAX];
    server.set_now(delivery.at_s);
    let len = server.answer_datagram(delivery.packet.from, &delivery.packet.bytes, &mut out)?;
    out.truncate(len);
    Ok(out)
}

/// What may come of a datagram.
fn expected(delivery: &Delivery) -> Vec<Outcome> {
    let packet = &delivery.packet;
    let bad_id = Outcome::Dropped(DatagramDrop::ConnectionId);
    if delivery.is_truncated() {
        return vec![Outcome::Dropped(DatagramDrop::Truncated)];
    }
    match packet.id {
        IdState::Absent => vec![packet.outcome],
        IdState::Forged => vec![bad_id],
        IdState::Told(told_s) => match delivery.at_s.saturating_sub(told_s) {
            0..=ID_GOOD_S => vec![packet.outcome],
            ID_BAD_S.. => vec![bad_id],
            // An id is good to the end of a window.
            _ => vec![packet.outcome, bad_id],
        },
    }
}

fn is_expected(told: &Reply, delivery: &Delivery, expected: &[Outcome]) -> bool {
    let outcome = match told {
        Reply::Connected(_) => Outcome::Connected,
        Reply::Announced { .. } => Outcome::Announced,
        Reply::Scraped(torrents) => Outcome::Scraped(torrents.len()),
        Reply::Failed(_) => Outcome::Failed,
    };
    let request = &delivery.packet.bytes;
    let reply = delivery.reply.as_ref().expect("a reply");
    // Nothing is amplified for a client that has proved nothing.
    let is_short = delivery.packet.id != IdState::Absent || reply.len() <= request.len();
    expected.contains(&outcome) && is_short
}

/// A reply (BEP 15).
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reply {
    Connected(u64),
    Announced {
        interval_s: u32,
        leechers: u32,
        seeders: u32,
        peers: Vec<SocketAddr>,
    },
    /// Seeders, downloads and leechers of each torrent.
    Scraped(Vec<[u32; 3]>),
    Failed(String),
}

fn numbers(bytes: &[u8]) -> Vec<u32> {
    assert!(bytes.len().is_multiple_of(4), "{} bytes of numbers", bytes.len());
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().expect("four bytes"));
    bytes.chunks(4).map(number).collect()
}

impl Reply {
    /// Reads the reply to a delivery, whose transaction it must repeat.
    fn read(bytes: &[u8], delivery: &Delivery) -> Reply {
        let request = &delivery.packet.bytes;
        let (head, rest) = bytes.split_at(8);
        assert_eq!(head[4..], request[12..16], "another transaction: {delivery:?}");
        match numbers(&head[..4])[0] {
            0 => Reply::Connected(u64::from_be_bytes(rest.try_into().expect("an id"))),
            1 => {
                let (counts, peers) = rest.split_at(12);
                let counts = numbers(counts);
                let peers = match delivery.packet.from.ip().to_canonical() {
                    IpAddr::V4(_) => read_peers::<4>(peers),
                    IpAddr::V6(_) => read_peers::<16>(peers),
                };
                let (interval_s, leechers, seeders) = (counts[0], counts[1], counts[2]);
                Reply::Announced { interval_s, leechers, seeders, peers }
            }
            2 => {
                let counts = numbers(rest);
                let torrents = counts.chunks(3);
                Reply::Scraped(torrents.map(|it| it.try_into().expect("three")).collect())
            }
            3 => Reply::Failed(String::from_utf8(rest.to_vec()).expect("text")),
            action => panic!("a reply of action {action}: {delivery:?}"),
        }
    }

    /// The reply without chance: the interval, which peers were drawn, and their order; and without
    /// downloads, which are looked at by [`Model`].
    fn stable(&self) -> Reply {
        let mut stable = self.clone();
        match &mut stable {
            Reply::Announced { interval_s, peers, .. } => {
                *interval_s = 0;
                peers.iter_mut().for_each(|peer| *peer = SocketAddr::new(peer.ip(), 0));
                peers.sort();
            }
            Reply::Scraped(torrents) => {
                torrents.iter_mut().for_each(|[_, downloads, _]| *downloads = 0);
            }
            _ => {}
        }
        stable
    }
}

fn read_peers<const N: usize>(bytes: &[u8]) -> Vec<SocketAddr>
where
    IpAddr: From<[u8; N]>,
{
    assert!(bytes.len().is_multiple_of(N + 2), "{} bytes of peers", bytes.len());
    let peers = bytes.chunks(N + 2).map(|peer| {
        let ip: [u8; N] = peer[..N].try_into().expect("an address");
        SocketAddr::new(ip.into(), u16::from_be_bytes([peer[N], peer[N + 1]]))
    });
    peers.collect()
}

/// The clients' torrents: which peers there are, and whether each has all of it.
#[derive(Default)]
struct Model {
    torrents: BTreeMap<[u8; 20], BTreeMap<SocketAddr, bool>>,
    /// Torrents that nobody was in for a time: they may have been swept away, downloads and all.
    deserted: BTreeSet<[u8; 20]>,
}

impl Model {
    /// `reference` is what a server replied that never sweeps.
    fn check(&mut self, delivery: &Delivery, told: &Reply, reference: &Reply) {
        match (told, reference) {
            (Reply::Announced { interval_s, leechers, seeders, peers }, _) => {
                assert!((60..7200).contains(interval_s), "an interval of {interval_s} s");
                let announce = AnnounceBody::read(&delivery.packet.bytes);
                let (counts, eligible) = self.announce(delivery, &announce);
                assert_eq!([*seeders, *leechers], counts, "seeders and leechers: {delivery:?}");
                let unique: BTreeSet<&SocketAddr> = peers.iter().collect();
                assert_eq!(unique.len(), peers.len(), "a peer comes twice: {delivery:?}");
                assert!(peers.iter().all(|peer| eligible.contains(peer)), "{told:?}: {eligible:?}");
                let wanted = usize::try_from(announce.numwant).unwrap_or(MANY);
                let wanted = if announce.event == STOPPED { 0 } else { wanted };
                assert_eq!(peers.len(), wanted.min(eligible.len()), "{told:?} to {announce:?}");
            }
            (Reply::Scraped(torrents), Reply::Scraped(reference)) => {
                let hashes = delivery.packet.bytes[16..].chunks(20);
                assert_eq!(torrents.len(), hashes.len());
                for ((told, reference), hash) in torrents.iter().zip(reference).zip(hashes) {
                    let hash: [u8; 20] = hash.try_into().expect("a hash");
                    assert_eq!([told[0], told[2]], self.counts(&hash), "{delivery:?}");
                    let fewer = told[1] < reference[1] && self.deserted.contains(&hash);
                    assert!(told[1] == reference[1] || fewer, "{told:?}, not {reference:?}");
                }
            }
            _ => {}
        }
    }

    fn counts(&self, info_hash: &[u8; 20]) -> [u32; 2] {
        let peers = self.torrents.get(info_hash).into_iter().flatten();
        let mut counts = [0; 2];
        peers.for_each(|(_, &seeds)| counts[usize::from(!seeds)] += 1);
        counts
    }

    /// The counts after an announce, and the peers that it may be told.
    fn announce(
        &mut self,
        delivery: &Delivery,
        announce: &AnnounceBody,
    ) -> ([u32; 2], BTreeSet<SocketAddr>) {
        let peers = self.torrents.entry(announce.info_hash).or_default();
        let ip = delivery.packet.from.ip().to_canonical();
        let own = SocketAddr::new(ip, announce.port);
        let seeds = announce.left == 0;
        match announce.event {
            STOPPED => peers.remove(&own),
            _ => peers.insert(own, seeds),
        };
        if peers.is_empty() {
            self.deserted.insert(announce.info_hash);
        }
        // Whoever begins with everything and has downloaded nothing may know only the hash.
        let is_magnet = announce.event == STARTED && seeds && announce.downloaded == 0;
        let others = peers.iter().filter(|&(peer, _)| *peer != own);
        let others = others.filter(|&(_, &other)| !(seeds && other) || is_magnet);
        let eligible = others.map(|(peer, _)| *peer).collect();
        (self.counts(&announce.info_hash), eligible)
    }
}

const STARTED: u32 = 2;
const STOPPED: u32 = 3;
