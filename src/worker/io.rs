//! Receiving requests and sending responses.

use std::mem;

use annulus_ring::{Errno, Key, RecvBuf, RecvEnd, RecvMode, Ring, UnsentRest};

use super::Worker;
use super::eviction_lists::EvictionList;
use super::slot::{Phase, UNSENT_UNKNOWN};
use crate::connection::{Action, Progress, Turn};
use crate::limits::{
    FINISHED_WAIT_S, HANDSHAKES_PER_TURN_MAX, LINGER_BYTES_MAX, LINGER_S, RESPONSE_BYTES_PER_TURN,
    UNACKED_AT_CLOSE_MAX, UNREAD_BYTES_MAX, UNREAD_BYTES_PAUSE,
};
use crate::metrics::labels::{Rejection, Resumption, TlsVersion};
use crate::tls::HandshakeState;

impl<R: Ring> Worker<R> {
    pub(super) fn receive(&mut self, key: Key, mode: RecvMode) {
        let slot = &mut self.slots[key];
        if !slot.recv_pending && !slot.peer_closed {
            slot.recv_pending = true;
            self.ring.recv(key, &slot.socket, mode);
        }
    }

    pub(super) fn on_received(&mut self, key: Key, mut buffer: RecvBuf, more: bool) {
        let turn = self.turn;
        let queue_request = self.is_request_budget_spent();
        let queue_handshake = self.must_queue_handshake();
        self.counters.bytes_received.add(buffer.len() as u64);
        let Some(slot) = self.slots.get_mut(key) else { return };
        slot.recv_pending = more;
        slot.buffer_filled = buffer.is_full();
        slot.unread_at_stop = slot.unread_at_stop.saturating_sub(buffer.len() as u32);
        let later = queue_request
            || slot.send_pending
            || slot.scheduled
            || slot.sent_turn == turn
            || (queue_handshake && slot.connection.may_be_costly(&buffer));
        match slot.phase {
            Phase::Serving if later => self.buffer(key, &buffer),
            Phase::Serving => self.process(key, &mut buffer),
            Phase::Streaming | Phase::Flushing | Phase::Lingering => {
                slot.dropped_bytes = slot.dropped_bytes.saturating_add(buffer.len() as u32);
                let lingers = slot.phase == Phase::Lingering;
                if slot.dropped_bytes > LINGER_BYTES_MAX {
                    self.close(key, true);
                } else if lingers {
                    self.receive(key, RecvMode::Multishot);
                }
            }
            Phase::Closing { .. } => self.close_if_idle(key),
        }
    }

    /// Buffers bytes for a later turn.
    fn buffer(&mut self, key: Key, bytes: &[u8]) {
        let slot = &mut self.slots[key];
        let before = slot.buffered_bytes();
        slot.connection.buffer(bytes);
        let pause = slot.recv_pending && slot.connection.pending_bytes() > UNREAD_BYTES_PAUSE;
        let too_much = slot.connection.allocated_bytes() > UNREAD_BYTES_MAX;
        self.update_buffered(key, before);
        if too_much {
            self.counters.rejected.add(Rejection::Unread);
            return self.close(key, true);
        }
        if pause {
            self.ring.cancel_recv(key);
        }
        self.schedule(key);
    }

    /// Answers what `bytes` and the buffered ones before them complete.
    fn process(&mut self, key: Key, bytes: &mut [u8]) {
        let out = self.ring.send_buffer();
        let slot = &mut self.slots[key];
        let stopping = self.shutdown_at_s.is_some() && slot.unread_at_stop == 0;
        // Near the limit, responses close their connections, except of a client that has sent more
        // than one receive takes.
        let make_room = (self.eviction.near_limit || slot.evicted) && !slot.buffer_filled;
        self.server.set_closing(stopping || make_room);
        let before = slot.buffered_bytes();
        let connection = &mut slot.connection;
        self.handshake_steps += u32::from(connection.may_be_costly(bytes));
        let handshake = connection.handshake();
        let (handler, timeouts) = (&mut self.server, &self.config.timeouts);
        let mut turn = Turn { handler, now_s: self.now_s, timeouts, out };
        let progress = connection.receive(bytes, &mut self.tls_buffers, &mut turn);
        if handshake == Some(HandshakeState::InProgress)
            && let Some(HandshakeState::Done { tls13, resumed }) = connection.handshake()
        {
            let version = if tls13 { TlsVersion::Tls13 } else { TlsVersion::Tls12 };
            let resumption = if resumed { Resumption::Resumed } else { Resumption::Full };
            self.counters.handshakes.add((version, resumption));
        }
        self.update_buffered(key, before);
        self.apply(key, progress);
    }

