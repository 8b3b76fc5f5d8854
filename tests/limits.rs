//! What one address may take: the real binary, two workers, on either engine.
//!
//! `connections` and `requests` are the two limits, `proxied` whose they are behind proxies,
//! `crowding` is what one address has in a torrent, `full` is what becomes of the connections of
//! all addresses together, and `attack` is one address that wants everything while others announce.

#![allow(dead_code, reason = "the harness is shared, and each half of it is used by somebody")]

#[path = "limits/attack.rs"]
mod attack;
#[path = "proxy/behind.rs"]
mod behind;
#[path = "http/bencode.rs"]
mod bencode;
#[path = "https/certificates.rs"]
mod certificates;
#[path = "http/client.rs"]
mod client;
#[path = "limits/connections.rs"]
mod connections;
#[path = "limits/crowding.rs"]
mod crowding;
#[path = "limits/full.rs"]
mod full;
#[path = "operations/observed.rs"]
mod observed;
#[path = "limits/proxied.rs"]
mod proxied;
#[path = "limits/requests.rs"]
mod requests;
#[path = "system/requirements.rs"]
mod requirements;
#[path = "https/secure.rs"]
mod secure;
#[path = "https/site.rs"]
mod site;
#[path = "http/torrent.rs"]
mod torrent;
#[path = "http/tracker.rs"]
mod tracker;
#[path = "limits/unread.rs"]
mod unread;
#[path = "http/vitals.rs"]
mod vitals;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};

use client::Client;

/// One of the addresses 127.0.7.0 to 127.0.7.255, all of this machine.
fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 7, number).into()
}

impl Client {
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
