//! Power that is given up, from outside: the real binary, started by root, on either engine,
//! looked at by what the kernel says of it and by what it can still do.
//!
//! `dropped` is what is left of it, `renewal` how files are read again all the same, `keeper`
//! the life of the process that does it, `hidden` what Landlock takes away, `socket` what is made
//! for its user, and `mistakes` what cannot be had.

#![allow(dead_code, reason = "the harness is shared, and each half of it is used by somebody")]

#[path = "http/bencode.rs"]
mod bencode;
#[path = "https/certificates.rs"]
mod certificates;
#[path = "http/client.rs"]
mod client;
#[path = "confine/dropped.rs"]
mod dropped;
#[path = "confine/hidden.rs"]
mod hidden;
#[path = "confine/keeper.rs"]
mod keeper;
#[path = "confine/mistakes.rs"]
mod mistakes;
#[path = "confine/place.rs"]
mod place;
#[path = "confine/renewal.rs"]
mod renewal;
#[path = "system/requirements.rs"]
mod requirements;
#[path = "system/root.rs"]
mod root;
#[path = "https/secure.rs"]
mod secure;
#[path = "https/site.rs"]
mod site;
#[path = "confine/socket.rs"]
mod socket;
#[path = "confine/status.rs"]
mod status;
#[path = "http/torrent.rs"]
mod torrent;
#[path = "http/tracker.rs"]
mod tracker;
