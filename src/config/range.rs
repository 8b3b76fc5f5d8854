//! Ranges of IP addresses, and lists of them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeArray, DeValue};

use super::key::Wrong;

/// What a value must look like, to follow "expected".
pub(super) const FORM: &str =
    "a list of addresses and ranges, like [\"192.0.2.1\", \"10.0.0.0/8\", \"2001:db8::/32\"]";

/// The IP addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    first: IpAddr,
    /// Bits in common: at most 32 for IPv4, 128 for IPv6.
    prefix: u32,
}

impl Range {
    /// Whether `ip` is in it. IPv4 mapped to IPv6 counts as IPv6: make it IPv4 beforehand.
    pub fn contains(self, ip: IpAddr) -> bool {
        let (first, bits) = left_aligned(self.first);
        let (ip, ip_bits) = left_aligned(ip);
        bits == ip_bits && (first ^ ip) & mask(self.prefix) == 0
    }
}

impl FromStr for Range {
    type Err = String;

    /// Reads an address, or an address and a number of bits such as `10.0.0.0/8`.
    ///
    /// # Errors
    /// What is wrong with it, as it goes into a message.
    fn from_str(text: &str) -> Result<Range, String> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let first: IpAddr = address.parse().map_err(|_| hint(text))?;
        if first.to_canonical() != first {
            let plain = first.to_canonical();
            return Err(format!("an IPv4 address written as IPv6: write it like \"{plain}\""));
        }
        let (start, bits) = left_aligned(first);
        let prefix = match prefix {
            None => bits,
            Some(digits) => match digits.parse() {
                Ok(prefix) if prefix <= bits && !digits.starts_with('+') => prefix,
                _ => return Err(format!("after the / must be 0 to {bits} bits")),
            },
        };
        let range = Range { first: with_bits(first, start & mask(prefix)), prefix };
        if range.first != first {
            let what = format!("there are bits set after the first {prefix}: write \"{range}\"");
            return Err(what);
        }
        Ok(range)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { first, prefix } = self;
        match *prefix == left_aligned(*first).1 {
            true => write!(f, "{first}"),
            false => write!(f, "{first}/{prefix}"),
        }
    }
}

/// The bits of `ip` from the highest of 128 on, and how many they are.
fn left_aligned(ip: IpAddr) -> (u128, u32) {
    match ip {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()) << 96, 32),
        IpAddr::V6(ip) => (ip.to_bits(), 128),
    }
}

/// The address of these bits that is of the family of `ip`.
fn with_bits(ip: IpAddr, bits: u128) -> IpAddr {
    match ip {
        IpAddr::V4(_) => IpAddr::V4(((bits >> 96) as u32).into()),
        IpAddr::V6(_) => IpAddr::V6(bits.into()),
    }
}

/// The highest `prefix` of 128 bits.
fn mask(prefix: u32) -> u128 {
    u128::MAX.checked_shl(128 - prefix).unwrap_or(0)
}

/// The ranges in the order of the list, which may be empty.
pub(super) fn read(entries: &DeArray<'_>) -> Result<Vec<Range>, Vec<Wrong>> {
    let mut ranges = Vec::new();
    let mut wrong = Vec::new();
    for entry in entries {
        match entry_range(entry) {
            Ok(range) if ranges.contains(&range) => {
                wrong.push(Wrong { span: entry.span(), what: "is listed twice".to_string() });
            }
            Ok(range) => ranges.push(range),
            Err(what) => wrong.push(Wrong { span: entry.span(), what }),
        }
    }
    if wrong.is_empty() { Ok(ranges) } else { Err(wrong) }
}

fn entry_range(entry: &Spanned<DeValue<'_>>) -> Result<Range, String> {
    match entry.get_ref() {
        DeValue::String(text) => text.parse(),
        _ => Err("expected an address or a range in quotes, like \"10.0.0.0/8\"".to_string()),
    }
}

/// What to write in place of `text`, which is no range.
fn hint(text: &str) -> String {
    let (address, bits) = text.split_once('/').unwrap_or((text, ""));
    let slash = if bits.is_empty() { "" } else { "/" };
    if let Some(inner) = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return format!("brackets are for ports only: write \"{inner}{slash}{bits}\"");
    }
    if address.parse::<SocketAddr>().is_ok() {
        return "an address without a port is meant: a proxy connects from any".to_string();
    }
    "not an IP address or a range of them, like \"192.0.2.1\" or \"10.0.0.0/8\" \
     (names are not looked up)"
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::Range;

    #[test]
    fn ranges_hold_what_begins_with_their_bits() {
        for (range, inside, outside) in [
            ("10.0.0.0/8", "10.0.0.0 10.255.255.255", "9.255.255.255 11.0.0.0 a00::"),
            ("10.1.2.4/31", "10.1.2.4 10.1.2.5", "10.1.2.3 10.1.2.6"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.2 ::ffff:10.1.2.3"),
            ("0.0.0.0/0", "0.0.0.0 255.255.255.255", ":: ::ffff:1.2.3.4"),
            ("128.0.0.0/1", "128.0.0.0 255.0.0.0", "127.255.255.255 8000::"),
            ("::/0", ":: ffff:: ::1.2.3.4", "0.0.0.0"),
            ("2001:db8::/32", "2001:db8:: 2001:db8:ffff::1", "2001:db7:: 2001:db9::"),
            ("2001:db8::8/125", "2001:db8::8 2001:db8::f", "2001:db8::7 2001:db8::10"),
            ("::1", "::1", "::2 0.0.0.1"),
        ] {
            let parsed = range.parse::<Range>().unwrap();
            assert_eq!(parsed.to_string(), range);
            for (text, expected) in [(inside, true), (outside, false)] {
                for ip in text.split(' ') {
                    assert_eq!(parsed.contains(ip.parse().unwrap()), expected, "{ip} in {range}");
                }
            }
        }
        assert_eq!("10.1.2.3/32".parse::<Range>().unwrap().to_string(), "10.1.2.3");
        assert_eq!("::1/128".parse::<Range>().unwrap().to_string(), "::1");
    }

    #[test]
    fn every_mistake_gets_its_hint() {
        for (text, start) in [
            ("10.0.0.1/8", "there are bits set after the first 8: write \"10.0.0.0/8\""),
            ("2001:db8::1/32", "there are bits set after the first 32: write \"2001:db8::/32\""),
            ("10.0.0.1/0", "there are bits set after the first 0: write \"0.0.0.0/0\""),
            ("10.0.0.0/33", "after the / must be 0 to 32 bits"),
            ("10.0.0.0/", "after the / must be 0 to 32 bits"),
            ("10.0.0.0/+8", "after the / must be 0 to 32 bits"),
            ("10.0.0.0/255.0.0.0", "after the / must be 0 to 32 bits"),
            ("::/129", "after the / must be 0 to 128 bits"),
            ("::ffff:10.0.0.0/104", "an IPv4 address written as IPv6"),
            ("[2001:db8::]/32", "brackets are for ports only: write \"2001:db8::/32\""),
            ("[::1]", "brackets are for ports only: write \"::1\""),
            ("10.0.0.1:80", "an address without a port is meant"),
            ("[::1]:80", "an address without a port is meant"),
            ("10.0.0", "not an IP address or a range"),
            ("10/8", "not an IP address or a range"),
            ("proxy.example", "not an IP address or a range"),
            ("", "not an IP address or a range"),
        ] {
            let what = text.parse::<Range>().unwrap_err();
            assert!(what.starts_with(start), "{text}: {what}");
        }
    }
}
