//! Every key: its field, its default, its bounds, and the reasons for them.

use std::net::{Ipv4Addr, Ipv6Addr};

use annulus_ring::EngineChoice;
use annulus_swarm::TORRENTS_MAX;

use super::Config;
use super::key::{Bounds, Key, Kind, Relation, Table, Word};
use crate::limits::{
    INTERVAL_SPREAD_PERCENT, PEER_TIMEOUT_GRACE_S, PEERS_PER_ADDRESS_MAX, REQUEST_LINE_BYTES_MAX,
    RESPONSE_BYTES_MAX, WORKERS_MAX,
};
use crate::response::{announce_bytes_max, scrape_bytes_max};

const fn bounds(min: u64, max: u64, unit: &'static str) -> Bounds {
    Bounds { min, max, unit, ceiling: None }
}

impl Word for EngineChoice {
    fn words(&self) -> &'static [&'static str] {
        &["auto", "io_uring", "epoll"]
    }
    fn index(&self) -> usize {
        *self as usize
    }
    fn set(&mut self, index: usize) {
        *self = [EngineChoice::Auto, EngineChoice::IoUring, EngineChoice::Epoll][index];
    }
}

pub(super) const TOP: Table = Table {
    name: "",
    about: "",
    keys: &[
        Key {
            name: "listen",
            kind: Kind::ListenAddresses { at: |config| &mut config.listen },
            about: "Addresses to accept HTTP connections on. IPv4 and IPv6 are listened on apart; \
                    IPv6 addresses go in brackets; port 0 lets the kernel choose. \
                    \"unix:/run/annulus/http.sock\", a path of at most 107 bytes, is a Unix \
                    socket for a proxy on this host: who connects there is trusted to say where \
                    clients are, as [proxy] has it. It is made with the rights 0660, for the user \
                    and group of the tracker.",
            reason: "every address of the machine.",
        },
        Key {
            name: "workers",
            kind: Kind::Whole {
                at: |config| &mut config.workers,
                bounds: bounds(0, WORKERS_MAX as u64, "threads"),
            },
            about: "Worker threads. 0 is one per core available to the process.",
            reason: "a worker keeps a core busy by itself, so more would only take turns.",
        },
        Key {
            name: "engine",
            kind: Kind::Word { at: |config| &mut config.engine },
            about: "How to talk to the kernel. \"auto\" takes io_uring where it can be had and \
                    is good, and epoll elsewhere; the log says at start which, and why.",
            reason: "the faster one that works.",
        },
    ],
    relations: &[],
};

/// What clients are told, and what is believed of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// Seconds between two announces of a client, 60 to 86400 (BEP 3 `interval`). What a
    /// client is told is up to [`INTERVAL_SPREAD_PERCENT`] percent more.
    pub interval_s: u32,
    /// Seconds before which a client should not announce again, 30 to `interval_s`
    /// (`min interval`).
    pub min_interval_s: u32,
    /// Seconds after its last announce at which a peer is forgotten: longer than the
    /// longest interval told by at least [`PEER_TIMEOUT_GRACE_S`], at most 172800.
    pub peer_timeout_s: u32,
    /// Peers given to a client that does not say how many it wants, at most `max_numwant`.
    pub default_numwant: usize,
    /// Peers given at most, at least 1. Their answer fits [`RESPONSE_BYTES_MAX`].
    pub max_numwant: usize,
    /// Torrents that one scrape may ask for, at least 64. Their answer fits
    /// [`RESPONSE_BYTES_MAX`].
    pub max_scrape_torrents: usize,
    /// Whether a scrape without an info hash is answered with all torrents.
    pub full_scrape: bool,
    /// Whether an announce may name the peer's address (`ip`, `ipv4`, `ipv6`).
    pub trust_ip_parameters: bool,
    /// The address at which others reach the peers that announce from a private or loopback
    /// address of IPv4.
    pub external_ipv4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub external_ipv6: Option<Ipv6Addr>,
    /// URL to which `/` leads, printable and at most
    /// [`LOCATION_BYTES_MAX`](crate::limits::LOCATION_BYTES_MAX) bytes; empty for
    /// a line of text instead.
    pub redirect: String,
}

impl Default for Protocol {
    fn default() -> Protocol {
        Protocol {
            interval_s: 1800,
            min_interval_s: 900,
            peer_timeout_s: 2700,
            default_numwant: 50,
            max_numwant: 200,
            max_scrape_torrents: 128,
            full_scrape: false,
            trust_ip_parameters: false,
            external_ipv4: None,
            external_ipv6: None,
            redirect: String::new(),
        }
    }
}

