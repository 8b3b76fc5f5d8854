//! A worker on a ring that has no listener, for what its turns do besides requests.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use annulus::config::ProtocolConfig;
use annulus::connection::Timeouts;
use annulus::server::{Server, ServerParts};
use annulus::worker::{EvictionCoordinator, Worker, WorkerConfig, WorkerParts};
use annulus_ring::{ConnectionLimit, EngineConfig, Epoll, Waker};
use annulus_swarm::{Swarms, Sweep};

/// The only worker, woken by `waker` too.
pub(crate) fn worker(swarms: &Arc<Swarms>, waker: Waker) -> Worker<Epoll> {
    let limit = Arc::new(ConnectionLimit::unlimited());
    let ring = Epoll::new(EngineConfig {
        listeners: Vec::new(),
        datagram_sockets: Vec::new(),
        waker,
        limit: Arc::clone(&limit),
        accepts_per_turn: 1,
        send_buffer_bytes: 64 * 1024,
        arena_bytes: 256 * 1024,
        recv_buffers: 8,
        recv_buffer_bytes: 4096,
    })
    .expect("an engine");
    Worker::new(
        ring,
        WorkerParts {
            config: WorkerConfig {
                listeners: 0,
                datagram_sockets: 0,
                prefetch_peers_min: annulus::limits::PREFETCH_PEERS_MIN,
                tls_from: 0,
                tls_buffer_bytes: 0,
                timeouts: Timeouts { handshake_s: 10, header_s: 10, idle_s: 30 },
                send_s: 20,
                shutdown_s: 1,
            },
            server: Server::new(ServerParts::new(Arc::clone(swarms), ProtocolConfig::default(), 1)),
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
