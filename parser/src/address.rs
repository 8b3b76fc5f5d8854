//! Addresses in text: those that a client or a proxy sends.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use core::str::from_utf8;

use crate::decode::{Decoded, is_padding};
use crate::headers::trim;

/// Bytes of the longest address with a port:
/// `[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535`.
const ADDRESS_BYTES_MAX: usize = 53;

/// The value of a parameter `ip`, `ipv4` or `ipv6`, undecoded: most announces are answered
/// without a look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address<'b>(&'b [u8]);

impl<'b> Address<'b> {
    pub(crate) fn new(value: &'b [u8]) -> Address<'b> {
        Address(value)
    }

    /// The IP address, and the port if there is one: `192.0.2.1`, `192.0.2.1:6881`,
    /// `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:6881`, percent-encoded or not, and white
    /// space or a slash behind it. `None` for anything else: a host name (which BEP 3 allows), or
    /// a port that is not from 1 to 65535.
    pub fn endpoint(self) -> Option<(IpAddr, Option<u16>)> {
        let mut buffer = [0; ADDRESS_BYTES_MAX];
        let decoded = Decoded::new(self.0).collect_in(&mut buffer)?;
        let last = decoded.iter().rposition(|&byte| !is_padding(byte))?;
        read(from_utf8(&decoded[..=last]).ok()?).filter(|&(_, port)| port != Some(0))
    }
}

/// The IP address of one entry of a header such as `X-Forwarded-For`, in any of the forms of
/// [`Address::endpoint`], but not percent-encoded. There may be white space around it. IPv4 mapped
/// to IPv6 stays so. `None` for anything else, such as `unknown`.
pub fn forwarded_ip(entry: &[u8]) -> Option<IpAddr> {
    let entry = trim(entry);
    if entry.len() > ADDRESS_BYTES_MAX {
        return None;
    }
    read(from_utf8(entry).ok()?).map(|(ip, _)| ip)
}

/// The IP address, and the port if there is one. One with a zone (RFC 4007 section 11) is none: it
/// means something only where it was written. The standard library reads those before a port.
fn read(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if text.contains('%') {
        return None;
    }
    if let Ok(ip) = text.parse() {
        return Some((ip, None));
    }
    if let Some(inner) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return inner.parse().ok().map(|ip: Ipv6Addr| (ip.into(), None));
    }
    text.parse().ok().map(|address: SocketAddr| (address.ip(), Some(address.port())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readable_addresses() {
        for (value, ip, port) in [
            ("203.0.113.7", "203.0.113.7", None),
            ("203.0.113.7:6881", "203.0.113.7", Some(6881)),
            ("203%2e0%2E113.%37", "203.0.113.7", None),
            ("203.0.113.7%3a%31", "203.0.113.7", Some(1)),
            ("2a01:4f8:77:77::1", "2a01:4f8:77:77::1", None),
            ("2a01%3A4f8%3A77%3A77%3A%3A1", "2a01:4f8:77:77::1", None),
            ("[2a01:4f8::1]", "2a01:4f8::1", None),
            ("[2a01:4f8::1]:6891", "2a01:4f8::1", Some(6891)),
            ("203.0.113.7%0D%0A", "203.0.113.7", None),
            ("[2a01:4f8::1]:6891/+", "2a01:4f8::1", Some(6891)),
            ("%5B2a01%3a4f8::1%5D:65535", "2a01:4f8::1", Some(65535)),
            ("::ffff:203.0.113.7", "::ffff:203.0.113.7", None),
            (
                "[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535",
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                Some(65535),
            ),
        ] {
            let endpoint = Address::new(value.as_bytes()).endpoint();
            assert_eq!(endpoint, Some((ip.parse().unwrap(), port)), "{value}");
        }
    }

    #[test]
    fn unreadable_addresses() {
        for value in [
            "",
            "localhost",
            "203.0.113",
            "203.0.113.256",
            "203.0.113.7:",
            "203.0.113.7:70000",
            "203.0.113.7:0",
            "203.0.113.7:-1",
            "203.0.113.7:http",
            "[2a01:4f8::1]:",
            "[2a01:4f8::1]:0",
            "+203.0.113.7",
            "203.0.113.7%",
            "%0D",
            "203.0.113.7%3",
            "[203.0.113.7]",
            "[2a01:4f8::1",
            "2a01:4f8::1]",
            "[]",
            "[2a01:4f8::1]6891",
            "fe80::1%25eth0",
            "fe80::1%251",
            "[fe80::1%251]:6891",
            "[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:655350",
        ] {
            assert_eq!(Address::new(value.as_bytes()).endpoint(), None, "{value}");
        }
        assert_eq!(Address::new(b"203.0.113.7\xff").endpoint(), None);
    }

    #[test]
    fn entries_of_forwarding_headers() {
        for (entry, expected) in [
            ("203.0.113.7", Some("203.0.113.7")),
            (" \t203.0.113.7\t ", Some("203.0.113.7")),
            ("203.0.113.7:6881", Some("203.0.113.7")),
            ("2a01:4f8::1", Some("2a01:4f8::1")),
            ("[2a01:4f8::1]", Some("2a01:4f8::1")),
            ("[2a01:4f8::1]:6891 ", Some("2a01:4f8::1")),
            ("::ffff:203.0.113.7", Some("::ffff:203.0.113.7")),
            ("", None),
            (" ", None),
            ("unknown", None),
            ("_hidden", None),
            ("localhost", None),
            ("203.0.113.7 203.0.113.8", None),
            ("203.0.113.7,", None),
            ("\"203.0.113.7\"", None),
            ("203%2e0.113.7", None),
            ("203.0.113.07", None),
            ("203.0.113.7:70000", None),
            ("2a01:4f8::1]", None),
            ("fe80::1%eth0", None),
            ("fe80::1%1", None),
            ("[fe80::1%1]", None),
            ("[fe80::1%1]:6891", None),
            ("[fe80::1%0]:6891", None),
            ("[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:655350", None),
        ] {
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(forwarded_ip(entry.as_bytes()), expected, "{entry:?}");
        }
        assert_eq!(forwarded_ip(b"203.0.113.7\xff"), None);
    }
}
