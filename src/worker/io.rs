//! What a connection goes through from its first byte to its last answer.

use std::mem;

use annulus_ring::{Errno, Key, RecvBuf, RecvEnd, RecvMode, Ring, Socket};

use super::eviction_lists::EvictionList;
use super::progress::UNKNOWN;
use super::slot::Phase;
use super::{Worker, WorkerConfig};
use crate::connection::{Action, Progress, RequestError, Turn};
use crate::limits::{
    CLOSED_WITH_BYTES_MAX, HANDSHAKES_PER_TURN_MAX, LINGER_BYTES_MAX, LINGER_S,
    RESPONSE_BYTES_PER_TURN, TOGETHER_S, UNREAD_BYTES_MAX, UNREAD_BYTES_PAUSE,
};
use crate::metrics::labels::{Rejection, Resumption, TlsVersion};
use crate::tls::HandshakeState;

impl<R: Ring> Worker<R> {
    pub(super) fn on_received(&mut self, key: Key, mut buffer: RecvBuf, more: bool) {
        let turn = self.turn;
        let (no_handshake, no_request) = (self.has_no_time_for_handshakes(), self.has_no_time());
        self.counters.bytes_received.add(buffer.len() as u64);
        let Some(slot) = self.slot(key) else { return };
        slot.armed = more;
        slot.full = buffer.is_full();
        slot.owed = slot.owed.saturating_sub(buffer.len() as u32);
        let later = no_request
            || slot.sending
            || slot.queued
            || slot.sent_turn == turn
            || (no_handshake && slot.connection.may_be_costly(&buffer));
        match slot.phase {
            Phase::Serving if later => {
                let before = slot.held_bytes();
                slot.connection.buffer(&buffer);
                let much = slot.connection.pending_bytes() > UNREAD_BYTES_PAUSE;
                let (allocated, armed) = (slot.connection.allocated_bytes(), slot.armed);
                self.recount(key, before);
                if allocated > UNREAD_BYTES_MAX {
                    self.counters.rejected.add(Rejection::Unread);
                    self.end(key, true);
                } else {
                    if much && armed {
                        self.ring.cancel_recv(key);
                    }
                    self.queue(key);
                }
            }
            Phase::Serving => self.serve(key, &mut buffer),
            Phase::Streaming | Phase::Flushing | Phase::Lingering => {
                slot.dropped = slot.dropped.saturating_add(buffer.len() as u32);
                let lingers = slot.phase == Phase::Lingering;
                if slot.dropped > LINGER_BYTES_MAX {
                    self.end(key, true);
                } else if lingers {
                    self.receive(key, RecvMode::Multishot);
                }
            }
            Phase::Departing => {}
            Phase::Ending { .. } => self.join(key),
        }
    }

    /// Answers what `bytes` and those kept before them complete.
    pub(super) fn serve(&mut self, key: Key, bytes: &mut [u8]) {
        let out = self.ring.send_buffer();
        let WorkerConfig { timeouts, .. } = &self.settings;
        let (server, scratch) = (&mut self.server, &mut self.scratch);
        let slot = &mut self.slots[key.slot() as usize];
        let stops = self.shutdown_at_s.is_some() && slot.owed == 0;
        // Who has sent more than was read at once is answered to its end.
        let makes_room = (self.crowded || slot.evicted) && !slot.full;
        server.set_closing(stops || makes_room);
        let before = slot.held_bytes();
        let connection = &mut slot.connection;
        self.handshakes += u32::from(connection.may_be_costly(bytes));
        let handshake = connection.handshake();
        let mut turn = Turn { handler: server, now_s: self.now_s, timeouts, out };
        let progress = connection.receive(bytes, scratch, &mut turn);
        if handshake == Some(HandshakeState::InProgress)
            && let Some(HandshakeState::Done { tls13, resumed }) = connection.handshake()
        {
            let version = if tls13 { TlsVersion::Tls13 } else { TlsVersion::Tls12 };
            let resumption = if resumed { Resumption::Resumed } else { Resumption::Full };
            self.counters.handshakes.add((version, resumption));
        }
        self.recount(key, before);
        self.follow(key, progress);
    }

