//! The memory of peers that have stopped: what was sent or asked for before must not bring them
//! back, and nodes that were cut off must learn of them.
//!
//! A peer that announces itself again stays in the memory as one that has, with the time: so a node
//! that knows only of the stop learns that it is over. In a `stops` frame each is a *stop*:
//!
//! | bytes | |
//! |---|---|
//! | 1 | bit 0: IPv6; bit 2: stopped, else announced again; the others are 0 |
//! | 20 | info hash |
//! | 6 or 18 | compact address |
//! | 4 | milliseconds since then |
//! | 8 | the node that was told |
//! | 8 | when, by its monotonic clock, in milliseconds since its start |

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};

use annulus_swarm::{CompactAddr, InfoHash};
use hashbrown::HashTable;

use super::NodeId;
use super::frame::Reader;
use super::record::{decode_key, encode_key};

/// Bytes of the longest stop.
pub(super) const STOP_BYTES_MAX: usize = 59;

const STOPPED: u8 = 4;

/// Of two announces to one node the later is known, even if they were handed over so long after.
const SAME_NODE_SLACK_MS: i64 = 10;

/// Clocks of two nodes are compared only roughly: of two announces within so long the one that came
/// last is the later. Frames of a node may be held up for so long before it is known.
const SLACK_MS: i64 = 2000;

/// When a node was told something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// In milliseconds since the start of this process; negative before it. Rather too late than
    /// too early, by the least time that frames take.
    pub(super) at_ms: i64,
    pub(super) node: NodeId,
    /// By the node's own clock.
    pub(super) node_ms: i64,
}

impl Moment {
    /// By how many milliseconds it is later than another: exactly, if it was the same node.
    fn since(&self, other: &Moment) -> i64 {
        if self.node == other.node {
            self.node_ms - other.node_ms
        } else {
            self.at_ms - other.at_ms
        }
    }

    fn slack_ms(&self, other: &Moment) -> i64 {
        if self.node == other.node { SAME_NODE_SLACK_MS } else { SLACK_MS }
    }
}

/// What is known last of a peer that has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) info_hash: InfoHash,
    pub(super) peer: CompactAddr,
    /// `false`: it has announced itself again.
    pub(super) stopped: bool,
    pub(super) moment: Moment,
}

impl Stop {
    /// Whether it was told before another.
    pub(super) fn is_before(&self, other: &Stop) -> bool {
        self.moment.since(&other.moment) < 0
    }
}

/// An entry of the index: the low bits of a stop's number and of its hash, so that the index can be
/// rebuilt without a look at the stops.
#[derive(Clone, Copy, Debug)]
struct StopIndexEntry {
    number: u32,
    hash: u32,
}

impl StopIndexEntry {
    fn new(number: u64, hash: u64) -> StopIndexEntry {
        StopIndexEntry { number: number as u32, hash: hash as u32 }
    }

    fn spread(&self) -> u64 {
        spread(u64::from(self.hash))
    }
}

/// 32 bits at both ends, which hashbrown uses.
fn spread(hash: u64) -> u64 {
    (hash & 0xffff_ffff) * 0x0000_0001_0000_0001
}

/// The most recent stops.
pub(super) struct StopMemory {
    /// In the order in which they became known.
    stops: VecDeque<Stop>,
    /// The number of the first of `stops`: stops are numbered as they become known.
    first: u64,
    index: HashTable<StopIndexEntry>,
    secret: RandomState,
    max: usize,
    /// Older ones are of no use: the peer's announces before them have expired.
    horizon_ms: i64,
    /// All stops since then are known, as far as they were told.
    reach_ms: i64,
}

impl StopMemory {
    /// Remembers at most `max` stops, which are at most `horizon_ms` old.
    pub(super) fn new(max: usize, horizon_ms: i64, now_ms: i64) -> StopMemory {
        StopMemory {
            stops: VecDeque::new(),
            first: 0,
            index: HashTable::new(),
            secret: RandomState::new(),
            max,
            horizon_ms,
            reach_ms: now_ms,
        }
    }

