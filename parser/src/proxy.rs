//! The PROXY protocol, versions 1 and 2: a header ahead of the client's own bytes, by which a proxy
//! that forwards a connection names the client.
//!
//! The first bytes identify the version, so no setting chooses between them.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::{FromStr, from_utf8};

use crate::http::Consumed;

/// What version 1 begins with. It is text, one line.
const V1_START: &[u8] = b"PROXY ";

/// Bytes of the longest line of version 1, its line end included.
const V1_BYTES_MAX: usize = 107;

/// What version 2 begins with: nothing that any other protocol does.
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of version 2 up to its addresses: the start, version and command, family and
/// transport, and the length of what follows.
const V2_FIXED_BYTES: usize = 16;

/// The result of parsing a proxy's header.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxied {
    /// A whole header.
    Complete {
        /// The client's address, as written: IPv4 may be mapped to IPv6. `None` if the
        /// connection is the proxy's own, as for a health check, or the client is unknown.
        source: Option<IpAddr>,
        /// Where the client's own bytes start.
        consumed: Consumed,
    },
    /// The header is valid so far, but incomplete.
    Partial,
}

/// The bytes begin no header of the PROXY protocol, or a broken one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NotProxied;

/// Parses the header that `input`, the first bytes of a connection, starts with. One of version 2
/// may have `bytes_max` bytes; one of version 1 has 107 at most by itself.
///
/// # Errors
///
/// There is no header, or it is malformed, too long for its version, or has an unknown command or
/// address family.
pub fn parse_proxy(input: &[u8], bytes_max: usize) -> Result<Proxied, NotProxied> {
    Ok(match read(input, bytes_max)? {
        Some((addresses, consumed)) => {
            Proxied::Complete { source: addresses.map(|addresses| addresses.source), consumed }
        }
        None => Proxied::Partial,
    })
}

/// The address that the client connected to, from the header that `input` starts with. `None` if
/// [`parse_proxy`] finds no client.
pub fn proxy_destination(input: &[u8], bytes_max: usize) -> Option<IpAddr> {
    match read(input, bytes_max) {
        Ok(Some((addresses, _))) => addresses.map(|addresses| addresses.destination),
        _ => None,
    }
}

/// The addresses of the client and of the proxy's end of the connection.
struct Addresses {
    source: IpAddr,
    destination: IpAddr,
}

/// The content of a complete header, and its length.
type Header = (Option<Addresses>, Consumed);

/// The header that `input` starts with; `None` if it does not end yet.
fn read(input: &[u8], bytes_max: usize) -> Result<Option<Header>, NotProxied> {
    if input.first() == V2_START.first() {
        return version_2(input, bytes_max);
    }
    version_1(input)
}

/// Whether `input` starts with `start`, or `None` if it is too short to tell.
fn starts(input: &[u8], start: &[u8]) -> Option<bool> {
    let common = input.len().min(start.len());
    if input[..common] != start[..common] {
        return Some(false);
    }
    (common == start.len()).then_some(true)
}

fn version_1(input: &[u8]) -> Result<Option<Header>, NotProxied> {
    match starts(input, V1_START) {
        None => return Ok(None),
        Some(false) => return Err(NotProxied),
        Some(true) => {}
    }
    let window = &input[..input.len().min(V1_BYTES_MAX)];
    let Some(end) = window.iter().position(|&byte| byte == b'\n') else {
        return if window.len() < V1_BYTES_MAX { Ok(None) } else { Err(NotProxied) };
    };
    let line = window[V1_START.len()..end].strip_suffix(b"\r").ok_or(NotProxied)?;
    let addresses = addresses_of_line(from_utf8(line).map_err(|_| NotProxied)?)?;
    Ok(Some((addresses, Consumed::of(end + 1))))
}

/// Reads a line of version 1 without its start and end, such as
/// `TCP4 192.0.2.1 198.51.100.1 56324 443`.
fn addresses_of_line(line: &str) -> Result<Option<Addresses>, NotProxied> {
    let mut words = line.split(' ');
    let addresses = match words.next() {
        // What follows is to be ignored.
        Some("UNKNOWN") => return Ok(None),
        Some("TCP4") => addresses::<Ipv4Addr>(&mut words)?,
        Some("TCP6") => addresses::<Ipv6Addr>(&mut words)?,
        _ => return Err(NotProxied),
    };
    let ports = [words.next(), words.next()].map(|word| word.is_some_and(is_port));
    if ports != [true, true] || words.next().is_some() {
        return Err(NotProxied);
    }
    Ok(Some(addresses))
}

/// Takes source and destination.
fn addresses<'l, A: FromStr + Into<IpAddr>>(
    words: &mut impl Iterator<Item = &'l str>,
) -> Result<Addresses, NotProxied> {
    let word = |word: Option<&str>| word.and_then(|word| word.parse::<A>().ok()).ok_or(NotProxied);
    let source = word(words.next())?.into();
    Ok(Addresses { source, destination: word(words.next())?.into() })
}

fn is_port(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_digit()) && word.parse::<u16>().is_ok()
}

fn version_2(input: &[u8], bytes_max: usize) -> Result<Option<Header>, NotProxied> {
    if starts(input, V2_START) == Some(false) {
        return Err(NotProxied);
    }
    let Some(&[.., command, family, high, low]) = input.first_chunk::<V2_FIXED_BYTES>() else {
        return Ok(None);
    };
    // Whatever follows the addresses is skipped with them: extensions of type, length, value.
    let end = V2_FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    let address_bytes = match (command, family) {
        // LOCAL, a connection of the proxy's own, and one whose client is unknown. A receiver
        // that does not support UDP or UNIX sockets treats them the same (section 2.2): the
        // client may be on the proxy's machine.
        (0x20, _) | (0x21, 0x00 | 0x12 | 0x22 | 0x31 | 0x32) => 0,
        // TCP over IPv4 and IPv6: two addresses and two ports.
        (0x21, 0x11) => 2 * (4 + 2),
        (0x21, 0x21) => 2 * (16 + 2),
        _ => return Err(NotProxied),
    };
    if end > bytes_max || end - V2_FIXED_BYTES < address_bytes {
        return Err(NotProxied);
    }
    let Some(rest) = input.get(V2_FIXED_BYTES..end) else { return Ok(None) };
    let addresses = match address_bytes {
        0 => None,
        12 => two_addresses::<4>(rest),
        _ => two_addresses::<16>(rest),
    };
    Ok(Some((addresses, Consumed::of(end))))
}

/// Source and destination, one behind the other.
fn two_addresses<const BYTES: usize>(bytes: &[u8]) -> Option<Addresses>
where
    [u8; BYTES]: Into<IpAddr>,
{
    let (source, rest) = bytes.split_first_chunk::<BYTES>()?;
    let destination = rest.first_chunk::<BYTES>()?;
    Some(Addresses { source: (*source).into(), destination: (*destination).into() })
}
