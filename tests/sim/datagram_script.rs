//! What the UDP clients of a run do, drawn from its seed.
//!
//! As with the others, each has torrents of its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use annulus::metrics::labels::DatagramDrop;
use annulus_ring::{DATAGRAM_BYTES_MAX, DatagramIndex};
use annulus_swarm::Random;

use super::datagram_client::{CONNECT_ID, DatagramScript, IdChoice, Outcome, Step};
use super::datagrams::{BOUND, DATAGRAM_SOCKETS};

pub(crate) const CONNECT: u32 = 0;
pub(crate) const ANNOUNCE: u32 = 1;
pub(crate) const SCRAPE: u32 = 2;
/// Bytes of a request before its action's own.
const HEAD_BYTES: usize = 16;
/// Torrents of a client: the first is the one that it announces most often.
const TORRENTS: u32 = 2;

/// One seed in so many has no UDP client.
const SEEDS_PER_NONE: u32 = 4;

/// The UDP clients of one run. They are drawn from randomness of their own, so that a seed's other
/// clients are what they are.
pub(crate) fn draw(seed: u64) -> Vec<DatagramScript> {
    let mut random = Random::seeded(seed ^ 0xda7a);
    if random.below(SEEDS_PER_NONE) == 0 {
        return Vec::new();
    }
    let clients_max = [3, 8][random.below(2) as usize];
    let clients = 1 + random.below(clients_max);
    (0..clients).map(|number| draw_client(seed, number, &mut random)).collect()
}

/// The address of a client, as the socket tells it: the one bound to `[::]` has IPv4 too.
pub(crate) fn client_address(number: u32, socket: DatagramIndex) -> SocketAddr {
    let [_, _, high, low] = number.to_be_bytes();
    let v4 = Ipv4Addr::new(10, 64, high, low);
    let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 2, number as u16);
    let ip = match socket {
        0 | 1 => IpAddr::V4(v4),
        2 if number.is_multiple_of(2) => IpAddr::V6(v4.to_ipv6_mapped()),
        _ => IpAddr::V6(v6),
    };
    SocketAddr::new(ip, 30_000 + number as u16)
}

/// An address of the tracker at which a client of this address reaches the socket.
pub(crate) fn asked_address(
    socket: DatagramIndex,
    client: SocketAddr,
    random: &mut Random,
) -> SocketAddr {
    let bound: SocketAddr = BOUND[usize::from(socket)].parse().expect("an address");
    let last = 1 + random.below(3) as u8;
    let v4 = Ipv4Addr::new(192, 0, 2, last);
    let ip = match client.ip() {
        _ if !bound.ip().is_unspecified() => bound.ip(),
        IpAddr::V4(_) => v4.into(),
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => v4.to_ipv6_mapped().into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()).into(),
    };
    SocketAddr::new(ip, bound.port())
}

fn draw_client(seed: u64, number: u32, random: &mut Random) -> DatagramScript {
    let socket = random.below(DATAGRAM_SOCKETS.into()) as DatagramIndex;
    let from = client_address(number, socket);
    let to = asked_address(socket, from, random);
    let mut writer = ScriptWriter { seed, number, from, waited: false, random };
    let count = match writer.random.below(6) {
        0 => 1 + writer.random.below(2),
        1..=3 => 2 + writer.random.below(8),
        4 => 8 + writer.random.below(20),
        _ => 30 + writer.random.below(60),
    };
    let mut steps = Vec::new();
    for _ in 0..count {
        writer.extend(&mut steps);
    }
    DatagramScript {
        from,
        socket,
        to,
        begin_ms: u64::from(random.below(2) * random.below(3000)),
        steps,
        hasty: random.below(3) == 0,
        pause_ms: u64::from(random.below(2) * random.below(200)),
    }
}

/// What an announce has behind the header, in the order of BEP 15.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnnounceBody {
    pub(crate) info_hash: [u8; 20],
    pub(crate) downloaded: u64,
    pub(crate) left: u64,
    pub(crate) event: u32,
    pub(crate) ip: u32,
    pub(crate) numwant: i32,
    pub(crate) port: u16,
}

impl AnnounceBody {
    pub(crate) fn new(info_hash: [u8; 20], port: u16) -> AnnounceBody {
        AnnounceBody { info_hash, downloaded: 1, left: 1, event: 0, ip: 0, numwant: -1, port }
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(82);
        body.extend(self.info_hash);
        body.extend(b"-XX0001-abcdefghijkl");
        body.extend(self.downloaded.to_be_bytes());
        body.extend(self.left.to_be_bytes());
        body.extend(0_u64.to_be_bytes());
        body.extend(self.event.to_be_bytes());
        body.extend(self.ip.to_be_bytes());
        body.extend(0x4b45_5921_u32.to_be_bytes());
        body.extend(self.numwant.to_be_bytes());
        body.extend(self.port.to_be_bytes());
        body
    }