    /// Sends what was written and does what is next.
    pub(super) fn follow(&mut self, key: Key, progress: Progress) {
        let Progress { written, next } = progress;
        self.replied += written;
        self.counters.bytes_sent.add(written as u64);
        let slot = &mut self.slots[key.slot() as usize];
        let last = matches!(next, Action::Close { unread: false })
            && (1..=CLOSED_WITH_BYTES_MAX).contains(&written)
            && !(slot.full || slot.armed)
            && (slot.sent_turn == 0 || self.ring.unsent_bytes(key, &slot.socket) == 0);
        if last {
            return self.depart(key, written);
        }
        if written > 0 {
            slot.sent_turn = self.turn;
            slot.unsent = UNKNOWN;
            self.ring.send(key, &slot.socket, written);
        }
        match next {
            Action::Receive if slot.ended && written == 0 => self.answer_end(key),
            Action::Receive if slot.ended => self.queue(key),
            // `go_on` lets go of it, when it is known whether what was sent has gone out whole.
            Action::Receive if self.may_leave(key) => self.queue(key),
            Action::Receive => {
                let slot = &self.slots[key.slot() as usize];
                // While the client has more than is read at a time, it is read by the piece: a
                // multishot receive would bring much more than a turn answers.
                let expect = if slot.full { RecvMode::Immediate } else { slot.expect() };
                self.set_rcvlowat(key);
                self.receive(key, expect);
            }
            Action::Resume => self.queue(key),
            Action::Stream => self.begin_stream(key),
            Action::Reset => self.end(key, true),
            Action::Close { .. } => {
                self.slots[key.slot() as usize].phase = Phase::Flushing;
                // Whatever else it has sent is not answered.
                self.forget(key);
                self.set_deadline(key, LINGER_S);
                self.queue(key);
            }
        }
    }

    /// Sets how many bytes of the client are worth a wake, and until when they have to come.
    pub(super) fn set_rcvlowat(&mut self, key: Key) {
        let soon_s = self.now_s.saturating_add(TOGETHER_S);
        let slot = &mut self.slots[key.slot() as usize];
        let bytes = slot.connection.bytes_awaited();
        let before_s = mem::replace(&mut slot.deadline_s, slot.connection.deadline_s());
        // Within one second the order does not matter.
        let listed = slot.listed_idle && slot.deadline_s == before_s;
        if slot.connection.has_answered() && !listed {
            slot.listed_idle = true;
            self.order.append(key.slot(), EvictionList::Idle);
        }
        if bytes > 1 {
            // Fewer than these may have come by then: `expire` has them read.
            slot.deadline_s = slot.deadline_s.min(soon_s);
        }
        if mem::replace(&mut slot.bytes_awaited, bytes) != bytes {
            self.ring.set_rcvlowat(&slot.socket, bytes);
        }
        self.wheel.set(key.slot(), slot.deadline_s);
    }

    /// Has the next turn go on with a connection, unless a send of it ends first.
    pub(super) fn queue(&mut self, key: Key) {
        let slot = &mut self.slots[key.slot() as usize];
        if !slot.queued && !slot.sending {
            slot.queued = true;
            match slot.phase {
                Phase::Streaming => self.streams.push_back(key),
                Phase::Serving if slot.connection.may_be_costly(&[]) => {
                    self.handshake_queue.push_back(key);
                }
                _ => self.queue.push_back(key),
            }
        }
    }

    /// Goes on with a connection whose replies are all out.
    pub(super) fn go_on(&mut self, key: Key) {
        let no_handshake = self.handshakes >= HANDSHAKES_PER_TURN_MAX;
        let Some(slot) = self.slot(key).filter(|slot| !slot.sending) else { return };
        match slot.phase {
            Phase::Serving if no_handshake && slot.connection.may_be_costly(&[]) => self.queue(key),
            Phase::Serving if slot.connection.pending_bytes() > 0 => {
                if self.replied >= RESPONSE_BYTES_PER_TURN {
                    return self.queue(key);
                }
                self.serve(key, &mut []);
            }
            Phase::Serving if slot.ended => self.answer_end(key),
            Phase::Serving => {
                let expect = slot.expect();
                if self.may_leave(key) {
                    self.part_from(key);
                } else {
                    self.receive(key, expect);
                }
            }
            Phase::Streaming => self.queue(key),
            Phase::Flushing => {
                if slot.ended && self.are_as_good_as_taken(key) {
                    self.end(key, false);
                } else {
                    self.linger(key);
                }
            }
            Phase::Lingering | Phase::Departing | Phase::Ending { .. } => {}
        }
    }

