//! Access lists from outside: the real binary on real sockets, on either engine, before and
//! after an operator changes the list.

#![allow(dead_code, reason = "the harness is shared, and each half of it is used by somebody")]

#[path = "http/bencode.rs"]
mod bencode;
#[path = "http/client.rs"]
mod client;
#[path = "access/hanging.rs"]
mod hanging;
#[path = "access/lease.rs"]
mod lease;
#[path = "access/listed.rs"]
mod listed;
#[path = "access/operation.rs"]
mod operation;
#[path = "access/reload.rs"]
mod reload;
#[path = "system/requirements.rs"]
mod requirements;
#[path = "http/torrent.rs"]
mod torrent;
#[path = "http/tracker.rs"]
mod tracker;
#[path = "http/vitals.rs"]
mod vitals;
