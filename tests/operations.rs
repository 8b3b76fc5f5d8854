//! The operations listener from outside: the real binary on real sockets, what it counts while
//! clients do as they do, and who reads it.
//!
//! `requests`, `connections`, `secured` and `swarms` are what is counted, `top` the largest
//! torrents; `listener` is how it is told, `process` what of the process itself, `stopping` what
//! at its end; `prometheus` has Debian's own read it all, and draw the dashboard of `dist/`.

#![allow(dead_code, reason = "the harness is shared, and each half of it is used by somebody")]

#[path = "http/bencode.rs"]
mod bencode;
#[path = "https/certificates.rs"]
mod certificates;
#[path = "http/client.rs"]
mod client;
#[path = "operations/connections.rs"]
mod connections;
#[path = "access/listed.rs"]
mod listed;
#[path = "operations/listener.rs"]
mod listener;
#[path = "operations/observed.rs"]
mod observed;
#[path = "operations/process.rs"]
mod process;
#[path = "operations/prometheus.rs"]
mod prometheus;
#[path = "operations/requests.rs"]
mod requests;
#[path = "system/requirements.rs"]
mod requirements;
#[path = "system/root.rs"]
mod root;
#[path = "system/running.rs"]
mod running;
#[path = "https/secure.rs"]
mod secure;
#[path = "operations/secured.rs"]
mod secured;
#[path = "https/site.rs"]
mod site;
#[path = "operations/stopping.rs"]
mod stopping;
#[path = "operations/swarms.rs"]
mod swarms;
#[path = "operations/top.rs"]
mod top;
#[path = "http/torrent.rs"]
mod torrent;
#[path = "http/tracker.rs"]
mod tracker;
#[path = "http/vitals.rs"]
mod vitals;
