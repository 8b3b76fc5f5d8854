//! How connections end: with their last answer, out of time, or with the worker.

use std::mem;
use std::net::Shutdown;

use annulus_ring::{Key, RecvMode, Ring, Socket};

use super::Worker;
use super::eviction_lists::EvictionList;
use super::progress::{ONLY_FIN, UNKNOWN};
use super::slot::Phase;
use crate::connection::{Action, Connection, Progress, RequestError};
use crate::limits::{CLOSED_WITH_BYTES_MAX, LAST_WORD_S, LINGER_S};
use crate::metrics::labels::WaitingFor;
use crate::tls::HandshakeState;

impl<R: Ring> Worker<R> {
    /// Everything is sent: shuts our side, and reads what the client may still have sent,
    /// lest the kernel answers it with RST and the client loses the last reply.
    pub(super) fn linger(&mut self, key: Key) {
        let slot = &mut self.slots[key.slot() as usize];
        slot.phase = Phase::Lingering;
        self.ring.shutdown(&slot.socket, Shutdown::Write);
        self.order.append(key.slot(), EvictionList::Lingering);
        self.watch(key, LINGER_S);
        self.receive(key, RecvMode::Multishot);
    }

    /// Sends the last answer of a connection, and closes it if the answer goes out whole.
    pub(super) fn depart(&mut self, key: Key, written: usize) {
        let slot = &mut self.slots[key.slot() as usize];
        slot.phase = Phase::Departing;
        let socket = slot.give_socket();
        self.wheel.remove(key.slot());
        self.departing.push(key);
        self.ring.send_and_close(key, socket, written);
    }

    /// The last answer of a connection fell short: the connection stays for the rest.
    pub(super) fn stay(&mut self, key: Key, socket: Socket) {
        let slot = &mut self.slots[key.slot() as usize];
        slot.socket = socket;
        slot.phase = Phase::Flushing;
    }

    /// Lets go of the connections whose last answer did not fall short: the ring has closed them.
    pub(super) fn let_go(&mut self) {
        let mut departing = mem::take(&mut self.departing);
        for key in departing.drain(..) {
            let slot = self.slots.get(key.slot() as usize);
            if slot.is_some_and(|slot| slot.phase == Phase::Departing) {
                let _given_away = self.remove(key);
            }
        }
        self.departing = departing;
    }

    /// Ends a connection, with RST or orderly, now or when the kernel has let go of it.
    pub(super) fn end(&mut self, key: Key, reset: bool) {
        let slot = &mut self.slots[key.slot() as usize];
        slot.phase = Phase::Ending { reset };
        self.end_stream(key);
        self.forget(key);
        let slot = &self.slots[key.slot() as usize];
        if slot.armed || slot.sending {
            let socket = &slot.socket;
            self.ring.shutdown(socket, Shutdown::Both);
            self.set_deadline(key, LINGER_S);
        } else {
            self.join(key);
        }
    }

    /// Closes an ending connection of which nothing is in the kernel any more.
    pub(super) fn join(&mut self, key: Key) {
        let slot = &self.slots[key.slot() as usize];
        let Phase::Ending { reset } = slot.phase else { return };
        if slot.armed || slot.sending {
            return;
        }
        let socket = self.remove(key);
        if reset {
            self.ring.reset(socket);
        } else {
            self.ring.close(socket);
        }
    }

    pub(super) fn on_tick(&mut self) {
        self.wheel.advance(self.now_s, &mut self.due);
        self.sweeping = true;
        self.doors.open(&mut self.ring);
        match self.shutdown_at_s {
            None => {}
            Some(_) if !self.is_out_of_time() => self.close_idle(),
            Some(at_s) => self.close_all(self.now_s - at_s < LAST_WORD_S),
        }
    }

