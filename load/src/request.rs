//! Writes requests like those of Transmission 4.0.5, but without compression.

use crate::options::LoadOptions;
use crate::plan::LoadPlan;
use crate::random::SeededRandom;
use crate::tracker_url::TrackerUrl;

/// What a request asks for. Peers are numbers of [`LoadPlan::peer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// `started`: with that event.
    Announce { peer: u32, started: bool },
    /// A scrape of the torrents of this peer and those after it.
    Scrape { peer: u32 },
}

impl RequestKind {
    /// The announcing peer, or the first of those whose torrents are scraped.
    pub fn peer(self) -> u32 {
        match self {
            RequestKind::Announce { peer, .. } | RequestKind::Scrape { peer } => peer,
        }
    }
}

/// The parts that all requests of a run have in common.
pub struct RequestTemplates {
    announce: Vec<u8>,
    scrape: Vec<u8>,
    /// From `numwant` to the end of an announce's query.
    query_end: Vec<u8>,
    /// From the version on, for a kept connection and for the last request of one.
    head_kept: Vec<u8>,
    head_last: Vec<u8>,
    hashes_per_scrape: u32,
}

/// Bytes of a percent-encoded info hash at most.
const HASH_BYTES_MAX: usize = 60;

impl RequestTemplates {
    pub fn new(url: &TrackerUrl, options: &LoadOptions) -> RequestTemplates {
        let head = |connection: &str| {
            let authority = &url.authority;
            let head = format!(
                " HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: Transmission/4.0.5\r\n\
                 Accept: */*\r\nAccept-Encoding: identity\r\n{connection}\r\n"
            );
            head.into_bytes()
        };
        let query_end = format!("&numwant={}&compact=1&supportcrypto=1", options.numwant);
        RequestTemplates {
            announce: format!("GET {}info_hash=", url.announce).into_bytes(),
            scrape: format!("GET {}", url.scrape).into_bytes(),
            query_end: query_end.into_bytes(),
            head_kept: head(""),
            head_last: head("Connection: close\r\n"),
            hashes_per_scrape: options.hashes_per_scrape as u32,
        }
    }

    /// Bytes of a request at most.
    pub fn bytes_max(&self) -> usize {
        let hashes = self.hashes_per_scrape as usize;
        let scrape = self.scrape.len() + hashes * (b"&info_hash=".len() + HASH_BYTES_MAX);
        let between = "&peer_id=-TR4050-123412345678&port=65535&uploaded=0&downloaded=0\
                       &left=201000&key=12345678&event=started";
        let announce = self.announce.len() + HASH_BYTES_MAX + between.len() + self.query_end.len();
        scrape.max(announce) + self.head_last.len()
    }

    /// The torrents of a scrape.
    pub fn scraped(&self, plan: &LoadPlan, peer: u32) -> impl Iterator<Item = u32> {
        plan.torrents_from(peer, self.hashes_per_scrape)
    }

    /// Writes a request, the last of its connection or not, to `out`, which has
    /// [`RequestTemplates::bytes_max`] bytes. Returns its length.
    pub fn write(&self, out: &mut [u8], plan: &LoadPlan, kind: RequestKind, last: bool) -> usize {
        let mut writer = RequestWriter { out, at: 0 };
        match kind {
            RequestKind::Announce { peer: number, started } => {
                let peer = plan.peer(number);
                writer.put(&self.announce);
                writer.put(plan.encoded(peer.torrent));
                writer.put(b"&peer_id=-TR4050-annu");
                writer.hexadecimal(number);
                writer.put(b"&port=");
                writer.decimal(plan.port(number));
                writer.put(b"&uploaded=0&downloaded=0&left=");
                writer.put(if peer.seeder { b"0" } else { b"201000" });
                writer.put(b"&key=");
                writer.hexadecimal(number);
                writer.put(&self.query_end);
                if started {
                    writer.put(b"&event=started");
                }
            }
            RequestKind::Scrape { peer } => {
                writer.put(&self.scrape);
                for (at, torrent) in self.scraped(plan, peer).enumerate() {
                    writer.put(if at == 0 { b"info_hash=" } else { b"&info_hash=" });
                    writer.put(plan.encoded(torrent));
                }
            }
        }
        writer.put(if last { &self.head_last } else { &self.head_kept });
        writer.at
    }
}

struct RequestWriter<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl RequestWriter<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// In eight digits.
    fn hexadecimal(&mut self, number: u32) {
        let digit = |shift: u32| b"0123456789abcdef"[(number >> shift) as usize & 15];
        self.put(&[28, 24, 20, 16, 12, 8, 4, 0].map(digit));
    }

    fn decimal(&mut self, number: u16) {
        let digits = [10_000, 1000, 100, 10, 1].map(|unit| b'0' + (number / unit % 10) as u8);
        let leading = digits.iter().take(4).take_while(|digit| **digit == b'0').count();
        self.put(&digits[leading..]);
    }
}

/// The requests of one connection slot: its share of the peers in turn, and scrapes in between.
#[derive(Default)]
pub struct RequestSequence {
    random: SeededRandom,
    first: u32,
    step: u32,
    peers: u32,
    next: u32,
    started: bool,
    scrapes_percent: u32,
}

impl RequestSequence {
    /// For slot `number` of `slots`, of all workers, and `peers` peers.
    pub fn new(number: u32, slots: u32, peers: u32, scrapes_percent: u32, seed: u64) -> Self {
        let first = number % peers;
        let seed = seed ^ (u64::from(number) + 1).wrapping_mul(0xd1b5_4a32_d192_ed03);
        let random = SeededRandom::new(seed);
        let (step, next) = (slots, first);
        RequestSequence { random, first, step, peers, next, started: true, scrapes_percent }
    }

    pub fn next_request(&mut self) -> RequestKind {
        if self.scrapes_percent > 0 && self.random.below(100) < self.scrapes_percent {
            return RequestKind::Scrape { peer: self.random.below(self.peers) };
        }
        let announce = RequestKind::Announce { peer: self.next, started: self.started };
        match self.next.checked_add(self.step).filter(|next| *next < self.peers) {
            Some(next) => self.next = next,
            None => (self.next, self.started) = (self.first, false),
        }
        announce
    }
}

#[cfg(test)]
mod tests {
    use super::{RequestKind, RequestSequence};

    #[test]
    fn slots_share_the_peers_and_the_seed_decides_the_rest() {
        let mut seen = vec![0; 100];
        for number in 0..7 {
            let mut sequence = RequestSequence::new(number, 7, 100, 0, 1);
            while let RequestKind::Announce { peer, started: true } = sequence.next_request() {
                seen[peer as usize] += 1;
            }
        }
        assert_eq!(seen, [1; 100]);
        let requests = |seed| {
            let mut sequence = RequestSequence::new(3, 8, 1000, 30, seed);
            (0..1000).map(|_| sequence.next_request()).collect::<Vec<_>>()
        };
        assert_eq!(requests(1), requests(1));
        assert_ne!(requests(1), requests(2));
    }
}
