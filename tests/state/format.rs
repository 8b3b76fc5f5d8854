//! The bytes of the file: what is written is read, and nothing else.

use std::hash::RandomState;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Mutex;

use annulus::state::format::{StateHeader, StatePart, StateReader, StateTotals, StateWriter};
use annulus::state::{read_entries, write_swarms};
use annulus_swarm::{
    Ages, AnnounceRequest, CompactAddr, PeerCounts, PeerEvent, Random, Sample, SwarmConfig, Swarms,
    TorrentCounts, TorrentEntry,
};
use quickcheck::quickcheck;

const HEADER: (u64, u64) = (1_700_000_000, 7);

fn empty() -> Swarms {
    let config = SwarmConfig {
        torrents_max: 10_000,
        peers_max: 100_000,
        peers_per_torrent_max: 10_000,
        peers_per_address_max: 3,
        peer_timeout_s: 2700,
    };
    Swarms::new(config, RandomState::new())
}

/// Swarms of announces: the torrent, the address, and whether the peer has everything.
fn swarms(announces: &[(u8, u16, bool)], now: u32) -> Swarms {
    let swarms = empty();
    let (mut random, mut sample) = (Random::seeded(1), Sample::with_capacity(0));
    for &(torrent, host, seeder) in announces {
        let [high, low] = host.to_be_bytes();
        let ip: IpAddr = match host % 3 {
            0 => Ipv6Addr::new(0x2001, 0xdb8, 0, host, 0, 0, 0, 1).into(),
            _ => Ipv4Addr::new(203, high, low / 2, 1).into(),
        };
        let request = AnnounceRequest {
            info_hash: [torrent; 20],
            peer: CompactAddr::new(ip, host.max(1)),
            seeder,
            event: if seeder { PeerEvent::Completed } else { PeerEvent::None },
            numwant: 0,
            own_family_only: false,
        };
        swarms.announce(&request, now, &mut random, &mut sample);
    }
    swarms
}

fn written(swarms: &Swarms, now: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (totals, length) = write_swarms(swarms, &mut bytes, HEADER, || now, || true).unwrap();
    assert_eq!((totals.peers, length), (swarms.totals().peers, bytes.len() as u64));
    bytes
}

/// What is in these bytes, read by two threads; `None` if they are no state file.
fn read(bytes: &[u8]) -> Option<(StateHeader, StateTotals, Swarms)> {
    let (reader, header) = StateReader::begin(bytes).ok()?;
    let ages = Ages { tick_s: header.tick_s, phase_s: header.phase_s, elapsed_s: 0 };
    let mut swarms = empty();
    swarms.align_ticks(&ages, 0);
    let merge = |entry: &TorrentEntry<'_>| swarms.restore(entry, &ages, 0, |_, _| true);
    let (totals, restored) = read_entries(reader, 2, merge).ok()?;
    assert_eq!(restored.stored, totals.peers);
    Some((header, totals, swarms))
}

fn counts(swarms: &Swarms) -> Vec<TorrentCounts> {
    (0..=u8::MAX).map(|torrent| swarms.scrape(&[torrent; 20])).collect()
}

/// Of IPv4, and of IPv6.
fn peer_counts(swarms: &Swarms) -> [PeerCounts; 2] {
    let stats = swarms.stats();
    [stats.v4, stats.v6]
}

quickcheck! {
    fn what_was_written_is_read(announces: Vec<(u8, u16, bool)>, now: u32) -> bool {
        let now = now % 1_000_000_000;
        let before = swarms(&announces, now);
        let (header, totals, after) = read(&written(&before, now)).unwrap();
        let StateHeader { tick_s, phase_s, unix_s, node } = header;
        (unix_s, node) == HEADER
            && (tick_s, phase_s) == (before.tick_s(), before.tick_phase_s(now))
            && counts(&before) == counts(&after)
            && peer_counts(&before) == peer_counts(&after)
            && totals.peers == after.totals().peers
    }

    /// Blocks of any bytes come back, however few bytes a call reads or writes.
    fn blocks_come_back(blocks: Vec<Vec<u8>>, entries: u64, peers: u64) -> bool {
        let header = StateHeader { tick_s: 9, phase_s: 8, unix_s: 7, node: 6 };
        let mut out = Slowly(Vec::new());
        let mut writer = StateWriter::begin(&mut out, &header).unwrap();
        let blocks = blocks.iter().map(Vec::as_slice).filter(|it| !it.is_empty());
        let blocks: Vec<&[u8]> = blocks.collect();
        blocks.iter().for_each(|block| writer.block(block).unwrap());
        let (totals, length) = writer.finish(entries, peers).unwrap();
        assert_eq!(length, out.0.len() as u64);
        let (mut reader, read) = StateReader::begin(Slowly(out.0)).unwrap();
        let mut buffer = Vec::new();
        for block in &blocks {
            let Ok(StatePart::Block(seal)) = reader.next_part(&mut buffer) else { return false };
            seal.check(&buffer).unwrap();
            assert_eq!(buffer, *block);
        }
        let bytes = blocks.iter().map(|block| block.len() as u64).sum();
        let expected = StateTotals { entries, peers, blocks: blocks.len() as u64, bytes };
        read == header && totals == expected
            && matches!(reader.next_part(&mut buffer), Ok(StatePart::End(it)) if it == expected)
    }

    /// Whatever comes, it is refused or read.
    fn any_bytes_are_no_state(bytes: Vec<u8>) -> bool {
        read(&bytes).is_none() && read(&[b"ANNULUS\0\x01\0\0\0", &bytes[..]].concat()).is_none()
    }
}