    /// Waits for nobody any more. Who is in the middle of a request has an answer to that yet, if
    /// there is time for a `last_word`. What the kernel has of answers it goes on to send; a full
    /// scrape is reset, for its end would look like that of a whole one.
    fn close_all(&mut self, last_word: bool) {
        let all: Vec<Key> = self.slots.iter().map(|(index, slot)| slot.key(index)).collect();
        for key in all {
            let slot = &self.slots[key.slot() as usize];
            match slot.phase {
                Phase::Departing => {}
                Phase::Serving if last_word && !slot.sending => self.expire(key),
                Phase::Streaming | Phase::Ending { .. } => self.end(key, true),
                _ => self.end(key, false),
            }
        }
    }

    /// A connection has had its time.
    pub(super) fn expire(&mut self, key: Key) {
        let turn = self.turn;
        let slot = &mut self.slots[key.slot() as usize];
        match slot.phase {
            Phase::Serving if slot.queued || slot.sent_turn == turn => {
                self.set_deadline(key, 1);
            }
            // A few bytes may have come that were not worth a wake: they are read now.
            Phase::Serving if slot.bytes_awaited > 1 => {
                let soon_s = self.now_s.saturating_add(1);
                slot.bytes_awaited = 1;
                self.ring.set_rcvlowat(&slot.socket, 1);
                slot.deadline_s = slot.connection.deadline_s().max(soon_s);
                self.wheel.set(key.slot(), slot.deadline_s);
            }
            Phase::Serving if !slot.sending => {
                let is_idle = overdue(&slot.connection) == WaitingFor::Idle;
                if is_idle && !self.is_out_of_time() && self.is_busy_taking(key) {
                    return;
                }
                let slot = &mut self.slots[key.slot() as usize];
                self.counters.timeouts.add(overdue(&slot.connection));
                self.give_up(key);
            }
            // Its turn comes.
            Phase::Streaming | Phase::Flushing if !slot.sending => self.set_deadline(key, 1),
            Phase::Lingering if slot.unsent <= ONLY_FIN => self.end(key, false),
            phase => {
                if !matches!(phase, Phase::Ending { .. }) {
                    self.counters.timeouts.add(WaitingFor::Send);
                }
                self.end(key, true);
            }
        }
    }

    /// Whether an idle client's time is not over, for it was busy with the last answer: its idle
    /// time begins when it has taken that. Who takes nothing of it is reset.
    fn is_busy_taking(&mut self, key: Key) -> bool {
        let unsent = self.unsent(key);
        let before = mem::replace(&mut self.slots[key.slot() as usize].unsent, unsent);
        match before {
            UNKNOWN if unsent == 0 => return false,
            _ if unsent == 0 => {
                self.slots[key.slot() as usize].unsent = UNKNOWN;
                self.set_deadline(key, self.settings.timeouts.idle_s);
            }
            _ if before == UNKNOWN || self.has_progressed(before, unsent) => {
                self.set_deadline(key, self.settings.send_s);
            }
            _ => {
                self.counters.timeouts.add(WaitingFor::Send);
                self.end(key, true);
            }
        }
        true
    }

    /// Ends a connection whose client is not waited for any longer, with an answer to what it left
    /// unfinished.
    pub(super) fn give_up(&mut self, key: Key) {
        let slot = &mut self.slots[key.slot() as usize];
        let out = self.ring.send_buffer();
        let before = slot.held_bytes();
        let written =
            slot.connection.abort(RequestError::Timeout, &mut self.server, &mut self.scratch, out);
        self.recount(key, before);
        if written > 0 {
            let next = Action::Close { unread: true };
            self.follow(key, Progress { written, next });
        } else {
            self.end(key, false);
        }
    }

    /// Accepts no more, and has every connection end with the answer to the last request that it
    /// has sent by now; those that wait between two requests end now.
    pub(super) fn begin_shutdown(&mut self) {
        self.shutdown_at_s = Some(self.now_s.saturating_add(self.settings.shutdown_s));
        self.doors.finish(&mut self.ring);
        let all: Vec<Key> = self.slots.iter().map(|(index, slot)| slot.key(index)).collect();
        all.into_iter().for_each(|key| self.note_owed(key));
        self.close_idle();
    }

    /// Notes what the client has sent that is not received yet.
    pub(super) fn note_owed(&mut self, key: Key) {
        let slot = &mut self.slots[key.slot() as usize];
        if slot.phase == Phase::Serving {
            slot.owed = u32::try_from(self.ring.unread_bytes(&slot.socket)).unwrap_or(u32::MAX);
        }
    }

