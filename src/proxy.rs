//! The addresses of clients behind proxies, by a header or by the PROXY protocol.
//!
//! A proxy is trusted for the address that it connects from, or because it connects by a Unix
//! socket, which needs write permission on the socket's file. A header alone proves nothing: any
//! client can send it.

use std::net::IpAddr;

use annulus_parser::{Head, forwarded_ip};
use ipnet::IpNet;

use crate::addresses::is_unreachable;
use crate::config;
use crate::limits::LISTENERS_MAX;
use crate::log::WarningLimiter;

/// The header in which proxies pass on the client's address.
#[derive(Debug)]
pub struct Forwarded {
    header: String,
    /// Whether every address in it has a port, IPv6 addresses too, without brackets.
    always_with_port: bool,
    trusted: Vec<IpNet>,
    unknown: WarningLimiter,
}

/// Why the client of a request is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownClient {
    /// The proxy did not send the header, or no header is configured for a Unix socket.
    Missing,
    /// The relevant entry is not an address, or it is one that no client can have.
    Unreadable,
}

impl Forwarded {
    /// The header as configured, if one is.
    pub fn new(config: &config::ProxyConfig) -> Option<Forwarded> {
        let config::ProxyConfig { header, trusted, .. } = config;
        (!header.is_empty()).then(|| Forwarded {
            header: header.clone(),
            always_with_port: header.eq_ignore_ascii_case("CloudFront-Viewer-Address"),
            trusted: trusted.clone(),
            unknown: WarningLimiter::default(),
        })
    }

    /// The client of a request that was received from `peer`, `None` for a Unix socket.
    ///
    /// # Errors
    /// `peer` is a trusted proxy, and its header has no client address.
    pub fn client(&self, peer: Option<IpAddr>, head: &Head<'_>) -> Result<IpAddr, UnknownClient> {
        if let Some(peer) = peer
            && !contains(&self.trusted, peer)
        {
            return Ok(peer);
        }
        let client = self.forwarded(head)?;
        if is_unreachable(client) { Err(UnknownClient::Unreadable) } else { Ok(client) }
    }

    /// Logs that the proxy `peer` sent no readable client address with an announce.
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

    /// The client's address in the header.
    ///
    /// Every proxy appends the address of its own peer on the right. So the list is read from the
    /// right, over all lines of the header, past the addresses of trusted proxies: the next address
    /// was seen by one of them, and anything left of it may be forged.
    fn forwarded(&self, head: &Head<'_>) -> Result<IpAddr, UnknownClient> {
        let mut client = Err(UnknownClient::Missing);
        for line in head.headers().values(self.header.as_bytes()) {
            client = match self.last_untrusted(line) {
                // If all are trusted, the leftmost is the client.
                Ok(ip) if contains(&self.trusted, ip) && client != Err(UnknownClient::Missing) => {
                    client
                }
                decided => decided,
            };
        }
        client
    }

    /// The relevant address of one line: the rightmost that is not trusted, else the leftmost.
    fn last_untrusted(&self, line: &[u8]) -> Result<IpAddr, UnknownClient> {
        let mut last = Err(UnknownClient::Unreadable);
        for entry in line.rsplit(|&byte| byte == b',') {
            let entry = if self.always_with_port { without_port(entry) } else { Some(entry) };
            let ip = entry.and_then(forwarded_ip).ok_or(UnknownClient::Unreadable)?.to_canonical();
            last = Ok(ip);
            if !contains(&self.trusted, ip) {
                break;
            }
        }
        last
    }
}

/// An entry without its port, which is required: `2001:db8::1:46532` would parse as an address.
fn without_port(entry: &[u8]) -> Option<&[u8]> {
    let colon = entry.iter().rposition(|&byte| byte == b':')?;
    let port = entry[colon + 1..].trim_ascii_end();
    let is_port = (1..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit);
    is_port.then_some(&entry[..colon])
}

/// The listeners on which each connection begins with a PROXY protocol header.
#[derive(Debug)]
pub struct ProxyProtocol {
    /// A bit set: bit 0 is the listener of index 0.
    listeners: u64,
    trusted: Vec<IpNet>,
    untrusted: WarningLimiter,
}

const _: () = assert!(LISTENERS_MAX <= u64::BITS as usize);

impl ProxyProtocol {
    /// `listeners` is a bit set: bit 0 is the listener of index 0. `None` if it is empty.
    pub fn new(config: &config::ProxyConfig, listeners: u64) -> Option<ProxyProtocol> {
        let trusted = config.trusted.clone();
        let untrusted = WarningLimiter::default();
        (listeners != 0).then_some(ProxyProtocol { listeners, trusted, untrusted })
    }

    pub fn expected_at(&self, listener: u16) -> bool {
        self.listeners >> listener & 1 != 0
    }

    /// Whether `peer`, which connected at second `now_s`, may send a PROXY header; `None` is a Unix
    /// socket, which may. A rejection is logged.
    pub fn may_come_from(&mut self, peer: Option<IpAddr>, now_s: u32) -> bool {
        let Some(peer) = peer.map(|peer| peer.to_canonical()) else { return true };
        let trusted = contains(&self.trusted, peer);
        if !trusted {
            self.untrusted.warning(
                now_s,
                format_args!("a connection to a PROXY listener from {peer}, which is not trusted"),
            );
        }
        trusted
    }
}

fn contains(ranges: &[IpNet], ip: IpAddr) -> bool {
    ranges.iter().any(|range| range.contains(&ip))
}