pub(super) const PROTOCOL: Table = Table {
    name: "protocol",
    about: "What clients are told, and what is believed of them.",
    keys: &[
        Key {
            name: "interval",
            kind: Kind::Whole {
                at: |config| &mut config.protocol.interval_s,
                bounds: bounds(60, 86_400, "seconds"),
            },
            about: "Time between two announces of a client. Up to 10 percent are added at \
                    random, so that clients that came together do not come back together.",
            reason: "half an hour is what the field uses; longer means less load and staler \
                     peers. Lists of public trackers want 300 to 10800.",
        },
        Key {
            name: "min_interval",
            kind: Kind::Whole {
                at: |config| &mut config.protocol.min_interval_s,
                bounds: bounds(30, 86_400, "seconds"),
            },
            about: "Time before which a client should not announce again, even if its user \
                    asks for it. Not more than interval.",
            reason: "half the interval.",
        },
        Key {
            name: "peer_timeout",
            kind: Kind::Whole {
                at: |config| &mut config.protocol.peer_timeout_s,
                bounds: bounds(60, 172_800, "seconds"),
            },
            about: "Time after its last announce at which a peer is forgotten. At least \
                    interval, 10 percent and 60 seconds, or live peers would be dropped \
                    between two announces.",
            reason: "one and a half intervals: one announce may be late or lost.",
        },
        Key {
            name: "default_numwant",
            kind: Kind::Whole {
                at: |config| &mut config.protocol.default_numwant,
                bounds: bounds(0, MAX_NUMWANT_MAX as u64, "peers"),
            },
            about: "Peers given to a client that does not say how many it wants. Not more \
                    than max_numwant.",
            reason: "what most trackers give.",
        },
        Key {
            name: "max_numwant",
            kind: Kind::Whole {
                at: |config| &mut config.protocol.max_numwant,
                bounds: Bounds {
                    min: 1,
                    max: MAX_NUMWANT_MAX as u64,
                    unit: "peers",
                    ceiling: Some("an answer can hold"),
                },
            },
            about: "Peers given to a client at most, however many it wants.",
            reason: "the most that clients ask for, libtorrent among them.",
        },
        Key {
            name: "max_scrape_torrents",
            kind: Kind::Whole {
                at: |config| &mut config.protocol.max_scrape_torrents,
                bounds: Bounds {
                    min: 64,
                    max: MAX_SCRAPE_TORRENTS_MAX as u64,
                    unit: "torrents",
                    ceiling: Some("a request line and an answer can hold"),
                },
            },
            about: "Torrents that one scrape may ask for. One that asks for more fails, and is \
                    told this bound.",
            reason: "twice the 64 that Transmission puts into one request.",
        },
        Key {
            name: "full_scrape",
            kind: Kind::Switch { at: |config| &mut config.protocol.full_scrape },
            about: "Whether a scrape without an info hash is answered with all torrents.",
            reason: "no client needs it, and the answer is as large as the tracker. A worker \
                     sends eight at a time, 3 MB of memory each.",
        },
        Key {
            name: "trust_ip_parameters",
            kind: Kind::Switch { at: |config| &mut config.protocol.trust_ip_parameters },
            about: "Whether an announce may name the address of its peer (ip=, ipv4=, ipv6=) \
                    in place of the one it comes from; ipv4=address:port and \
                    ipv6=[address]:port name a port too. One that nobody can reach, such as \
                    0.0.0.0 or a link-local one, is ignored. For closed networks.",
            reason: "anybody could have strangers' addresses handed out, and so attacked.",
        },
        Key {
            name: "external_ipv4",
            kind: Kind::PublicAddress { at: |config| &mut config.protocol.external_ipv4 },
            about: "The address of the Internet at which others reach the peers of the \
                    tracker's own host and network: those that announce from a loopback or \
                    private address (127.0.0.0/8, 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, \
                    169.254.0.0/16). They are told under it, with the port that they announced, \
                    to all but each other. Not to be used behind a proxy that does not say where \
                    clients are.",
            reason: "none: such peers are told as they are.",
        },
        Key {
            name: "external_ipv6",
            kind: Kind::PublicAddress { at: |config| &mut config.protocol.external_ipv6 },
            about: "The same for peers that announce from ::1 or fc00::/7.",
            reason: "none.",
        },
        Key {
            name: "redirect",
            kind: Kind::Url { at: |config| &mut config.protocol.redirect },
            about: "Where people are sent who open the tracker's address in a browser. \
                    Without it, a line of text tells them what it is.",
            reason: "none.",
        },
    ],
    relations: &[
        Relation {
            keys: ["protocol.min_interval", "protocol.interval"],
            broken: |Config { protocol, .. }| {
                (protocol.min_interval_s > protocol.interval_s)
                    .then(|| format!("at most {}", protocol.interval_s))
            },
        },
        Relation {
            keys: ["protocol.peer_timeout", "protocol.interval"],
            broken: |Config { protocol, .. }| {
                let spread = (protocol.interval_s * INTERVAL_SPREAD_PERCENT).div_ceil(100);
                let least = protocol.interval_s + spread + PEER_TIMEOUT_GRACE_S;
                (protocol.peer_timeout_s < least).then(|| format!("at least {least}"))
            },
        },
        Relation {
            keys: ["protocol.default_numwant", "protocol.max_numwant"],
            broken: |Config { protocol, .. }| {
                (protocol.default_numwant > protocol.max_numwant)
                    .then(|| format!("at most {}", protocol.max_numwant))
            },
        },
    ],
};

