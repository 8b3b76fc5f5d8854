//! A load tester for BitTorrent trackers: sends the requests of many clients, as fast as the
//! tracker responds or at a given rate, and validates every response.
//!
//! ```text
//! options ─→ run ─→ worker ─→ client ─→ request       requests → bytes
//!                     │          ├────→ http, tls     bytes → bodies
//!                     │          └────→ validator     bodies → counts, by body and bencode
//!                     └────→ stats ─→ report
//! ```
//!
//! Trackers by UDP have a worker of their own, [`udp_worker`], with [`in_flight`] in place of
//! clients and [`datagram`] in place of requests and bodies.
//!
//! [`worker`] is the file to read first. Which requests are sent, and their order on each
//! connection, follows from the options alone: see [`plan`] and [`request`].
#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests may wait")
)]
#![forbid(unsafe_code)]

mod bencode;
pub mod body;
pub mod client;
pub mod datagram;
pub mod failure;
pub mod http;
pub mod in_flight;
pub mod options;
pub mod plan;
mod popularity;
pub mod random;
pub mod report;
pub mod request;
pub mod run;
pub mod schedule;
pub mod stats;
pub mod tls;
pub mod tracker_url;
pub mod udp_worker;
pub mod validator;
pub mod worker;
