//! The fake ring's inside: submissions take effect, clients and time move, things complete.

use std::net::Shutdown;
use std::sync::atomic::Ordering;

use annulus_ring::{
    AcceptEnd, Errno, Event, Key, ListenerIndex, RecvEnd, RecvMode, Socket, UnsentRest,
};

use super::client::{ClientOutcome, ClientScript, End};
use super::faults::Sabotage;
use super::lanes::Lane;
use super::ring::{
    DESCRIPTOR_MIN, FakeLink, FakeListener, FakeOperation, FakeRing, LISTENERS, Owned, TLS_FROM,
};

/// Bytes of a close_notify at most.
const FAREWELL: usize = 31;

impl FakeRing {
    /// Everybody has come and gone, and no descriptor is open.
    pub(crate) fn quiet(&self) -> bool {
        self.links.iter().all(|link| link.client.gone() && link.descriptor.is_none())
            && self.net.quiet()
    }

    /// Has the worker told to stop, soon.
    pub(crate) fn ask_to_stop(&mut self) {
        self.stop_asked = true;
        // What has completed and is held back cannot be seen by anybody.
        if self.faults.held == 0 {
            for link in self.links.iter_mut().filter(|link| link.client.tls.is_none()) {
                link.sent_at_stop = Some(link.client.sent_in_all);
            }
        }
        self.stop.store(true, Ordering::Release);
        self.lanes.push(Lane::Ring, Event::Wake);
    }

    /// Submits what is queued, in order.
    pub(super) fn flush(&mut self) {
        while let Some(operation) = self.queue.pop_front() {
            self.carry_out(operation);
        }
    }

    fn carry_out(&mut self, operation: FakeOperation) {
        match operation {
            FakeOperation::Accept(listener) => {
                self.listeners[usize::from(listener)].armed = true;
            }
            FakeOperation::FinishAccepting(listener) => {
                self.listeners[usize::from(listener)].finishing = true;
            }
            FakeOperation::Receive { link, key, expect } => {
                self.links[link].receive = Some((key, expect));
            }
            FakeOperation::Cancel(key) => self.cancel(key),
            FakeOperation::Send { link, key, bytes } => {
                if let Some(rest) = self.send_now(link, &bytes)
                    && (rest.is_err() || !self.sabotages(Sabotage::ForgetsShortSend))
                {
                    self.short.push(Event::SendIncomplete { key, rest });
                }
            }
            FakeOperation::SendOwned { link, key, bytes } => {
                self.links[link].owned = Some(Owned { key, bytes, sent: 0 });
            }
            FakeOperation::Close { link, reset } => self.close_link(link, reset),
        }
    }

    fn cancel(&mut self, key: Key) {
        let Some(&link) = self.names.get(&key) else { return };
        if self.odds(500) {
            // What came between the last harvest and the cancel is still delivered.
            self.links[link].filled = self.faults.fills_max.saturating_sub(2);
            self.receive_some(link);
        }
        if self.links[link].receive.take_if(|(armed, _)| *armed == key).is_some() {
            let end = RecvEnd::Cancelled;
            self.lanes.push(Lane::Receive(link), Event::RecvEnded { key, end });
        }
    }

    /// How much of `len` bytes the socket takes, or the errno it has.
    fn take(&mut self, link: usize, len: usize) -> Result<usize, Errno> {
        let state = &mut self.links[link];
        if state.wire.client_end == Some(End::Reset) {
            return Err(if self.random.below(2) == 0 { Errno::PIPE } else { Errno::CONNRESET });
        }
        if state.shut || state.wire.server_end.is_some() {
            return Err(Errno::PIPE);
        }
        if state.client.gone() {
            // The client's kernel answers with RST: the bytes are taken all the same.
            state.wire.client_end = Some(End::Reset);
            return Ok(len);
        }
        Ok(len.min(state.wire.space()))
    }

    fn put(&mut self, link: usize, bytes: &[u8]) {
        if self.links[link].client.gone() {
            return;
        }
        if let Some(&byte) = bytes.last()
            && self.sabotages(Sabotage::DuplicatesByte)
        {
            self.links[link].wire.to_client.push_back(byte);
        }
        let agreed = self.links[link].client.has_agreed();
        self.links[link].wire.to_client.extend(bytes);
        if agreed && self.sabotages(Sabotage::LosesSealedByte) {
            self.links[link].wire.to_client.pop_front();
        }
    }

