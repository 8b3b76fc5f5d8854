//! Clients behind proxies: whose word on a client's address is taken, and what it is.
//!
//! A proxy is known by the address that it connects from, or by coming through a Unix socket,
//! which only those can who may write to its file; and by nothing else: anybody can write a
//! header.

use std::net::IpAddr;

use annulus_parser::{Head, forwarded_ip};

use crate::addresses::is_unreachable;
use crate::config::{self, Range};
use crate::limits::LISTENERS_MAX;
use crate::log::WarningLimiter;

/// The header by which proxies say where a request came from.
#[derive(Debug)]
pub struct Forwarded {
    header: String,
    /// Whether every address in it has a port, IPv6 too, and without brackets.
    always_with_port: bool,
    trusted: Vec<Range>,
    unknown: WarningLimiter,
}

/// Why the client of a request is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// A proxy did not send the header, or none is configured for one that has no address.
    Missing,
    /// The header does not say an address where it counts, or one that no client can have.
    Unreadable,
}

impl Forwarded {
    /// The header as configured, if one is.
    pub fn new(config: &config::Proxy) -> Option<Forwarded> {
        let config::Proxy { header, trusted, .. } = config;
        (!header.is_empty()).then(|| Forwarded {
            header: header.clone(),
            always_with_port: header.eq_ignore_ascii_case("CloudFront-Viewer-Address"),
            trusted: trusted.clone(),
            unknown: WarningLimiter::default(),
        })
    }

    /// Where a request came from that was received from `peer`, `None` for a Unix socket.
    ///
    /// # Errors
    /// `peer` is a proxy that does not tell.
    pub fn client(&self, peer: Option<IpAddr>, head: &Head<'_>) -> Result<IpAddr, Unknown> {
        if let Some(peer) = peer
            && !is_in(&self.trusted, peer)
        {
            return Ok(peer);
        }
        let client = self.forwarded(head)?;
        if is_unreachable(client) { Err(Unknown::Unreadable) } else { Ok(client) }
    }

    /// Has the log say that the proxy `peer` did not tell where an announce came from, at second
    /// `now_s`.
    pub fn note_unknown(&mut self, peer: Option<IpAddr>, now_s: u32) {
        let header = &self.header;
        match peer {
            Some(peer) => self.unknown.warning(
                now_s,
                format_args!("an announce failed: the proxy {peer} sent no readable {header}"),
            ),
            None => self.unknown.warning(
                now_s,
                format_args!(
                    "an announce failed: the proxy at a Unix socket sent no readable {header}"
                ),
            ),
        }
    }

    /// What the header says.
    ///
    /// Every proxy adds the address of its own peer to the right of what it was sent. So the
    /// list is read from the right, over all lines, as far as the addresses are those of trusted
    /// proxies: the next one was seen by one of them, and what stands left of it is anybody's
    /// say-so.
    fn forwarded(&self, head: &Head<'_>) -> Result<IpAddr, Unknown> {
        let mut client = Err(Unknown::Missing);
        for line in head.headers().values(self.header.as_bytes()) {
            client = match self.last_untrusted(line) {
                // The first proxy of the whole list stays the client.
                Ok(ip) if is_in(&self.trusted, ip) && client != Err(Unknown::Missing) => client,
                decided => decided,
            };
        }
        client
    }

    /// The address that counts in one line; the first if all are trusted.
    fn last_untrusted(&self, line: &[u8]) -> Result<IpAddr, Unknown> {
        let mut last = Err(Unknown::Unreadable);
        for entry in line.rsplit(|&byte| byte == b',') {
            let entry = if self.always_with_port { without_port(entry) } else { Some(entry) };
            let ip = entry.and_then(forwarded_ip).ok_or(Unknown::Unreadable)?.to_canonical();
            last = Ok(ip);
            if !is_in(&self.trusted, ip) {
                break;
            }
        }
        last
    }
}

/// What stands before the last colon, if a port stands behind it: `2001:db8::1:46532` would else
/// be read as an address.
fn without_port(entry: &[u8]) -> Option<&[u8]> {
    let colon = entry.iter().rposition(|&byte| byte == b':')?;
    let port = entry[colon + 1..].trim_ascii_end();
    let is_port = (1..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit);
    is_port.then_some(&entry[..colon])
}

/// The listeners on which proxies introduce each connection by the PROXY protocol.
#[derive(Debug)]
pub struct ProxyProtocol {
    /// One bit for each listener, the lowest for that of index 0.
    listeners: u64,
    trusted: Vec<Range>,
    strangers: WarningLimiter,
}

const _: () = assert!(LISTENERS_MAX <= u64::BITS as usize);

impl ProxyProtocol {
    /// Those whose bits are set in `listeners`, the lowest for that of index 0; `None` if none is.
    pub fn new(config: &config::Proxy, listeners: u64) -> Option<ProxyProtocol> {
        let trusted = config.trusted.clone();
        let strangers = WarningLimiter::default();
        (listeners != 0).then_some(ProxyProtocol { listeners, trusted, strangers })
    }

    /// Whether the connections of a listener begin with an introduction.
    pub fn expected_at(&self, listener: u16) -> bool {
        self.listeners >> listener & 1 != 0
    }

    /// Whether `peer`, who connected at second `now_s`, may introduce others: `None`, who came by
    /// a Unix socket, may. The log says who tried and may not.
    pub fn may_come_from(&mut self, peer: Option<IpAddr>, now_s: u32) -> bool {
        let Some(peer) = peer.map(|peer| peer.to_canonical()) else { return true };
        let trusted = is_in(&self.trusted, peer);
        if !trusted {
            self.strangers.warning(
                now_s,
                format_args!("a connection to a PROXY listener from {peer}, which is not trusted"),
            );
        }
        trusted
    }
}

fn is_in(ranges: &[Range], ip: IpAddr) -> bool {
    ranges.iter().any(|range| range.contains(ip))
}
