//! Requests by UDP (BEP 15, 41): what an encoder wrote is read back, and every prefix of it is
//! either short or a request. Every datagram is given so that it ends where the next byte of memory
//! cannot be read.

use annulus_parser::{
    AnnounceEvent, DATAGRAM_HASHES_MAX, DatagramAction, DatagramAnnounce, DatagramError,
    DatagramHeader, DatagramMistake, DatagramQuery, DatagramRequest, Numwant, parse_datagram,
};
use quickcheck::{Arbitrary, Gen, quickcheck};

mod guard_page;
use guard_page::GuardPage;

const MAGIC: u64 = 0x0417_2710_1980;

/// An announce as a client encodes it.
#[derive(Clone, Debug)]
struct SentAnnounce {
    header: (u64, u32),
    info_hash: [u8; 20],
    peer_id: [u8; 20],
    /// Downloaded, left, uploaded.
    bytes: [u64; 3],
    event: u32,
    ip: u32,
    key: u32,
    numwant: i32,
    port: u16,
    options: Vec<SentOption>,
    /// What follows the options.
    rest: Vec<u8>,
}

#[derive(Clone, Debug)]
enum SentOption {
    Nop,
    UrlData(Vec<u8>),
    Unknown(u8, Vec<u8>),
}

fn array<const N: usize>(g: &mut Gen) -> [u8; N] {
    std::array::from_fn(|_| u8::arbitrary(g))
}

fn bytes(g: &mut Gen, max: usize) -> Vec<u8> {
    let len = usize::arbitrary(g) % (max + 1);
    (0..len).map(|_| u8::arbitrary(g)).collect()
}

impl Arbitrary for SentOption {
    fn arbitrary(g: &mut Gen) -> SentOption {
        match u8::arbitrary(g) % 4 {
            0 => SentOption::Nop,
            1 => SentOption::Unknown(u8::arbitrary(g).max(3), bytes(g, 255)),
            _ => SentOption::UrlData(bytes(g, 255)),
        }
    }
}

impl Arbitrary for SentAnnounce {
    fn arbitrary(g: &mut Gen) -> SentAnnounce {
        SentAnnounce {
            header: Arbitrary::arbitrary(g),
            info_hash: array(g),
            peer_id: array(g),
            bytes: std::array::from_fn(|_| u64::arbitrary(g)),
            event: *g.choose(&[0, 1, 2, 3, 4, u32::MAX]).unwrap(),
            ip: Arbitrary::arbitrary(g),
            key: Arbitrary::arbitrary(g),
            numwant: *g.choose(&[-1, 0, 1, 50, i32::MAX, i32::MIN]).unwrap(),
            port: Arbitrary::arbitrary(g),
            options: Arbitrary::arbitrary(g),
            // Ended, or cut within an option.
            rest: [&[][..], &[0], &[0, 2, 1, b'a'], &[2], &[2, 2, b'a'], &[77, 1]]
                [usize::arbitrary(g) % 6]
                .to_vec(),
        }
    }
}

impl SentAnnounce {
    fn encode(&self) -> Vec<u8> {
        let (connection_id, transaction_id) = self.header;
        let mut out = [&connection_id.to_be_bytes()[..], &[0, 0, 0, 1]].concat();
        out.extend(transaction_id.to_be_bytes());
        out.extend(self.info_hash);
        out.extend(self.peer_id);
        self.bytes.iter().for_each(|number| out.extend(number.to_be_bytes()));
        out.extend(self.event.to_be_bytes());
        out.extend(self.ip.to_be_bytes());
        out.extend(self.key.to_be_bytes());
        out.extend(self.numwant.to_be_bytes());
        out.extend(self.port.to_be_bytes());
        assert_eq!(out.len(), 98);
        for option in &self.options {
            let (kind, data) = match option {
                SentOption::Nop => {
                    out.push(1);
                    continue;
                }
                SentOption::UrlData(data) => (2, data),
                SentOption::Unknown(kind, data) => (*kind, data),
            };
            out.extend([kind, data.len() as u8]);
            out.extend(data);
        }
        out.extend(&self.rest);
        out
    }

    fn url(&self) -> Vec<u8> {
        let data = self.options.iter().filter_map(|option| match option {
            SentOption::UrlData(data) => Some(&data[..]),
            _ => None,
        });
        data.collect::<Vec<_>>().concat()
    }

