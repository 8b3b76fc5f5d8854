//! Clients that mean no good, and the tracker all the others rely on meanwhile: nothing a
//! client does or leaves undone may hold a connection, memory or a processor for long.

#![allow(dead_code, reason = "the harness is shared, and each half of it is used by somebody")]

#[path = "http/bencode.rs"]
mod bencode;
#[path = "https/certificates.rs"]
mod certificates;
#[path = "http/client.rs"]
mod client;
#[path = "hostile/exhaustion.rs"]
mod exhaustion;
#[path = "hostile/garbage.rs"]
mod garbage;
#[path = "hostile/memory.rs"]
mod memory;
#[path = "system/requirements.rs"]
mod requirements;
#[path = "https/secure.rs"]
mod secure;
#[path = "https/site.rs"]
mod site;
#[path = "hostile/slowness.rs"]
mod slowness;
#[path = "http/torrent.rs"]
mod torrent;
#[path = "http/tracker.rs"]
mod tracker;
#[path = "http/vitals.rs"]
mod vitals;
