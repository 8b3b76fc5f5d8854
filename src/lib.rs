//! Annulus: a BitTorrent tracker for HTTP, HTTPS and UDP on raw io_uring.
//!
//! Bytes become requests, requests become answers, answers become bytes:
//!
//! ```text
//! main ─→ worker ─→ ring              bytes, fds, completions
//!           ├────→ connection ─→ parser    bytes → request
//!           │          └──────→ tls        records → bytes and back
//!           └────→ server ─→ swarm         request → answer
//!                       └──→ reply         answer → bytes
//! ```
//!
//! [`server`] is the page to read first; [`worker`] is what drives it; [`startup`] starts
//! the workers from a [`config`]. The crate has no `unsafe` of its own: what needs it lives
//! in the crates `annulus-ring` and `annulus-parser`.
#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests may wait")
)]
#![forbid(unsafe_code)]

pub mod access_list;
pub mod addresses;
pub mod admin;
pub mod buffered;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod connection;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod os;
pub mod proxy;
pub mod rate_limit;
pub mod response;
pub mod server;
pub mod startup;
pub mod state;
mod suggest;
mod text_file;
pub mod tls;
pub mod worker;

pub use startup::run;
