//! Records: what one announce changed, in 27 bytes for IPv4 and 39 for IPv6.
//!
//! | bytes | |
//! |---|---|
//! | 1 | bit 0: IPv6; bit 1: seeder; bit 2: stopped; bit 3: completed; the others are 0 |
//! | 20 | info hash |
//! | 6 or 18 | compact address (BEP 23, BEP 7) |

use annulus_swarm::{AnnounceRequest, CompactAddr, InfoHash, PeerEvent};

/// Bytes of the longest record.
pub const RECORD_BYTES_MAX: usize = 39;

const IPV6: u8 = 1;
const SEEDER: u8 = 2;
const STOPPED: u8 = 4;
const COMPLETED: u8 = 8;

/// An announce that changed a swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerRecord {
    pub info_hash: InfoHash,
    pub peer: CompactAddr,
    pub seeder: bool,
    /// A [`PeerEvent::Magnet`] becomes [`PeerEvent::None`] on its way.
    pub event: PeerEvent,
}

impl PeerRecord {
    /// The record of an announce that was stored, or that removed its peer.
    pub fn of(request: &AnnounceRequest) -> PeerRecord {
        let &AnnounceRequest { info_hash, peer, seeder, event, .. } = request;
        PeerRecord { info_hash, peer, seeder, event }
    }

    /// Appends its bytes, at most [`RECORD_BYTES_MAX`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        let event = match self.event {
            PeerEvent::None | PeerEvent::Magnet => 0,
            PeerEvent::Completed => COMPLETED,
            PeerEvent::Stopped => STOPPED,
        };
        let flags = event | if self.seeder { SEEDER } else { 0 };
        encode_key(flags, &self.info_hash, &self.peer, out);
    }
}

/// Appends flags with the family, the info hash and the address.
pub(super) fn encode_key(flags: u8, info_hash: &InfoHash, peer: &CompactAddr, out: &mut Vec<u8>) {
    let (family, address): (u8, &[u8]) = match peer {
        CompactAddr::V4(address) => (0, address),
        CompactAddr::V6(address) => (IPV6, address),
    };
    out.push(flags | family);
    out.extend_from_slice(info_hash);
    out.extend_from_slice(address);
}

/// Flags without the family, info hash, address.
type RecordKey = (u8, InfoHash, CompactAddr);

/// Splits off what [`encode_key`] has written.
pub(super) fn decode_key(bytes: &[u8]) -> Option<(RecordKey, &[u8])> {
    let (&flags, bytes) = bytes.split_first()?;
    let (&info_hash, bytes) = bytes.split_first_chunk::<20>()?;
    let (peer, rest) = if flags & IPV6 == 0 {
        let (&address, rest) = bytes.split_first_chunk::<6>()?;
        (CompactAddr::V4(address), rest)
    } else {
        let (&address, rest) = bytes.split_first_chunk::<18>()?;
        (CompactAddr::V6(address), rest)
    };
    Some(((flags & !IPV6, info_hash, peer), rest))
}

/// Iterates over the records in some bytes. It ends early at bytes that are no record: ask
/// [`PeerRecords::count_whole`] first.
#[derive(Clone, Debug)]
pub struct PeerRecords<'a> {
    rest: &'a [u8],
}

impl<'a> PeerRecords<'a> {
    pub fn new(bytes: &'a [u8]) -> PeerRecords<'a> {
        PeerRecords { rest: bytes }
    }

    /// The number of records, if all bytes are whole records without unknown flags.
    pub fn count_whole(bytes: &[u8]) -> Option<u64> {
        let (mut rest, mut count) = (bytes, 0);
        while let Some(&flags) = rest.first() {
            let len = if flags & IPV6 == 0 { 27 } else { RECORD_BYTES_MAX };
            let known = flags < 16 && flags & (STOPPED | COMPLETED) != STOPPED | COMPLETED;
            rest = rest.get(len..).filter(|_| known)?;
            count += 1;
        }
        Some(count)
    }

    /// The bytes after the records that were returned.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl Iterator for PeerRecords<'_> {
    type Item = PeerRecord;

    fn next(&mut self) -> Option<PeerRecord> {
        let ((flags, info_hash, peer), rest) = decode_key(self.rest)?;
        let event = match flags & !SEEDER {
            0 => PeerEvent::None,
            COMPLETED => PeerEvent::Completed,
            STOPPED => PeerEvent::Stopped,
            _ => return None,
        };
        self.rest = rest;
        Some(PeerRecord { info_hash, peer, seeder: flags & SEEDER != 0, event })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of each event, family and role.
    fn records() -> Vec<PeerRecord> {
        let peers = [CompactAddr::V4([1, 2, 3, 4, 5, 6]), CompactAddr::V6([7; 18])];
        let events = [PeerEvent::None, PeerEvent::Completed, PeerEvent::Stopped];
        let mut all = Vec::new();
        for peer in peers {
            for event in events {
                for seeder in [false, true] {
                    let info_hash = [all.len() as u8; 20];
                    all.push(PeerRecord { info_hash, peer, seeder, event });
                }
            }
        }
        all
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        let (records, mut bytes) = (records(), Vec::new());
        for record in &records {
            let before = bytes.len();
            record.encode(&mut bytes);
            let len = if matches!(record.peer, CompactAddr::V4(_)) { 27 } else { 39 };
            assert_eq!(bytes.len() - before, len);
        }
        assert_eq!(PeerRecords::count_whole(&bytes), Some(records.len() as u64));
        assert_eq!(PeerRecords::new(&bytes).collect::<Vec<_>>(), records);
        let magnet = PeerRecord { event: PeerEvent::Magnet, ..records[0] };
        let mut bytes = Vec::new();
        magnet.encode(&mut bytes);
        assert_eq!(PeerRecords::new(&bytes).next(), Some(records[0]));
    }

    #[test]
    fn bytes_that_are_not_whole_records_are_recognized() {
        let mut bytes = Vec::new();
        let mut ends = vec![0];
        for record in records() {
            record.encode(&mut bytes);
            ends.push(bytes.len());
        }
        for len in 0..=bytes.len() {
            let count = ends.iter().position(|&end| end == len).map(|count| count as u64);
            assert_eq!(PeerRecords::count_whole(&bytes[..len]), count, "{len}");
        }
        for flags in 0..=u8::MAX {
            bytes[0] = flags & !IPV6;
            let known = flags < 16 && flags & 12 != 12;
            assert_eq!(PeerRecords::count_whole(&bytes[..27]).is_some(), known, "{flags}");
            assert_eq!(PeerRecords::new(&bytes[..27]).count(), usize::from(known), "{flags}");
        }
    }
}