    pub(super) fn on_recv_ended(&mut self, key: Key, end: RecvEnd) {
        let turn = self.turn;
        let Some(slot) = self.slot(key) else { return };
        slot.armed = false;
        match (slot.phase, end) {
            (Phase::Ending { .. }, _) => self.join(key),
            (_, RecvEnd::Error(_)) => self.end(key, true),
            (Phase::Serving | Phase::Lingering, RecvEnd::NoBuffers) => {
                // Of a secured connection that much may be an unfinished record and a head.
                let paused = (slot.sending || slot.queued)
                    && slot.connection.pending_bytes() > UNREAD_BYTES_PAUSE;
                let expect = slot.expect();
                if !paused {
                    self.receive(key, expect);
                }
            }
            (_, RecvEnd::NoBuffers) => {}
            // Received again when what is pending has been answered.
            (Phase::Serving, RecvEnd::Cancelled) => self.queue(key),
            // Cancelled while a reply was late, and lingering has begun since.
            (Phase::Lingering, RecvEnd::Cancelled) => self.receive(key, RecvMode::Multishot),
            (_, RecvEnd::Cancelled) => {}
            (phase, RecvEnd::Eof) => {
                slot.ended = true;
                match phase {
                    Phase::Serving if slot.sending || slot.queued => {}
                    Phase::Serving if slot.sent_turn == turn => self.queue(key),
                    Phase::Serving => self.answer_end(key),
                    Phase::Lingering => self.end(key, false),
                    Phase::Streaming
                    | Phase::Flushing
                    | Phase::Departing
                    | Phase::Ending { .. } => {}
                }
            }
        }
    }

    /// The client's side has ended: a request that it broke off is answered.
    pub(super) fn answer_end(&mut self, key: Key) {
        let are_taken = self.are_as_good_as_taken(key);
        let out = self.ring.send_buffer();
        let slot = &mut self.slots[key.slot() as usize];
        let (before, armed) = (slot.held_bytes(), slot.armed);
        let written = slot.connection.abort(
            RequestError::Truncated,
            &mut self.server,
            &mut self.scratch,
            out,
        );
        self.recount(key, before);
        if !are_taken {
            self.follow(key, Progress { written, next: Action::Close { unread: true } });
        } else if written > 0 && !armed {
            self.counters.bytes_sent.add(written as u64);
            self.depart(key, written);
        } else {
            self.end(key, false);
        }
    }

    pub(super) fn on_incomplete(
        &mut self,
        key: Key,
        rest: Result<Box<[u8]>, Errno>,
        socket: Option<Socket>,
    ) {
        if let Some(socket) = socket {
            self.stay(key, socket);
        }
        let Some(slot) = self.slot(key) else { return };
        let rest = match rest {
            Ok(rest) => rest,
            Err(_) => return self.end(key, true),
        };
        if matches!(slot.phase, Phase::Ending { .. }) {
            return;
        }
        let slot = &mut self.slots[key.slot() as usize];
        slot.sending = true;
        slot.owned = rest.len() as u32;
        self.kept += rest.len();
        self.ring.send_owned(key, &slot.socket, rest);
        if slot.armed {
            // It does not read: it need not be heard until it does.
            self.ring.cancel_recv(key);
        }
        self.watch(key, self.settings.send_s);
    }

    pub(super) fn on_sent(&mut self, key: Key, result: Result<(), Errno>) {
        let idle_s = self.settings.timeouts.idle_s;
        let Some(slot) = self.slot(key) else { return };
        slot.sending = false;
        slot.unsent = UNKNOWN;
        let (phase, owned) = (slot.phase, mem::take(&mut slot.owned));
        self.kept -= owned as usize;
        match (phase, result) {
            (Phase::Ending { .. }, _) => self.join(key),
            (_, Err(_)) => self.end(key, true),
            (_, Ok(())) => {
                self.set_deadline(key, idle_s);
                let slot = &mut self.slots[key.slot() as usize];
                if slot.phase == Phase::Serving {
                    slot.listed_idle = true;
                    self.order.append(key.slot(), EvictionList::Idle);
                }
                self.go_on(key);
            }
        }
    }
}
