//! A UDP client for tests (BEP 15): it writes requests of any content, right or wrong, and reads
//! replies strictly. It is connected, so that a reply from any other address than the one asked
//! never arrives.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::torrent::{ScrapeCounts, compact_v4, compact_v6};
use super::tracker::{TIMEOUT, Tracker, has_v6};

/// The connection id of a connect request.
pub(crate) const PROTOCOL_ID: u64 = 0x0417_2710_1980;

/// `num_want` of a client that leaves it to the tracker.
pub(crate) const ANY_NUMBER: i32 = -1;

/// The greatest length of a reply by IPv6, and by IPv4.
pub(crate) const REPLY_BYTES_MAX: [usize; 2] = [1400, 1472];

pub(crate) const NONE: u32 = 0;
pub(crate) const COMPLETED: u32 = 1;
pub(crate) const STARTED: u32 = 2;
pub(crate) const STOPPED: u32 = 3;

const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;

/// A connected UDP socket. Replies come in the order of the requests: one worker serves it.
pub(crate) struct UdpClient {
    pub(crate) socket: UdpSocket,
    /// The connection id that requests have, once there is one.
    pub(crate) id: u64,
    /// Of the last request.
    transaction: u32,
}

/// An announce request. [`UdpAnnounce::new`] has the usual values.
#[derive(Clone, Debug)]
pub(crate) struct UdpAnnounce {
    pub(crate) info_hash: [u8; 20],
    pub(crate) downloaded: u64,
    pub(crate) left: u64,
    pub(crate) uploaded: u64,
    pub(crate) event: u32,
    pub(crate) ip: Ipv4Addr,
    pub(crate) num_want: i32,
    pub(crate) port: u16,
    /// What follows the port (BEP 41).
    pub(crate) options: Vec<u8>,
}

/// A reply to an announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UdpPeers {
    pub(crate) leechers: u32,
    pub(crate) seeders: u32,
    pub(crate) peers: Vec<SocketAddr>,
    /// Length of the reply.
    pub(crate) bytes: usize,
}

