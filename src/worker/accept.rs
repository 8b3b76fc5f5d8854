//! Accepting connections: the state of each listener, and what becomes of a new connection.

use std::mem;
use std::net::IpAddr;

use annulus_ring::{AcceptEnd, Key, ListenerIndex, RecvMode, Ring, Socket};

use super::Worker;
use super::eviction_lists::EvictionList;
use crate::connection::{Connection, Handler};
use crate::log::WarningLimiter;
use crate::metrics::labels::{AddressFamily, Rejection, TransportKind};
use crate::rate_limit::ConnectionPermit;
use crate::tls::TlsAcceptor;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ListenerState {
    Accepting,
    /// At the limit of connections, or not started yet: accepts again when the ring wakes the
    /// worker because a connection is closed.
    Paused,
    /// Out of descriptors or memory: accepts again when some may be free.
    Backoff,
    /// Accepts what waits in the kernel, then closes.
    Draining,
    Closed,
}

/// All listeners of one worker.
pub(super) struct Listeners {
    states: Vec<ListenerState>,
    /// Whether one may be paused, or in backoff.
    any_stopped: bool,
    /// Whether a connection was closed in this turn.
    any_freed: bool,
    exhausted: WarningLimiter,
    failed: WarningLimiter,
}

impl Listeners {
    pub(super) fn new(listeners: ListenerIndex) -> Listeners {
        Listeners {
            states: vec![ListenerState::Paused; usize::from(listeners)],
            any_stopped: true,
            any_freed: false,
            exhausted: WarningLimiter::default(),
            failed: WarningLimiter::default(),
        }
    }

    pub(super) fn on_connection_closed(&mut self) {
        self.any_freed = true;
    }

    /// Ends the backoff of listeners if a connection was closed in this turn.
    pub(super) fn accept_after_close(&mut self, ring: &mut impl Ring) {
        if mem::take(&mut self.any_freed) {
            self.accept_where(ring, |state| state == ListenerState::Backoff);
        }
    }

    /// Accepts on every listener that is stopped.
    pub(super) fn accept_all(&mut self, ring: &mut impl Ring) {
        self.accept_where(ring, |_| true);
    }

    fn accept_where(&mut self, ring: &mut impl Ring, wanted: impl Fn(ListenerState) -> bool) {
        if !self.any_stopped {
            return;
        }
        self.any_stopped = false;
        for (listener, state) in self.states.iter_mut().enumerate() {
            if !matches!(state, ListenerState::Paused | ListenerState::Backoff) {
                continue;
            }
            if wanted(*state) {
                *state = ListenerState::Accepting;
                ring.accept(listener as ListenerIndex);
            } else {
                self.any_stopped = true;
            }
        }
    }

    /// Accepts what waits in the kernel, then closes every listener.
    pub(super) fn drain(&mut self, ring: &mut impl Ring) {
        for (listener, state) in self.states.iter_mut().enumerate() {
            if !matches!(state, ListenerState::Draining | ListenerState::Closed) {
                *state = ListenerState::Draining;
                ring.finish_accepting(listener as ListenerIndex);
            }
        }
    }

    pub(super) fn all_closed(&self) -> bool {
        self.states.iter().all(|&state| state == ListenerState::Closed)
    }

    pub(super) fn on_accept_ended(
        &mut self,
        listener: ListenerIndex,
        cause: AcceptEnd,
        now_s: u32,
    ) {
        let state = &mut self.states[usize::from(listener)];
        if cause == AcceptEnd::Finished {
            *state = ListenerState::Closed;
            return;
        }
        if matches!(state, ListenerState::Draining | ListenerState::Closed) {
            return;
        }
        self.any_stopped = true;
        *state = match cause {
            AcceptEnd::Exhausted(errno) => {
                let error = std::io::Error::from(errno);
                self.exhausted.warning(
                    now_s,
                    format_args!(
                        "cannot accept connections: {error}; waiting until one is closed \
                         (raise the limit of open files, or lower connections.max)"
                    ),
                );
                ListenerState::Backoff
            }
            AcceptEnd::Error(errno) => {
                let error = std::io::Error::from(errno);
                self.failed.warning(now_s, format_args!("accepting failed: {error}; trying again"));
                ListenerState::Backoff
            }
            AcceptEnd::LimitReached { .. } | AcceptEnd::Finished => ListenerState::Paused,
        };
    }
}

impl<R: Ring> Worker<R> {
    pub(super) fn on_accepted(
        &mut self,
        listener: ListenerIndex,
        socket: Socket,
        peer: Option<IpAddr>,
    ) {
        self.eviction.on_accepted();
        let acceptor = self.acceptor.as_ref().filter(|_| listener >= self.config.tls_from);
        let trusted_proxy = match &mut self.proxy_protocol {
            Some(protocol) if protocol.expected_at(listener) => {
                Some(protocol.may_come_from(peer, self.now_s))
            }
            _ => None,
        };
        let permit = match (trusted_proxy, peer) {
            // The client is admitted when the proxy has named it. A Unix socket has no address.
            (Some(true), _) | (_, None) => Some(ConnectionPermit::default()),
            (_, Some(peer)) => self.server.admit(peer, acceptor.is_some()),
        };
        let Some(permit) = permit else { return self.ring.reset(socket) };
        let session = match acceptor.map(TlsAcceptor::accept) {
            Some(Some(mut session)) => {
                if acceptor.is_some_and(TlsAcceptor::needs_local_address)
                    && let Ok(address) = socket.local_address()
                {
                    session.connected_to(address.ip());
                }
                Some(session)
            }
            Some(None) => {
                self.server.release(permit);
                self.counters.rejected.add(Rejection::NoMemory);
                return self.ring.reset(socket);
            }
            None => None,
        };
        let transport = if acceptor.is_some() { TransportKind::Https } else { TransportKind::Http };
        self.counters.accepted.add((transport, AddressFamily::of(peer)));
        let mut connection = Connection::new(peer, session, self.now_s, &self.config.timeouts);
        if let Some(trusted) = trusted_proxy {
            connection = connection.proxy_protocol(trusted);
        }
        let key = self.insert(connection.with_permit(permit), socket);
        if self.shutdown_at_s.is_some() {
            self.note_unread(key);
        }
        self.receive(key, RecvMode::Immediate);
    }

    fn insert(&mut self, connection: Connection, socket: Socket) -> Key {
        let key = self.slots.insert(connection, socket);
        self.timers.set(key.slot(), self.slots[key].deadline_s);
        self.eviction.lists.append(key.slot(), EvictionList::Unanswered);
        key
    }
}
