//! Zero-copy parser of BitTorrent tracker requests: HTTP heads (RFC 9112), announces (BEP 3,
//! 7, 23, 52), scrapes (BEP 48), the PROXY protocol that may stand before them, and the datagrams
//! of UDP (BEP 15, 41).
//!
//! Bytes in; a request and how many bytes it took, "not all there yet", or an error out:
//!
//! ```
//! use annulus_parser::{Bounds, Parsed, Target, parse_announce, parse_head};
//!
//! let bounds = Bounds { request_line_bytes_max: 4096, head_bytes_max: 8192, headers_max: 64 };
//! let input = b"GET /announce?info_hash=aaaaaaaaaaaaaaaaaaaa&port=6881 HTTP/1.1\r\n\r\n";
//! let Ok(Parsed::Complete { head, consumed }) = parse_head(input, 0, &bounds) else { panic!() };
//! assert_eq!(consumed.get(), input.len());
//! let Target::Announce(query) = head.target else { panic!() };
//! assert_eq!(parse_announce(query).unwrap().port, 6881);
//! ```
//!
//! What holds everywhere:
//! - No input makes anything here panic, allocate, block or read a clock; the crate has no
//!   dependency, not even `std`. Work is linear in the bytes given.
//! - There is one grammar and no switch that loosens it. Everything borrows from the input.
//! - How a request was cut into reads never matters: the first byte at which a request goes
//!   wrong decides its error, whether or not more had arrived by then.
//!
//! Read `http.rs` for the head, `query.rs` for the parameters, `proxy.rs` for what a proxy may
//! send ahead of both, and `datagram.rs` for UDP; `scan.rs` is what makes them quick and is the
//! only file with `unsafe` in it.
#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

mod address;
mod datagram;
mod decode;
mod error;
mod headers;
mod http;
mod proxy;
mod query;
mod scan;
mod target;

pub use address::{Address, forwarded_ip};
pub use datagram::{
    DATAGRAM_HASHES_MAX, DATAGRAM_HEADER_BYTES, DatagramAction, DatagramAnnounce, DatagramError,
    DatagramHashes, DatagramHeader, DatagramMistake, DatagramQuery, DatagramRequest, UrlData,
    parse_datagram,
};
pub use error::Error;
pub use headers::Headers;
pub use http::{
    Bounds, Consumed, Head, Method, Parsed, Version, asks_for_head, parse_head, target_so_far,
};
pub use proxy::{NotProxied, Proxied, parse_proxy, proxy_destination};
pub use query::{
    Announce, AnnounceEvent, Numwant, Query, ScrapeHashes, parse_announce, scrape_hashes,
};
pub use target::Target;
