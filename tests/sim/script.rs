//! What the clients of a run do, drawn from its seed.
//!
//! Every client has a torrent of its own, so that what it is told depends on nobody else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use annulus::limits::{HEAD_BYTES_MAX, REQUEST_LINE_BYTES_MAX};
use annulus_swarm::Random;

use super::client::{ClientScript, Ending, Expected, Request, Trouble};
use super::tls::{ConnectionEnd, Manner};

/// One seed in so many has clients that speak TLS, and so many of them at most.
pub(crate) const SEEDS_PER_TLS: u64 = 3;
const TLS_CLIENTS_MAX: usize = 4;

/// The clients of one run.
pub(crate) fn draw(seed: u64, random: &mut Random) -> Vec<ClientScript> {
    let clients = match random.below(4) {
        0 => 1 + random.below(2),
        1 => 2 + random.below(6),
        _ => 6 + random.below(14),
    };
    let mut scripts: Vec<ClientScript> =
        (0..clients).map(|number| draw_client(seed, number, random)).collect();
    if seed.is_multiple_of(SEEDS_PER_TLS) {
        // A handshake costs as much as all the rest of a client.
        for script in scripts.iter_mut().take(TLS_CLIENTS_MAX) {
            make_https(script, random);
        }
    }
    scripts
}

/// Has a client speak TLS, or fail to.
fn make_https(script: &mut ClientScript, random: &mut Random) {
    script.https = true;
    let mut manner = Manner {
        farewell: [ConnectionEnd::Notify, ConnectionEnd::NotifyAndFin, ConnectionEnd::Fin]
            [random.below(3) as usize],
        split: random.below(2) == 0,
        resumes: random.below(3) == 0,
        ..Manner::good(random.below(3) == 0)
    };
    let kind = random.below(14);
    if kind < 3 {
        script.requests.clear();
        script.ending = Ending::Await;
    }
    match kind {
        // Plain HTTP, where TLS is expected.
        0 => {
            script.requests.push(framed(400, "GET /announce HTTP/1.1\r\nHost: t\r\n\r\n"));
            return;
        }
        // TLS, where plain HTTP is expected.
        1 => {
            script.https = false;
            let hello = [&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3][..], &[7; 506]].concat();
            script.requests.push(framed(400, hello));
            return;
        }
        // What is no handshake, or only a part of one. Not both: what becomes of a hello that
        // is spoilt depends on the order of its extensions, which no seed decides.
        2 if random.below(2) == 0 => {
            manner.handshake_max = 0;
            manner.garbage = garbage(random);
        }
        2 => manner.handshake_max = random.below(400) as usize,
        3 | 4 if script.ending == Ending::Await && !script.requests.iter().any(asks_to_close) => {
            // What was asked before is answered.
            manner.garbage = garbage(random);
        }
        _ => {}
    }
    script.tls = Some(manner);
}

/// Whether whoever sends it must send no more.
fn asks_to_close(request: &Request) -> bool {
    let text = String::from_utf8_lossy(&request.bytes);
    text.contains("Connection: close")
        || (text.contains("HTTP/1.0") && !text.contains("keep-alive"))
}

/// Something like a record, of which nothing can be made.
fn garbage(random: &mut Random) -> Vec<u8> {
    let content_type = [20, 21, 22, 23, 24, 255][random.below(6) as usize];
    let len = random.below(600) as u16;
    let [high, low] = len.to_be_bytes();
    let mut record = vec![content_type, 3, 3, high, low];
    record.extend((0..len).map(|_| random.below(256) as u8));
    record.truncate(1 + random.below(2000) as usize);
    record
}