impl UdpPeers {
    /// The ports of the peers, sorted.
    pub(crate) fn ports(&self) -> Vec<u16> {
        let mut ports: Vec<u16> = self.peers.iter().map(SocketAddr::port).collect();
        ports.sort_unstable();
        ports
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UdpReply {
    Connect(u64),
    Announce(UdpPeers),
    /// In the order of the request.
    Scrape(Vec<ScrapeCounts>),
    Error(String),
}

impl UdpAnnounce {
    /// A leecher of the torrent whose info hash consists of this byte.
    pub(crate) fn new(number: u8, port: u16) -> UdpAnnounce {
        UdpAnnounce {
            info_hash: [number; 20],
            downloaded: 0,
            left: 1,
            uploaded: 0,
            event: NONE,
            ip: Ipv4Addr::UNSPECIFIED,
            num_want: ANY_NUMBER,
            port,
            options: Vec::new(),
        }
    }

    pub(crate) fn seeder(number: u8, port: u16) -> UdpAnnounce {
        UdpAnnounce { left: 0, ..UdpAnnounce::new(number, port) }
    }

    pub(crate) fn with_event(self, event: u32) -> UdpAnnounce {
        UdpAnnounce { event, ..self }
    }

    pub(crate) fn wanting(self, num_want: i32) -> UdpAnnounce {
        UdpAnnounce { num_want, ..self }
    }

    /// What follows the transaction id.
    fn body(&self) -> Vec<u8> {
        [
            &self.info_hash[..],
            b"-XX0000-aaaaaaaaaaaa",
            &self.downloaded.to_be_bytes(),
            &self.left.to_be_bytes(),
            &self.uploaded.to_be_bytes(),
            &self.event.to_be_bytes(),
            &self.ip.octets(),
            &0x6b65_7921_u32.to_be_bytes(),
            &self.num_want.to_be_bytes(),
            &self.port.to_be_bytes(),
            &self.options,
        ]
        .concat()
    }
}

impl UdpClient {
    /// A client at the loopback address of the family, without a connection id.
    pub(crate) fn new(to: SocketAddr) -> UdpClient {
        let source: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        UdpClient::from_address(source, to)
    }

    /// The same at an address of this machine, such as any of 127.0.0.0/8.
    pub(crate) fn from_address(source: IpAddr, to: SocketAddr) -> UdpClient {
        let socket = UdpSocket::bind((source, 0)).unwrap();
        socket.connect(to).unwrap();
        UdpClient::of(socket)
    }

    /// Over a connected socket.
    pub(crate) fn of(socket: UdpSocket) -> UdpClient {
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        UdpClient { socket, id: 0, transaction: 0x0a0b_0000 }
    }

    /// A client with a connection id.
    #[track_caller]
    pub(crate) fn connected(to: SocketAddr) -> UdpClient {
        let mut client = UdpClient::new(to);
        client.connect();
        client
    }

    /// The same at an address of this machine.
    #[track_caller]
    pub(crate) fn connected_from(source: IpAddr, to: SocketAddr) -> UdpClient {
        let mut client = UdpClient::from_address(source, to);
        client.connect();
        client
    }

    /// Gets a connection id, which later requests use.
    #[track_caller]
    pub(crate) fn connect(&mut self) {
        self.send_connect();
        match self.reply() {
            UdpReply::Connect(id) => self.id = id,
            other => panic!("{other:?} to a connect"),
        }
    }

    pub(crate) fn send_connect(&mut self) {
        self.send_request(PROTOCOL_ID, CONNECT, &[]);
    }

    pub(crate) fn send_announce(&mut self, announce: &UdpAnnounce) {
        self.send_request(self.id, ANNOUNCE, &announce.body());
    }

    pub(crate) fn send_scrape(&mut self, info_hashes: &[[u8; 20]]) {
        self.send_request(self.id, SCRAPE, info_hashes.as_flattened());
    }

    /// Announces, and reads the reply, which must list peers.
    #[track_caller]
    pub(crate) fn announce(&mut self, announce: &UdpAnnounce) -> UdpPeers {
        self.send_announce(announce);
        match self.reply() {
            UdpReply::Announce(peers) => peers,
            other => panic!("{other:?} to {announce:?}"),
        }
    }

    /// Scrapes torrents whose info hashes consist of one byte.
    #[track_caller]
    pub(crate) fn scrape(&mut self, numbers: &[u8]) -> Vec<ScrapeCounts> {
        let info_hashes: Vec<[u8; 20]> = numbers.iter().map(|number| [*number; 20]).collect();
        self.send_scrape(&info_hashes);
        match self.reply() {
            UdpReply::Scrape(counts) => {
                assert_eq!(counts.len(), numbers.len());
                counts
            }
            other => panic!("{other:?} to a scrape"),
        }
    }

    /// Reads the reply to the last request, which must be an error; its text.
    #[track_caller]
    pub(crate) fn error(&mut self) -> String {
        match self.reply() {
            UdpReply::Error(text) => text,
            other => panic!("{other:?}, not an error"),
        }
    }

    /// Sends a request under the next transaction id.
    pub(crate) fn send_request(&mut self, id: u64, action: u32, body: &[u8]) {
        self.transaction += 1;
        let head = [&id.to_be_bytes()[..], &action.to_be_bytes(), &self.transaction.to_be_bytes()];
        self.send(&[&head.concat(), body].concat());
    }

    /// Sends these bytes as they are. On loopback they are in the tracker's queue afterwards.
    pub(crate) fn send(&self, bytes: &[u8]) {
        assert_eq!(self.socket.send(bytes).unwrap(), bytes.len());
    }

    /// The next datagram, which must be the reply to the last request.
    #[track_caller]
    pub(crate) fn reply(&mut self) -> UdpReply {
        let (transaction, reply) = self.next_reply();
        let last = self.transaction;
        assert_eq!(transaction, last, "{reply:?} is to another request than the last");
        reply
    }

    /// The next datagram: its transaction id, and its content.
    #[track_caller]
    pub(crate) fn next_reply(&mut self) -> (u32, UdpReply) {
        let mut space = [0; 4096];
        let bytes = match self.socket.recv(&mut space) {
            Ok(len) => &space[..len],
            Err(error) => panic!("no reply, but {error}"),
        };
        self.parse(bytes)
    }

    /// The transaction id of the last request.
    pub(crate) fn last_transaction(&self) -> u32 {
        self.transaction
    }

    /// Asserts that this datagram gets no reply: the next one is to a connect that follows it. The
    /// connection id stays as it is.
    #[track_caller]
    pub(crate) fn expect_no_reply(&mut self, bytes: &[u8]) {
        self.send(bytes);
        self.expect_silence();
    }

    /// Asserts that nothing that was sent before gets a reply.
    #[track_caller]
    pub(crate) fn expect_silence(&mut self) {
        self.send_connect();
        let reply = self.reply();
        assert!(matches!(reply, UdpReply::Connect(_)), "{reply:?}");
        self.expect_nothing();
    }

    /// Asserts that no datagram has arrived.
    #[track_caller]
    pub(crate) fn expect_nothing(&self) {
        self.socket.set_nonblocking(true).unwrap();
        let got = self.socket.recv(&mut [0; 4096]);
        self.socket.set_nonblocking(false).unwrap();
        assert!(got.as_ref().is_err_and(|it| it.kind() == ErrorKind::WouldBlock), "{got:?}");
    }

    #[track_caller]
    fn parse(&self, bytes: &[u8]) -> (u32, UdpReply) {
        let is_v4 = self.socket.peer_addr().unwrap().is_ipv4();
        assert!(bytes.len() >= 8, "a reply of {} bytes", bytes.len());
        assert!(bytes.len() <= REPLY_BYTES_MAX[usize::from(is_v4)], "{} bytes", bytes.len());
        let rest = &bytes[8..];
        let reply = match number(bytes, 0) {
            CONNECT => {
                let id: [u8; 8] = rest.try_into().expect("16 bytes");
                UdpReply::Connect(u64::from_be_bytes(id))
            }
            ANNOUNCE => {
                // The default, and that of the tests of clusters.
                let interval = number(rest, 0);
                assert!(matches!(interval, 60..=66 | 1800..=1980), "interval {interval}");
                let peers = if is_v4 { compact_v4(&rest[12..]) } else { compact_v6(&rest[12..]) };
                let (leechers, seeders) = (number(rest, 4), number(rest, 8));
                UdpReply::Announce(UdpPeers { leechers, seeders, peers, bytes: bytes.len() })
            }
            SCRAPE => {
                let (torrents, rest) = rest.as_chunks::<12>();
                assert!(rest.is_empty(), "{} bytes", bytes.len());
                // The order of BEP 15: seeders, completed, leechers.
                let read = |torrent: &[u8; 12]| {
                    let [complete, downloaded, incomplete] =
                        [0, 4, 8].map(|at| number(torrent, at).into());
                    ScrapeCounts { complete, downloaded, incomplete }
                };
                UdpReply::Scrape(torrents.iter().map(read).collect())
            }
            ERROR => {
                let text = str::from_utf8(rest).expect("a text").to_owned();
                assert!(!text.is_empty() && !text.contains('\0'), "{text:?}");
                UdpReply::Error(text)
            }
            other => panic!("action {other}"),
        };
        (number(bytes, 4), reply)
    }
}

/// The number at an offset.
#[track_caller]
fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

impl Tracker {
    /// Its addresses by UDP, if it has as many as by HTTP. If another program receives at the port
    /// that the kernel chose for HTTP, that of UDP is another.
    pub(crate) fn udp_addresses(&self) -> Vec<SocketAddr> {
        let listening = self.wait_listening(" (udp)", 1 + usize::from(has_v6()));
        listening.unwrap_or_else(|log| panic!("it does not listen:\n{log}"))
    }

    /// Its IPv4 address by UDP.
    pub(crate) fn udp_v4(&self) -> SocketAddr {
        self.udp_addresses().into_iter().find(SocketAddr::is_ipv4).unwrap()
    }

    /// Its IPv6 address by UDP, if the machine has IPv6.
    pub(crate) fn udp_v6(&self) -> Option<SocketAddr> {
        self.udp_addresses().into_iter().find(SocketAddr::is_ipv6)
    }
}
