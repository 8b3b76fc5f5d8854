//! The streams that a node sends: the peers that have stopped, then all torrents and peers, in
//! parts that the joiner acknowledges.

use annulus_swarm::{ENTRY_BYTES_MAX, SnapshotCursor};

use super::frame::{
    More, PAYLOAD_BYTES_MAX, Payload, STATE_HEAD_BYTES, STOPS_HEAD_BYTES, StreamedState,
    StreamedStops, Take,
};
use super::stops::STOP_BYTES_MAX;
use super::{NodeId, SharedNode, seconds};
use crate::limits::{CLUSTER_STREAM_BYTES_PER_S, CLUSTER_STREAM_WINDOW, CLUSTER_STREAMS_MAX};

/// A stream ends if its joiner says nothing for so long.
const SILENCE_MS: i64 = 10_000;

/// A part is sent after so long even if it is not full: the joiner takes silence for the end.
const PART_MS_MAX: i64 = 500;

/// Stops visited in one step, under a lock: some tens of microseconds.
const STOPS_VISITED: usize = 2048;

/// The most entries of a part. A step adds no more than fit into a part.
const ENTRIES_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - STATE_HEAD_BYTES;
const STOPS_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - STOPS_HEAD_BYTES;
const _: () = assert!(ENTRIES_BYTES_MAX >= ENTRY_BYTES_MAX + ENTRY_BYTES_MAX / 2);

/// Where a stream is.
#[derive(Debug)]
enum Walk {
    Stops(u64),
    State(SnapshotCursor),
    Sent,
}

/// A stream to one joiner.
#[derive(Debug)]
struct OutgoingStream {
    to: NodeId,
    stream: u64,
    /// The joiner lacks what happened since then.
    since_ms: i64,
    stops_since_ms: i64,
    next_part: u32,
    /// Parts that the joiner has.
    told_parts: u32,
    heard_ms: i64,
    /// When the last part was sent.
    sent_ms: i64,
    /// [`ClusterStatus::whole_period`](super::ClusterStatus) when it began.
    period: Option<u32>,
    walk: Walk,
    /// The next part, as far as it is written.
    content: Vec<u8>,
    /// When its first entry was written: all ages of a part are of one tick.
    written_s: u32,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SentEnd {
    Whole,
    Cut,
}

/// A part to be sent: to whom, and what.
pub(super) type OutgoingPart<'a> = (NodeId, Payload<'a>);

/// All streams that a node sends.
pub(super) struct OutgoingStreams {
    streams: Vec<OutgoingStream>,
    /// The stream whose turn is next.
    turn: usize,
    /// Bytes that may be sent now.
    allowance: i64,
    allowed_ms: i64,
}

/// Bytes that may be sent at once after a pause.
const BURST_BYTES: i64 = CLUSTER_STREAM_BYTES_PER_S / 16;

