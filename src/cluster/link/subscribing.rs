//! The thread that subscribes, and chooses the server for both.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::connection::{LinkFault, PubSubConnection, Received};
use super::publishing::NICE;
use super::servers::PubSubServers;
use super::{Link, LinkStatus, Session, node_time};
use crate::access_list::{AccessListCache, serves};
use crate::clock::{Clock, whole_seconds};
use crate::cluster::status::JoinReport;
use crate::cluster::{ClusterStatus, Destination, NodeId, NodeSubscriber};
use crate::limits::{CLUSTER_TIMEOUT_S, LOG_PAUSE_S};
use crate::log;
use crate::metrics::labels::RecordOutcome;
use crate::os::lower_priority_by;
use annulus_swarm::InfoHash;

/// How long it waits for a message before it does what is due.
const TICK: Duration = Duration::from_millis(50);

/// The pauses between two rounds through the servers, each twice the one before.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// A node that does not hear itself for so long does not hear the others either.
const SILENCE_MAX: Duration = Duration::from_secs(CLUSTER_TIMEOUT_S);

pub(super) struct SubscriberParts {
    pub(super) node: NodeSubscriber,
    pub(super) link: Arc<Link>,
    pub(super) servers: Arc<PubSubServers>,
    pub(super) channel: String,
    pub(super) id: NodeId,
    pub(super) access_list: Option<AccessListCache>,
    pub(super) clock: Clock,
    pub(super) status: Arc<LinkStatus>,
    pub(super) view: Arc<ClusterStatus>,
}

pub(super) struct SubscriberThread {
    parts: SubscriberParts,
    /// Connections so far.
    sessions: u64,
    /// The server that is tried first.
    first: usize,
    log: LinkLog,
}

impl SubscriberThread {
    pub(super) fn new(parts: SubscriberParts) -> SubscriberThread {
        SubscriberThread { parts, sessions: 0, first: 0, log: LinkLog::default() }
    }