/// The most peers whose answer fits [`RESPONSE_BYTES_MAX`].
const MAX_NUMWANT_MAX: usize = {
    let mut peers = 0;
    while announce_bytes_max(peers + 1) <= RESPONSE_BYTES_MAX {
        peers += 1;
    }
    peers
};

/// The most torrents whose hashes fit a request line, however they are written, and whose answer
/// fits [`RESPONSE_BYTES_MAX`].
const MAX_SCRAPE_TORRENTS_MAX: usize = {
    // A hash takes the most bytes when all of it is percent-encoded; the first has no `&` before
    // it. Old torrents carry a passkey of 32 hex digits.
    let around = "GET /0123456789abcdef0123456789abcdef/scrape? HTTP/1.1\r\n".len() - "&".len();
    let asked = (REQUEST_LINE_BYTES_MAX - around) / ("&info_hash=".len() + 3 * 20);
    let mut torrents = 0;
    while torrents < asked && scrape_bytes_max(torrents + 1) <= RESPONSE_BYTES_MAX {
        torrents += 1;
    }
    torrents
};

// The defaults, and the hashes of Transmission's scrape, have to fit.
const _: () = assert!(MAX_NUMWANT_MAX >= 200 && MAX_SCRAPE_TORRENTS_MAX >= 128);

/// How much is remembered. When something is full, a newcomer is answered but not stored, unless
/// something else is to go for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swarms {
    /// Torrents at one time, 1 to 100,000,000.
    pub max_torrents: usize,
    /// Peers at one time in all torrents, 1 to 4,000,000,000.
    pub max_peers: usize,
    /// Peers at one time in a torrent, 1 to 100,000,000.
    pub max_peers_per_torrent: u32,
    /// Endpoints of one address in a torrent, at most [`PEERS_PER_ADDRESS_MAX`]; 0 is any number.
    pub max_peers_per_address: u32,
}

impl Default for Swarms {
    fn default() -> Swarms {
        Swarms {
            max_torrents: 20_000_000,
            max_peers: 100_000_000,
            max_peers_per_torrent: 1_000_000,
            max_peers_per_address: 16,
        }
    }
}

pub(super) const SWARMS: Table = Table {
    name: "swarms",
    about: "How much is remembered. When something is full, a newcomer is answered but not \
            stored, unless something else goes for it, as is said below.",
    keys: &[
        Key {
            name: "max_torrents",
            kind: Kind::Whole {
                at: |config| &mut config.swarms.max_torrents,
                bounds: bounds(1, TORRENTS_MAX as u64, "torrents"),
            },
            about: "Torrents at one time. Bounds memory: anybody can announce made-up torrents. \
                    One more takes the place of one that has one peer, which has announced once, \
                    drawn at random; if there is none, it is answered but not stored.",
            reason: "above the ten million or so that the largest public trackers have.",
        },
        Key {
            name: "max_peers",
            kind: Kind::Whole {
                at: |config| &mut config.swarms.max_peers,
                bounds: bounds(1, 4_000_000_000, "peers"),
            },
            about: "Peers at one time, in all torrents together. Bounds memory: anybody can \
                    announce as many peers as they have addresses and ports.",
            reason: "above what the largest public trackers have.",
        },
        Key {
            name: "max_peers_per_torrent",
            kind: Kind::Whole {
                at: |config| &mut config.swarms.max_peers_per_torrent,
                bounds: bounds(1, 100_000_000, "peers"),
            },
            about: "Peers at one time in a torrent, so that one swarm cannot take the room of \
                    all others.",
            reason: "no real swarm is this large.",
        },
        Key {
            name: "max_peers_per_address",
            kind: Kind::Whole {
                at: |config| &mut config.swarms.max_peers_per_address,
                bounds: bounds(0, PEERS_PER_ADDRESS_MAX as u64, "endpoints"),
            },
            about: "Endpoints (address and port) that one IPv4 address, or one IPv6 /64, has in a \
                    torrent, so that one host cannot be most of what a swarm is told. One more \
                    takes the place of the one of them that announced the longest ago. Loopback, \
                    private and link-local addresses, 100.64.0.0/10 and those of limits.exempt \
                    are not limited. 0 is any number.",
            reason: "room for the clients of one torrent behind a shared address, and one \
                     address stays a small part of an answer.",
        },
    ],
    relations: &[],
};