impl OutgoingStreams {
    pub(super) fn new() -> OutgoingStreams {
        OutgoingStreams { streams: Vec::new(), turn: 0, allowance: BURST_BYTES, allowed_ms: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether a stream to that node can begin.
    pub(super) fn has_room_for(&self, to: NodeId) -> bool {
        self.streams.iter().filter(|stream| stream.to != to).count() < CLUSTER_STREAMS_MAX
    }

    /// Begins a stream, instead of an earlier one to the same node. Returns whether there is room.
    pub(super) fn begin(
        &mut self,
        to: NodeId,
        take: Take,
        (sent_ms, now_ms): (i64, i64),
        period: Option<u32>,
    ) -> bool {
        if !self.has_room_for(to) {
            return false;
        }
        self.streams.retain(|stream| stream.to != to);
        self.streams.push(OutgoingStream {
            to,
            stream: take.stream,
            since_ms: sent_ms - i64::from(take.age_s) * 1000,
            stops_since_ms: sent_ms - i64::from(take.stops_age_s) * 1000,
            next_part: 0,
            told_parts: 0,
            heard_ms: now_ms,
            sent_ms: now_ms,
            period,
            walk: Walk::Stops(0),
            content: Vec::new(),
            written_s: 0,
        });
        true
    }

    /// A joiner has got parts.
    pub(super) fn more(&mut self, from: NodeId, more: More, now_ms: i64) -> Option<SentEnd> {
        let is_it = |stream: &OutgoingStream| (stream.to, stream.stream) == (from, more.stream);
        let number = self.streams.iter().position(is_it)?;
        let stream = &mut self.streams[number];
        if more.over {
            let is_whole = matches!(stream.walk, Walk::Sent) && more.parts == stream.next_part;
            self.streams.remove(number);
            return Some(if is_whole { SentEnd::Whole } else { SentEnd::Cut });
        }
        if more.parts > stream.told_parts && more.parts <= stream.next_part {
            stream.told_parts = more.parts;
            stream.heard_ms = now_ms;
        }
        None
    }

    /// Ends streams that nobody takes any more; returns how many.
    pub(super) fn end_silent(&mut self, now_ms: i64) -> usize {
        let before = self.streams.len();
        self.streams.retain(|stream| now_ms - stream.heard_ms < SILENCE_MS);
        before - self.streams.len()
    }

    /// Ends all; returns how many.
    pub(super) fn end_all(&mut self) -> usize {
        std::mem::take(&mut self.streams).len()
    }

    /// Works on the stream whose turn it is, and passes a part on to `send` if one is ready.
    /// Returns whether there is more to do at once.
    pub(super) fn step(
        &mut self,
        shared: &SharedNode,
        now_ms: i64,
        send: &mut dyn FnMut(OutgoingPart<'_>),
    ) -> bool {
        let passed_ms = (now_ms - self.allowed_ms).clamp(0, 1000);
        self.allowed_ms = now_ms;
        let earned = passed_ms * CLUSTER_STREAM_BYTES_PER_S / 1000;
        self.allowance = (self.allowance + earned).min(BURST_BYTES);
        let (turn, count) = (self.turn, self.streams.len());
        let mut numbers = (0..count).map(|offset| (turn + offset) % count);
        let next = numbers.find(|&number| self.streams[number].has_work());
        let Some(number) = next.filter(|_| self.allowance > 0) else { return false };
        self.turn = number + 1;
        let stream = &mut self.streams[number];
        let to = stream.to;
        if let Some(part) = stream.write(shared, now_ms) {
            self.allowance -= part.bytes();
            send((to, part));
            stream.sent(now_ms);
        }
        self.allowance > 0 && self.streams.iter().any(OutgoingStream::has_work)
    }
}

impl OutgoingStream {
    /// Whether something can be written: the joiner has not fallen behind.
    fn has_work(&self) -> bool {
        let unacknowledged = self.next_part - self.told_parts;
        !matches!(self.walk, Walk::Sent) && unacknowledged < CLUSTER_STREAM_WINDOW
    }

    /// Goes on a bounded step. Returns a part if one is ready.
    fn write(&mut self, shared: &SharedNode, now_ms: i64) -> Option<Payload<'_>> {
        let is_due = now_ms - self.sent_ms >= PART_MS_MAX;
        let (stream, part) = (self.stream, self.next_part);
        match &mut self.walk {
            Walk::Stops(cursor) => {
                let (times, room) =
                    ((self.stops_since_ms, now_ms), STOPS_BYTES_MAX - self.content.len());
                let visits = (STOPS_VISITED, room);
                let more = shared.stops().write(cursor, times, visits, &mut self.content);
                if !more {
                    self.walk = Walk::State(shared.cursor_since(self.since_ms, now_ms));
                }
                let is_full = self.content.len() + STOP_BYTES_MAX > STOPS_BYTES_MAX;
                let ready = !self.content.is_empty() && (!more || is_full || is_due);
                ready.then(|| Payload::Stops(StreamedStops { stream, part, stops: &self.content }))
            }
            Walk::State(cursor) => {
                let (swarms, now_s) = (&shared.swarms, seconds(now_ms));
                if self.content.is_empty() {
                    self.written_s = now_s;
                }
                let tick_s = swarms.tick_s().max(1);
                let phase_s = swarms.tick_phase_s(self.written_s) + (now_s - self.written_s);
                // Ages of two ticks cannot be in one part.
                let (same_tick, mut more) = (phase_s < tick_s, true);
                if same_tick {
                    let room = ENTRIES_BYTES_MAX - self.content.len();
                    more = swarms.snapshot(cursor, now_s, room, &mut self.content);
                    if !more {
                        self.walk = Walk::Sent;
                    }
                }
                let is_full = self.content.len() + ENTRY_BYTES_MAX > ENTRIES_BYTES_MAX;
                (!more || is_full || is_due || !same_tick).then(|| {
                    Payload::State(StreamedState {
                        stream,
                        part,
                        last: !more,
                        whole: self.period.is_some() && self.period == shared.status.whole_period(),
                        tick_s,
                        phase_s: phase_s.min(tick_s - 1),
                        entries: &self.content,
                    })
                })
            }
            Walk::Sent => None,
        }
    }

    /// A part has been sent.
    fn sent(&mut self, now_ms: i64) {
        self.next_part += 1;
        self.sent_ms = now_ms;
        self.content.clear();
    }
}

impl Payload<'_> {
    /// Bytes of a part of a stream, about.
    fn bytes(&self) -> i64 {
        let content = match self {
            Payload::State(part) => part.entries,
            Payload::Stops(part) => part.stops,
            _ => &[],
        };
        content.len() as i64
    }
}