fn draw_client(seed: u64, number: u32, random: &mut Random) -> ClientScript {
    let mut writer = ScriptWriter { seed, number, random };
    let mut requests = Vec::new();
    let count = match writer.random.below(8) {
        0 => 0,
        1..=4 => 1 + writer.random.below(3),
        5 | 6 => 3 + writer.random.below(12),
        _ => 20 + writer.random.below(60),
    };
    for _ in 0..count {
        requests.push(writer.good());
    }
    let mut ending = [Ending::Close, Ending::HalfClose, Ending::Reset, Ending::Await]
        [writer.random.below(4) as usize];
    let mut pipelined = writer.random.below(2) == 0;
    match writer.random.below(12) {
        0..=2 => requests.push(writer.last()),
        3 => {
            requests.push(writer.malformed());
            requests.push(writer.junk());
        }
        4 => {
            // A request cut off: by the client's end, or by nothing at all.
            let mut request = writer.good();
            request.bytes.truncate(1 + writer.random.below(20) as usize);
            let ends = writer.random.below(2) == 0;
            ending = if ends { Ending::HalfClose } else { Ending::Await };
            let status = if ends { 400 } else { 408 };
            let text = request.bytes.iter().skip_while(|byte| b"\r\n\0".contains(byte));
            let text: Vec<u8> = text.copied().collect();
            request.expected = match &text[..] {
                [] => Expected::Nothing,
                b"HEAD" | [b'H', b'E', b'A', b'D', b' ', ..] => Expected::HeadOnly(status),
                _ => Expected::Framed(status),
            };
            requests.push(request);
        }
        5 => {
            // The server alone decides that this is the end: more requests may follow.
            requests.push(framed(404, "GET /index.html HTTP/1.1\r\nHost: t\r\n\r\n"));
            for _ in 0..writer.random.below(3) {
                let more = writer.good();
                requests.push(Request { expected: Expected::Nothing, ..more });
            }
        }
        6 if writer.random.below(3) == 0 => {
            pipelined = true;
            let request = "GET /scrape HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
            requests.push(Request { bytes: request.into(), expected: Expected::FullScrape });
            // It might be refused, and the connection ends after either.
            ending = Ending::Await;
        }
        _ => {}
    }
    let trouble = match random.below(14) {
        0 => Trouble::ResetsAfter(u64::from(random.below(3000))),
        1 => Trouble::ResetsAtByte(random.below(2000) as usize),
        2 => Trouble::NeverReads,
        3 => Trouble::Leaves,
        4 => Trouble::Stays,
        _ => Trouble::None,
    };
    ClientScript {
        peer: (random.below(10) > 0).then(|| peer(number)),
        connect_ms: u64::from(random.below(2) * random.below(3000)),
        requests,
        pipelined,
        pause_ms: u64::from(random.below(4) / 3 * random.below(100)),
        piece: 0,
        ending,
        trouble,
        https: false,
        tls: None,
    }
}

/// The address of a client: every third has IPv6.
pub(crate) fn peer(number: u32) -> SocketAddr {
    let [_, high, middle, low] = number.to_be_bytes();
    let ip = match number % 3 {
        0 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, number as u16)),
        _ => IpAddr::V4(Ipv4Addr::new(10, high, middle, low)),
    };
    SocketAddr::new(ip, 40_000)
}

/// A request that is answered with this status.
pub(crate) fn framed(status: u16, text: impl Into<Vec<u8>>) -> Request {
    Request { bytes: text.into(), expected: Expected::Framed(status) }
}

struct ScriptWriter<'a> {
    seed: u64,
    number: u32,
    random: &'a mut Random,
}

