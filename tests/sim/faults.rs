//! What goes wrong in one run: drawn from the seed, so that a seed is a whole story.

use annulus_ring::DATAGRAM_BYTES_MAX;
use annulus_swarm::Random;

/// A fault of the ring itself, which no worker could make good: the checks must see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// The rest of a send that fell short is never reported.
    ForgetsShortSend,
    /// A receive buffer is never handed back.
    LosesBuffer,
    /// One byte of an answer goes out twice.
    DuplicatesByte,
    /// A closed socket keeps its descriptor.
    KeepsDescriptor,
    /// Received bytes arrive in the wrong order.
    SwapsBytes,
    /// The end of an owned send is never reported.
    ForgetsSent,
    /// The end of accepting is never reported.
    ForgetsAcceptEnd,
    /// A byte of what was encrypted is lost.
    LosesSealedByte,
    /// close_notify, the last that was sent, is cut off.
    CutsCloseNotify,
    /// The buffer of a datagram is never handed back.
    LosesDatagramBuffer,
    /// A datagram is handed out with another sender than it had.
    SwapsSenders,
    /// A bit of a datagram is flipped.
    AltersDatagram,
    /// A reply leaves from another address than was asked.
    RepliesFromElsewhere,
    /// The end of receiving datagrams is never reported.
    ForgetsDatagramsFinished,
}

/// Every sabotage there is.
pub(crate) const SABOTAGES: [Sabotage; 14] = [
    Sabotage::ForgetsShortSend,
    Sabotage::LosesBuffer,
    Sabotage::DuplicatesByte,
    Sabotage::KeepsDescriptor,
    Sabotage::SwapsBytes,
    Sabotage::ForgetsSent,
    Sabotage::ForgetsAcceptEnd,
    Sabotage::LosesSealedByte,
    Sabotage::CutsCloseNotify,
    Sabotage::LosesDatagramBuffer,
    Sabotage::SwapsSenders,
    Sabotage::AltersDatagram,
    Sabotage::RepliesFromElsewhere,
    Sabotage::ForgetsDatagramsFinished,
];

/// How clients' connections take bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Windows {
    /// Everything at once.
    Endless,
    /// Some kilobytes, read every few milliseconds.
    Slow,
    /// Some bytes, read at once.
    Tiny,
    /// Some kilobytes, of which a part is read about once a second.
    Trickle,
    /// Some kilobytes, of which a byte is read a second.
    Drip,
    /// Each client draws one of the first four.
    Mixed,
}

/// The faults of one run. Numbers without a unit are chances in a thousand.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    /// A send that had room goes out in part.
    pub(crate) short_send: u32,
    /// A send that had room is not taken at all (EAGAIN).
    pub(crate) refused_send: u32,
    /// An owned send rests in this turn.
    pub(crate) owned_rests: u32,
    /// A multishot receive ends with the bytes at hand.
    pub(crate) multishot_ends: u32,
    /// A receive finds no buffer although there are some.
    pub(crate) no_buffers: u32,
    /// Buffers that one multishot receive fills in a turn: 64 on Linux 6.18.
    pub(crate) fills_max: u32,
    /// A receive takes only a part of what is there.
    pub(crate) cut: u32,
    /// What has completed is kept back for a later turn.
    pub(crate) held: u32,
    /// Completions of different connections change places.
    pub(crate) reordered: bool,
    /// What is queued is submitted at once rather than at the turn's end; 1000 is what an
    /// engine without a queue does.
    pub(crate) early: u32,
    /// Accepting fails.
    pub(crate) accept_fails: u32,
    /// An event of a connection that is gone.
    pub(crate) stale: u32,
    /// The network resets a connection, in each of its steps.
    pub(crate) network_resets: u32,
    /// A turn takes its time.
    pub(crate) creeps: u32,
    /// Milliseconds of such a turn.
    pub(crate) turn_ms: u64,
    /// A wake that means nothing.
    pub(crate) idle_wakes: u32,
    /// Milliseconds by which a tick may be late.
    pub(crate) tick_late_ms: u32,
    /// Whether clients' bytes come in pieces, and late.
    pub(crate) pieces: bool,
    /// How clients' connections take bytes.
    pub(crate) windows: Windows,
    /// Receive buffers, and bytes of each.
    pub(crate) buffers: u16,
    /// Bytes of one receive buffer.
    pub(crate) buffer_bytes: u32,
    /// Bytes of reply space beyond the longest single reply.
    pub(crate) batch_bytes: usize,
    /// Descriptors for connections.
    pub(crate) descriptors_max: usize,
    /// Connections that the worker may hold.
    pub(crate) connections_max: usize,
    /// The millisecond of a shutdown while clients are still there.
    pub(crate) shutdown_ms: Option<u64>,
    /// What goes wrong with datagrams.
    pub(crate) datagrams: DatagramFaults,
    /// What is wrong with the ring.
    pub(crate) sabotage: Option<Sabotage>,
}

