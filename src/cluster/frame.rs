//! Frames: what goes over the channels. Numbers are little-endian.
//!
//! | bytes | header |
//! |---|---|
//! | 4 | `ANNC` |
//! | 4 | CRC-32C (Castagnoli) of all that follows |
//! | 1 | version of the protocol: 1 |
//! | 1 | kind |
//! | 2 | 0 |
//! | 8 | the node that sends it, not 0 |
//! | 8 | sequence: of `records` its number, of others the number that the next will have |
//! | 8 | the sender's monotonic clock, in milliseconds since its start |
//! | 8 | the sender's wall clock, in milliseconds since 1970 |
//!
//! | kind | payload |
//! |---|---|
//! | 1 `records` | records (`record.rs`) |
//! | 2 `hello` | peers u64; flags u8: bit 0 whole; reach of stops u32; age of a drop u32 |
//! | 3 `want` | node that is asked, 0 is any, u64; age u32 |
//! | 4 `offer` | as `hello` |
//! | 5 `take` | stream u64; age of the state u32 and of stops u32 |
//! | 6 `state` | stream u64; part u32; flags u8: bits 0 last, 1 whole; tick, phase u32; entries |
//! | 7 `more` | stream u64; parts u32; flags u8: bit 0 over |
//! | 8 `stops` | stream u64; part u32; stops (`stops.rs`) |
//!
//! Ages, reaches, ticks and phases are in seconds; entries are those of `swarm/src/entry.rs`.

use super::{NodeId, NodeTime};
use crate::metrics::labels::FrameRefusal;

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 44;

/// Bytes of a frame's payload: as much as makes the cost of a message small beside its content.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;

/// Bytes of the longest frame.
pub const FRAME_BYTES_MAX: usize = HEADER_BYTES + PAYLOAD_BYTES_MAX;

const MAGIC: [u8; 4] = *b"ANNC";
const VERSION: u8 = 1;

/// What the checksum covers begins here.
const CHECKED_FROM: usize = 8;

/// Numbers in headers and payloads stay below: no node gets there in a thousand years, and sums and
/// differences of two cannot overflow.
const NUMBER_MAX: u64 = 1 << 53;

const LAST: u8 = 1;
const WHOLE: u8 = 1;
const STATE_WHOLE: u8 = 2;
const OVER: u8 = 1;