impl ScriptWriter<'_> {
    /// One of this client's torrents, in percent-encoding; number 0 is the one it announces.
    fn hash(&self, torrent: u32) -> String {
        let mut hash = [0_u8; 20];
        hash[..8].copy_from_slice(&self.seed.to_be_bytes());
        hash[8..12].copy_from_slice(&self.number.to_be_bytes());
        hash[12..16].copy_from_slice(&torrent.to_be_bytes());
        hash.iter().map(|byte| format!("%{byte:02x}")).collect()
    }

    fn announce(&mut self) -> String {
        let hash = self.hash(0);
        let port = 1000 + self.random.below(8);
        let left = self.random.below(2) * 1000;
        let event = ["", "&event=started", "&event=completed", "&event=stopped"]
            [self.random.below(4) as usize];
        let form = ["", "&compact=1", "&compact=0", "&numwant=0"][self.random.below(4) as usize];
        format!(
            "/announce?info_hash={hash}&peer_id=-XX0001-abcdefghijkl&port={port}&uploaded=0\
             &downloaded=0&left={left}{event}{form}"
        )
    }

    fn scrape(&mut self) -> String {
        let hashes = match self.random.below(3) {
            // One more than may be.
            0 => 1 + self.random.below(65),
            _ => 1,
        };
        let hashes: Vec<String> =
            (0..hashes).map(|torrent| format!("info_hash={}", self.hash(torrent))).collect();
        format!("/scrape?{}", hashes.join("&"))
    }

    /// A request after which the connection goes on.
    fn good(&mut self) -> Request {
        let (method, target) = match self.random.below(10) {
            0 => ("GET", self.scrape()),
            1 => ("HEAD", self.announce()),
            2 => ("GET", "/announce?port=1".into()),
            3 => ("GET", "/announce?info_hash=%4".into()),
            4 => ("GET", self.announce().replace("port=", "no_port=")),
            5 => ("GET", self.announce().replace("/announce?", "/?magnet&")),
            _ => ("GET", self.announce()),
        };
        let (version, header) = match self.random.below(6) {
            0 => ("HTTP/1.0", "Connection: keep-alive\r\n"),
            1 => ("HTTP/1.1", "Connection: Keep-Alive\r\nAccept: */*\r\n"),
            _ => ("HTTP/1.1", "User-Agent: sim/1\r\nAccept-Encoding: gzip\r\n"),
        };
        let before = match self.random.below(12) {
            0 => "\r\n",
            1 => "\0",
            _ => "",
        };
        let text = format!("{before}{method} {target} {version}\r\nHost: t\r\n{header}\r\n");
        let expected = match method {
            "HEAD" => Expected::HeadOnly(200),
            _ => Expected::Framed(200),
        };
        Request { bytes: text.into(), expected }
    }

    /// A request that asks for the connection to be closed.
    fn last(&mut self) -> Request {
        let target = self.announce();
        framed(
            200,
            match self.random.below(3) {
                0 => format!("GET {target} HTTP/1.0\r\nHost: t\r\n\r\n"),
                1 => format!("GET {target} HTTP/1.1\r\nConnection: close\r\nHost: t\r\n\r\n"),
                _ => format!("GET {target} HTTP/1.0\r\n\r\n"),
            },
        )
    }

    fn malformed(&mut self) -> Request {
        let long_line = format!("GET /announce?{} ", "a".repeat(REQUEST_LINE_BYTES_MAX));
        let header = format!("X-Padding: {}\r\n", "b".repeat(1000));
        let large = header.repeat(HEAD_BYTES_MAX / header.len() + 1);
        let kinds: [(u16, String); 13] = [
            (400, "HEAD /announce HTTP/1.1\r\nA: b\rc\r\n\r\n".into()),
            (505, "\r\nHEAD /announce HTTP/3.0\r\n\r\n".into()),
            (405, "HELO tracker.example\r\n\r\n".into()),
            (405, "POST /announce HTTP/1.1\r\nHost: t\r\n\r\n".into()),
            (505, "GET /announce HTTP/2.0\r\nHost: t\r\n\r\n".into()),
            (400, "GET /announce\u{1} HTTP/1.1\r\nHost: t\r\n\r\n".into()),
            (400, "GET /announce HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello".into()),
            (400, "GET /announce HTTP/1.1\r\n folded\r\n\r\n".into()),
            (200, long_line.clone()),
            (414, long_line.replace("/announce", "/")),
            (431, format!("GET /announce HTTP/1.1\r\n{large}\r\n")),
            (431, format!("GET /announce HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(200))),
            (400, "\u{1}\u{2}\u{3}".into()),
        ];
        let kind = self.random.below(kinds.len() as u32) as usize;
        let (status, text) = &kinds[kind];
        let mut request = framed(*status, text.as_str());
        if text.trim_start().starts_with("HEAD ") {
            request.expected = Expected::HeadOnly(*status);
        }
        request
    }

    /// What follows a request that ends the connection, and is dropped.
    fn junk(&mut self) -> Request {
        let len = self.random.below(2000) as usize;
        Request { bytes: vec![b'x'; len.max(1)], expected: Expected::Nothing }
    }
}
