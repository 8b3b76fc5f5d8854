//! Limits for each client address: open connections, and requests per second.
//!
//! An address is one IPv4 address, or all IPv6 addresses with the same prefix, because a single
//! subscriber has 2^64 of them. The kernel spreads the connections of an address over all workers,
//! so the workers share one [`ClientTable`] and a limit holds for all of them together. Each worker
//! has a [`RateLimiter`] on it, which logs what it rejects. Without limits there is neither.
//!
//! Two events are charged: a connection as soon as its client is known ([`RateLimiter::admit`]),
//! and a request or what should have been one ([`RateLimiter::charge`]). An admitted connection
//! holds a [`ConnectionPermit`] until it is closed.

mod client_table;
mod token_bucket;

use std::net::IpAddr;
use std::sync::Arc;

pub use client_table::{Charge, ClientTable, ConnectionPermit, LimitExceeded, RateLimitConfig};

use crate::log::WarningLimiter;

/// One worker's view of the shared table.
#[derive(Debug)]
pub struct RateLimiter {
    clients: Arc<ClientTable>,
    rejected_connections: WarningLimiter,
    rejected_requests: WarningLimiter,
}

impl RateLimiter {
    pub fn new(clients: Arc<ClientTable>) -> RateLimiter {
        RateLimiter {
            clients,
            rejected_connections: WarningLimiter::default(),
            rejected_requests: WarningLimiter::default(),
        }
    }

    /// Admits a connection of `client` at second `now_s`. A TLS handshake is charged like a
    /// request.
    ///
    /// # Errors
    /// The limit that the address has reached: the connection is to be reset.
    pub fn admit(
        &mut self,
        client: IpAddr,
        tls: bool,
        now_s: u32,
    ) -> Result<ConnectionPermit, LimitExceeded> {
        let admitted = self.clients.admit(client, tls, now_s);
        match admitted {
            Ok(_) => {}
            Err(LimitExceeded::Connections) => {
                let max = self.clients.config().connections_max;
                self.rejected_connections.warning(
                    now_s,
                    format_args!(
                        "a connection from {client} is refused: it has as many as \
                         limits.connections_per_address = {max} allows"
                    ),
                );
            }
            Err(LimitExceeded::Requests) => self.log_rejected_request(client, now_s),
        }
        admitted
    }

    /// Charges a request of `client` at second `now_s`.
    pub fn charge(&mut self, client: IpAddr, now_s: u32) -> Charge {
        let charge = self.clients.charge(client, now_s);
        if charge != Charge::Served {
            self.log_rejected_request(client, now_s);
        }
        charge
    }

    /// An admitted connection is closed.
    pub fn release(&self, permit: ConnectionPermit) {
        self.clients.release(permit);
    }

    fn log_rejected_request(&mut self, client: IpAddr, now_s: u32) {
        let per_s = self.clients.config().requests_per_s;
        self.rejected_requests.warning(
            now_s,
            format_args!(
                "requests from {client} are refused: they are more than \
                 limits.requests_per_second = {per_s} allows"
            ),
        );
    }
}