    /// Compares what was read from [`SentAnnounce::encode`].
    fn check(&self, parsed: Result<DatagramRequest<'_>, DatagramError>) {
        let (header, query) = identified(parsed);
        let (connection_id, transaction_id) = self.header;
        let action = DatagramAction::Announce;
        assert_eq!(header, DatagramHeader { connection_id, action, transaction_id });
        if self.port == 0 && self.event != 3 {
            assert_eq!(query, Err(DatagramMistake::PortInvalid));
            return;
        }
        let Ok(DatagramQuery::Announce(announce)) = query else { panic!("{query:?}") };
        let DatagramAnnounce { info_hash, peer_id, downloaded, left, uploaded, .. } = announce;
        assert_eq!((info_hash, *peer_id), (self.info_hash, self.peer_id));
        assert_eq!([downloaded, left, uploaded], self.bytes);
        let event = match self.event {
            1 => AnnounceEvent::Completed,
            2 => AnnounceEvent::Started,
            3 => AnnounceEvent::Stopped,
            _ => AnnounceEvent::None,
        };
        assert_eq!(announce.event, event);
        assert_eq!((announce.ip, announce.key, announce.port), (self.ip, self.key, self.port));
        let numwant = match self.numwant {
            number if number < 0 => Numwant::Default,
            number => Numwant::AtMost(number as u32),
        };
        assert_eq!(announce.numwant, numwant);
        assert!(announce.url_data().all(|piece| !piece.is_empty()));
        assert_eq!(announce.url_data().collect::<Vec<_>>().concat(), self.url());
    }
}

fn identified(
    parsed: Result<DatagramRequest<'_>, DatagramError>,
) -> (DatagramHeader, Result<DatagramQuery<'_>, DatagramMistake>) {
    match parsed {
        Ok(DatagramRequest::Identified { header, query }) => (header, query),
        other => panic!("{other:?}"),
    }
}

fn scrape(header: (u64, u32), hashes: &[u8]) -> Vec<u8> {
    let (connection_id, transaction_id) = header;
    let mut out = [&connection_id.to_be_bytes()[..], &[0, 0, 0, 2]].concat();
    out.extend(transaction_id.to_be_bytes());
    out.extend(hashes);
    out
}

quickcheck! {
    fn announces_are_read_back(announce: SentAnnounce) -> bool {
        let datagram = announce.encode();
        let mut guard_page = GuardPage::new(datagram.len());
        announce.check(parse_datagram(guard_page.put(&datagram)));
        true
    }

    /// The options of every prefix are some of those of the whole, and their pieces as well.
    fn prefixes_of_announces(announce: SentAnnounce) -> bool {
        let announce = SentAnnounce { port: announce.port.max(1), ..announce };
        let (datagram, url) = (announce.encode(), announce.url());
        let mut guard_page = GuardPage::new(datagram.len());
        for len in 0..datagram.len() {
            let parsed = parse_datagram(guard_page.put(&datagram[..len]));
            if len < 16 {
                assert_eq!(parsed, Err(DatagramError::TooShort));
                continue;
            }
            let (header, query) = identified(parsed);
            assert_eq!((header.connection_id, header.transaction_id), announce.header);
            match query {
                Err(mistake) => {
                    assert_eq!(mistake, DatagramMistake::AnnounceTooShort);
                    assert!(len < 98);
                }
                Ok(DatagramQuery::Announce(read)) => {
                    assert!(len >= 98);
                    let read = read.url_data().collect::<Vec<_>>().concat();
                    assert!(url.starts_with(&read));
                }
                Ok(other) => panic!("{other:?}"),
            }
        }
        true
    }

    fn scrapes_are_read_back(header: (u64, u32), hashes: Vec<u64>) -> bool {
        let number = (1 + hashes.len()) % 80;
        let hashes: Vec<u8> =
            (0..20 * number).map(|at| hashes.get(at % 7).map_or(at as u8, |&n| n as u8)).collect();
        let datagram = scrape(header, &hashes);
        let mut guard_page = GuardPage::new(datagram.len());
        for len in 16..=datagram.len() {
            let (read, query) = identified(parse_datagram(guard_page.put(&datagram[..len])));
            assert_eq!((read.connection_id, read.transaction_id), header);
            assert_eq!(read.action, DatagramAction::Scrape);
            let expected = match ((len - 16) / 20, (len - 16) % 20) {
                (0, 0) => Err(DatagramMistake::HashesMissing),
                (_, 1..) => Err(DatagramMistake::HashCut),
                (75.., _) => Err(DatagramMistake::TooManyHashes),
                _ => Ok(&hashes[..len - 16]),
            };
            let query = query.map(|query| match query {
                DatagramQuery::Scrape(hashes) => hashes.as_slice().as_flattened(),
                other => panic!("{other:?}"),
            });
            assert_eq!(query, expected);
        }
        true
    }

    /// Whatever arrives, there is one reading of it, and no reading beyond its end.
    fn any_bytes(datagram: Vec<u8>, action: u8, magic: bool) -> bool {
        let mut datagram = datagram;
        if let Some(place) = datagram.get_mut(8..12) {
            place.copy_from_slice(&[0, 0, 0, action % 4]);
        }
        if magic && let Some(place) = datagram.get_mut(..8) {
            place.copy_from_slice(&MAGIC.to_be_bytes());
        }
        let mut guard_page = GuardPage::new(datagram.len());
        let parsed = parse_datagram(guard_page.put(&datagram));
        match parsed {
            Err(DatagramError::TooShort) => datagram.len() < 16,
            Err(DatagramError::NotConnect) => action.is_multiple_of(4) && !magic,
            Ok(DatagramRequest::Connect { transaction_id }) => {
                let is_connect = action.is_multiple_of(4) && magic;
                is_connect && transaction_id.to_be_bytes() == datagram[12..16]
            }
            Ok(DatagramRequest::Identified { header, .. }) => {
                header.connection_id.to_be_bytes() == datagram[..8]
                    && header.transaction_id.to_be_bytes() == datagram[12..16]
                    && (header.action == DatagramAction::Unknown) == (action % 4 == 3)
            }
        }
    }
}

