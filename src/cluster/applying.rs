//! What other nodes tell becomes part of the swarms, as far as it is newer, allowed and finds room.

use std::net::IpAddr;
use std::sync::Arc;

use annulus_swarm::{
    Ages, AnnounceBatch, Applied, BATCH_MAX, CompactAddr, Entries, PeerEvent, PeerUpdate, Random,
    TorrentEntry, UpdateOrder,
};

use super::frame::{StreamedState, StreamedStops};
use super::record::{PeerRecord, PeerRecords};
use super::stops::{Moment, Stop, StopMemory, Stops};
use super::{CHUNK_RECORDS, NodeId, NodeTime, ServesTorrent, SharedNode, seconds};
use crate::addresses::is_unreachable;
use crate::limits::PREFETCH_RECORDS_PEERS_MIN;
use crate::metrics::labels::RecordOutcome;

/// Applies records, states and stops.
pub(super) struct Applier {
    shared: Arc<SharedNode>,
    random: Random,
    /// Those at hand: a lock is taken for some tens of them.
    records: Vec<PeerRecord>,
    /// Of those, the ones that are applied next.
    coming: AnnounceBatch,
    stops: Vec<Stop>,
}

/// When a frame was sent, and by whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameArrival {
    pub(super) now: NodeTime,
    pub(super) node: NodeId,
    /// By the sender's own clock.
    pub(super) node_ms: i64,
    /// Milliseconds since it was sent, at least.
    pub(super) delay_ms: i64,
}

impl FrameArrival {
    fn sent_ms(self) -> i64 {
        self.now.ms() - self.delay_ms
    }

    fn moment(self) -> Moment {
        Moment { at_ms: self.sent_ms(), node: self.node, node_ms: self.node_ms }
    }
}

impl Applier {
    pub(super) fn new(shared: Arc<SharedNode>, random: Random) -> Applier {
        let (records, stops) = (Vec::with_capacity(CHUNK_RECORDS), Vec::new());
        Applier { shared, random, records, coming: AnnounceBatch::new(), stops }
    }

    /// Applies well-formed records.
    pub(super) fn records(
        &mut self,
        bytes: &[u8],
        order: UpdateOrder,
        arrival: FrameArrival,
        serves: &mut ServesTorrent<'_>,
    ) {
        let shared = Arc::clone(&self.shared);
        let outcomes = &shared.status.subscriber.records;
        let (moment, now_s) = (arrival.moment(), arrival.now.seconds());
        // Rounded down: a stop must not seem to be earlier than an announce before it.
        let age_s = seconds(arrival.delay_ms);
        let looks_ahead = shared.swarms.totals().peers >= PREFETCH_RECORDS_PEERS_MIN;
        let mut records = PeerRecords::new(bytes);
        loop {
            let mut taken = 0;
            self.records.clear();
            for record in records.by_ref().take(CHUNK_RECORDS) {
                taken += 1;
                match refusal(&record, serves) {
                    Some(outcome) => outcomes.add(outcome),
                    None => self.records.push(record),
                }
            }
            if taken == 0 {
                break;
            }
            let mut stops = shared.stops();
            self.records.retain(|&PeerRecord { info_hash, peer, event, .. }| {
                let stopped = event == PeerEvent::Stopped;
                let stop = Stop { info_hash, peer, stopped, moment };
                let counts = match order {
                    UpdateOrder::InOrder => stops.note(stop),
                    UpdateOrder::Late => note_late(&mut stops, stop),
                };
                if !counts {
                    let later = if stopped { RecordOutcome::Stale } else { RecordOutcome::Stopped };
                    outcomes.add(later);
                }
                counts
            });
            drop(stops);
            self.apply_records(order, (age_s, now_s), looks_ahead);
        }
    }

    /// Applies the records at hand, which are so many seconds old.
    fn apply_records(&mut self, order: UpdateOrder, (age_s, now_s): (u32, u32), looks_ahead: bool) {
        let swarms = &self.shared.swarms;
        let outcomes = &self.shared.status.subscriber.records;
        for batch in self.records.chunks(BATCH_MAX) {
            if looks_ahead {
                for record in batch {
                    self.coming.push(record.info_hash, Some(record.peer));
                }
                swarms.prefetch(&mut self.coming);
            }
            for &PeerRecord { info_hash, peer, seeder, event } in batch {
                // A stop that came late counts like one in order: had the peer come back within the
                // tick, what is asked for because of the gap would say so.
                let stopped = event == PeerEvent::Stopped;
                let order = if stopped { UpdateOrder::InOrder } else { order };
                let update = PeerUpdate { info_hash, peer, seeder, event, age_s, order };
                outcomes.add(outcome_of(swarms.apply(&update, now_s, &mut self.random)));
            }
        }
    }

    /// Whether the entries of a part are well-formed.
    pub(super) fn are_entries(bytes: &[u8]) -> bool {
        Entries::new(bytes).all(|entry| entry.is_ok())
    }