    /// Reads the announce that a request is.
    pub(crate) fn read(request: &[u8]) -> AnnounceBody {
        let body = &request[HEAD_BYTES..];
        let u32_at =
            |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().expect("four bytes"));
        let u64_at =
            |at: usize| u64::from_be_bytes(body[at..at + 8].try_into().expect("eight bytes"));
        AnnounceBody {
            info_hash: body[..20].try_into().expect("twenty bytes"),
            downloaded: u64_at(40),
            left: u64_at(48),
            event: u32_at(64),
            ip: u32_at(68),
            numwant: u32_at(76) as i32,
            port: (u32_at(78) & 0xffff) as u16,
        }
    }
}

struct ScriptWriter<'a> {
    seed: u64,
    number: u32,
    from: SocketAddr,
    /// A long wait is there: one is enough.
    waited: bool,
    random: &'a mut Random,
}

impl ScriptWriter<'_> {
    fn hash(&self, torrent: u32) -> [u8; 20] {
        let mut hash = *b"........udp.........";
        hash[..8].copy_from_slice(&self.seed.to_be_bytes());
        hash[12..16].copy_from_slice(&self.number.to_be_bytes());
        hash[16..].copy_from_slice(&torrent.to_be_bytes());
        hash
    }

    fn below(&mut self, n: u32) -> usize {
        self.random.below(n) as usize
    }

    /// The client's address, or its other port.
    fn own(&mut self) -> SocketAddr {
        let mut from = self.from;
        if self.random.below(8) == 0 {
            from.set_port(from.port() + 10_000);
        }
        from
    }

    fn ask(&mut self, id: IdChoice, action: u32, body: Vec<u8>, outcome: Outcome) -> Step {
        Step::Ask { from: self.own(), id, action, body, outcome }
    }

    /// Adds one step, or some that belong together.
    fn extend(&mut self, steps: &mut Vec<Step>) {
        match self.random.below(32) {
            0 | 1 => {
                let body = vec![0x55; self.below(2) * self.below(300)];
                let step = self.ask(IdChoice::Magic, CONNECT, body, Outcome::Connected);
                steps.push(step);
            }
            2..=6 => {
                let step = self.scrape();
                steps.push(step);
            }
            7 | 8 => {
                let step = self.mistake();
                steps.push(step);
            }
            9 | 10 => {
                let step = self.unwanted();
                steps.push(step);
            }
            11 => {
                let step = self.forged();
                steps.push(step);
            }
            12 => {
                let step = self.unreachable();
                steps.push(step);
            }
            13 if !self.waited => {
                self.waited = true;
                let s = [30, 70, 110, 125, 150, 175, 185, 240][self.below(8)];
                steps.push(Step::WaitMs(1000 * s + u64::from(self.random.below(1000))));
                let body = self.announce();
                let step = self.ask(IdChoice::Kept, ANNOUNCE, body, Outcome::Announced);
                steps.push(step);
            }
            _ => {
                let body = self.announce();
                let step = self.ask(IdChoice::Fresh, ANNOUNCE, body, Outcome::Announced);
                steps.push(step);
            }
        }
    }

    fn announce(&mut self) -> Vec<u8> {
        let torrent = self.random.below(4) / 3;
        let mut announce =
            AnnounceBody::new(self.hash(torrent), 1000 + self.random.below(8) as u16);
        announce.left = [0, 1000, u64::MAX][self.below(3)];
        announce.downloaded = [0, 1000][self.below(2)];
        announce.event = [0, 0, 1, 2, 3, 7][self.below(6)];
        announce.ip = [0, 0, 0x0808_0808, u32::MAX][self.below(4)];
        announce.numwant = [-1, -1, 50, 0, 1, 3, 7, i32::MAX, i32::MIN][self.below(9)];
        if announce.event == 3 && self.random.below(3) == 0 {
            announce.port = 0;
        }
        let mut body = announce.write();
        body.extend(self.tail());
        body
    }

    /// What follows an announce (BEP 41): nothing, URLs, unknown and broken options.
    fn tail(&mut self) -> Vec<u8> {
        let room = DATAGRAM_BYTES_MAX - 98;
        match self.random.below(12) {
            0 => [&[2, 9][..], b"/announce", &[0]].concat(),
            1 => [&[1, 1, 2, 4][..], b"/ann", &[2, 5], b"ounce"].concat(),
            2 => [&[77, 3, 1, 2, 3, 2, 2][..], b"/x"].concat(),
            3 => vec![2, 200, b'/'],
            4 => vec![2],
            5 => (0..self.below(60)).map(|_| self.random.below(256) as u8).collect(),
            6 => vec![1; room],
            _ => Vec::new(),
        }
    }

    fn scrape(&mut self) -> Step {
        let torrents = match self.random.below(4) {
            0 => 1 + self.random.below(64),
            _ => 1 + self.random.below(1 + TORRENTS),
        };
        let body = (0..torrents).flat_map(|torrent| self.hash(torrent)).collect();
        self.ask(IdChoice::Fresh, SCRAPE, body, Outcome::Scraped(torrents as usize))
    }

    /// A request with a good connection id that is told what is wrong with it.
    fn mistake(&mut self) -> Step {
        let hash = self.hash(0);
        let (action, body) = match self.random.below(8) {
            0 => (3, Vec::new()),
            1 => ([4, 255, u32::MAX][self.below(3)], self.announce()),
            2 => (ANNOUNCE, self.announce()[..self.below(82)].to_vec()),
            3 => (ANNOUNCE, AnnounceBody::new(hash, 0).write()),
            4 => (SCRAPE, Vec::new()),
            5 => (SCRAPE, hash[..1 + self.below(19)].to_vec()),
            6 => (SCRAPE, hash.repeat(75 + self.below(5))),
            _ => (SCRAPE, [&hash[..], &hash[..19]].concat()),
        };
        self.ask(IdChoice::Fresh, action, body, Outcome::Failed)
    }

    /// A datagram that is no request at all, or too long.
    fn unwanted(&mut self) -> Step {
        let malformed = Outcome::Dropped(DatagramDrop::Malformed);
        let truncated = Outcome::Dropped(DatagramDrop::Truncated);
        let raw = |from, bytes, outcome| Step::Raw { from, bytes, outcome };
        let from = self.own();
        let excess = [1, 1 + self.below(2000)][self.below(2)];
        match self.random.below(6) {
            0 => raw(from, Vec::new(), malformed),
            1 => raw(from, vec![self.random.below(256) as u8; 1 + self.below(15)], malformed),
            2 => raw(from, CONNECT_ID.to_be_bytes()[..].to_vec(), malformed),
            3 => {
                // A connect without its number.
                let id = self.random.bits() | 1 << 63;
                let bytes = [&id.to_be_bytes()[..], &[0; 8]].concat();
                raw(from, bytes, malformed)
            }
            4 => raw(
                from,
                vec![self.random.below(256) as u8; DATAGRAM_BYTES_MAX + excess],
                truncated,
            ),
            _ => {
                let mut body = self.announce();
                body.resize(DATAGRAM_BYTES_MAX - HEAD_BYTES + excess, 1);
                self.ask(IdChoice::Fresh, ANNOUNCE, body, truncated)
            }
        }
    }

    /// A request with a connection id that was not given to its sender.
    fn forged(&mut self) -> Step {
        let (action, body) = match self.random.below(4) {
            0 => (SCRAPE, self.hash(0).to_vec()),
            1 => (SCRAPE, Vec::new()),
            2 => (9, Vec::new()),
            _ => (ANNOUNCE, self.announce()),
        };
        let outcome = Outcome::Dropped(DatagramDrop::ConnectionId);
        if self.random.below(2) == 0 {
            let bits = match self.random.below(2) {
                0 => 1 << self.random.below(64),
                _ => self.random.bits().max(1),
            };
            return self.ask(IdChoice::Altered(bits), action, body, outcome);
        }
        let mut from = self.from;
        from.set_ip(match from.ip() {
            IpAddr::V4(_) => Ipv4Addr::new(198, 51, 100, 7).into(),
            IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => {
                Ipv4Addr::new(198, 51, 100, 7).to_ipv6_mapped().into()
            }
            IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7).into(),
        });
        Step::Ask { from, id: IdChoice::Stolen, action, body, outcome }
    }

    /// A good request whose sender cannot be replied to.
    fn unreachable(&mut self) -> Step {
        let mut from = self.from;
        let mapped = |ip: Ipv4Addr| IpAddr::V6(ip.to_ipv6_mapped());
        match (self.random.below(3), from.ip()) {
            (0, IpAddr::V4(_)) => from.set_ip(Ipv4Addr::BROADCAST.into()),
            (0, IpAddr::V6(ip)) if ip.to_ipv4_mapped().is_some() => {
                from.set_ip(mapped(Ipv4Addr::BROADCAST));
            }
            (0, IpAddr::V6(_)) => from.set_ip(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into()),
            (1, IpAddr::V4(_)) => from.set_ip(Ipv4Addr::new(224, 0, 0, 1).into()),
            _ => from.set_port(0),
        }
        let outcome = Outcome::Dropped(DatagramDrop::Source);
        Step::Ask { from, id: IdChoice::Magic, action: CONNECT, body: Vec::new(), outcome }
    }
}