    /// Closes, of a worker that stops, the connections of which nothing is under way: those that
    /// wait between two requests, but for those whose last reply may yet fall short, and those that
    /// linger, but for those that have not taken everything.
    fn close_idle(&mut self) {
        let turn = self.turn;
        let all: Vec<Key> = self.slots.iter().map(|(index, slot)| slot.key(index)).collect();
        for key in all {
            let slot = &self.slots[key.slot() as usize];
            if slot.sent_turn != turn && self.may_leave(key) {
                self.part_from(key);
            } else if slot.phase == Phase::Lingering
                && self.unsent(key) <= ONLY_FIN
                && self.ring.unread_bytes(&slot.socket) == 0
            {
                self.end(key, false);
            }
        }
    }

    /// Lets go of an idle client, after what the ring may have received meanwhile is answered.
    pub(super) fn part_from(&mut self, key: Key) {
        let slot = &self.slots[key.slot() as usize];
        if slot.armed {
            // When that ends, `go_on` goes on.
            self.ring.cancel_recv(key);
        } else if !slot.queued {
            self.leave(key);
        }
    }

    /// Whether a shutdown has had its time.
    fn is_out_of_time(&self) -> bool {
        self.shutdown_at_s.is_some_and(|at_s| self.now_s >= at_s)
    }

    /// Whether a worker that stops, or that makes room, has nothing to wait for from a client: one
    /// that waits between two requests, or that has said nothing all the time. Who has just come
    /// may have a request on its way.
    pub(super) fn may_leave(&self, key: Key) -> bool {
        let slot = &self.slots[key.slot() as usize];
        if slot.evicted {
            return slot.is_idle();
        }
        let Some(at_s) = self.shutdown_at_s else { return false };
        let connection = &slot.connection;
        let began_s = at_s.saturating_sub(self.settings.shutdown_s);
        let waits_since_s = match overdue(connection) {
            WaitingFor::Handshake => {
                connection.deadline_s().saturating_sub(self.settings.timeouts.handshake_s)
            }
            _ => connection.deadline_s().saturating_sub(self.settings.timeouts.header_s),
        };
        let has_had_time = connection.has_answered()
            || self.now_s >= began_s.min(waits_since_s).saturating_add(LINGER_S);
        slot.is_idle() && has_had_time
    }

    /// Whether so little is left of a connection's answers that the kernel is trusted with it.
    pub(super) fn are_as_good_as_taken(&self, key: Key) -> bool {
        let slot = &self.slots[key.slot() as usize];
        slot.sent_turn == 0 || self.ring.unsent_bytes(key, &slot.socket) <= CLOSED_WITH_BYTES_MAX
    }

    /// Lets go of an idle client, whatever it does then: at once if it has asked nothing more and
    /// its answers are as good as taken. No receive may be armed.
    pub(super) fn leave(&mut self, key: Key) {
        let slot = &self.slots[key.slot() as usize];
        if self.ring.unread_bytes(&slot.socket) > 0 {
            return self.receive(key, RecvMode::Immediate);
        }
        let are_taken = self.are_as_good_as_taken(key);
        let out = self.ring.send_buffer();
        let slot = &mut self.slots[key.slot() as usize];
        let before = slot.held_bytes();
        let written = slot.connection.close_notify(out);
        self.recount(key, before);
        if !are_taken {
            self.follow(key, Progress { written, next: Action::Close { unread: true } });
        } else if written > 0 {
            self.counters.bytes_sent.add(written as u64);
            self.depart(key, written);
        } else {
            self.end(key, false);
        }
    }
}

/// What a client has not done in time that is not asked to read.
pub(super) fn overdue(connection: &Connection) -> WaitingFor {
    if connection.handshake() == Some(HandshakeState::InProgress) {
        WaitingFor::Handshake
    } else if connection.has_answered() && connection.pending_bytes() == 0 {
        WaitingFor::Idle
    } else {
        WaitingFor::Header
    }
}