#[test]
fn connects() {
    let connect = [&MAGIC.to_be_bytes()[..], &[0, 0, 0, 0, 1, 2, 3, 4]].concat();
    let parsed = Ok(DatagramRequest::Connect { transaction_id: 0x0102_0304 });
    assert_eq!(parse_datagram(&connect), parsed);
    for behind in [&b"x"[..], &[0; 82], &[0; 1400]] {
        assert_eq!(parse_datagram(&[&connect, behind].concat()), parsed);
    }
    for len in 0..16 {
        assert_eq!(parse_datagram(&connect[..len]), Err(DatagramError::TooShort));
    }
    for at in 0..8 {
        let mut other = connect.clone();
        other[at] ^= 1;
        assert_eq!(parse_datagram(&other), Err(DatagramError::NotConnect));
    }
}

#[test]
fn unknown_actions_are_told() {
    for action in [3, 4, 256, 1 << 24, u32::MAX] {
        let mut datagram = scrape((7, 9), &[1; 20]);
        datagram[8..12].copy_from_slice(&action.to_be_bytes());
        let (header, query) = identified(parse_datagram(&datagram));
        assert_eq!((header.connection_id, header.transaction_id), (7, 9));
        assert_eq!(header.action, DatagramAction::Unknown);
        assert_eq!(query, Err(DatagramMistake::ActionUnknown));
    }
}

#[test]
fn scrapes_have_at_most_so_many_hashes() {
    let hashes = [5; 20 * (DATAGRAM_HASHES_MAX + 1)];
    let datagram = scrape((1, 2), &hashes);
    let (_, query) = identified(parse_datagram(&datagram));
    assert_eq!(query, Err(DatagramMistake::TooManyHashes));
    let datagram = scrape((1, 2), &hashes[20..]);
    let (_, query) = identified(parse_datagram(&datagram));
    let Ok(DatagramQuery::Scrape(read)) = query else { panic!("{query:?}") };
    assert_eq!(read.as_slice().len(), DATAGRAM_HASHES_MAX);
}

/// A client that leaves may have no port any more.
#[test]
fn only_a_stopped_peer_has_no_port() {
    let mut g = Gen::new(3);
    for event in 0..5 {
        let announce = SentAnnounce { port: 0, event, ..SentAnnounce::arbitrary(&mut g) };
        let datagram = announce.encode();
        let (_, query) = identified(parse_datagram(&datagram));
        assert_eq!(query.is_ok(), event == 3);
    }
}

/// The example of BEP 41: `/dir?a=b&c=d` behind an announce.
#[test]
fn options_of_bep_41() {
    let mut g = Gen::new(3);
    let announce = SentAnnounce {
        port: 1,
        options: vec![
            SentOption::UrlData(b"/dir?a=b".to_vec()),
            SentOption::Nop,
            SentOption::Unknown(9, vec![2, 1, b'x']),
            SentOption::UrlData(b"&c=d".to_vec()),
        ],
        rest: vec![0, 2, 1, b'y'],
        ..SentAnnounce::arbitrary(&mut g)
    };
    let datagram = announce.encode();
    let (_, query) = identified(parse_datagram(&datagram));
    let Ok(DatagramQuery::Announce(read)) = query else { panic!("{query:?}") };
    assert_eq!(read.url_data().collect::<Vec<_>>(), [&b"/dir?a=b"[..], b"&c=d"]);
}
