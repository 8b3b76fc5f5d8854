//! Behind proxies: the real binary on either engine, and whose word on a client's address it
//! takes.
//!
//! `forwarded` is the header, `introduction` the PROXY protocol, both by hand; `pieces` is the
//! latter cut at every byte, in memory. `external` is what is told of peers of the tracker's own
//! network, with a header to have clients from everywhere. `local` is a Unix socket in place of an
//! address, and `link_local` an address that nobody else can reach. `nginx` and `haproxy` are
//! Debian's own, with the configurations that are given away as examples.

mod external;
mod forwarded;
mod haproxy;
mod introduction;
mod link_local;
mod local;
mod nginx;
mod pieces;
mod program;