    /// Sends what was written, and does what is next.
    pub(super) fn apply(&mut self, key: Key, progress: Progress) {
        let Progress { written, next } = progress;
        self.sent_bytes += written;
        self.counters.bytes_sent.add(written as u64);
        let slot = &mut self.slots[key];
        let last = matches!(next, Action::Close { unread: false })
            && (1..=UNACKED_AT_CLOSE_MAX).contains(&written)
            && !(slot.buffer_filled || slot.recv_pending)
            && (slot.sent_turn == 0 || self.ring.unsent_bytes(key, &slot.socket) == 0);
        if last {
            return self.send_and_close(key, written);
        }
        if written > 0 {
            slot.sent_turn = self.turn;
            slot.unsent_bytes = UNSENT_UNKNOWN;
            self.ring.send(key, &slot.socket, written);
        }
        match next {
            Action::Receive if slot.peer_closed && written == 0 => self.finish_after_eof(key),
            Action::Receive if slot.peer_closed => self.schedule(key),
            // Closed by `resume`, when it is known whether the response went out whole.
            Action::Receive if self.may_close_idle(key) => self.schedule(key),
            Action::Receive => {
                let slot = &self.slots[key];
                // A client that sends more than a buffer at once is received buffer by buffer: a
                // multishot receive would bring more than a turn answers.
                let mode = if slot.buffer_filled { RecvMode::Immediate } else { slot.recv_mode() };
                self.await_request(key);
                self.receive(key, mode);
            }
            Action::Resume => self.schedule(key),
            Action::Stream => self.begin_stream(key),
            Action::Reset => self.close(key, true),
            Action::Close { .. } => {
                self.slots[key].phase = Phase::Flushing;
                self.drop_buffered(key);
                self.set_deadline(key, LINGER_S);
                self.schedule(key);
            }
        }
    }

    /// Sets how many bytes wake the worker, and until when they have to come.
    fn await_request(&mut self, key: Key) {
        let soon_s = self.now_s.saturating_add(FINISHED_WAIT_S);
        let slot = &mut self.slots[key];
        let bytes = slot.connection.bytes_awaited();
        let before_s = mem::replace(&mut slot.deadline_s, slot.connection.deadline_s());
        // Within one second the order of the list does not matter.
        let listed = slot.listed_idle && slot.deadline_s == before_s;
        if slot.connection.has_answered() && !listed {
            slot.listed_idle = true;
            self.eviction.lists.append(key.slot(), EvictionList::Idle);
        }
        if bytes > 1 {
            // If fewer have come by then, `expire` has them received.
            slot.deadline_s = slot.deadline_s.min(soon_s);
        }
        if mem::replace(&mut slot.rcvlowat, bytes) != bytes {
            self.ring.set_rcvlowat(&slot.socket, bytes);
        }
        self.timers.set(key.slot(), slot.deadline_s);
    }

    /// Has the next turn resume a connection, unless a pending send will.
    pub(super) fn schedule(&mut self, key: Key) {
        let slot = &mut self.slots[key];
        if !slot.scheduled && !slot.send_pending {
            slot.scheduled = true;
            match slot.phase {
                Phase::Streaming => self.stream_queue.push_back(key),
                Phase::Serving if slot.connection.may_be_costly(&[]) => {
                    self.handshake_queue.push_back(key);
                }
                _ => self.resume_queue.push_back(key),
            }
        }
    }

    /// Goes on with a connection whose responses are all sent.
    pub(super) fn resume(&mut self, key: Key) {
        let no_handshake = self.handshake_steps >= HANDSHAKES_PER_TURN_MAX;
        let Some(slot) = self.slots.get_mut(key).filter(|slot| !slot.send_pending) else { return };
        match slot.phase {
            Phase::Serving if no_handshake && slot.connection.may_be_costly(&[]) => {
                self.schedule(key);
            }
            Phase::Serving if slot.connection.pending_bytes() > 0 => {
                if self.sent_bytes >= RESPONSE_BYTES_PER_TURN {
                    return self.schedule(key);
                }
                self.process(key, &mut []);
            }
            Phase::Serving if slot.peer_closed => self.finish_after_eof(key),
            Phase::Serving => {
                let mode = slot.recv_mode();
                if self.may_close_idle(key) {
                    self.close_when_received(key);
                } else {
                    self.receive(key, mode);
                }
            }
            Phase::Streaming => self.schedule(key),
            Phase::Flushing => {
                if slot.peer_closed && self.is_nearly_acked(key) {
                    self.close(key, false);
                } else {
                    self.linger(key);
                }
            }
            Phase::Lingering | Phase::Closing { .. } => {}
        }
    }

