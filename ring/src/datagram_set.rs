//! The datagram sockets of one engine: which of them receive, and how many datagrams at a time.
//!
//! The engine reports readable sockets, and receives from them at the end of its turn. io_uring
//! receives by itself where it can; then this only follows which sockets are open, and empties one
//! that is to be closed.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::rc::Rc;

use rustix::io::Errno;

use crate::buffers::Pool;
use crate::datagram::{DATAGRAM_BUFFER_BYTES, DatagramIndex};
use crate::datagram_batch::{BATCH_MAX, RecvBatch};
use crate::datagram_socket::DatagramSocket;
use crate::event::Event;
use crate::sys;

/// Batches of a turn, from all sockets together: the connections' turn comes after that.
const BATCHES_PER_TURN: usize = 2;
/// Datagrams of a turn, from all sockets together, while connections are served beside: these wait
/// for the end of the turn at each of their steps.
const BESIDE_CONNECTIONS: usize = 16;
/// Ticks without an event of a connection after which a turn takes more datagrams again, which
/// saves a twentieth of the work: one second at least.
const QUIET_TICKS: u8 = 2;
/// Datagrams of the first batch of a socket that was quiet.
const BATCH_MIN: usize = 8;
/// Buffers for all batches of a turn.
const BUFFERS: u16 = (BATCHES_PER_TURN * BATCH_MAX) as u16;
/// Errors of a socket between two ticks, after which it pauses until the next tick.
const ERRORS_MAX: u32 = 16;
/// What a datagram in the kernel's queue counts at least: without its bytes, those of the
/// bookkeeping (`struct sk_buff` and `struct skb_shared_info`).
const QUEUED_BYTES_MIN: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReceiveState {
    Idle,
    Active,
    /// To deliver the datagrams that waited when it was asked, at most `left` of them; then to
    /// close.
    Draining {
        left: usize,
    },
    /// To close when the replies of this turn are sent, or closed.
    Closing,
}

pub(crate) struct DatagramEntry {
    pub(crate) socket: Option<DatagramSocket>,
    pub(crate) state: ReceiveState,
    /// Whether the kernel reports datagrams: by a poll, or by the datagrams themselves.
    pub(crate) armed: bool,
    /// Whether this set receives what is reported, as opposed to the kernel.
    pub(crate) is_polled: bool,
    /// Whether the ring knows the socket by its index.
    pub(crate) is_registered: bool,
    /// Too many errors: it waits for the next tick.
    pub(crate) paused: bool,
    errors: u32,
    /// Whether it is in `readable`.
    queued: bool,
    batch: usize,
}

impl DatagramEntry {
    /// Counts an error. A persistent one must not keep the engine busy.
    pub(crate) fn on_error(&mut self) {
        self.errors += 1;
        self.paused = self.errors > ERRORS_MAX;
    }
}

/// All datagram sockets of one engine.
pub(crate) struct DatagramSet {
    all: Vec<DatagramEntry>,
    readable: VecDeque<DatagramIndex>,
    /// Sockets that close after the replies to their last datagrams.
    closing: Vec<DatagramIndex>,
    pool: Rc<Pool>,
    batch: RecvBatch,
    /// Batches that may still be received in this pass.
    batches_left: usize,
    /// The socket that is armed before the others.
    arm_first: usize,
    /// Ticks for which connections count as served beside.
    busy_ticks: u8,
}

impl DatagramSet {
    /// # Errors
    /// No memory is left.
    pub(crate) fn new() -> io::Result<DatagramSet> {
        Ok(DatagramSet {
            all: Vec::new(),
            readable: VecDeque::new(),
            closing: Vec::new(),
            pool: Pool::new(BUFFERS, DATAGRAM_BUFFER_BYTES as u32)?,
            batch: RecvBatch::default(),
            batches_left: BATCHES_PER_TURN,
            arm_first: 0,
            busy_ticks: 0,
        })
    }