/// How many connections are held, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Connections at one time, at most 10,000,000; 0 is what the file descriptor limit
    /// allows, less a reserve.
    pub max: usize,
    /// Seconds from the accept of an HTTPS connection to the end of its TLS handshake, 1 to
    /// 300.
    pub handshake_timeout_s: u32,
    /// Seconds from the first byte of a request to the end of its head, 1 to 300.
    pub header_timeout_s: u32,
    /// Seconds that a connection may wait between two requests, 1 to 3600.
    pub idle_timeout_s: u32,
    /// Seconds in which a client has to take its answer, 1 to 300.
    pub send_timeout_s: u32,
    /// Seconds that answers in flight get at shutdown, at most 600; 0 drops them.
    pub shutdown_timeout_s: u32,
}

impl Default for Connections {
    fn default() -> Connections {
        Connections {
            max: 0,
            handshake_timeout_s: 10,
            header_timeout_s: 10,
            idle_timeout_s: 30,
            send_timeout_s: 20,
            shutdown_timeout_s: 10,
        }
    }
}

pub(super) const CONNECTIONS: Table = Table {
    name: "connections",
    about: "How many connections are held, and for how long.",
    keys: &[
        Key {
            name: "max",
            kind: Kind::Whole {
                at: |config| &mut config.connections.max,
                bounds: bounds(0, 10_000_000, "connections"),
            },
            about: "Connections at one time, of all workers together. From seven eighths of them \
                    on, answers end their connections; when all are open, the longest idle ones \
                    are closed for new ones, which wait in the kernel if there are none. 0 is \
                    what the file descriptor limit allows, less a reserve.",
            reason: "the limit of the process is the one that cannot be exceeded anyway.",
        },
        Key {
            name: "handshake_timeout",
            kind: Kind::Whole {
                at: |config| &mut config.connections.handshake_timeout_s,
                bounds: bounds(1, 300, "seconds"),
            },
            about: "Time from the accept of an HTTPS connection to the end of its TLS \
                    handshake, with a header of the PROXY protocol ahead of it.",
            reason: "a handshake is two packets or a few; this leaves time to send them thrice.",
        },
        Key {
            name: "header_timeout",
            kind: Kind::Whole {
                at: |config| &mut config.connections.header_timeout_s,
                bounds: bounds(1, 300, "seconds"),
            },
            about: "Time from the accept of a connection, or the first byte of a later \
                    request, to the end of the request's head.",
            reason: "a request is one packet or a few; this leaves time to send them thrice.",
        },
        Key {
            name: "idle_timeout",
            kind: Kind::Whole {
                at: |config| &mut config.connections.idle_timeout_s,
                bounds: bounds(1, 3600, "seconds"),
            },
            about: "Time that a connection may wait for its next request.",
            reason: "a scrape follows its announce within it; the next announce is too far off \
                     to wait for.",
        },
        Key {
            name: "send_timeout",
            kind: Kind::Whole {
                at: |config| &mut config.connections.send_timeout_s,
                bounds: bounds(1, 300, "seconds"),
            },
            about: "Time in which a client has to go on taking its answers; while it does, they \
                    take as long as it needs.",
            reason: "enough for lost packets, too little to hoard answers.",
        },
        Key {
            name: "shutdown_timeout",
            kind: Kind::Whole {
                at: |config| &mut config.connections.shutdown_timeout_s,
                bounds: bounds(0, 600, "seconds"),
            },
            about: "Time that answers in flight get when the tracker is told to stop. 0 drops \
                    them.",
            reason: "well below the 90 after which systemd kills.",
        },
    ],
    relations: &[],
};