    /// A send that does not wait; what is left of it, if anything.
    pub(super) fn send_now(&mut self, link: usize, bytes: &[u8]) -> Option<UnsentRest> {
        let (short, refused) = (self.faults.short_send, self.faults.refused_send);
        let room = match self.take(link, bytes.len()) {
            Err(errno) => return Some(Err(errno)),
            Ok(_) if self.odds(refused) => 0,
            Ok(room @ 1..) if self.odds(short) => self.random.below(room as u32) as usize,
            Ok(room) => room,
        };
        self.put(link, &bytes[..room]);
        (room < bytes.len()).then(|| Ok(bytes[room..].into()))
    }

    /// What closing does to a connection: FIN, or RST if something was not received.
    fn close_link(&mut self, link: usize, reset: bool) {
        let now_ms = self.now_ms();
        if self.sabotages(Sabotage::KeepsDescriptor) {
            return;
        }
        let unread = !self.links[link].wire.to_client.is_empty();
        if unread
            && self.links[link].client.has_agreed()
            && self.sabotages(Sabotage::CutsCloseNotify)
        {
            self.links[link].wire.to_client.pop_back();
        }
        let state = &mut self.links[link];
        let descriptor = state.descriptor.take().expect("closed twice");
        self.descriptors[(descriptor - DESCRIPTOR_MIN) as usize] = None;
        self.closed += 1;
        assert!(state.receive.is_none() && state.owned.is_none(), "closed while in the kernel");
        state.closed_ms = Some(now_ms);
        state.wire.closed = true;
        // A farewell that comes between the last look and the close, which no server can prevent.
        let unread = state.wire.to_server.len();
        let farewell = state.client.script.tls.is_some() && (1..=FAREWELL).contains(&unread);
        state.forgiven |= !reset && state.late && farewell;
        if reset || !state.wire.to_server.is_empty() {
            state.wire.reset_client();
        } else {
            state.wire.server_end.get_or_insert(End::Fin);
        }
        let keys = std::mem::take(&mut state.keys);
        self.release();
        for key in keys {
            self.names.remove(&key);
            if self.odds(self.faults.stale) {
                let end = RecvEnd::Cancelled;
                self.lanes.push(Lane::Stale, Event::RecvEnded { key, end });
            }
            if self.odds(self.faults.stale) {
                self.lanes.push(Lane::Stale, Event::Sent { key, result: Ok(()) });
            }
        }
    }

    pub(super) fn shut_link(&mut self, link: usize, how: Shutdown) {
        let state = &mut self.links[link];
        if how == Shutdown::Both {
            state.shut = true;
        }
        state.wire.server_end.get_or_insert(End::Fin);
    }

    /// Lets everything go on as far as it can at this moment.
    pub(super) fn progress(&mut self) {
        let now_ms = self.now_ms();
        if now_ms >= self.tick_ms {
            self.lanes.push(Lane::Ring, Event::Tick);
            let late_ms = self.random.below(1 + self.faults.tick_late_ms);
            self.tick_ms = now_ms - now_ms % 1000 + 1000 + u64::from(late_ms);
        }
        if self.odds(self.faults.idle_wakes) {
            self.lanes.push(Lane::Ring, Event::Wake);
        }
        if !self.stop_asked && self.faults.shutdown_ms.is_some_and(|at_ms| now_ms >= at_ms) {
            self.ask_to_stop();
        }
        self.step_clients();
        for listener in 0..LISTENERS {
            self.accept_some(listener);
        }
        for link in 0..self.links.len() {
            self.receive_some(link);
            self.send_some(link);
        }
        self.net.progress(now_ms, &mut self.lanes);
    }

    pub(super) fn step_clients(&mut self) {
        for link in 0..self.links.len() {
            self.step_client(link, self.now_ms());
        }
    }