    /// Adds sockets. With `by_ring` the kernel receives by itself; not from sockets that others
    /// share: each datagram would wake them all.
    pub(crate) fn add(&mut self, sockets: Vec<DatagramSocket>, by_ring: bool) {
        self.all.extend(sockets.into_iter().map(|socket| DatagramEntry {
            is_polled: !by_ring || socket.is_inherited(),
            socket: Some(socket),
            state: ReceiveState::Idle,
            armed: false,
            is_registered: false,
            paused: false,
            errors: 0,
            queued: false,
            batch: BATCH_MIN,
        }));
    }

    pub(crate) fn get(&mut self, index: DatagramIndex) -> &mut DatagramEntry {
        &mut self.all[usize::from(index)]
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut DatagramEntry> {
        self.all.iter_mut()
    }

    /// The descriptor of a socket, and whether replies must name the address that they leave from.
    /// `None` if it is closed.
    pub(crate) fn target(&self, index: DatagramIndex) -> Option<(i32, bool)> {
        let socket = self.all.get(usize::from(index))?.socket.as_ref()?;
        Some((socket.raw(), socket.is_wildcard()))
    }

    /// The next socket that receives, and of which the kernel reports nothing; `passed` counts
    /// those that were looked at.
    pub(crate) fn next_unarmed(&self, passed: &mut usize) -> Option<DatagramIndex> {
        let count = self.all.len();
        while *passed < count {
            let at = (self.arm_first + *passed) % count;
            *passed += 1;
            let entry = &self.all[at];
            if entry.state == ReceiveState::Active && !entry.armed && !entry.paused && !entry.queued
            {
                return Some(at as DatagramIndex);
            }
        }
        None
    }

    /// Has the sockets after this one, which was armed first, come first the next time: a flooded
    /// socket that is armed takes the buffers that there are.
    pub(crate) fn arm_last(&mut self, index: DatagramIndex) {
        self.arm_first = usize::from(index) + 1;
    }

    /// Starts receiving; returns whether the socket did not receive already.
    pub(crate) fn start(&mut self, index: DatagramIndex) -> bool {
        let entry = self.get(index);
        let idle = entry.state == ReceiveState::Idle && entry.socket.is_some();
        if idle {
            entry.state = ReceiveState::Active;
        }
        idle
    }

    /// Makes a socket deliver what waits now and then close. The engine then ends what is armed and
    /// calls [`DatagramSet::on_disarmed`]. Returns false if that has happened already.
    pub(crate) fn finish(&mut self, index: DatagramIndex) -> bool {
        let entry = self.get(index);
        if matches!(entry.state, ReceiveState::Draining { .. } | ReceiveState::Closing) {
            return false;
        }
        let left = match &entry.socket {
            // The next process receives what waits there.
            Some(socket) if !socket.is_inherited() => {
                sys::queued_bytes(socket.raw()).div_ceil(QUEUED_BYTES_MIN)
            }
            _ => 0,
        };
        entry.state = ReceiveState::Draining { left };
        // The end of a pause would arm it, which is over for good.
        (entry.paused, entry.errors) = (false, 0);
        true
    }

    /// The kernel reports no more of a socket.
    pub(crate) fn on_disarmed(&mut self, index: DatagramIndex) {
        let entry = self.get(index);
        entry.armed = false;
        match entry.state {
            ReceiveState::Draining { left: 0 } => self.close_next(index),
            ReceiveState::Draining { .. } => self.on_readable(index),
            _ => {}
        }
    }

    /// Datagrams may wait at a socket.
    pub(crate) fn on_readable(&mut self, index: DatagramIndex) {
        let entry = self.get(index);
        let receives =
            matches!(entry.state, ReceiveState::Active | ReceiveState::Draining { left: 1.. });
        if receives && !entry.queued && !entry.paused {
            entry.queued = true;
            self.readable.push_back(index);
        }
    }

    /// A second has passed: paused sockets try again. So do those that other processes or threads
    /// share: the kernel wakes only one, which may be about to stop.
    pub(crate) fn on_tick(&mut self) {
        self.busy_ticks = self.busy_ticks.saturating_sub(1);
        for index in 0..self.all.len() {
            let entry = &mut self.all[index];
            entry.errors = 0;
            let is_shared = entry.socket.as_ref().is_some_and(DatagramSocket::is_inherited);
            let retries = mem::take(&mut entry.paused) || is_shared;
            if retries && entry.is_polled {
                self.on_readable(index as DatagramIndex);
            }
        }
    }

    /// A connection had an event.
    pub(crate) fn on_connection(&mut self) {
        self.busy_ticks = QUIET_TICKS;
    }

    /// The datagrams that a turn may bring, of the `most` that there is room for.
    pub(crate) fn per_turn(&self, most: usize) -> usize {
        if self.busy_ticks > 0 { most.min(BESIDE_CONNECTIONS) } else { most }
    }

    /// A turn may receive several times, until something arrives.
    pub(crate) fn begin_pass(&mut self) {
        self.batches_left = BATCHES_PER_TURN;
    }

    /// Whether a turn must not wait: datagrams can be received, or a socket can be closed.
    pub(crate) fn has_work(&self) -> bool {
        !self.closing.is_empty() || !self.readable.is_empty() && self.pool.free() > 0
    }

    /// Receives from the next readable sockets. Returns one that is empty now, and has to be polled
    /// again. `None` if no socket is readable, or the pass's bound is reached.
    pub(crate) fn receive_next(&mut self, ready: &mut Vec<Event>) -> Option<DatagramIndex> {
        let batch_max = self.per_turn(BUFFERS.into()) / BATCHES_PER_TURN;
        while self.batches_left > 0 && self.pool.free() > 0 {
            let index = self.readable.pop_front()?;
            let entry = &mut self.all[usize::from(index)];
            entry.queued = false;
            let wanted = match entry.state {
                ReceiveState::Active => entry.batch,
                ReceiveState::Draining { left } => left,
                ReceiveState::Idle | ReceiveState::Closing => continue,
            };
            let Some(socket) = &entry.socket else { continue };
            self.batches_left -= 1;
            let wanted = wanted.min(batch_max).min(self.pool.free());
            let (socket, pool) = ((index, socket.raw()), &self.pool);
            let (received, is_empty) = match self.batch.receive(socket, pool, wanted, ready) {
                Ok(received) => (received, received < wanted),
                Err(Errno::AGAIN) => (0, true),
                Err(Errno::INTR) => (0, false),
                Err(_) => {
                    entry.on_error();
                    (0, false)
                }
            };
            entry.batch = (2 * received).clamp(BATCH_MIN, BATCH_MAX);
            if let ReceiveState::Draining { left } = &mut entry.state {
                *left -= received;
                if *left == 0 || is_empty || entry.paused {
                    self.close_next(index);
                    continue;
                }
            }
            if is_empty {
                return Some(index);
            }
            // The others first.
            self.on_readable(index);
        }
        None
    }

    fn close_next(&mut self, index: DatagramIndex) {
        self.get(index).state = ReceiveState::Closing;
        self.closing.push(index);
    }

    /// The sockets to close as soon as the replies are sent that are queued by now.
    pub(crate) fn take_closing(&mut self) -> Vec<DatagramIndex> {
        mem::take(&mut self.closing)
    }

    /// Closes sockets.
    pub(crate) fn close(&mut self, closing: Vec<DatagramIndex>, ready: &mut Vec<Event>) {
        for socket in closing {
            self.get(socket).socket = None;
            ready.push(Event::DatagramsFinished { socket });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::{DatagramSet, ERRORS_MAX};
    use crate::datagram_socket::DatagramSocket;
    use crate::event::Event;

    /// Otherwise a shutdown in that second would never end.
    #[test]
    fn a_paused_socket_can_be_finished() {
        for by_ring in [false, true] {
            let group = DatagramSocket::bind_group("127.0.0.1:0".parse().unwrap(), 1).unwrap();
            let address = group[0].address();
            let mut set = DatagramSet::new().unwrap();
            set.add(group, by_ring);
            set.start(0);
            (0..=ERRORS_MAX).for_each(|_| set.get(0).on_error());
            assert!(set.get(0).paused);
            UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"late", address).unwrap();
            assert!(set.finish(0));
            set.on_disarmed(0);
            let mut ready = Vec::new();
            set.receive_next(&mut ready);
            let event = ready.pop();
            assert!(matches!(event, Some(Event::Datagram(_))), "{event:?}");
            assert_eq!(set.take_closing(), [0]);
        }
    }
}
