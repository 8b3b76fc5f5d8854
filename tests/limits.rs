//! What one address may take: the real binary, two workers, on either engine.
//!
//! `connections` and `requests` are the two limits, `proxied` whose they are behind proxies,
//! `crowding` is what one address has in a torrent, `full` is what becomes of the connections of
//! all addresses together, and `attack` is one address that wants everything while others announce.

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

/// One of the addresses 127.0.7.0 to 127.0.7.255, all of this machine.
fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 7, number).into()
}

impl HttpClient {
    /// Sends this and waits for what comes of it: whether bytes come back and not a reset.
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
