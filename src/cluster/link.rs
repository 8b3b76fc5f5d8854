//! What connects a node to the servers of `[cluster]`: two threads, on which nothing else waits.
//!
//! `cluster-subscribe` leads: it chooses the server, the first that can be used, and subscribes.
//! `cluster-publish` follows it to the same address, sends what the workers have handed over
//! ([`outbox`]), and reads the replies. Whatever fails on one connection ends both, because nodes
//! hear each other only on one server. Without a server the node serves alone.

mod connection;
mod outbox;
mod publishing;
mod servers;
mod stream;
mod subscribing;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::{ClusterStatus, NodeHalves, NodeId, NodeTime};
use crate::access_list::AccessListCache;
use crate::clock::Clock;
use crate::limits::CLUSTER_STOP_S_MAX;
use crate::log;
use crate::metrics::counter::Metric;
pub use outbox::{OutboxSlot, WorkerOutbox};
use publishing::{PublisherParts, PublisherThread};
pub use servers::{LoadedServers, PubSubServers};
use subscribing::{SubscriberParts, SubscriberThread};

/// What operators see of the connection. The subscriber's thread writes it.
#[derive(Debug, Default)]
pub struct LinkStatus {
    connected: AtomicBool,
    /// Connections made, with the first.
    pub connections: Metric,
    /// The server of the present connection or of the last, without credentials.
    server: Mutex<String>,
}

impl LinkStatus {
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Its URL; empty before the first connection.
    pub fn server(&self) -> String {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_connected(&self, server: String) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = server;
        self.connections.add(1);
        self.connected.store(true, Ordering::Relaxed);
    }

    fn note_lost(&self) {
        self.connected.store(false, Ordering::Relaxed);
    }
}

/// What operators see of this node's part in a cluster.
#[derive(Clone)]
pub struct ClusterView {
    pub id: NodeId,
    pub node: Arc<ClusterStatus>,
    pub link: Arc<LinkStatus>,
}

/// What the threads are made of.
pub struct LinkParts {
    pub servers: PubSubServers,
    /// The channel of all nodes.
    pub channel: String,
    pub id: NodeId,
    pub halves: NodeHalves,
    /// Where the workers leave their records.
    pub slots: Vec<Arc<OutboxSlot>>,
    pub access_list: Option<AccessListCache>,
    pub clock: Clock,
}

/// The running threads. They end with the process.
pub struct ClusterLink {
    link: Arc<Link>,
    pub view: ClusterView,
}

impl ClusterLink {
    /// # Errors
    /// A thread cannot be started.
    pub fn start(parts: LinkParts) -> io::Result<ClusterLink> {
        let LinkParts { servers, channel, id, halves, slots, access_list, clock } = parts;
        let (link, servers) = (Arc::<Link>::default(), Arc::new(servers));
        let status = Arc::<LinkStatus>::default();
        let view = ClusterView { id, node: halves.status, link: Arc::clone(&status) };
        log::info(format_args!("cluster: node {id}, channel {channel}"));
        let publisher = PublisherThread::new(PublisherParts {
            node: halves.publisher,
            link: Arc::clone(&link),
            servers: Arc::clone(&servers),
            channel: channel.clone(),
            slots,
            clock,
        });
        let subscriber = SubscriberThread::new(SubscriberParts {
            node: halves.subscriber,
            link: Arc::clone(&link),
            servers,
            channel,
            id,
            access_list,
            clock,
            status,
            view: Arc::clone(&view.node),
        });
        thread::Builder::new().name("cluster-publish".to_owned()).spawn(move || publisher.run())?;
        thread::Builder::new()
            .name("cluster-subscribe".to_owned())
            .spawn(move || subscriber.run())?;
        Ok(ClusterLink { link, view })
    }

    /// After the end of the workers: has their last records published, which takes at most
    /// [`CLUSTER_STOP_S_MAX`] seconds.
    pub fn finish(&self) {
        let mut state = self.link.lock();
        state.stopping = true;
        self.link.changed.notify_all();
        let most = Duration::from_secs(CLUSTER_STOP_S_MAX);
        let waited = self.link.changed.wait_timeout_while(state, most, |state| !state.finished);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if !state.finished {
            log::warning(format_args!(
                "cluster: the last records are not published: the server does not answer"
            ));
        }
    }
}

/// What the two threads tell each other.
#[derive(Default)]
struct Link {
    state: Mutex<LinkState>,
    changed: Condvar,
}

#[derive(Default)]
struct LinkState {
    /// The connection of the subscriber, while it has one.
    session: Option<Session>,
    /// Why the publisher cannot use that connection's server.
    fault: Option<connection::LinkFault>,
    /// The workers have ended.
    stopping: bool,
    /// All records are published, or dropped for lack of a connection.
    finished: bool,
}

/// A connection of the subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Session {
    /// Counts from 1.
    number: u64,
    /// Indices of the server and of its address.
    server: usize,
    address: usize,
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, LinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The subscriber has another connection, or none.
    fn set_session(&self, session: Option<Session>) {
        let mut state = self.lock();
        state.session = session;
        state.fault = None;
        self.changed.notify_all();
    }

    /// The publisher has failed where the subscriber is connected.
    fn fail(&self, session: Session, fault: connection::LinkFault) {
        let mut state = self.lock();
        if state.session == Some(session) {
            state.fault = Some(fault);
        }
    }

    /// Waits until something has changed, at most so long.
    fn wait(&self, most: Duration) {
        let state = self.lock();
        drop(self.changed.wait_timeout(state, most));
    }
}

/// The present time, for a node.
pub fn node_time(clock: &Clock) -> NodeTime {
    NodeTime { since_start: clock.now(), unix_ms: Clock::unix_ms() }
}
