//! A worker on a ring, for what its turns do besides announces.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use annulus::config::ProtocolConfig;
use annulus::connection::Timeouts;
use annulus::limits::{ARENA_BYTES, PREFETCH_PEERS_MIN, RESPONSE_BATCH_BYTES};
use annulus::server::{Server, ServerParts, response_bytes_max};
use annulus::worker::{EvictionCoordinator, Worker, WorkerConfig, WorkerParts};
use annulus_ring::{ConnectionLimit, EngineConfig, Epoll, Listener, ListenerIndex, Waker};
use annulus_swarm::{Swarms, Sweep};

/// The only worker, woken by `waker` too. It sends full scrapes.
pub(crate) fn worker(
    swarms: &Arc<Swarms>,
    waker: Waker,
    listeners: Vec<Listener>,
) -> Worker<Epoll> {
    let protocol = ProtocolConfig { full_scrape: true, ..ProtocolConfig::default() };
    let count = listeners.len() as ListenerIndex;
    let limit = Arc::new(ConnectionLimit::unlimited());
    let ring = Epoll::new(EngineConfig {
        listeners,
        datagram_sockets: Vec::new(),
        waker,
        limit: Arc::clone(&limit),
        accepts_per_turn: 1,
        send_buffer_bytes: response_bytes_max(&protocol) + RESPONSE_BATCH_BYTES,
        arena_bytes: ARENA_BYTES,
        recv_buffers: 8,
        recv_buffer_bytes: 4096,
    })
    .expect("an engine");
    Worker::new(
        ring,
        WorkerParts {
            config: WorkerConfig {
                listeners: count,
                datagram_sockets: 0,
                prefetch_peers_min: PREFETCH_PEERS_MIN,
                tls_from: count,
                tls_buffer_bytes: 0,
                timeouts: Timeouts { handshake_s: 10, header_s: 10, idle_s: 30 },
                send_s: 20,
                shutdown_s: 1,
            },
            server: Server::new(ServerParts::new(Arc::clone(swarms), protocol, 1)),
            acceptor: None,
            proxy_protocol: None,
            sweep: Sweep::new(0, 1),
            stop: Arc::new(AtomicBool::new(false)),
            evictions: Arc::new(EvictionCoordinator::alone(limit)),
            index: 0,
            now_s: 0,
        },
    )
}
