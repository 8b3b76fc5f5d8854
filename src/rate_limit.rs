//! What one address may take: connections at a time, and requests a second.
//!
//! An address is one of IPv4, or all those of IPv6 that begin with the same bits: a single
//! subscriber has 2^64 of them. The kernel spreads the connections of an address over all
//! workers, so these share one [`ClientTable`], and a limit is exact whoever is asked. Each worker has
//! a [`RateLimiter`] on it, which tells the log of whom it refuses. Where nothing
//! is limited there is neither, and the worker's server asks nobody.
//!
//! Two moments cost something and are asked about: a connection as soon as its client is known
//! ([`RateLimiter::admit`]), and a request or what should have been one ([`RateLimiter::serves`]). A
//! connection that was let in has a [`ConnectionPermit`], which is given back when it is gone.

mod client_table;
mod token_bucket;

use std::net::IpAddr;
use std::sync::Arc;

use crate::log::WarningLimiter;
pub use client_table::{ClientTable, ConnectionPermit, LimitExceeded, RateLimitConfig};

/// One worker's hold on what all addresses take.
#[derive(Debug)]
pub struct RateLimiter {
    ledger: Arc<ClientTable>,
    connections: WarningLimiter,
    requests: WarningLimiter,
}

impl RateLimiter {
    /// A worker's own, on the ledger of all.
    pub fn new(ledger: Arc<ClientTable>) -> RateLimiter {
        RateLimiter {
            ledger,
            connections: WarningLimiter::default(),
            requests: WarningLimiter::default(),
        }
    }

    /// Lets in a connection of `client` at second `now_s`. `secured`: a TLS handshake is to come,
    /// which is charged like a request.
    ///
    /// # Errors
    /// What its address has too much of: the connection is to be reset.
    pub fn admit(
        &mut self,
        client: IpAddr,
        secured: bool,
        now_s: u32,
    ) -> Result<ConnectionPermit, LimitExceeded> {
        let admitted = self.ledger.admit(client, secured, now_s);
        match admitted {
            Ok(_) => {}
            Err(LimitExceeded::Connections) => {
                let max = self.ledger.settings().connections_max;
                self.connections.warning(
                    now_s,
                    format_args!(
                        "a connection from {client} is refused: it has as many as \
                         limits.connections_per_address = {max} allows"
                    ),
                );
            }
            Err(LimitExceeded::Requests) => self.tell_of_requests(client, now_s),
        }
        admitted
    }

    /// Whether a request of `client` is to be served at second `now_s`; if so, it is charged.
    pub fn serves(&mut self, client: IpAddr, now_s: u32) -> bool {
        let served = self.ledger.charge(client, now_s);
        if !served {
            self.tell_of_requests(client, now_s);
        }
        served
    }

    /// A connection that was let in is gone.
    pub fn release(&self, ticket: ConnectionPermit) {
        self.ledger.release(ticket);
    }

    fn tell_of_requests(&mut self, client: IpAddr, now_s: u32) {
        let per_s = self.ledger.settings().requests_per_s;
        self.requests.warning(
            now_s,
            format_args!(
                "requests from {client} are refused: they are more than \
                 limits.requests_per_second = {per_s} allows"
            ),
        );
    }
}
