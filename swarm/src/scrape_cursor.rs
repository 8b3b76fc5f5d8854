//! A scrape of all torrents in the order of their info hashes, in small steps and in little memory.
//!
//! The tables are ordered by a keyed hash. So a scrape scans them in rounds: each round visits
//! every torrent and buffers those of the next range of info hashes, which are returned before the
//! next round. The width of a range follows from the number of torrents. Clients choose info
//! hashes, so a range may hold more than the buffer: then it is cut at its end.

use std::collections::BTreeMap;

use super::scan::ScanCursor;
use super::table::Swarms;
use super::{InfoHash, TorrentCounts};

/// The most torrents buffered, about 3 MB. A round over ten million takes about a tenth of a
/// second, and a scrape of those takes 350 rounds. Dropping a cursor frees its buffer at once, in
/// less than a millisecond.
const BUFFERED_MAX: usize = 1 << 15;

/// The most torrents that one step visits: a tenth of a millisecond, and three times that if all of
/// them are buffered.
const VISITS_PER_STEP: usize = 1024;

/// The most torrents visited under one lock.
const VISITS_PER_LOCK: usize = 128;

/// The state of a scrape; it begins at the default.
#[derive(Debug)]
pub struct ScrapeCursor {
    buffer_max: usize,
    /// The torrents of the present range, in order.
    buffer: BTreeMap<InfoHash, TorrentCounts>,
    /// The range is above `after`, if that is set, and up to `to`.
    after: Option<InfoHash>,
    to: InfoHash,
    /// Whether the first round has begun.
    started: bool,
    /// Where the round goes on.
    scan: ScanCursor,
    /// Torrents of the present slice; they are buffered after the lock is released.
    found: Vec<(InfoHash, TorrentCounts)>,
}

impl Default for ScrapeCursor {
    fn default() -> ScrapeCursor {
        ScrapeCursor::with_buffer(BUFFERED_MAX)
    }
}

const LAST: InfoHash = [0xff; 20];

impl ScrapeCursor {
    fn with_buffer(buffer_max: usize) -> ScrapeCursor {
        ScrapeCursor {
            buffer_max,
            buffer: BTreeMap::new(),
            after: None,
            to: [0; 20],
            started: false,
            scan: ScanCursor::COMPLETE,
            found: Vec::with_capacity(VISITS_PER_LOCK),
        }
    }

    /// Begins the round for the next range, as wide as the buffer can be expected to hold; returns
    /// whether there is one.
    fn begin_round(&mut self, torrents: u64) -> bool {
        if self.started {
            if self.to == LAST {
                return false;
            }
            self.after = Some(self.to);
        }
        self.started = true;
        // An eighth less, so that a range rarely exceeds the buffer.
        let expected = (self.buffer_max - self.buffer_max / 8) as u64;
        let width = match torrents <= expected {
            true => u64::MAX,
            false => (u64::MAX / torrents).saturating_mul(expected).max(1),
        };
        let from = self.after.map_or(0, |after| leading(&after));
        self.to = LAST;
        self.to[..8].copy_from_slice(&from.saturating_add(width).to_be_bytes());
        self.scan = ScanCursor::default();
        true
    }

    fn buffer_found(&mut self) {
        for (info_hash, counts) in self.found.drain(..) {
            if info_hash > self.to {
                continue;
            }
            self.buffer.insert(info_hash, counts);
            if self.buffer.len() > self.buffer_max {
                self.buffer.pop_last();
                if let Some((&last, _)) = self.buffer.last_key_value() {
                    self.to = last;
                }
            }
        }
    }
}

impl Swarms {
    /// One step of a scrape of all torrents: appends up to `max` of them, possibly none, and
    /// returns whether there may be more. Info hashes are strictly ascending. A torrent that exists
    /// during the whole scrape is included.
    pub fn scrape_chunk(
        &self,
        cursor: &mut ScrapeCursor,
        max: usize,
        out: &mut Vec<(InfoHash, TorrentCounts)>,
    ) -> bool {
        if cursor.scan.is_complete() {
            out.extend((0..max).map_while(|_| cursor.buffer.pop_first()));
            return !cursor.buffer.is_empty() || cursor.begin_round(self.totals().torrents);
        }
        let mut visits = VISITS_PER_STEP;
        while visits > 0 && !cursor.scan.is_complete() {
            let ScrapeCursor { scan, found, after, to, .. } = cursor;
            self.scan_slice(scan, VISITS_PER_LOCK, &mut visits, |torrent| {
                let info_hash = torrent.info_hash;
                if info_hash <= *to && after.is_none_or(|after| info_hash > after) {
                    found.push((info_hash, torrent.counts()));
                }
            });
            cursor.buffer_found();
        }
        true
    }
}

