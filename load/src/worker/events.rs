//! What a worker makes of the ring's events.

use std::io::{self, ErrorKind};

use annulus_ring::{Connect, Errno, Event, Key, RecvEnd, Socket};

use super::{REST_NS, Worker};
use crate::client::Standing;
use crate::fault::{Fault, Wrong};
use crate::tls::Connector;

impl<R: Connect> Worker<R> {
    /// The slot of a connection that is not gone.
    fn find(&self, key: Key) -> Option<u32> {
        let slot = self.slots.get(key.slot() as usize)?;
        (slot.generation == key.generation()).then_some(key.slot())
    }

    pub(super) fn on_event(&mut self, event: Event) {
        match event {
            Event::Received { key, buffer, more } => {
                self.judge.tally.received_bytes += buffer.len() as u64;
                self.on_received(key, &buffer, more);
            }
            Event::RecvEnded { key, end } => self.on_recv_ended(key, end),
            Event::Connected { key, result } => self.on_connected(key, result),
            Event::SendIncomplete { key, rest, .. } => self.on_incomplete(key, rest),
            Event::Sent { key, result } => self.on_sent(key, result),
            Event::Tick => self.on_tick(),
            // It was woken to see that it is to stop.
            Event::Wake => {}
            // It has no listeners.
            Event::Accepted { .. } | Event::AcceptEnded { .. } => debug_assert!(false),
        }
    }

    fn on_connected(&mut self, key: Key, result: Result<Socket, Errno>) {
        let Some(at) = self.find(key) else { return debug_assert!(false, "nobody dialed") };
        let slot = &mut self.slots[at as usize];
        slot.dialing = false;
        match result {
            Ok(socket) => {
                if self.judge.local.is_none() {
                    self.judge.local = socket.local_address().ok().map(|address| address.ip());
                }
                slot.from = slot.from.or(self.judge.local);
                slot.socket = Some(socket);
                self.judge.tally.connections += 1;
                let session = self.connector.as_ref().map(Connector::connect).transpose();
                let begun = session
                    .map_err(|what| Wrong::because(Fault::Tls, what))
                    .and_then(|session| slot.client.begin(session));
                match begun {
                    Ok(()) => self.touch(at),
                    Err(wrong) => self.fail(at, &wrong),
                }
            }
            Err(errno) => {
                // Where it has had its time, it is cancelled.
                let timeout_ns = self.settings.timeout_ns;
                let error = match self.now_ns.saturating_sub(slot.dialed_ns) >= timeout_ns {
                    true => io::Error::from(ErrorKind::TimedOut),
                    false => io::Error::from(errno),
                };
                let hint = match (error.kind(), slot.from) {
                    (ErrorKind::AddrNotAvailable, None) => "; more --sources have more ports",
                    (ErrorKind::AddrNotAvailable, Some(_)) => "; sources not ours, or out of ports",
                    _ => "",
                };
                let wrong = Wrong::because(Fault::Connect, format_args!("{error}{hint}"));
                slot.client.broken(&wrong, &mut self.judge);
                slot.resting = true;
                if self.resting.is_empty() {
                    self.rested_ns = self.now_ns + REST_NS;
                }
                self.resting.push(at);
            }
        }
    }

    fn on_received(&mut self, key: Key, bytes: &[u8], more: bool) {
        let Some(at) = self.find(key) else { return };
        let slot = &mut self.slots[at as usize];
        slot.armed = more;
        if slot.closing.is_some() {
            return self.close_if_idle(at);
        }
        self.judge.from = slot.from;
        let standing = slot.client.receive(bytes, &mut self.judge);
        self.settle(at, standing);
    }

    /// Goes on with a connection, or ends it.
    fn settle(&mut self, at: u32, standing: Result<Standing, Wrong>) {
        match standing {
            Ok(Standing::Open) => self.touch(at),
            Ok(Standing::Ended) => {
                self.slots[at as usize].client.ended();
                self.close(at, false);
            }
            Err(wrong) => self.fail(at, &wrong),
        }
    }

    fn on_recv_ended(&mut self, key: Key, end: RecvEnd) {
        let Some(at) = self.find(key) else { return };
        let slot = &mut self.slots[at as usize];
        slot.armed = false;
        if slot.closing.is_some() {
            return self.close_if_idle(at);
        }
        match end {
            RecvEnd::Eof => {
                self.judge.from = slot.from;
                let standing = slot.client.end(&mut self.judge);
                self.settle(at, standing);
            }
            RecvEnd::NoBuffers | RecvEnd::Cancelled => self.touch(at),
            RecvEnd::Error(errno) => self.on_socket_failed(at, errno),
        }
    }

    /// Ends a connection that cannot be used any more. Where a server has ended it between two
    /// answers and a request was on its way then, its end comes as a reset.
    fn on_socket_failed(&mut self, at: u32, errno: Errno) {
        let error = io::Error::from(errno);
        let gone = matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
        let client = &mut self.slots[at as usize].client;
        if gone && client.is_between_answers() {
            let standing = client.end(&mut self.judge);
            return self.settle(at, standing);
        }
        self.fail(at, &Wrong::because(Fault::Socket, error));
    }

    fn on_incomplete(&mut self, key: Key, rest: Result<Box<[u8]>, Errno>) {
        let Some(at) = self.find(key) else { return };
        let slot = &mut self.slots[at as usize];
        let Some(socket) = slot.socket.as_ref().filter(|_| slot.closing.is_none()) else { return };
        match rest {
            Ok(rest) => {
                slot.sending = true;
                self.ring.send_owned(slot.key(at), socket, rest);
            }
            Err(errno) => self.on_socket_failed(at, errno),
        }
    }

    fn on_sent(&mut self, key: Key, result: Result<(), Errno>) {
        let Some(at) = self.find(key) else { return };
        let slot = &mut self.slots[at as usize];
        slot.sending = false;
        match result {
            _ if slot.closing.is_some() => self.close_if_idle(at),
            Ok(()) => self.touch(at),
            Err(errno) => self.on_socket_failed(at, errno),
        }
    }

    fn on_tick(&mut self) {
        for at in 0..self.settings.own_slots {
            self.judge_patience(at);
        }
        self.report(false);
    }

    /// Ends what has had its time.
    fn judge_patience(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        if slot.closing.is_some() {
            return;
        }
        let late = |since_ns: u64| self.now_ns.saturating_sub(since_ns) >= self.settings.timeout_ns;
        if slot.dialing {
            if late(slot.dialed_ns) {
                self.ring.cancel_connect(slot.key(at));
            }
            return;
        }
        let silent = match slot.client.first() {
            Some(asked) if slot.client.in_flight() > 0 => late(asked.sent_ns),
            _ => slot.client.is_handshaking() && late(slot.dialed_ns),
        };
        if slot.socket.is_some() && silent {
            self.fail(at, &Fault::Silence.into());
        }
    }
}
