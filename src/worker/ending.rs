//! How connections end: with their last answer, out of time, or with the worker.

use std::mem;

use annulus_ring::{Expect, Half, Key, Ring, Socket};

use super::Worker;
use super::slot::{Phase, Slot};
use crate::connection::{Connection, Next, Progress};
use crate::limits::{LAST_WORD_S, LINGER_S};
use crate::metrics::labels::Timeout;
use crate::tls::Handshake;

impl<R: Ring> Worker<R> {
    /// Everything is sent: shuts our side, and reads what the client may still have sent,
    /// lest the kernel answers it with RST and the client loses the last reply.
    pub(super) fn linger(&mut self, key: Key) {
        let slot = &mut self.slots[key.slot() as usize];
        slot.phase = Phase::Lingering;
        self.ring.shutdown(&slot.socket, Half::Write);
        self.set_deadline(key, LINGER_S);
        self.receive(key, Expect::Later);
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
        if slot.armed || slot.sending {
            let socket = &slot.socket;
            self.ring.shutdown(socket, Half::Both);
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
        let mut due = mem::take(&mut self.due);
        self.wheel.advance(self.now_s, &mut due);
        for index in due.drain(..) {
            let Some(slot) = self.slots.get(index as usize) else { continue };
            let key = slot.key(index as usize);
            if slot.deadline_s > self.now_s {
                self.wheel.set(index, slot.deadline_s);
            } else {
                self.expire(key);
            }
        }
        self.due = due;
        self.sweeping = true;
        if self.slots.len() < self.settings.connections_max {
            self.doors.open(&mut self.ring);
        }
        match self.shutdown_at_s {
            None => {}
            Some(at_s) if self.now_s < at_s => self.close_idle(),
            Some(at_s) => self.close_all(self.now_s - at_s < LAST_WORD_S),
        }
    }

    /// Waits for nobody any more. Who is in the middle of a request has an answer to that yet, if
    /// there is time for a `last_word`.
    fn close_all(&mut self, last_word: bool) {
        let all: Vec<Key> = self.slots.iter().map(|(index, slot)| slot.key(index)).collect();
        for key in all {
            let slot = &self.slots[key.slot() as usize];
            if slot.phase == Phase::Departing {
                continue;
            }
            if last_word && slot.phase == Phase::Serving && !slot.sending {
                self.expire(key);
            } else {
                self.end(key, true);
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
                self.ring.await_bytes(&slot.socket, 1);
                slot.deadline_s = slot.connection.deadline_s().max(soon_s);
                self.wheel.set(key.slot(), slot.deadline_s);
            }
            Phase::Serving if !slot.sending => {
                self.counters.timeouts.add(overdue(&slot.connection));
                let out = self.ring.reply_space();
                let before = slot.connection.pending_bytes();
                let written = slot.connection.expire(&mut self.server, &mut self.scratch, out);
                self.kept = self.kept + slot.connection.pending_bytes() - before;
                if written > 0 {
                    let next = Next::Close { unread: true };
                    self.follow(key, Progress { written, next });
                } else {
                    self.end(key, false);
                }
            }
            phase => {
                let over = matches!(phase, Phase::Ending { .. });
                if (slot.sending && !over) || phase == Phase::Streaming {
                    self.counters.timeouts.add(Timeout::Send);
                }
                self.end(key, true);
            }
        }
    }

    /// Accepts no more, and has every connection end with its next answer; those that wait
    /// between two requests end now.
    pub(super) fn begin_shutdown(&mut self) {
        self.shutdown_at_s = Some(self.now_s.saturating_add(self.settings.shutdown_s));
        self.server.close_connections();
        self.doors.finish(&mut self.ring);
        self.close_idle();
    }

    /// Closes the connections that wait between two requests, but for those whose last reply
    /// may yet fall short.
    pub(super) fn close_idle(&mut self) {
        let turn = self.turn;
        let idle: Vec<Key> = self
            .slots
            .iter()
            .filter(|(_, slot)| {
                let Slot { connection, phase, sending, sent_turn, .. } = slot;
                let waits = *phase == Phase::Serving && connection.has_answered() && !sending;
                waits && *sent_turn != turn && connection.pending_bytes() == 0
            })
            .map(|(index, slot)| slot.key(index))
            .collect();
        for key in idle {
            let slot = &mut self.slots[key.slot() as usize];
            let written = slot.connection.take_leave(self.ring.reply_space());
            let progress = Progress { written, next: Next::Close { unread: true } };
            self.follow(key, progress);
        }
    }
}

/// What a client has not done in time that is not asked to read.
fn overdue(connection: &Connection) -> Timeout {
    if connection.handshake() == Some(Handshake::Underway) {
        Timeout::Handshake
    } else if connection.has_answered() && connection.pending_bytes() == 0 {
        Timeout::Idle
    } else {
        Timeout::Header
    }
}