/// The first 64 bits of an info hash as a number.
fn leading(info_hash: &InfoHash) -> u64 {
    info_hash.iter().take(8).fold(0, |bits, &byte| bits << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::hash::RandomState;

    use super::*;
    use crate::{AnnounceRequest, CompactAddr, PeerEvent, Random, Sample, SwarmConfig};

    fn swarms() -> Swarms {
        let config = SwarmConfig {
            torrents_max: 100_000,
            peers_max: 100_000,
            peers_per_torrent_max: 10,
            peers_per_address_max: 0,
            peer_timeout_s: 100,
        };
        Swarms::new(config, RandomState::new())
    }

    fn announce(swarms: &Swarms, info_hash: InfoHash, event: PeerEvent) {
        let (mut random, mut sample) = (Random::seeded(1), Sample::with_capacity(0));
        let peer = CompactAddr::V4([10, 0, 0, 1, 0, 80]);
        let a = AnnounceRequest {
            info_hash,
            peer,
            seeder: true,
            event,
            numwant: 0,
            own_family_only: false,
        };
        swarms.announce(&a, 0, &mut random, &mut sample);
    }

    /// 1303 info hashes, spread or consecutive.
    fn info_hashes(spread: bool) -> BTreeSet<InfoHash> {
        let mut random = Random::seeded(7);
        let mut all: BTreeSet<InfoHash> = (0..1300_u32)
            .map(|n| {
                let mut info_hash = [0x5a; 20];
                let number = if spread { random.below(u32::MAX) } else { n };
                let at = if spread { 0 } else { 16 };
                info_hash[at..at + 4].copy_from_slice(&number.to_be_bytes());
                info_hash
            })
            .collect();
        all.extend([[0; 20], LAST, [[0xff; 8].as_slice(), &[0; 12]].concat().try_into().unwrap()]);
        all
    }

    #[test]
    fn every_torrent_is_found_once_and_in_order() {
        for spread in [true, false] {
            let swarms = swarms();
            let all = info_hashes(spread);
            all.iter().for_each(|&info_hash| announce(&swarms, info_hash, PeerEvent::Completed));
            for (buffer_max, max) in [(BUFFERED_MAX, 256), (1, 1), (10, 3), (100, 100), (1303, 5)] {
                let mut cursor = ScrapeCursor::with_buffer(buffer_max);
                let (mut found, mut more) = (Vec::new(), true);
                while more {
                    let before = found.len();
                    more = swarms.scrape_chunk(&mut cursor, max, &mut found);
                    assert!(found.len() - before <= max && cursor.buffer.len() <= buffer_max);
                }
                assert!(!swarms.scrape_chunk(&mut cursor, max, &mut found));
                let counts = TorrentCounts { complete: 1, incomplete: 0, downloaded: 1 };
                assert!(found.iter().all(|(_, found)| *found == counts));
                assert!(found.iter().map(|(info_hash, _)| info_hash).eq(&all), "{buffer_max}");
            }
        }
    }

    #[test]
    fn empty_tables_have_no_torrents() {
        let (mut cursor, mut found) = (ScrapeCursor::default(), Vec::new());
        while swarms().scrape_chunk(&mut cursor, 10, &mut found) {}
        assert!(found.is_empty());
    }

    #[test]
    fn a_torrent_is_found_once_while_others_come_and_go() {
        let swarms = swarms();
        let all = info_hashes(true);
        all.iter().for_each(|&info_hash| announce(&swarms, info_hash, PeerEvent::None));
        let (stay, go): (Vec<InfoHash>, Vec<InfoHash>) =
            all.into_iter().partition(|info_hash| info_hash[3].is_multiple_of(2));
        let mut cursor = ScrapeCursor::with_buffer(40);
        let (mut found, mut step) = (Vec::new(), 0);
        while swarms.scrape_chunk(&mut cursor, 7, &mut found) {
            // One leaves, so that another one moves to its row, and one that had left comes back.
            announce(&swarms, go[step % go.len()], PeerEvent::Stopped);
            announce(&swarms, go[(step + go.len() / 2) % go.len()], PeerEvent::None);
            step += 1;
        }
        assert!(found.is_sorted_by(|(a, _), (b, _)| a < b));
        let found: BTreeSet<InfoHash> = found.into_iter().map(|(info_hash, _)| info_hash).collect();
        assert!(stay.iter().all(|info_hash| found.contains(info_hash)));
        assert!(go.iter().any(|info_hash| found.contains(info_hash)));
    }
}