    pub(super) fn on_recv_ended(&mut self, key: Key, end: RecvEnd) {
        let turn = self.turn;
        let Some(slot) = self.slots.get_mut(key) else { return };
        slot.recv_pending = false;
        match (slot.phase, end) {
            (Phase::Closing { .. }, _) => self.close_if_idle(key),
            (_, RecvEnd::Error(_)) => self.close(key, true),
            (Phase::Serving | Phase::Lingering, RecvEnd::NoBuffers) => {
                // With TLS, that much may be an unfinished record and a head.
                let paused = (slot.send_pending || slot.scheduled)
                    && slot.connection.pending_bytes() > UNREAD_BYTES_PAUSE;
                let mode = slot.recv_mode();
                if !paused {
                    self.receive(key, mode);
                }
            }
            (_, RecvEnd::NoBuffers) => {}
            // Received again when what is pending has been answered.
            (Phase::Serving, RecvEnd::Cancelled) => self.schedule(key),
            // Cancelled while a response was late; lingering has begun since.
            (Phase::Lingering, RecvEnd::Cancelled) => self.receive(key, RecvMode::Multishot),
            (_, RecvEnd::Cancelled) => {}
            (phase, RecvEnd::Eof) => {
                slot.peer_closed = true;
                match phase {
                    Phase::Serving if slot.send_pending || slot.scheduled => {}
                    Phase::Serving if slot.sent_turn == turn => self.schedule(key),
                    Phase::Serving => self.finish_after_eof(key),
                    Phase::Lingering => self.close(key, false),
                    Phase::Streaming | Phase::Flushing | Phase::Closing { .. } => {}
                }
            }
        }
    }

    pub(super) fn on_send_incomplete(&mut self, key: Key, rest: UnsentRest) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let Ok(rest) = rest else { return self.close(key, true) };
        if matches!(slot.phase, Phase::Closing { .. }) {
            return;
        }
        slot.send_pending = true;
        slot.owned_bytes = rest.len() as u32;
        self.buffered_bytes += rest.len();
        self.ring.send_owned(key, &slot.socket, rest);
        if slot.recv_pending {
            // Backpressure: nothing is received until the pending send completes.
            self.ring.cancel_recv(key);
        }
        self.track_progress(key, self.config.send_s);
    }

    pub(super) fn on_sent(&mut self, key: Key, result: Result<(), Errno>) {
        let idle_s = self.config.timeouts.idle_s;
        let Some(slot) = self.slots.get_mut(key) else { return };
        slot.send_pending = false;
        slot.unsent_bytes = UNSENT_UNKNOWN;
        let (phase, owned_bytes) = (slot.phase, mem::take(&mut slot.owned_bytes));
        self.buffered_bytes -= owned_bytes as usize;
        match (phase, result) {
            (Phase::Closing { .. }, _) => self.close_if_idle(key),
            (_, Err(_)) => self.close(key, true),
            (_, Ok(())) => {
                self.set_deadline(key, idle_s);
                if phase == Phase::Serving {
                    self.slots[key].listed_idle = true;
                    self.eviction.lists.append(key.slot(), EvictionList::Idle);
                }
                self.resume(key);
            }
        }
    }

    /// Begins a full scrape, whose head was just sent. Several are sent at once, each with a cursor
    /// of its own, but a turn sends one chunk of one of them.
    fn begin_stream(&mut self, key: Key) {
        let slot = &mut self.slots[key];
        slot.phase = Phase::Streaming;
        slot.stream = Some(Box::new(self.server.begin_full_scrape()));
        self.set_deadline(key, self.config.send_s);
        self.schedule(key);
    }

    /// Sends the next chunk of the stream that has waited longest.
    pub(super) fn send_next_chunk(&mut self) {
        while let Some(key) = self.stream_queue.pop_front() {
            let Some(slot) = self.slots.get_mut(key) else { continue };
            slot.scheduled = false;
            if slot.phase == Phase::Streaming && !slot.send_pending {
                return self.send_chunk(key);
            }
        }
    }

    fn send_chunk(&mut self, key: Key) {
        let slot = &mut self.slots[key];
        let before = slot.buffered_bytes();
        let Some(stream) = &mut slot.stream else { return };
        let (out, server) = (self.ring.send_buffer(), &mut self.server);
        let write = |out: &mut [u8]| server.write_scrape_chunk(stream, out);
        let (len, more) = slot.connection.stream_chunk(&mut self.tls_buffers, out, write);
        self.counters.bytes_sent.add(len as u64);
        if len > 0 {
            slot.sent_turn = self.turn;
            self.ring.send(key, &slot.socket, len);
        }
        if !more {
            slot.phase = Phase::Flushing;
            self.end_stream(key);
        }
        self.update_buffered(key, before);
        self.set_deadline(key, self.config.send_s);
        self.schedule(key);
    }

    pub(super) fn end_stream(&mut self, key: Key) {
        if self.slots[key].stream.take().is_some() {
            self.server.end_full_scrape();
        }
    }
}
