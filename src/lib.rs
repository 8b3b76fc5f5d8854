//! Annulus: an HTTP BitTorrent tracker on raw io_uring.
//!
//! Bytes become requests, requests become answers, answers become bytes:
//!
//! ```text
//! main ─→ worker ─→ ring              bytes, fds, completions
//!           ├────→ connection ─→ parser    bytes → request
//!           └────→ server ─→ swarm         request → answer
//!                       └──→ reply         answer → bytes
//! ```
#![forbid(unsafe_code)]

pub mod config;
pub mod flags;
pub mod limits;
mod nearest;
pub mod reply;
pub mod swarm;