/// Reads and writes at most three bytes a call, and is interrupted now and then.
struct Slowly(Vec<u8>);

impl Read for Slowly {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = into.len().min(3).min(self.0.len());
        into[..length].copy_from_slice(&self.0[..length]);
        self.0.drain(..length);
        Ok(length)
    }
}

impl Write for Slowly {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let length = from.len().min(3);
        self.0.extend_from_slice(&from[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn some_swarms() -> Swarms {
    let announces: Vec<(u8, u16, bool)> =
        (0..60).map(|number| (number as u8 % 7, number * 331 + 1, number % 4 == 0)).collect();
    swarms(&announces, 5000)
}

/// No bit is without effect, no byte can be missing or too much.
#[test]
fn every_change_is_refused() {
    let whole = written(&some_swarms(), 5000);
    assert!(read(&whole).is_some());
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut changed = whole.clone();
            changed[at] ^= 1 << bit;
            assert!(read(&changed).is_none(), "bit {bit} of byte {at}");
        }
        assert!(read(&whole[..at]).is_none(), "the first {at} bytes");
        assert!(read(&[&whole[..at], &whole[at + 1..]].concat()).is_none(), "without byte {at}");
        assert!(read(&[&whole[..at], &whole[at..]].join(&0)).is_none(), "one more at {at}");
    }
}

/// A block that is there twice, or not at all, has a right checksum.
#[test]
fn blocks_are_counted() {
    let header = StateHeader { tick_s: 1, ..StateHeader::default() };
    let entry = |torrent: u8| [&[torrent; 20][..], &[0; 12]].concat();
    let file = |torrents: &[u8], entries| {
        let mut bytes = Vec::new();
        let mut writer = StateWriter::begin(&mut bytes, &header).unwrap();
        torrents.iter().for_each(|&torrent| writer.block(&entry(torrent)).unwrap());
        writer.finish(entries, 0).unwrap();
        bytes
    };
    assert!(read(&file(&[1, 2], 2)).is_some());
    assert!(read(&file(&[1, 2], 3)).is_none());
    let (two, three) = (file(&[1, 2], 3), file(&[1, 2, 2], 3));
    let end = two.len() - 40;
    assert!(read(&[&three[..end], &three[three.len() - 40..]].concat()).is_none());
    assert!(read(&[&two[..end], &two[end - 40..]].concat()).is_none());
}

/// Fails at a byte, having taken those before.
struct FailingAt<'a>(usize, &'a Mutex<Vec<u8>>);

impl Write for FailingAt<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let mut taken = self.1.lock().unwrap();
        match from.len().min(self.0 - taken.len()) {
            0 => Err(io::Error::from_raw_os_error(5)),
            length => {
                taken.extend_from_slice(&from[..length]);
                Ok(length)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The error of the disk is the writer's, at whichever byte; what was written is no state.
#[test]
fn a_write_that_fails_at_any_byte_is_none() {
    let swarms = some_swarms();
    let whole = written(&swarms, 5000).len();
    for at in 0..whole {
        let taken = Mutex::default();
        let failed = write_swarms(&swarms, FailingAt(at, &taken), HEADER, || 5000, || true);
        assert_eq!(failed.unwrap_err().raw_os_error(), Some(5), "{at}");
        let taken = taken.into_inner().unwrap();
        assert!(taken.len() == at && read(&taken).is_none(), "{at}");
    }
}

/// And so it is if the writing is given up.
#[test]
fn a_write_can_be_given_up_after_every_step() {
    let swarms = some_swarms();
    for steps in 0.. {
        let (mut left, mut bytes) = (steps, Vec::new());
        let go_on = || {
            left -= 1;
            left >= 0
        };
        match write_swarms(&swarms, &mut bytes, HEADER, || 5000, go_on) {
            Ok(_) => return assert!(steps > 3 && read(&bytes).is_some()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted),
        }
        assert!(read(&bytes).is_none(), "{steps}");
    }
}