    /// Bytes allocated.
    pub(super) fn allocated_bytes(&self) -> usize {
        self.stops.capacity() * size_of::<Stop>() + self.index.allocation_size()
    }

    /// The time since when all stops are known.
    pub(super) fn reach_ms(&self, now_ms: i64) -> i64 {
        self.reach_ms.max(now_ms - self.horizon_ms)
    }

    /// All stops since that time have been taken in.
    pub(super) fn extend_reach(&mut self, since_ms: i64) {
        if self.first == 0 {
            self.reach_ms = self.reach_ms.min(since_ms);
        }
    }

    pub(super) fn find(&self, info_hash: &InfoHash, peer: &CompactAddr) -> Option<&Stop> {
        if self.stops.is_empty() {
            return None;
        }
        let hash = self.hash(info_hash, peer);
        self.position(hash, info_hash, peer).map(|position| &self.stops[position])
    }

    /// Takes in an announce in the order of its node, and returns whether it counts: not if a later
    /// one is known already. An announce of a peer that has not stopped is not kept.
    pub(super) fn note(&mut self, stop: Stop) -> bool {
        if self.stops.is_empty() && !stop.stopped {
            return true;
        }
        let hash = self.hash(&stop.info_hash, &stop.peer);
        let Some(position) = self.position(hash, &stop.info_hash, &stop.peer) else {
            return !stop.stopped || self.insert(hash, stop);
        };
        let known = &mut self.stops[position];
        let (before, mut moment) = (known.moment, stop.moment);
        let counts = before.since(&moment) <= moment.slack_ms(&before);
        if counts {
            let step_ms = i64::from(known.stopped != stop.stopped);
            moment.at_ms = moment.at_ms.max(before.at_ms + step_ms);
            if moment.node == before.node {
                moment.node_ms = moment.node_ms.max(before.node_ms + step_ms);
            }
            *known = Stop { moment, ..stop };
        }
        counts
    }

    /// Takes in what was told out of order, or what another node remembers, and returns whether it
    /// is news: neither the same is known, more or less, nor anything as late.
    pub(super) fn merge(&mut self, stop: Stop) -> bool {
        let hash = self.hash(&stop.info_hash, &stop.peer);
        let Some(position) = self.position(hash, &stop.info_hash, &stop.peer) else {
            return self.insert(hash, stop);
        };
        let known = &mut self.stops[position];
        let later_ms = stop.moment.since(&known.moment);
        let is_news = if known.stopped == stop.stopped {
            later_ms > SLACK_MS
        } else {
            // At the same time the stop comes last.
            later_ms > 0 || later_ms == 0 && stop.stopped
        };
        if is_news {
            *known = stop;
        }
        is_news
    }

