//! The inside of [`DatagramNet`]: clients and datagrams move, the kernel receives and sends.

use annulus_ring::{Datagram, DatagramIndex, Errno, Event};

use super::datagrams::{
    DATAGRAM_SOCKETS, DatagramNet, DatagramOperation, FakeDatagramSocket, Packet, ReplyPacket,
    place,
};
use super::faults::Sabotage;
use super::lanes::{Lane, Lanes};

impl DatagramNet {
    /// Submits what is queued.
    pub(super) fn flush(&mut self, now_ms: u64) {
        while let Some(operation) = self.queue.pop_front() {
            match operation {
                DatagramOperation::Receive(socket) => {
                    self.sockets[usize::from(socket)].armed = true;
                }
                DatagramOperation::Finish(socket) => {
                    // What is on its way arrives just before, or too late.
                    if self.odds(500) {
                        self.arrive(u64::MAX);
                    }
                    let state = &mut self.sockets[usize::from(socket)];
                    state.finishing = Some(state.queue.len());
                }
                DatagramOperation::Send { socket, reply } => self.send_now(socket, reply, now_ms),
            }
        }
    }

    fn send_now(&mut self, socket: DatagramIndex, mut reply: ReplyPacket, now_ms: u64) {
        if reply.to.port() == 0 || self.odds(self.faults.unsent) {
            return self.failed.push(socket);
        }
        if self.sabotages(Sabotage::RepliesFromElsewhere) {
            reply.from.set_port(1);
        }
        for at_ms in self.arrivals(now_ms) {
            self.sent += 1;
            self.to_clients.insert((at_ms, self.sent), reply.clone());
        }
    }

    /// When a datagram arrives that is sent now: never, or more than once, or late.
    fn arrivals(&mut self, now_ms: u64) -> Vec<u64> {
        let times = match self.odds(self.faults.lost) {
            true => 0,
            false => 1 + usize::from(self.odds(self.faults.duplicated)),
        };
        let late_ms = self.faults.late_ms;
        (0..times).map(|_| now_ms + u64::from(self.random.below(1 + late_ms))).collect()
    }

    /// Lets everything go on as far as it can at this moment.
    pub(super) fn progress(&mut self, now_ms: u64, lanes: &mut Lanes) {
        for socket in std::mem::take(&mut self.failed) {
            let errno = [Errno::NOBUFS, Errno::PERM, Errno::INVAL][self.random.below(3) as usize];
            let event = Event::DatagramUnsent { socket, errno };
            lanes.push(Lane::DatagramSend(socket), event);
        }
        self.step_clients(now_ms);
        self.arrive(now_ms);
        for socket in 0..DATAGRAM_SOCKETS {
            self.receive_some(socket, lanes);
        }
    }

    pub(super) fn step_clients(&mut self, now_ms: u64) {
        while let Some(entry) = self.to_clients.first_entry().filter(|it| it.key().0 <= now_ms) {
            let reply = entry.remove();
            self.clients[reply.client].hear(now_ms, &reply);
        }
        let mut packets: Vec<Packet> = Vec::new();
        for client in &mut self.clients {
            client.step(now_ms, &mut packets);
        }
        for packet in packets {
            for at_ms in self.arrivals(now_ms) {
                self.sent += 1;
                self.to_server.insert((at_ms, self.sent), packet.clone());
            }
        }
    }

    /// Has what is due wait in the sockets' queues, as far as these have room.
    fn arrive(&mut self, due_ms: u64) {
        while let Some(entry) = self.to_server.first_entry().filter(|it| it.key().0 <= due_ms) {
            let packet = entry.remove();
            let queue_max = self.faults.queue_max;
            let socket = &mut self.sockets[usize::from(packet.socket)];
            if !socket.closed && socket.queue.len() < queue_max {
                socket.queue.push_back(packet);
            }
        }
    }

    /// Receives on a socket, until the kernel ends the multishot or has no buffer.
    fn receive_some(&mut self, index: DatagramIndex, lanes: &mut Lanes) {
        let at = usize::from(index);
        if !self.sockets[at].armed || self.sockets[at].closed {
            return;
        }
        while self.sockets[at].may_receive(self.faults.fills_max) && !self.odds(self.faults.rests) {
            let Some(buffer) = self.pool.take() else { break };
            let socket = &mut self.sockets[at];
            let Some(mut packet) = socket.queue.pop_front() else { break };
            let to = socket.bound.ip().is_unspecified().then_some(packet.to.ip());
            socket.filled += 1;
            socket.in_lanes += 1;
            if let Some(left) = &mut socket.finishing {
                *left -= 1;
            }
            if self.sabotages(Sabotage::LosesDatagramBuffer) {
                std::mem::forget(self.pool.take());
            }
            let mut from = packet.from;
            if self.sabotages(Sabotage::SwapsSenders) {
                from.set_ip([203, 0, 113, 1].into());
                packet.from = from;
            }
            if let Some(byte) = packet.bytes.last_mut()
                && self.sabotages(Sabotage::AltersDatagram)
            {
                *byte ^= 1;
            }
            let datagram = Datagram::simulated(buffer, index, (from, to), &packet.bytes);
            self.in_lanes.insert(place(&datagram), packet);
            lanes.push(Lane::Datagrams(index), Event::Datagram(datagram));
        }
        let socket = &mut self.sockets[at];
        // Replies to the last datagrams are submitted by the turn after them.
        let drained = socket.finishing == Some(0) && socket.in_lanes == 0;
        if drained && socket.last_turn < self.turn {
            socket.closed = true;
            socket.queue.clear();
            if !self.sabotages(Sabotage::ForgetsDatagramsFinished) {
                lanes.push(Lane::Datagrams(index), Event::DatagramsFinished { socket: index });
            }
        }
    }

    /// Whether something can go on that only rests.
    pub(super) fn rests(&self) -> bool {
        let has_buffer = self.pool.free() > 0;
        self.sockets.iter().any(|socket| {
            let waits = has_buffer && !socket.queue.is_empty() || socket.finishing == Some(0);
            socket.armed && !socket.closed && waits
        })
    }

    /// When something happens next, if nothing happens before.
    pub(super) fn next_ms(&self) -> Option<u64> {
        let clients = self.clients.iter().filter_map(|client| client.next_ms());
        let arrivals = [
            self.to_server.first_key_value().map(|((at_ms, _), _)| *at_ms),
            self.to_clients.first_key_value().map(|((at_ms, _), _)| *at_ms),
        ];
        clients.chain(arrivals.into_iter().flatten()).min()
    }

    /// Everybody has asked for everything, and nothing is on its way to the worker.
    pub(super) fn quiet(&self) -> bool {
        self.clients.iter().all(|client| client.gone())
            && self.to_server.is_empty()
            && self.sockets.iter().all(|socket| socket.queue.is_empty() && socket.in_lanes == 0)
    }
}

impl FakeDatagramSocket {
    fn may_receive(&self, fills_max: u32) -> bool {
        self.filled < fills_max && !self.queue.is_empty() && self.finishing != Some(0)
    }
}
