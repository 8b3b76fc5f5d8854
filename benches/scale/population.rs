//! The torrents and peers of a large public tracker, and their announces by UDP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use annulus::cluster::WorkerOutbox;
use annulus::config::ProtocolConfig;
use annulus::limits::PREFETCH_PEERS_MIN;
use annulus::server::{Server, ServerParts};
use annulus_bench::torrents::{info_hash, mix};
use annulus_ring::REPLY_BYTES_MAX;
use annulus_swarm::{AnnounceRequest, BATCH_MAX, CompactAddr, PeerEvent, Swarms};

/// Peers that a client asks for.
pub(crate) const NUMWANT: u32 = 50;

const PORT: u16 = 6881;

/// A request to connect (BEP 15), and where the connection id is in the response to it.
const CONNECT: [u8; 16] = *b"\x00\x00\x04\x17\x27\x10\x19\x80\x00\x00\x00\x00scal";
const CONNECTION_ID: std::ops::Range<usize> = 8..16;

/// The first bytes of a response to an announce.
const ANNOUNCED: [u8; 4] = 1_u32.to_be_bytes();

/// An announce and who sends it.
type Datagram = (SocketAddr, [u8; 98]);

/// Clients with numbers from 0, each with an address of its own, in one torrent. Every third has an
/// IPv6 address, and half of them seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Population {
    pub(crate) torrents: u32,
    pub(crate) peers: u32,
}

impl Population {
    /// With five peers to a torrent.
    pub(crate) fn of(peers: u32) -> Population {
        Population { torrents: peers / 5, peers }
    }

    /// Each torrent has one of the first clients. The others favour some torrents: of them, one in
    /// ten is in a thousandth of all torrents, and half are in an eighth.
    fn torrent(&self, client: u32) -> u64 {
        let torrents = u64::from(self.torrents);
        let rank = match client < self.torrents {
            true => u64::from(client),
            false => {
                let uniform = mix(client.into()) as f64 / 2_f64.powi(64);
                (uniform.powi(3) * torrents as f64) as u64
            }
        };
        // A prime, so that popular torrents are not made one after the other.
        rank * 2_654_435_761 % torrents
    }

    fn address(client: u32) -> IpAddr {
        match client.is_multiple_of(3) {
            true => {
                let bits = mix(client.into());
                let network = 0x2a00_u128 << 112 | u128::from(client) << 64;
                Ipv6Addr::from_bits(network | u128::from(bits)).into()
            }
            false => Ipv4Addr::from_bits(0x0b00_0000 + client).into(),
        }
    }

    fn is_seeder(client: u32) -> bool {
        mix(!u64::from(client)).is_multiple_of(2)
    }

    /// What the swarms make of a client's announce.
    pub(crate) fn request(&self, client: u32) -> AnnounceRequest {
        AnnounceRequest {
            info_hash: info_hash(self.torrent(client)),
            peer: CompactAddr::new(Population::address(client), PORT),
            seeder: Population::is_seeder(client),
            event: PeerEvent::None,
            numwant: NUMWANT,
            own_family_only: true,
        }
    }

    /// The same as it comes by UDP.
    fn datagram(&self, client: u32, numwant: u32, connection_id: [u8; 8]) -> Datagram {
        let left = if Population::is_seeder(client) { 0 } else { 201_000_u64 };
        let mut bytes = [0; 98];
        bytes[..8].copy_from_slice(&connection_id);
        bytes[8..12].copy_from_slice(&ANNOUNCED);
        bytes[12..16].copy_from_slice(&client.to_be_bytes());
        bytes[16..36].copy_from_slice(&info_hash(self.torrent(client)));
        bytes[36..56].copy_from_slice(b"-LT2080-scale-bench-");
        bytes[64..72].copy_from_slice(&left.to_be_bytes());
        bytes[92..96].copy_from_slice(&numwant.to_be_bytes());
        bytes[96..98].copy_from_slice(&PORT.to_be_bytes());
        (SocketAddr::new(Population::address(client), PORT), bytes)
    }
}

/// Answers announces by the calls with which a worker answers datagrams, without the ring: it looks
/// ahead at as many as a worker does, then parses, stores and answers each.
pub(crate) struct Announcer {
    server: Server,
    datagrams: Vec<Datagram>,
    reply: [u8; REPLY_BYTES_MAX],
}

impl Announcer {
    pub(crate) fn new(swarms: &Arc<Swarms>, seed: u64, outbox: Option<WorkerOutbox>) -> Announcer {
        let parts = ServerParts::new(Arc::clone(swarms), ProtocolConfig::default(), seed);
        let server = Server::new(ServerParts { outbox, ..parts });
        Announcer { server, datagrams: Vec::new(), reply: [0; REPLY_BYTES_MAX] }
    }

    /// Takes announces of these clients, which connect first.
    pub(crate) fn expect(
        &mut self,
        population: &Population,
        clients: impl Iterator<Item = u32>,
        numwant: u32,
        now_s: u32,
    ) {
        self.server.set_now(now_s);
        self.datagrams.clear();
        for client in clients {
            let from = SocketAddr::new(Population::address(client), PORT);
            self.server.answer_datagram(from, &CONNECT, &mut self.reply).expect("it connects");
            let id = self.reply[CONNECTION_ID].try_into().expect("eight bytes");
            self.datagrams.push(population.datagram(client, numwant, id));
        }
    }

    /// Answers them, so many in a batch.
    pub(crate) fn answer(&mut self, batch: usize) {
        for batch in self.datagrams.chunks(batch.min(BATCH_MAX)) {
            if batch.len() > 1 && self.server.has_peers(PREFETCH_PEERS_MIN) {
                for (from, bytes) in batch {
                    self.server.expect_datagram(*from, bytes);
                }
                self.server.prefetch();
            }
            for (from, bytes) in batch {
                let replied = self.server.answer_datagram(*from, bytes, &mut self.reply);
                assert!(replied.is_ok() && self.reply[..4] == ANNOUNCED, "refused");
            }
        }
    }

    /// For the other nodes of a cluster, as at the end of a turn.
    pub(crate) fn hand_over_records(&mut self) {
        self.server.hand_over_records();
    }
}
