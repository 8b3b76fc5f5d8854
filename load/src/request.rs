//! Requests to bytes, in the words of a real client: Transmission 4.0.5, but that it takes no
//! compressed answers, for they are to be read.

use super::plan::Plan;
use super::target::Target;

/// One thing to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// An announce of this peer of the plan.
    Announce {
        /// Its number.
        member: u32,
        /// Whether it is its first.
        started: bool,
    },
    /// A scrape of the torrents of as many peers as asked for, from this one on.
    Scrape {
        /// Its number.
        member: u32,
    },
}

impl Question {
    /// The peer that asks, or the first of those whose torrents are asked for.
    pub fn member(self) -> u32 {
        match self {
            Question::Announce { member, .. } | Question::Scrape { member } => member,
        }
    }
}

/// What all requests of a run have in common, rendered beforehand.
pub struct Requests {
    announce: Vec<u8>,
    scrape: Vec<u8>,
    /// From the number of wanted peers to the end of the query.
    query_end: Vec<u8>,
    /// From the version on, where the connection stays and where it does not.
    kept: Vec<u8>,
    last: Vec<u8>,
    hashes_per_scrape: u32,
}

/// Bytes of a percent-encoded info hash at most.
const HASH_BYTES_MAX: usize = 60;

impl Requests {
    /// Requests to this target.
    pub fn new(target: &Target, numwant: u64, hashes_per_scrape: u64) -> Requests {
        let head = |connection: &str| {
            let authority = &target.authority;
            format!(
                " HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: Transmission/4.0.5\r\n\
                 Accept: */*\r\nAccept-Encoding: identity\r\n{connection}\r\n"
            )
        };
        let query_end = format!("&numwant={numwant}&compact=1&supportcrypto=1");
        Requests {
            announce: format!("GET {}info_hash=", target.announce).into_bytes(),
            scrape: format!("GET {}", target.scrape).into_bytes(),
            query_end: query_end.into_bytes(),
            kept: head("").into_bytes(),
            last: head("Connection: close\r\n").into_bytes(),
            hashes_per_scrape: hashes_per_scrape as u32,
        }
    }

    /// Bytes of a request at most.
    pub fn bytes_max(&self) -> usize {
        let hashes = self.hashes_per_scrape as usize;
        let scrape = self.scrape.len() + hashes * (b"&info_hash=".len() + HASH_BYTES_MAX);
        let between = "&peer_id=-TR4050-123412345678&port=65535&uploaded=0&downloaded=0\
                       &left=201000&key=12345678&event=started";
        let announce = self.announce.len() + HASH_BYTES_MAX + between.len() + self.query_end.len();
        scrape.max(announce) + self.last.len()
    }

    /// The torrents of a scrape.
    pub fn scraped(&self, plan: &Plan, member: u32) -> impl Iterator<Item = u32> {
        (0..self.hashes_per_scrape).map(move |more| plan.member(member.wrapping_add(more)).torrent)
    }

    /// Writes a request, the last of its connection or not; `out` must hold
    /// [`Requests::bytes_max`]. Returns its length.
    pub fn write(&self, out: &mut [u8], plan: &Plan, question: Question, last: bool) -> usize {
        let mut writer = Writer { out, at: 0 };
        match question {
            Question::Announce { member, started } => {
                let peer = plan.member(member);
                writer.put(&self.announce);
                writer.put(plan.encoded(peer.torrent));
                writer.put(b"&peer_id=-TR4050-annu");
                writer.hexadecimal(member);
                writer.put(b"&port=");
                writer.decimal(plan.port(member));
                writer.put(b"&uploaded=0&downloaded=0&left=");
                writer.put(if peer.seeder { b"0" } else { b"201000" });
                writer.put(b"&key=");
                writer.hexadecimal(member);
                writer.put(&self.query_end);
                if started {
                    writer.put(b"&event=started");
                }
            }
            Question::Scrape { member } => {
                writer.put(&self.scrape);
                for (at, torrent) in self.scraped(plan, member).enumerate() {
                    writer.put(if at == 0 { b"info_hash=" } else { b"&info_hash=" });
                    writer.put(plan.encoded(torrent));
                }
            }
        }
        writer.put(if last { &self.last } else { &self.kept });
        writer.at
    }
}

struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// Eight digits.
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

#[cfg(test)]
mod tests {
    use annulus_parser::{
        AnnounceEvent, Bounds, Numwant, Parsed, Target as Path, parse_announce, parse_head,
        scrape_hashes,
    };

    use super::{Question, Requests};
    use crate::options::Options;
    use crate::plan::Plan;
    use crate::target::Target;

    const BOUNDS: Bounds =
        Bounds { request_line_bytes_max: 8192, head_bytes_max: 16_384, headers_max: 64 };

    fn requests() -> (Plan, Requests) {
        let options = Options { torrents: 50, peers: 200, ..Options::default() };
        let target = Target::parse(&options.url, "").unwrap();
        (Plan::new(&options).unwrap(), Requests::new(&target, 33, 4))
    }

    #[test]
    fn our_parser_reads_every_announce() {
        let (plan, requests) = requests();
        let mut out = vec![0; requests.bytes_max()];
        for member in 0..200 {
            let (started, last) = (member % 2 == 0, member % 3 == 0);
            let question = Question::Announce { member, started };
            let len = requests.write(&mut out, &plan, question, last);
            let Ok(Parsed::Complete { head, consumed }) = parse_head(&out[..len], 0, &BOUNDS)
            else {
                panic!("{}", out[..len].escape_ascii());
            };
            assert_eq!((consumed.get(), head.keep_alive), (len, !last));
            let Path::Announce(query) = head.target else { panic!("no announce") };
            let announce = parse_announce(query).unwrap();
            assert_eq!(&announce.info_hash, plan.hash(plan.member(member).torrent));
            assert_eq!(announce.port, plan.port(member));
            assert_eq!(announce.left == Some(0), plan.member(member).seeder);
            assert_eq!(announce.numwant, Numwant::AtMost(33));
            assert_eq!(announce.event == AnnounceEvent::Started, started);
            assert!(announce.compact);
            assert!((250..400).contains(&len), "{len}");
        }
    }

    #[test]
    fn our_parser_reads_every_scrape() {
        let (plan, requests) = requests();
        let mut out = vec![0; requests.bytes_max()];
        for member in [0, 77, 199, u32::MAX] {
            let len = requests.write(&mut out, &plan, Question::Scrape { member }, false);
            let Ok(Parsed::Complete { head, .. }) = parse_head(&out[..len], 0, &BOUNDS) else {
                panic!("{}", out[..len].escape_ascii());
            };
            let Path::Scrape(query) = head.target else { panic!("no scrape") };
            let hashes: Vec<_> = scrape_hashes(query).map(Result::unwrap).collect();
            let asked: Vec<_> =
                requests.scraped(&plan, member).map(|torrent| *plan.hash(torrent)).collect();
            assert_eq!(hashes, asked);
        }
    }
}