/// A frame that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub node: NodeId,
    pub sequence: u64,
    /// Milliseconds of the sender's [`NodeTime::since_start`].
    pub sent_ms: i64,
    pub unix_ms: i64,
    pub payload: Payload<'a>,
}

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// Announces that the sender has answered. All are well-formed.
    Records { bytes: &'a [u8], count: u64 },
    /// The sender is there.
    Hello(NodeSummary),
    /// The sender lacks what others know.
    Want(Want),
    /// The sender could stream its state.
    Offer(NodeSummary),
    /// The sender takes the offer.
    Take(Take),
    /// A part of a stream: torrents and peers.
    State(StreamedState<'a>),
    /// The sender has got parts of a stream.
    More(More),
    /// A part of a stream: peers that have stopped.
    Stops(StreamedStops<'a>),
}

/// What a node says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeSummary {
    pub peers: u64,
    /// Whether it lacks nothing, as far as it knows.
    pub whole: bool,
    /// How many seconds back it knows all peers that have stopped.
    pub stops_reach_s: u32,
    /// It has not sent everything of the last so many seconds. It says so for half a minute, to
    /// nodes that know no sequence of it.
    pub dropped_age_s: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// The node that is asked; `None` is any.
    pub target: Option<NodeId>,
    /// What happened in so many last seconds.
    pub age_s: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Take {
    /// A number of the joiner's choice.
    pub stream: u64,
    /// Peers that announced themselves in so many last seconds.
    pub age_s: u32,
    /// Those that stopped in so many: a node that has just started remembers none.
    pub stops_age_s: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamedState<'a> {
    pub stream: u64,
    /// Parts of both kinds are numbered together, from 0.
    pub part: u32,
    pub last: bool,
    /// Whether the streamer lacks nothing, as far as it knows.
    pub whole: bool,
    /// From 1 to a day.
    pub tick_s: u32,
    /// Below `tick_s`.
    pub phase_s: u32,
    pub entries: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamedStops<'a> {
    pub stream: u64,
    pub part: u32,
    pub stops: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct More {
    pub stream: u64,
    /// Parts received so far.
    pub parts: u32,
    /// The joiner wants no more.
    pub over: bool,
}

/// Bytes ahead of the entries in the payload of a `state`.
pub(super) const STATE_HEAD_BYTES: usize = 21;

/// Bytes ahead of the stops in the payload of a `stops`.
pub(super) const STOPS_HEAD_BYTES: usize = 12;

impl Payload<'_> {
    fn kind(&self) -> u8 {
        match self {
            Payload::Records { .. } => 1,
            Payload::Hello(_) => 2,
            Payload::Want(_) => 3,
            Payload::Offer(_) => 4,
            Payload::Take(_) => 5,
            Payload::State(_) => 6,
            Payload::More(_) => 7,
            Payload::Stops(_) => 8,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Payload::Records { bytes, .. } => out.extend_from_slice(bytes),
            Payload::Hello(summary) | Payload::Offer(summary) => {
                out.extend_from_slice(&summary.peers.to_le_bytes());
                out.push(if summary.whole { WHOLE } else { 0 });
                out.extend_from_slice(&summary.stops_reach_s.to_le_bytes());
                out.extend_from_slice(&summary.dropped_age_s.to_le_bytes());
            }
            Payload::Want(want) => {
                let target = want.target.map_or(0, |NodeId(id)| id);
                out.extend_from_slice(&target.to_le_bytes());
                out.extend_from_slice(&want.age_s.to_le_bytes());
            }
            Payload::Take(take) => {
                out.extend_from_slice(&take.stream.to_le_bytes());
                out.extend_from_slice(&take.age_s.to_le_bytes());
                out.extend_from_slice(&take.stops_age_s.to_le_bytes());
            }
            Payload::State(part) => {
                out.extend_from_slice(&part.stream.to_le_bytes());
                out.extend_from_slice(&part.part.to_le_bytes());
                let whole = if part.whole { STATE_WHOLE } else { 0 };
                out.push(whole | if part.last { LAST } else { 0 });
                out.extend_from_slice(&part.tick_s.to_le_bytes());
                out.extend_from_slice(&part.phase_s.to_le_bytes());
                out.extend_from_slice(part.entries);
            }
            Payload::More(more) => {
                out.extend_from_slice(&more.stream.to_le_bytes());
                out.extend_from_slice(&more.parts.to_le_bytes());
                out.push(if more.over { OVER } else { 0 });
            }
            Payload::Stops(part) => {
                out.extend_from_slice(&part.stream.to_le_bytes());
                out.extend_from_slice(&part.part.to_le_bytes());
                out.extend_from_slice(part.stops);
            }
        }
    }
}

/// Writes a frame into `out`, which is cleared. `payload` has at most [`PAYLOAD_BYTES_MAX`].
pub fn encode(
    node: NodeId,
    sequence: u64,
    now: NodeTime,
    payload: &Payload<'_>,
    out: &mut Vec<u8>,
) {
    out.clear();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    payload.encode(out);
    debug_assert!(out.len() <= FRAME_BYTES_MAX);
    let since_start_ms = u64::try_from(now.since_start.as_millis()).unwrap_or(u64::MAX);
    out[..4].copy_from_slice(&MAGIC);
    out[8..12].copy_from_slice(&[VERSION, payload.kind(), 0, 0]);
    out[12..20].copy_from_slice(&node.0.to_le_bytes());
    out[20..28].copy_from_slice(&sequence.to_le_bytes());
    out[28..36].copy_from_slice(&since_start_ms.to_le_bytes());
    out[36..44].copy_from_slice(&now.unix_ms.to_le_bytes());
    let crc = crc32c::crc32c(&out[CHECKED_FROM..]);
    out[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Reads a frame, which may be anything.
pub fn decode(bytes: &[u8]) -> Result<Frame<'_>, FrameRefusal> {
    if !(HEADER_BYTES..=FRAME_BYTES_MAX).contains(&bytes.len()) {
        return Err(FrameRefusal::Length);
    }
    if bytes[..4] != MAGIC {
        return Err(FrameRefusal::Magic);
    }
    let [version, kind, reserved @ ..] = [bytes[8], bytes[9], bytes[10], bytes[11]];
    if version != VERSION || reserved != [0, 0] {
        return Err(FrameRefusal::Version);
    }
    let crc = Reader(&bytes[4..]).u32().ok_or(FrameRefusal::Length)?;
    if crc32c::crc32c(&bytes[CHECKED_FROM..]) != crc {
        return Err(FrameRefusal::Checksum);
    }
    let mut header = Reader(&bytes[12..]);
    let mut number = || header.u64().ok_or(FrameRefusal::Length);
    let (node, sequence, sent_ms, unix_ms) = (number()?, number()?, number()?, number()?);
    if node == 0 || [sequence, sent_ms, unix_ms].iter().any(|&number| number >= NUMBER_MAX) {
        return Err(FrameRefusal::Number);
    }
    let payload = decode_payload(kind, header)?;
    Ok(Frame {
        node: NodeId(node),
        sequence,
        sent_ms: sent_ms as i64,
        unix_ms: unix_ms as i64,
        payload,
    })
}

fn decode_payload(kind: u8, mut reader: Reader<'_>) -> Result<Payload<'_>, FrameRefusal> {
    let payload = match kind {
        1 => reader.records(),
        2 => reader.summary().map(Payload::Hello),
        3 => reader.want().map(Payload::Want),
        4 => reader.summary().map(Payload::Offer),
        5 => reader.take().map(Payload::Take),
        6 => reader.state().map(Payload::State),
        7 => reader.more().map(Payload::More),
        8 => reader.stops().map(Payload::Stops),
        _ => return Err(FrameRefusal::Kind),
    };
    // Nothing may be left: a payload of another length is of another protocol.
    payload.filter(|_| reader.0.is_empty()).ok_or(FrameRefusal::Payload)
}

/// Takes numbers off the beginning of some bytes.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (&array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(array)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number that any node can reach.
    pub(super) fn number(&mut self) -> Option<i64> {
        self.u64().filter(|&number| number < NUMBER_MAX).map(|number| number as i64)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// A byte of which only the bits of `known` may be set.
    fn flags(&mut self, known: u8) -> Option<u8> {
        self.array().map(|[flags]| flags).filter(|flags| flags & !known == 0)
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn records(&mut self) -> Option<Payload<'a>> {
        let bytes = self.rest();
        let count = super::record::PeerRecords::count_whole(bytes)?;
        Some(Payload::Records { bytes, count })
    }

    fn summary(&mut self) -> Option<NodeSummary> {
        let peers = self.u64().filter(|&peers| peers < NUMBER_MAX)?;
        let whole = self.flags(WHOLE)? != 0;
        let (stops_reach_s, dropped_age_s) = (self.u32()?, self.u32()?);
        Some(NodeSummary { peers, whole, stops_reach_s, dropped_age_s })
    }

    fn want(&mut self) -> Option<Want> {
        let target = Some(NodeId(self.u64()?)).filter(|&NodeId(id)| id != 0);
        Some(Want { target, age_s: self.u32()? })
    }

    fn take(&mut self) -> Option<Take> {
        let (stream, age_s) = (self.u64()?, self.u32()?);
        Some(Take { stream, age_s, stops_age_s: self.u32()? })
    }

    fn state(&mut self) -> Option<StreamedState<'a>> {
        let (stream, part, flags) = (self.u64()?, self.u32()?, self.flags(LAST | STATE_WHOLE)?);
        let tick_s = self.u32().filter(|tick_s| (1..=86_400).contains(tick_s))?;
        let phase_s = self.u32().filter(|&phase_s| phase_s < tick_s)?;
        let (last, whole) = (flags & LAST != 0, flags & STATE_WHOLE != 0);
        Some(StreamedState { stream, part, last, whole, tick_s, phase_s, entries: self.rest() })
    }

    fn more(&mut self) -> Option<More> {
        let (stream, parts) = (self.u64()?, self.u32()?);
        Some(More { stream, parts, over: self.flags(OVER)? != 0 })
    }

    fn stops(&mut self) -> Option<StreamedStops<'a>> {
        let (stream, part) = (self.u64()?, self.u32()?);
        let stops = self.rest();
        super::stops::Stops::are_whole(stops).then_some(StreamedStops { stream, part, stops })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use annulus_swarm::{CompactAddr, PeerEvent};

    use super::super::record::PeerRecord;
    use super::*;

    const NOW: NodeTime =
        NodeTime { since_start: Duration::from_millis(12_345), unix_ms: 1_700_000_000_123 };

    fn frame(payload: &Payload<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(NodeId(7), 42, NOW, payload, &mut bytes);
        bytes
    }

    fn records() -> Vec<u8> {
        let (info_hash, peer) = ([3; 20], CompactAddr::V6([9; 18]));
        let mut bytes = Vec::new();
        PeerRecord { info_hash, peer, seeder: true, event: PeerEvent::None }.encode(&mut bytes);
        bytes
    }

    /// One of each kind.
    fn payloads<'a>(records: &'a [u8], stops: &'a [u8]) -> Vec<Payload<'a>> {
        let summary = NodeSummary { peers: 5, whole: true, stops_reach_s: 9, dropped_age_s: 1 };
        let state = StreamedState {
            stream: u64::MAX,
            part: 3,
            last: true,
            whole: false,
            tick_s: 108,
            phase_s: 107,
            entries: &[1, 2, 3],
        };
        vec![
            Payload::Records { bytes: records, count: 1 },
            Payload::Hello(summary),
            Payload::Want(Want { target: None, age_s: u32::MAX }),
            Payload::Want(Want { target: Some(NodeId(8)), age_s: 0 }),
            Payload::Offer(NodeSummary { whole: false, ..summary }),
            Payload::Take(Take { stream: 1, age_s: 2, stops_age_s: 3 }),
            Payload::State(state),
            Payload::More(More { stream: 1, parts: 8, over: true }),
            Payload::Stops(StreamedStops { stream: 1, part: 0, stops }),
        ]
    }

    /// Gives a frame that was changed the checksum that belongs to it.
    fn seal(bytes: &mut [u8]) {
        let crc = crc32c::crc32c(&bytes[CHECKED_FROM..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    #[test]
    fn frames_are_read_as_they_were_written() {
        let mut stops = [records(), vec![0; 20]].concat();
        stops[0] = 5;
        for payload in payloads(&records(), &stops) {
            let bytes = frame(&payload);
            let frame = Frame {
                node: NodeId(7),
                sequence: 42,
                sent_ms: 12_345,
                unix_ms: 1_700_000_000_123,
                payload,
            };
            assert_eq!(decode(&bytes), Ok(frame));
        }
    }

    #[test]
    fn every_change_is_noticed() {
        for payload in payloads(&records(), &[]) {
            let bytes = frame(&payload);
            for len in 0..bytes.len() {
                assert!(decode(&bytes[..len]).is_err(), "{payload:?} cut at {len}");
            }
            for bit in 0..bytes.len() * 8 {
                let mut changed = bytes.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(decode(&changed).is_err(), "{payload:?} bit {bit}");
            }
        }
    }

    #[test]
    fn each_refusal_has_its_reason() {
        let summary = NodeSummary { peers: 0, whole: true, stops_reach_s: 0, dropped_age_s: 0 };
        let hello = frame(&Payload::Hello(summary));
        let changed = |at: usize, value: u8| {
            let mut bytes = hello.clone();
            bytes[at] = value;
            seal(&mut bytes);
            decode(&bytes).map(|frame| frame.sequence)
        };
        assert_eq!(changed(43, 0), Ok(42));
        assert_eq!(decode(&[]), Err(FrameRefusal::Length));
        assert_eq!(decode(&vec![0; FRAME_BYTES_MAX + 1]), Err(FrameRefusal::Length));
        assert_eq!(changed(0, b'B'), Err(FrameRefusal::Magic));
        assert_eq!(changed(8, 2), Err(FrameRefusal::Version));
        assert_eq!(changed(10, 1), Err(FrameRefusal::Version));
        assert_eq!(changed(9, 0), Err(FrameRefusal::Kind));
        assert_eq!(changed(9, 9), Err(FrameRefusal::Kind));
        assert_eq!(changed(12, 0), Err(FrameRefusal::Number));
        for number in [20, 28, 36] {
            assert_eq!(changed(number + 6, 0x20), Err(FrameRefusal::Number), "{number}");
        }
        assert_eq!(changed(9, 4), Ok(42), "an offer has the same form");
        assert_eq!(changed(9, 1), Err(FrameRefusal::Payload));
        assert_eq!(changed(HEADER_BYTES + 8, 2), Err(FrameRefusal::Payload));
        let mut corrupt = hello.clone();
        corrupt[HEADER_BYTES] ^= 1;
        assert_eq!(decode(&corrupt), Err(FrameRefusal::Checksum));
    }
}