    /// Appends stops since `since_ms` to `out`, from `cursor` on, and returns whether there are
    /// more. Visits at most `visits`, and appends at most `bytes`.
    pub(super) fn write(
        &self,
        cursor: &mut u64,
        (since_ms, now_ms): (i64, i64),
        (visits, bytes): (usize, usize),
        out: &mut Vec<u8>,
    ) -> bool {
        let skipped = usize::try_from(cursor.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let end = out.len() + bytes;
        *cursor = self.first.max(*cursor);
        for stop in self.stops.range(skipped.min(self.stops.len())..).take(visits) {
            if out.len() + STOP_BYTES_MAX > end {
                return true;
            }
            *cursor += 1;
            if stop.moment.at_ms >= since_ms {
                let flags = if stop.stopped { STOPPED } else { 0 };
                let age_ms = (now_ms - stop.moment.at_ms).max(0);
                let age_ms = u32::try_from(age_ms).unwrap_or(u32::MAX);
                encode_key(flags, &stop.info_hash, &stop.peer, out);
                out.extend_from_slice(&age_ms.to_le_bytes());
                out.extend_from_slice(&stop.moment.node.0.to_le_bytes());
                out.extend_from_slice(&stop.moment.node_ms.to_le_bytes());
            }
        }
        *cursor < self.first + self.stops.len() as u64
    }

    fn hash(&self, info_hash: &InfoHash, peer: &CompactAddr) -> u64 {
        let mut hasher = self.secret.build_hasher();
        hasher.write(info_hash);
        match peer {
            CompactAddr::V4(address) => hasher.write(address),
            CompactAddr::V6(address) => hasher.write(address),
        }
        hasher.finish()
    }

    fn position(&self, hash: u64, info_hash: &InfoHash, peer: &CompactAddr) -> Option<usize> {
        let found = self.index.find(spread(hash), |entry| {
            entry.hash == hash as u32
                && self.at(entry).is_some_and(|position| {
                    let stop = &self.stops[position];
                    stop.info_hash == *info_hash && stop.peer == *peer
                })
        })?;
        self.at(found)
    }

    /// Where the stop of an index entry is.
    fn at(&self, entry: &StopIndexEntry) -> Option<usize> {
        let position = entry.number.wrapping_sub(self.first as u32) as usize;
        (position < self.stops.len()).then_some(position)
    }

    fn insert(&mut self, hash: u64, stop: Stop) -> bool {
        let too_old = stop.moment.at_ms - self.horizon_ms;
        // Two at most are forgotten for one that is remembered: the work is bounded.
        for _ in 0..2 {
            let is_over = self.stops.len() >= self.max;
            match self.stops.front() {
                Some(first) if is_over || first.moment.at_ms < too_old => self.forget_first(),
                _ => break,
            }
        }
        self.stops.push_back(stop);
        let entry = StopIndexEntry::new(self.first + self.stops.len() as u64 - 1, hash);
        self.index.insert_unique(spread(hash), entry, StopIndexEntry::spread);
        true
    }

    fn forget_first(&mut self) {
        let Some(&stop) = self.stops.front() else { return };
        let hash = self.hash(&stop.info_hash, &stop.peer);
        let number = self.first as u32;
        if let Ok(entry) = self.index.find_entry(spread(hash), |entry| entry.number == number) {
            entry.remove();
        }
        self.stops.pop_front();
        self.first += 1;
        if stop.stopped {
            self.reach_ms = self.reach_ms.max(stop.moment.at_ms + 1);
        }
    }
}

/// Iterates over the stops in the payload of a frame.
pub(super) struct Stops<'a> {
    rest: &'a [u8],
    now_ms: i64,
}

impl<'a> Stops<'a> {
    /// Their ages are relative to `now_ms`.
    pub(super) fn new(bytes: &'a [u8], now_ms: i64) -> Stops<'a> {
        Stops { rest: bytes, now_ms }
    }

    /// Whether all bytes are stops.
    pub(super) fn are_whole(bytes: &[u8]) -> bool {
        let mut stops = Stops::new(bytes, 0);
        stops.by_ref().for_each(drop);
        stops.rest.is_empty()
    }
}

impl Iterator for Stops<'_> {
    type Item = Stop;

