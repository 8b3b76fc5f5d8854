//! Limits for one address: the program with two workers, on either engine.
//!
//! `connections` and `requests` test the two limits, `proxied` the limits of clients behind
//! proxies, `crowding` the limit of peers in a torrent, `full` the limit of all connections,
//! `unread` connections whose response is not read, and `attack` an attacker while other clients
//! announce.

mod attack;
mod client_table;
mod connections;
mod crowding;
mod full;
mod proxied;
mod requests;
mod unread;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};

use crate::support::client::HttpClient;

/// A loopback address, 127.0.7.0 to 127.0.7.255.
fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 7, number).into()
}

impl HttpClient {
    /// Sends this and waits for the result: whether bytes come back and not a reset.
    #[track_caller]
    fn is_answered(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.send(bytes);
        match self.stream.peek(&mut [0]) {
            Ok(1) => true,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            other => panic!("{other:?}, neither an answer nor a reset"),
        }
    }
}