    fn step_client(&mut self, link: usize, now_ms: u64) {
        let resets = self.odds(self.faults.network_resets);
        let state = &mut self.links[link];
        if state.client.gone() {
            return;
        }
        if !state.client.connected && now_ms >= state.client.script.connect_ms {
            let listener = &mut self.listeners[usize::from(listener_of(&state.client.script))];
            if listener.closed {
                state.client.outcome = Some(ClientOutcome::Refused);
                return;
            }
            listener.backlog.push_back(link);
            state.client.connected = true;
        }
        if resets && state.client.connected {
            state.wire.client_end = Some(End::Reset);
            state.forgiven = true;
        }
        state.client.step(now_ms, &mut state.wire, &mut self.random);
    }

    fn accept_some(&mut self, index: ListenerIndex) {
        let at = usize::from(index);
        let finishing = self.listeners[at].finishing && !self.listeners[at].closed;
        if !self.listeners[at].armed && !finishing {
            return;
        }
        while let Some(link) = self.listeners[at].backlog.pop_front() {
            if !self.limit.acquire() {
                self.listeners[at].backlog.push_front(link);
                if finishing {
                    break;
                }
                self.is_awaited = true;
                let waiting = self.listeners[at].backlog.len() as u32;
                return self.end_accept(index, AcceptEnd::LimitReached { waiting });
            }
            let open = self.descriptors.iter().flatten().count();
            if open >= self.faults.descriptors_max {
                self.listeners[at].backlog.push_front(link);
                self.release();
                if finishing {
                    break;
                }
                let cause = AcceptEnd::Exhausted(if self.random.below(2) == 0 {
                    Errno::MFILE
                } else {
                    Errno::NFILE
                });
                return self.end_accept(index, cause);
            }
            self.accept_one(index, link);
            if !finishing && self.odds(self.faults.held) {
                break;
            }
        }
        if finishing {
            // Whoever could not be accepted is reset as the listener closes.
            let listener = &mut self.listeners[at];
            listener.closed = true;
            for link in std::mem::take(&mut listener.backlog) {
                self.links[link].wire.closed = true;
                self.links[link].wire.reset_client();
            }
            self.end_accept(index, AcceptEnd::Finished);
        } else if self.odds(self.faults.accept_fails) {
            self.end_accept(index, AcceptEnd::Error(Errno::PROTO));
        }
    }

    fn end_accept(&mut self, listener: ListenerIndex, cause: AcceptEnd) {
        let state = &mut self.listeners[usize::from(listener)];
        state.armed = false;
        if self.sabotages(Sabotage::ForgetsAcceptEnd) {
            return;
        }
        self.lanes.push(Lane::Listener(listener), Event::AcceptEnded { listener, cause });
    }

    /// Gives a place back; who waits for one hears of it.
    fn release(&mut self) {
        self.limit.release(1);
        if std::mem::take(&mut self.is_awaited) {
            self.lanes.push(Lane::Ring, Event::Wake);
        }
    }

    /// The lowest free descriptor, as a kernel gives it.
    fn accept_one(&mut self, listener: ListenerIndex, link: usize) {
        let index = self.descriptors.iter().position(Option::is_none).unwrap_or_else(|| {
            self.descriptors.push(None);
            self.descriptors.len() - 1
        });
        self.descriptors[index] = Some(link);
        self.opened += 1;
        let descriptor = DESCRIPTOR_MIN + index as i32;
        let now_ms = self.now_ms();
        let state = &mut self.links[link];
        state.descriptor = Some(descriptor);
        state.accepted_ms = Some(now_ms);
        let peer = state.client.script.peer;
        let socket = Socket::from_raw(descriptor);
        self.lanes.push(Lane::Listener(listener), Event::Accepted { listener, socket, peer });
    }

