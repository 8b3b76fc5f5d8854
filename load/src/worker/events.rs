//! What a worker does about the ring's events.

use std::io::{self, ErrorKind};

use annulus_ring::{Connect, Errno, Event, Key, RecvEnd, Socket};

use super::{LoadWorker, RETRY_NS};
use crate::client::ConnectionStatus;
use crate::failure::{Failure, FailureKind};
use crate::tls::TlsConnector;

impl<R: Connect> LoadWorker<R> {
    /// The slot of a connection that still exists.
    fn find(&self, key: Key) -> Option<u32> {
        let slot = self.slots.get(key.slot() as usize)?;
        (slot.generation == key.generation()).then_some(key.slot())
    }

    pub(super) fn on_event(&mut self, event: Event) {
        match event {
            Event::Received { key, buffer, more } => {
                self.parts.validator.stats.received_bytes += buffer.len() as u64;
                self.on_received(key, &buffer, more);
            }
            Event::RecvEnded { key, end } => self.on_recv_ended(key, end),
            Event::Connected { key, result } => self.on_connected(key, result),
            Event::SendIncomplete { key, rest, .. } => self.on_send_incomplete(key, rest),
            Event::Sent { key, result } => self.on_sent(key, result),
            Event::Tick => {
                (0..self.parts.config.own_slots).for_each(|at| self.check_timeout(at));
                self.report(false);
            }
            // The loop looks whether the run is to end.
            Event::Wake => {}
            Event::Accepted { .. }
            | Event::AcceptEnded { .. }
            | Event::Datagram(_)
            | Event::DatagramUnsent { .. }
            | Event::DatagramsFinished { .. } => debug_assert!(false),
        }
    }

    fn on_connected(&mut self, key: Key, result: Result<Socket, Errno>) {
        let Some(at) = self.find(key) else { return debug_assert!(false, "not connecting") };
        let slot = &mut self.slots[at as usize];
        let validator = &mut self.parts.validator;
        slot.connecting = false;
        match result {
            Ok(socket) => {
                if validator.local.is_none() {
                    validator.local = socket.local_address().ok().map(|address| address.ip());
                }
                slot.source = slot.source.or(validator.local);
                slot.socket = Some(socket);
                validator.stats.connections += 1;
                let session = self.parts.connector.as_ref().map(TlsConnector::connect).transpose();
                match session.and_then(|session| slot.client.begin(session)) {
                    Ok(()) => self.schedule(at),
                    Err(failure) => self.fail(at, &failure),
                }
            }
            Err(errno) => {
                // A connection that takes too long is cancelled.
                let took_ns = self.now_ns.saturating_sub(slot.connect_ns);
                let error = match took_ns >= self.parts.config.timeout_ns {
                    true => io::Error::from(ErrorKind::TimedOut),
                    false => io::Error::from(errno),
                };
                let hint = match (error.kind(), slot.source) {
                    (ErrorKind::AddrNotAvailable, None) => "; --sources gives more ports",
                    (ErrorKind::AddrNotAvailable, Some(_)) => {
                        "; --sources are not this machine's, or have no free ports"
                    }
                    _ => "",
                };
                let failure = Failure::new(FailureKind::Connect, format_args!("{error}{hint}"));
                slot.client.fail(&failure, validator);
                slot.in_backoff = true;
                if self.backoff.is_empty() {
                    self.backoff_until_ns = self.now_ns + RETRY_NS;
                }
                self.backoff.push(at);
            }
        }
    }

    fn on_received(&mut self, key: Key, bytes: &[u8], more: bool) {
        let Some(at) = self.find(key) else { return };
        let slot = &mut self.slots[at as usize];
        slot.recv_pending = more;
        if slot.closing.is_some() {
            return self.close_if_idle(at);
        }
        self.parts.validator.source = slot.source;
        let status = slot.client.receive(bytes, &mut self.parts.validator);
        self.apply(at, status);
    }

    /// Resumes a connection, or closes it.
    fn apply(&mut self, at: u32, status: Result<ConnectionStatus, Failure>) {
        match status {
            Ok(ConnectionStatus::Open) => self.schedule(at),
            Ok(ConnectionStatus::Ended) => {
                self.slots[at as usize].client.requeue();
                self.close(at, false);
            }
            Err(failure) => self.fail(at, &failure),
        }
    }

    fn on_recv_ended(&mut self, key: Key, end: RecvEnd) {
        let Some(at) = self.find(key) else { return };
        let slot = &mut self.slots[at as usize];
        slot.recv_pending = false;
        if slot.closing.is_some() {
            return self.close_if_idle(at);
        }
        match end {
            RecvEnd::Eof => {
                self.parts.validator.source = slot.source;
                let status = slot.client.end(&mut self.parts.validator);
                self.apply(at, status);
            }
            RecvEnd::NoBuffers | RecvEnd::Cancelled => self.schedule(at),
            RecvEnd::Error(errno) => self.on_socket_error(at, errno),
        }
    }

    /// Ends a connection that failed. When a server closes between two responses and a request
    /// arrives then, the client gets a reset.
    fn on_socket_error(&mut self, at: u32, errno: Errno) {
        let error = io::Error::from(errno);
        let is_reset = matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
        let client = &mut self.slots[at as usize].client;
        if is_reset && client.is_between_responses() {
            let status = client.end(&mut self.parts.validator);
            return self.apply(at, status);
        }
        self.fail(at, &Failure::new(FailureKind::Socket, error));
    }

    fn on_send_incomplete(&mut self, key: Key, rest: Result<Box<[u8]>, Errno>) {
        let Some(at) = self.find(key) else { return };
        let slot = &mut self.slots[at as usize];
        let Some(socket) = slot.socket.as_ref().filter(|_| slot.closing.is_none()) else { return };
        match rest {
            Ok(rest) => {
                slot.send_pending = true;
                self.ring.send_owned(slot.key(at), socket, rest);
            }
            Err(errno) => self.on_socket_error(at, errno),
        }
    }

    fn on_sent(&mut self, key: Key, result: Result<(), Errno>) {
        let Some(at) = self.find(key) else { return };
        let slot = &mut self.slots[at as usize];
        slot.send_pending = false;
        match result {
            _ if slot.closing.is_some() => self.close_if_idle(at),
            Ok(()) => self.schedule(at),
            Err(errno) => self.on_socket_error(at, errno),
        }
    }

    /// Fails a connection whose oldest request, or whose handshake, takes too long.
    fn check_timeout(&mut self, at: u32) {
        let timeout_ns = self.parts.config.timeout_ns;
        let is_over = |since_ns: u64| self.now_ns.saturating_sub(since_ns) >= timeout_ns;
        let slot = &mut self.slots[at as usize];
        if slot.closing.is_some() {
            return;
        }
        if slot.connecting {
            if is_over(slot.connect_ns) {
                self.ring.cancel_connect(slot.key(at));
            }
            return;
        }
        let is_silent = match slot.client.pending.front() {
            Some(request) if slot.client.in_flight > 0 => is_over(request.sent_ns),
            _ => slot.client.is_handshaking() && is_over(slot.connect_ns),
        };
        if slot.socket.is_some() && is_silent {
            self.fail(at, &FailureKind::Silence.into());
        }
    }
}
