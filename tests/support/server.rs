//! A server without sockets.

use std::net::IpAddr;

use annulus::connection::{BOUNDS, Handler};
use annulus::limits::RESPONSE_BYTES_MAX;
use annulus::server::Server;
use annulus_parser::{Parsed, parse_head};

/// The whole response to a GET by plain HTTP.
pub(crate) fn ask_from(client: IpAddr, server: &mut Server, target: &str) -> String {
    let request = format!("GET {target} HTTP/1.1\r\n\r\n");
    let Ok(Parsed::Complete { head, .. }) = parse_head(request.as_bytes(), 0, &BOUNDS) else {
        panic!("{target:?} is no request")
    };
    let mut out = vec![0; RESPONSE_BYTES_MAX];
    let len = server.answer(Some(client), false, &head, &mut out).len;
    String::from_utf8_lossy(&out[..len]).into_owned()
}