    /// Goes on with an armed receive.
    fn receive_some(&mut self, link: usize) {
        while let Some((key, expect)) = self.links[link].receive {
            let state = &self.links[link];
            let ended = state.wire.client_end.is_some() || state.shut;
            let enough = state.wire.to_server.len() >= state.awaited as usize;
            if !(enough || ended || expect == RecvMode::Immediate) {
                return;
            }
            let passed_over = self.links[link].shut && self.odds(500);
            let wire = &self.links[link].wire;
            let reset = wire.client_end == Some(End::Reset);
            let end = if wire.to_server.is_empty() || passed_over {
                match wire.client_end {
                    Some(End::Reset) => RecvEnd::Error(Errno::CONNRESET),
                    Some(End::Fin) => RecvEnd::Eof,
                    None if self.links[link].shut => RecvEnd::Eof,
                    None => return,
                }
            } else if reset && self.odds(300) {
                self.links[link].wire.to_server.clear();
                continue;
            } else if self.links[link].filled >= self.faults.fills_max {
                return;
            } else if self.odds(self.faults.no_buffers) {
                RecvEnd::NoBuffers
            } else if self.fill_buffer(link, key, expect) {
                continue;
            } else {
                RecvEnd::NoBuffers
            };
            self.links[link].receive = None;
            self.lanes.push(Lane::Receive(link), Event::RecvEnded { key, end });
        }
    }

    /// Receives into a buffer, if there is one.
    fn fill_buffer(&mut self, link: usize, key: Key, expect: RecvMode) -> bool {
        let Some(mut buffer) = self.pool.take() else { return false };
        let (cut, ends) = (self.faults.cut, self.faults.multishot_ends);
        let mut len = buffer.len().min(self.links[link].wire.to_server.len());
        if self.odds(cut) {
            len = 1 + self.random.below(len as u32) as usize;
        }
        let more = expect == RecvMode::Multishot && !self.odds(ends);
        let full = len == buffer.len();
        let state = &mut self.links[link];
        for (place, byte) in buffer.iter_mut().zip(state.wire.to_server.drain(..len)) {
            *place = byte;
        }
        buffer.truncate(len);
        state.late = !full;
        state.filled += 1;
        if !more {
            state.receive = None;
        }
        if self.sabotages(Sabotage::LosesBuffer) {
            std::mem::forget(self.pool.take());
        }
        if len > 1 && self.sabotages(Sabotage::SwapsBytes) {
            buffer.reverse();
        }
        self.lanes.push(Lane::Receive(link), Event::Received { key, buffer, more });
        true
    }

    /// Goes on with an owned send.
    fn send_some(&mut self, link: usize) {
        let Some(owned) = &self.links[link].owned else { return };
        let (key, len) = (owned.key, owned.bytes.len() - owned.sent);
        let result = match self.take(link, len) {
            Err(errno) => Err(errno),
            Ok(_) if self.odds(self.faults.owned_rests) => return,
            Ok(0) => return,
            Ok(room) => {
                let Some(mut owned) = self.links[link].owned.take() else { return };
                let to = owned.sent + room;
                self.put(link, &owned.bytes[owned.sent..to]);
                owned.sent = to;
                if to < owned.bytes.len() {
                    self.links[link].owned = Some(owned);
                    return;
                }
                Ok(())
            }
        };
        self.links[link].owned = None;
        if !self.sabotages(Sabotage::ForgetsSent) {
            self.lanes.push(Lane::Send(link), Event::Sent { key, result });
        }
    }

    /// Nothing is there to be handed out: time passes until something may be.
    pub(super) fn sleep(&mut self) {
        let clients = self.links.iter().filter_map(|link| link.client.next_ms(&link.wire));
        let stop = self.faults.shutdown_ms.filter(|_| !self.stop_asked);
        let clients = clients.chain(self.net.next_ms());
        let next_ms = clients.chain(stop).chain([self.tick_ms]).min().unwrap_or(self.tick_ms);
        // What could go on and only rests goes on soon.
        let rests = |link: &FakeLink| link.owned.is_some() && link.wire.space() > 0;
        let waits = |listener: &FakeListener| listener.armed && !listener.backlog.is_empty();
        let soon =
            self.net.rests() || self.links.iter().any(rests) || self.listeners.iter().any(waits);
        let now_ms = self.now_ms();
        self.clock_ms.set(if soon { now_ms + 1 } else { next_ms.max(now_ms + 1) });
    }
}

/// Which listener a client comes to.
fn listener_of(script: &ClientScript) -> ListenerIndex {
    let first = if script.https { TLS_FROM } else { 0 };
    first + ListenerIndex::from(script.peer.is_some_and(|peer| peer.is_ipv6()))
}
