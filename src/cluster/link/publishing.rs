//! The thread that publishes.

use std::sync::Arc;
use std::time::Duration;

use super::connection::{LinkFault, PubSubConnection, pack_publish};
use super::outbox::OutboxSlot;
use super::servers::PubSubServers;
use super::{Link, Session, node_time};
use crate::clock::Clock;
use crate::cluster::{Destination, NodePublisher};
use crate::limits::OUTBOX_SLOT_BYTES;
use crate::os::lower_priority_by;

/// How old a record gets before it is sent.
const PERIOD: Duration = Duration::from_millis(20);

/// Steps of nice(2) behind the workers.
pub(super) const NICE: i32 = 5;

pub(super) struct PublisherParts {
    pub(super) node: NodePublisher,
    pub(super) link: Arc<Link>,
    pub(super) servers: Arc<PubSubServers>,
    pub(super) channel: String,
    pub(super) slots: Vec<Arc<OutboxSlot>>,
    pub(super) clock: Clock,
}

pub(super) struct PublisherThread {
    parts: PublisherParts,
    connection: Option<PubSubConnection>,
    /// The session that it has connected for, or failed at.
    session: Option<Session>,
    /// A worker's records, exchanged for its own.
    records: Vec<u8>,
    batch: PublishBatch,
}

/// Packed commands that are sent at once.
struct PublishBatch {
    channel: String,
    commands: Vec<u8>,
    count: usize,
}

impl PublishBatch {
    fn add(&mut self, to: Destination, frame: &[u8]) {
        match to {
            Destination::All => pack_publish(&self.channel, frame, &mut self.commands),
            Destination::Node(_) => {
                pack_publish(&to.channel(&self.channel), frame, &mut self.commands);
            }
        }
        self.count += 1;
    }
}

impl PublisherThread {
    pub(super) fn new(parts: PublisherParts) -> PublisherThread {
        let channel = parts.channel.clone();
        PublisherThread {
            parts,
            connection: None,
            session: None,
            records: Vec::with_capacity(OUTBOX_SLOT_BYTES),
            batch: PublishBatch { channel, commands: Vec::new(), count: 0 },
        }
    }

    /// Returns after the last records.
    pub(super) fn run(mut self) {
        lower_priority_by(NICE);
        loop {
            let began = self.parts.clock.now();
            let state = self.parts.link.lock();
            let (session, stopping) = (state.session, state.stopping);
            drop(state);
            self.follow(session);
            let more = self.turn();
            if stopping {
                self.parts.link.lock().finished = true;
                self.parts.link.changed.notify_all();
                return;
            }
            let taken = self.parts.clock.now().saturating_sub(began);
            if let Some(rest) = PERIOD.checked_sub(taken).filter(|_| !more) {
                self.parts.link.wait(rest);
            }
        }
    }

    /// Connects to where the subscriber is connected.
    fn follow(&mut self, session: Option<Session>) {
        if self.session == session {
            return;
        }
        self.disconnect();
        self.session = session;
        let Some(session) = session else { return };
        let server = &self.parts.servers.list[session.server];
        match PubSubConnection::open(server, &server.addresses[session.address]) {
            Ok(connection) => {
                self.connection = Some(connection);
                self.parts.node.on_connected(node_time(&self.parts.clock));
            }
            Err(fault) => self.parts.link.fail(session, fault),
        }
    }

    fn disconnect(&mut self) {
        if self.connection.take().is_some() {
            self.parts.node.on_disconnected();
        }
    }

    /// Sends what there is; whether there is more.
    fn turn(&mut self) -> bool {
        let now = node_time(&self.parts.clock);
        for index in 0..self.parts.slots.len() {
            self.records.clear();
            let dropped = self.parts.slots[index].take(&mut self.records);
            if dropped {
                self.parts.node.note_dropped(now);
            }
            if !self.records.is_empty() {
                let batch = &mut self.batch;
                self.parts.node.add_records(&self.records, now, &mut |to, frame| {
                    batch.add(to, frame);
                });
                self.transmit();
            }
        }
        let batch = &mut self.batch;
        self.parts.node.flush(now, &mut |to, frame| batch.add(to, frame));
        let more = self.parts.node.step(now, &mut |to, frame| batch.add(to, frame));
        self.transmit();
        more && self.connection.is_some()
    }

    fn transmit(&mut self) {
        let PublishBatch { commands, count, .. } = &mut self.batch;
        if *count > 0 {
            let sent = match &mut self.connection {
                Some(connection) => connection.publish(commands, *count),
                None => Err(LinkFault::passing("not connected")),
            };
            commands.clear();
            *count = 0;
            if let (Err(fault), Some(session)) = (sent, self.session) {
                self.disconnect();
                self.parts.link.fail(session, fault);
            }
        }
    }
}