    fn next(&mut self) -> Option<Stop> {
        let ((flags, info_hash, peer), rest) = decode_key(self.rest)?;
        let mut rest = Reader(rest);
        let (age_ms, node, node_ms) = (rest.u32()?, rest.u64()?, rest.number()?);
        let stopped = flags & STOPPED != 0;
        if flags & !STOPPED != 0 {
            return None;
        }
        self.rest = rest.0;
        let at_ms = self.now_ms - i64::from(age_ms);
        let moment = Moment { at_ms, node: NodeId(node), node_ms };
        Some(Stop { info_hash, peer, stopped, moment })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use annulus_swarm::Random;

    use super::*;

    const NODE: NodeId = NodeId(7);

    fn stop(number: u32, stopped: bool, at_ms: i64) -> Stop {
        let [a, b, c, d] = number.to_be_bytes();
        let (info_hash, peer) = ([d; 20], CompactAddr::V4([a, b, c, d, 1, 1]));
        let moment = Moment { at_ms, node: NODE, node_ms: at_ms };
        Stop { info_hash, peer, stopped, moment }
    }

    fn find(memory: &StopMemory, number: u32) -> Option<(bool, i64)> {
        let wanted = stop(number, true, 0);
        let found = memory.find(&wanted.info_hash, &wanted.peer);
        found.map(|stop| (stop.stopped, stop.moment.at_ms))
    }

    #[test]
    fn the_most_recent_stops_are_remembered() {
        const MAX: usize = 100;
        let mut memory = StopMemory::new(MAX, 1_000_000, 0);
        let (mut random, mut model) = (Random::seeded(3), BTreeMap::new());
        let mut order = Vec::new();
        for at_ms in (0..20_000_i64).map(|step| step * 100) {
            let (number, stopped) = (random.below(300), random.below(3) > 0);
            assert!(memory.note(stop(number, stopped, at_ms)));
            if stopped && !model.contains_key(&number) {
                order.push(number);
            }
            if stopped || model.contains_key(&number) {
                model.insert(number, (stopped, at_ms));
            }
            if order.len() > MAX {
                model.remove(&order.remove(0));
            }
            let number = random.below(300);
            // Some may be forgotten earlier: their time is over.
            if let Some(found) = find(&memory, number) {
                assert_eq!(model.get(&number), Some(&found), "{number} at {at_ms}");
            } else if let Some(&(_, told_ms)) = model.get(&number) {
                assert!(at_ms - told_ms > 900_000, "{number} at {at_ms}");
            }
            assert!(memory.stops.len() <= MAX && memory.index.len() == memory.stops.len());
        }
        // Twice as large at most as what it was made for.
        assert!(memory.allocated_bytes() < MAX * 2 * (size_of::<Stop>() + 2 * 9));
        assert!(memory.reach_ms(2_000_000) >= 1_000_000);
    }

    #[test]
    fn the_later_of_two_counts() {
        let mut memory = StopMemory::new(10, 1_000_000, 0);
        assert!(memory.note(stop(1, false, 100)), "nothing is known of it");
        assert_eq!(find(&memory, 1), None);
        assert!(memory.note(stop(1, true, 200)));
        assert!(!memory.note(stop(1, false, 100)), "an announce before it");
        assert!(memory.note(stop(1, false, 200)), "in the same frame");
        assert_eq!(find(&memory, 1), Some((false, 201)));
        assert!(!memory.merge(stop(1, true, 200)) && !memory.merge(stop(1, false, 300)));
        assert!(memory.merge(stop(1, true, 400)));
        // Another node's time is an estimate, and its own clock says nothing.
        let moment = Moment { at_ms: 300, node: NodeId(8), node_ms: 5 };
        assert!(memory.note(Stop { moment, ..stop(1, false, 0) }));
        assert_eq!(find(&memory, 1), Some((false, 401)));
        assert!(memory.merge(stop(2, false, 500)), "of a stop that is not known here");
        assert_eq!(find(&memory, 2), Some((false, 500)));
    }

    #[test]
    fn stops_are_read_as_they_were_written() {
        let mut memory = StopMemory::new(1000, 1_000_000, 0);
        for number in 0..1000 {
            memory.note(stop(number, true, i64::from(number)));
        }
        let (mut cursor, mut read) = (0, Vec::new());
        loop {
            let mut bytes = Vec::new();
            let more = memory.write(&mut cursor, (300, 5000), (64, 1000), &mut bytes);
            assert!(bytes.len() <= 1000 && Stops::are_whole(&bytes));
            read.extend(Stops::new(&bytes, 5000));
            if !more {
                break;
            }
        }
        let written: Vec<Stop> =
            (300..1000).map(|number| stop(number, true, i64::from(number))).collect();
        assert_eq!(read, written);
    }
}