/// What goes wrong with the datagrams of one run. Numbers without a unit are chances in a thousand.
#[derive(Clone, Debug)]
pub(crate) struct DatagramFaults {
    /// The network loses one.
    pub(crate) lost: u32,
    /// It delivers one twice.
    pub(crate) duplicated: u32,
    /// Milliseconds that it takes at most: one that takes fewer overtakes.
    pub(crate) late_ms: u32,
    /// A multishot receive ends, and is armed again in a later turn.
    pub(crate) rests: u32,
    /// Datagrams that one socket receives in a turn.
    pub(crate) fills_max: u32,
    /// Datagrams that wait in one socket; more are lost.
    pub(crate) queue_max: usize,
    /// A reply is not taken.
    pub(crate) unsent: u32,
    /// Receive buffers of all sockets together.
    pub(crate) buffers: u16,
    /// Bytes of a payload that one of them has room for.
    pub(crate) payload_bytes: u32,
}

impl DatagramFaults {
    pub(crate) fn none() -> DatagramFaults {
        DatagramFaults {
            lost: 0,
            duplicated: 0,
            late_ms: 0,
            rests: 0,
            fills_max: 64,
            queue_max: 1000,
            unsent: 0,
            buffers: 64,
            payload_bytes: DATAGRAM_BYTES_MAX as u32,
        }
    }

    /// As for [`Faults::drawn`].
    fn drawn(random: &mut Random) -> DatagramFaults {
        let mut sometimes = |most: u32| match random.below(4) {
            0 | 1 => 0,
            2 => 1 + random.below(1 + most / 8),
            _ => 1 + random.below(most),
        };
        let mut faults = DatagramFaults {
            lost: sometimes(400),
            duplicated: sometimes(600),
            late_ms: sometimes(900),
            rests: sometimes(700),
            unsent: sometimes(400),
            ..DatagramFaults::none()
        };
        faults.fills_max = [1, 3, 64, 64][random.below(4) as usize];
        faults.queue_max = [1, 4, 1000, 1000][random.below(4) as usize];
        faults.buffers = [1, 2, 3, 8, 64][random.below(5) as usize];
        faults.payload_bytes = match random.below(6) {
            0 => [16, 98, 100, 500][random.below(4) as usize],
            _ => faults.payload_bytes,
        };
        faults
    }
}

impl Faults {
    /// A run without faults, on a ring with plenty of everything.
    pub(crate) fn none() -> Faults {
        Faults {
            short_send: 0,
            refused_send: 0,
            owned_rests: 0,
            multishot_ends: 0,
            no_buffers: 0,
            fills_max: 64,
            cut: 0,
            held: 0,
            reordered: false,
            early: 0,
            accept_fails: 0,
            stale: 0,
            network_resets: 0,
            creeps: 0,
            turn_ms: 1,
            idle_wakes: 0,
            tick_late_ms: 0,
            pieces: false,
            windows: Windows::Endless,
            buffers: 64,
            buffer_bytes: 4096,
            batch_bytes: 16 * 1024,
            descriptors_max: 1000,
            connections_max: 1000,
            shutdown_ms: None,
            datagrams: DatagramFaults::none(),
            sabotage: None,
        }
    }

    /// Faults of which about half are absent in any one run: a run with all of them at once
    /// never gets far enough for the rarer ones to matter.
    pub(crate) fn drawn(random: &mut Random) -> Faults {
        let mut sometimes = |most: u32| match random.below(4) {
            0 | 1 => 0,
            2 => 1 + random.below(1 + most / 8),
            _ => 1 + random.below(most),
        };
        let mut faults = Faults {
            short_send: sometimes(600),
            refused_send: sometimes(400),
            owned_rests: sometimes(700),
            multishot_ends: sometimes(700),
            no_buffers: sometimes(400),
            cut: sometimes(900),
            held: sometimes(700),
            early: sometimes(500),
            accept_fails: sometimes(300),
            stale: sometimes(500),
            network_resets: sometimes(4),
            creeps: sometimes(50),
            idle_wakes: sometimes(50),
            tick_late_ms: sometimes(400),
            ..Faults::none()
        };
        faults.reordered = random.below(3) > 0;
        faults.pieces = random.below(3) > 0;
        if random.below(4) == 0 {
            faults.early = 1000;
        }
        faults.windows = [
            Windows::Endless,
            Windows::Slow,
            Windows::Tiny,
            Windows::Trickle,
            Windows::Mixed,
            Windows::Mixed,
        ][random.below(6) as usize];
        faults.buffers = [1, 2, 3, 8, 64][random.below(5) as usize];
        faults.buffer_bytes = [64, 100, 512, 4096, 4096][random.below(5) as usize];
        faults.batch_bytes = [0, 100, 1000, 16 * 1024][random.below(4) as usize];
        if random.below(3) == 0 {
            faults.descriptors_max = 1 + random.below(8) as usize;
        }
        if random.below(2) == 0 {
            faults.connections_max = 1 + random.below(6) as usize;
        }
        if random.below(4) == 0 {
            faults.shutdown_ms = Some(u64::from(random.below(4000)));
        }
        faults.datagrams = DatagramFaults::drawn(random);
        faults
    }
}