    /// Runs until the process ends.
    pub(super) fn run(mut self) {
        lower_priority_by(NICE);
        let mut pause = PAUSE_MIN;
        loop {
            if self.round() {
                pause = PAUSE_MIN;
            }
            self.rest(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Tries each address of each server until one has been connected to and was lost again.
    /// Returns whether it has worked.
    fn round(&mut self) -> bool {
        let servers = Arc::clone(&self.parts.servers);
        let mut faults = Vec::new();
        for offset in 0..servers.list.len() {
            let index = (self.first + offset) % servers.list.len();
            let server = &servers.list[index];
            for (at, address) in server.addresses.iter().enumerate() {
                self.tick();
                let number = self.sessions + 1;
                let session = Session { number, server: index, address: at };
                let fault = match PubSubConnection::open(server, address) {
                    Ok(connection) => match self.listen(connection, session) {
                        Ok(worked) => return worked,
                        Err(fault) => fault,
                    },
                    Err(fault) => fault,
                };
                let place = match server.addresses.len() {
                    1 => server.url.to_string(),
                    _ => format!("{} ({address})", server.url),
                };
                faults.push((place, fault));
            }
        }
        self.first = 0;
        self.log.unreachable(self.now_s(), &faults);
        false
    }

    /// Subscribes and listens until the connection ends. Returns whether it ever worked in both
    /// directions.
    ///
    /// # Errors
    /// The server does not let it subscribe.
    fn listen(
        &mut self,
        mut connection: PubSubConnection,
        session: Session,
    ) -> Result<bool, LinkFault> {
        let own = Destination::Node(self.parts.id).channel(&self.parts.channel);
        let channels = [self.parts.channel.clone(), own];
        connection.subscribe(&channels, TICK)?;
        self.confirm(&mut connection, channels.len())?;
        self.sessions = session.number;
        let url = self.parts.servers.list[session.server].url.to_string();
        self.parts.status.note_connected(url.clone());
        self.parts.node.on_subscribed(node_time(&self.parts.clock));
        self.parts.link.set_session(Some(session));
        self.log.connected(self.now_s(), &url);
        let (worked, why) = self.receive_all(&mut connection);
        self.parts.link.set_session(None);
        self.parts.node.on_disconnected(node_time(&self.parts.clock));
        self.parts.status.note_lost();
        self.log.lost(self.now_s(), &url, &why);
        // All nodes are to meet at the first server that can be used.
        self.first = if worked { 0 } else { session.server + 1 };
        Ok(worked)
    }

    /// Waits for the confirmations of so many subscriptions.
    fn confirm(
        &mut self,
        connection: &mut PubSubConnection,
        count: usize,
    ) -> Result<(), LinkFault> {
        let began = self.parts.clock.now();
        let mut confirmed = 0;
        while confirmed < count {
            match connection.receive()? {
                Received::Subscribed => confirmed += 1,
                // What is published in between: the node asks for it when it is subscribed.
                Received::Message(_) => {}
                Received::Nothing => self.tick(),
            }
            if self.parts.clock.now().saturating_sub(began) > SILENCE_MAX {
                let what = format!("no answer within {CLUSTER_TIMEOUT_S} seconds");
                return Err(LinkFault::passing(what));
            }
        }
        Ok(())
    }

    /// Takes messages until the connection ends: whether it worked, and why it ended.
    fn receive_all(&mut self, connection: &mut PubSubConnection) -> (bool, LinkFault) {
        let mut heard = self.parts.clock.now();
        let mut ticked = heard;
        let mut worked = false;
        loop {
            let received = match connection.receive() {
                Ok(received) => received,
                Err(fault) => return (worked, fault),
            };
            let now = node_time(&self.parts.clock);
            if let Received::Message(frame) = received {
                let SubscriberParts { node, access_list, .. } = &mut self.parts;
                let mut serves = |info_hash: &InfoHash| serves(access_list.as_ref(), info_hash);
                if node.receive(&frame, now, &mut serves) {
                    heard = now.since_start;
                    worked = true;
                }
                // A worker that waits for this core goes first.
                thread::yield_now();
            }
            if now.since_start.saturating_sub(ticked) >= TICK {
                ticked = now.since_start;
                self.tick();
                if let Some(fault) = self.parts.link.lock().fault.take() {
                    return (worked, fault);
                }
            }
            if now.since_start.saturating_sub(heard) > SILENCE_MAX {
                let what = format!("what is published does not come back in {CLUSTER_TIMEOUT_S} s");
                return (worked, LinkFault::passing(what));
            }
        }
    }

    /// Waits so long, and does what is due meanwhile.
    fn rest(&mut self, pause: Duration) {
        let end = self.parts.clock.now() + pause;
        loop {
            self.tick();
            match end.checked_sub(self.parts.clock.now()) {
                None => return,
                Some(left) => self.parts.link.wait(left.min(TICK)),
            }
        }
    }

    fn tick(&mut self) {
        if let Some(list) = &mut self.parts.access_list {
            list.refresh();
        }
        self.parts.node.tick(node_time(&self.parts.clock));
        if let Some(report) = self.parts.view.take_join() {
            let peers =
                self.parts.view.subscriber.state_peers.sum(|it| it == RecordOutcome::Stored);
            self.log.joined(self.now_s(), report, peers);
        }
    }

    fn now_s(&self) -> u32 {
        whole_seconds(self.parts.clock.now())
    }
}

/// One line when the connection is lost and one when it is back, and not more than one of each in
/// [`LOG_PAUSE_S`] seconds.
#[derive(Default)]
struct LinkLog {
    /// When the present outage began: the start of the process is one.
    lost_s: u32,
    /// The log says that there is an outage.
    told: bool,
    /// The connection has been there before.
    connected: bool,
    /// What the operator was told to mend.
    to_mend: String,
    next_s: u32,
    withheld: u32,
    /// Peers of states that were logged.
    state_peers: u64,
    next_join_s: u32,
}

impl LinkLog {
    fn connected(&mut self, now_s: u32, url: &str) {
        let lost_s = now_s.saturating_sub(self.lost_s);
        if !self.connected {
            log::info(format_args!("cluster: connected to {url}"));
        } else if self.told {
            log::info(format_args!("cluster: connected to {url} again, after {lost_s} s"));
        }
        (self.connected, self.told) = (true, false);
        self.to_mend.clear();
    }

    fn lost(&mut self, now_s: u32, url: &str, why: &LinkFault) {
        self.lost_s = now_s;
        if now_s < self.next_s {
            self.withheld += 1;
            return;
        }
        let withheld = match std::mem::take(&mut self.withheld) {
            0 => String::new(),
            count => format!(" ({count} more of these since the last)"),
        };
        log::warning(format_args!(
            "cluster: the connection to {url} is lost: {why}: this node serves alone until it is \
             back{withheld}"
        ));
        self.told = true;
        self.next_s = now_s.saturating_add(LOG_PAUSE_S);
    }

    /// A state has come whole; `peers` of all states so far were not known before.
    fn joined(&mut self, now_s: u32, report: JoinReport, peers: u64) {
        if now_s < self.next_join_s {
            return;
        }
        let JoinReport { from, took_ms } = report;
        let new = peers - std::mem::replace(&mut self.state_peers, peers);
        let took_s = took_ms as f64 / 1000.0;
        log::info(format_args!("cluster: got {new} peers from node {from} in {took_s:.1} s"));
        self.next_join_s = now_s.saturating_add(LOG_PAUSE_S);
    }

    /// No server can be used. Told once, and again if there is something else to mend.
    fn unreachable(&mut self, now_s: u32, faults: &[(String, LinkFault)]) {
        let lines = |faults: &mut dyn Iterator<Item = &(String, LinkFault)>| {
            faults.map(|(url, fault)| format!("{url}: {fault}")).collect::<Vec<_>>().join("; ")
        };
        let to_mend = lines(&mut faults.iter().filter(|(_, fault)| fault.needs_operator));
        let is_news = !to_mend.is_empty() && to_mend != self.to_mend && now_s >= self.next_s;
        if is_news || !self.told && now_s >= self.next_s {
            log::warning(format_args!(
                "cluster: no server can be used: {}: this node serves alone until one can",
                lines(&mut faults.iter())
            ));
            self.told = true;
            self.to_mend = to_mend;
            self.next_s = now_s.saturating_add(LOG_PAUSE_S);
        }
    }
}
