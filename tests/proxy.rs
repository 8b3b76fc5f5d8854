//! Behind proxies: the real binary on either engine, and whose word on a client's address it
//! takes.
//!
//! `forwarded` is the header, `introduction` the PROXY protocol, both by hand; `pieces` is the
//! latter cut at every byte, in memory. `external` is what is told of peers of the tracker's own
//! network, with a header to have clients from everywhere. `local` is a Unix socket in place of an
//! address, and `link_local` an address that nobody else can reach. `nginx` and `haproxy` are
//! Debian's own, with the configurations that are given away as examples.

#![allow(dead_code, reason = "the harness is shared, and each half of it is used by somebody")]

#[path = "proxy/behind.rs"]
mod behind;
#[path = "http/bencode.rs"]
mod bencode;
#[path = "https/certificates.rs"]
mod certificates;
#[path = "http/client.rs"]
mod client;
#[path = "proxy/external.rs"]
mod external;
#[path = "proxy/forwarded.rs"]
mod forwarded;
#[path = "proxy/haproxy.rs"]
mod haproxy;
#[path = "proxy/introduction.rs"]
mod introduction;
#[path = "proxy/link_local.rs"]
mod link_local;
#[path = "proxy/local.rs"]
mod local;
#[path = "proxy/nginx.rs"]
mod nginx;
#[path = "operations/observed.rs"]
#[allow(dead_code, reason = "shared with the tests of operations, which ask more of it")]
mod observed;
#[path = "proxy/pieces.rs"]
mod pieces;
#[path = "proxy/program.rs"]
mod program;
#[path = "system/requirements.rs"]
mod requirements;
#[path = "system/root.rs"]
mod root;
#[path = "https/secure.rs"]
mod secure;
#[path = "https/site.rs"]
mod site;
#[path = "http/torrent.rs"]
mod torrent;
#[path = "http/tracker.rs"]
mod tracker;
#[path = "http/vitals.rs"]
mod vitals;
