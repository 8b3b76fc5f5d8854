//! What one address may take: connections at a time, and requests a second.
//!
//! An address is one of IPv4, or all those of IPv6 that begin with the same bits: a single
//! subscriber has 2^64 of them. The kernel spreads the connections of an address over all
//! workers, so these share one [`Ledger`], and a limit is exact whoever is asked. Each worker has
//! a [`Quota`] on it, which counts what it refuses, by reason, and tells the log. Where nothing
//! is limited there is neither, and the worker's server asks nobody.
//!
//! Two moments cost something and are asked about: a connection as soon as its client is known
//! ([`Quota::admit`]), and a request or what should have been one ([`Quota::serves`]). A
//! connection that was let in has a [`Ticket`], which is given back when it is gone.

mod account;
mod ledger;

use std::net::IpAddr;
use std::sync::Arc;

use crate::log::Limited;
use ledger::Excess;
pub use ledger::{Ledger, Settings, Ticket};

/// What one worker has refused since its start, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Connections reset because their address had as many as it may have.
    pub connections: u64,
    /// Connections reset because their address had used up its requests, and a handshake was to
    /// come or it had been told.
    pub early: u64,
    /// Requests answered with a failure because their address had used up its requests.
    pub requests: u64,
}

/// One worker's hold on what all addresses take.
#[derive(Debug)]
pub struct Quota {
    ledger: Arc<Ledger>,
    refusals: Refusals,
    connections: Limited,
    requests: Limited,
}

impl Quota {
    /// A worker's own, on the ledger of all.
    pub fn new(ledger: Arc<Ledger>) -> Quota {
        Quota {
            ledger,
            refusals: Refusals::default(),
            connections: Limited::default(),
            requests: Limited::default(),
        }
    }

    /// Lets in a connection of `client` at second `now_s`, or does not: then it is to be reset.
    /// `secured`: a TLS handshake is to come, which is charged like a request.
    pub fn admit(&mut self, client: IpAddr, secured: bool, now_s: u32) -> Option<Ticket> {
        match self.ledger.admit(client, secured, now_s) {
            Ok(ticket) => return Some(ticket),
            Err(Excess::Connections) => {
                self.refusals.connections += 1;
                let max = self.ledger.settings().connections_max;
                self.connections.warning(
                    now_s,
                    format_args!(
                        "a connection from {client} is refused: it has as many as \
                         limits.connections_per_address = {max} allows"
                    ),
                );
            }
            Err(Excess::Requests) => {
                self.refusals.early += 1;
                self.tell_of_requests(client, now_s);
            }
        }
        None
    }

    /// Whether a request of `client` is to be served at second `now_s`; if so, it is charged.
    pub fn serves(&mut self, client: IpAddr, now_s: u32) -> bool {
        let served = self.ledger.charge(client, now_s);
        if !served {
            self.refusals.requests += 1;
            self.tell_of_requests(client, now_s);
        }
        served
    }

    /// A connection that was let in is gone.
    pub fn release(&self, ticket: Ticket) {
        self.ledger.release(ticket);
    }

    /// What this worker has refused so far.
    pub fn refusals(&self) -> Refusals {
        self.refusals
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
