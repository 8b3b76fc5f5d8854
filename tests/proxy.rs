//! Behind proxies, on either engine: which client address the tracker uses.
//!
//! `forwarded` tests the header, `proxy_protocol` the PROXY protocol; `pieces` splits the latter at
//! every byte, in memory. `external` tests what replaces private addresses. `local` is a Unix
//! socket, and `link_local` a link-local client. `nginx` and `haproxy` run Debian's programs with
//! the example configurations.

mod external;
mod forwarded;
mod haproxy;
mod link_local;
mod local;
mod nginx;
mod pieces;
mod program;
mod proxy_protocol;