    /// Merges a part of a state.
    pub(super) fn state(
        &mut self,
        part: &StreamedState<'_>,
        arrival: FrameArrival,
        serves: &mut ServesTorrent<'_>,
    ) {
        // Rounded up: a peer must not seem to have announced itself after it has stopped.
        let elapsed_s = seconds(arrival.delay_ms + 999);
        let ages = Ages { tick_s: part.tick_s, phase_s: part.phase_s, elapsed_s };
        for entry in Entries::new(part.entries).flatten() {
            if serves(&entry.info_hash) {
                self.restore(&entry, &ages, arrival.now);
            } else {
                let outcomes = &self.shared.status.subscriber.state_peers;
                outcomes.add_many(RecordOutcome::TorrentNotServed, entry.peer_count() as u64);
            }
        }
    }

    fn restore(&mut self, entry: &TorrentEntry<'_>, ages: &Ages, now: NodeTime) {
        let shared = &self.shared;
        let (mut stopped, mut unreachable) = (0, 0);
        let restored = shared.swarms.restore(entry, ages, now.seconds(), |peer, age_s| {
            if is_useless(peer) {
                unreachable += 1;
                return false;
            }
            // Both its phase and the present are in whole seconds.
            let announced_ms = now.ms() - (i64::from(age_s) + 2) * 1000;
            let stops = shared.stops();
            let stop = stops.find(&entry.info_hash, peer);
            let has_stopped =
                stop.is_some_and(|stop| stop.stopped && stop.moment.at_ms >= announced_ms);
            stopped += u64::from(has_stopped);
            !has_stopped
        });
        let outcomes = &shared.status.subscriber.state_peers;
        outcomes.add_many(RecordOutcome::Stored, restored.stored + restored.updated);
        outcomes.add_many(RecordOutcome::Stale, restored.expired);
        outcomes.add_many(RecordOutcome::Stopped, stopped);
        outcomes.add_many(RecordOutcome::Unreachable, unreachable);
        let full = restored.refused.saturating_sub(stopped + unreachable);
        outcomes.add_many(RecordOutcome::Full, full);
    }

    /// Takes in a part of another node's memory of stops.
    pub(super) fn stops(&mut self, part: &StreamedStops<'_>, arrival: FrameArrival) {
        let mut all = Stops::new(part.stops, arrival.sent_ms()).peekable();
        while all.peek().is_some() {
            let mut stops = self.shared.stops();
            let news = all.by_ref().take(CHUNK_RECORDS).filter(|&stop| stops.merge(stop));
            self.stops.extend(news.filter(|stop| stop.stopped));
            drop(stops);
            for Stop { info_hash, peer, moment, .. } in self.stops.drain(..) {
                let update = PeerUpdate {
                    info_hash,
                    peer,
                    seeder: false,
                    event: PeerEvent::Stopped,
                    age_s: seconds(arrival.now.ms() - moment.at_ms),
                    order: UpdateOrder::InOrder,
                };
                let applied =
                    self.shared.swarms.apply(&update, arrival.now.seconds(), &mut self.random);
                self.shared.status.subscriber.state_peers.add(outcome_of(applied));
            }
        }
    }
}

/// A record that came late counts unless something as late is known that contradicts it.
fn note_late(stops: &mut StopMemory, stop: Stop) -> bool {
    match stops.find(&stop.info_hash, &stop.peer) {
        Some(known) if !known.is_before(&stop) => !known.stopped && !stop.stopped,
        None if !stop.stopped => true,
        _ => {
            stops.merge(stop);
            true
        }
    }
}

/// Why a record is not applied, whatever is known of its peer.
fn refusal(record: &PeerRecord, serves: &mut ServesTorrent<'_>) -> Option<RecordOutcome> {
    if !serves(&record.info_hash) {
        Some(RecordOutcome::TorrentNotServed)
    } else if is_useless(&record.peer) {
        Some(RecordOutcome::Unreachable)
    } else {
        None
    }
}

/// Whether nobody can connect to a peer, or its address is an IPv4 address in the form of an IPv6
/// address, which no node sends.
fn is_useless(peer: &CompactAddr) -> bool {
    let (ip, port): (IpAddr, [u8; 2]) = match peer {
        &CompactAddr::V4([a, b, c, d, port @ ..]) => ([a, b, c, d].into(), port),
        CompactAddr::V6(address) => {
            let (ip, port) = address.split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
            ((*ip).into(), port.try_into().unwrap_or_default())
        }
    };
    port == [0, 0] || ip.to_canonical() != ip || is_unreachable(ip)
}

fn outcome_of(applied: Applied) -> RecordOutcome {
    match applied {
        Applied::Stored | Applied::Replaced(_) => RecordOutcome::Stored,
        Applied::Refused(_) => RecordOutcome::Full,
        Applied::Stale => RecordOutcome::Stale,
        Applied::Removed => RecordOutcome::Removed,
        Applied::Unknown => RecordOutcome::Unknown,
    }
}
