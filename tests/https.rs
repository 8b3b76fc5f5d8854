//! HTTPS from outside: the real binary on real sockets, on either engine, before clients that
//! verify its certificates. What is said inside is `tests/http`'s affair; here it is what TLS
//! adds to it.
//!
//! `addresses` is who gets which certificate without a name, `agreement` what other people's
//! clients and the tracker agree on, `resumption` how they save themselves the half of it,
//! `conversation` the HTTP inside, `delivery` how its answers arrive, `life` how connections begin
//! and end, `segments` what TCP carries of that end, `garbage` those that mean no good, and
//! `reload` what happens to all of them when the certificates are renewed.

#![allow(dead_code, reason = "the harness is shared, and each half of it is used by somebody")]

#[path = "https/addresses.rs"]
mod addresses;
#[path = "https/agreement.rs"]
mod agreement;
#[path = "http/bencode.rs"]
mod bencode;
#[path = "https/certificates.rs"]
mod certificates;
#[path = "http/client.rs"]
mod client;
#[path = "https/conversation.rs"]
mod conversation;
#[path = "https/delivery.rs"]
mod delivery;
#[path = "https/garbage.rs"]
mod garbage;
#[path = "https/life.rs"]
mod life;
#[path = "https/reload.rs"]
mod reload;
#[path = "system/requirements.rs"]
mod requirements;
#[path = "https/resumption.rs"]
mod resumption;
#[path = "system/root.rs"]
mod root;
#[path = "system/running.rs"]
mod running;
#[path = "https/secure.rs"]
mod secure;
#[path = "https/segments.rs"]
mod segments;
#[path = "https/site.rs"]
mod site;
#[path = "http/torrent.rs"]
mod torrent;
#[path = "http/tracker.rs"]
mod tracker;
#[path = "http/vitals.rs"]
mod vitals;
