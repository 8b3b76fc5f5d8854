//! A list of addresses to listen on. Host names are not looked up: what an address
//! stands for must not depend on a resolver that is not up yet when the tracker starts.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::ops::Range;

use annulus_ring::ListenAddress;
use toml::Spanned;
use toml::de::{DeArray, DeValue};

use super::key::Wrong;
use crate::limits::{LISTENERS_MAX, UNIX_PATH_BYTES_MAX};

/// What a value must look like, to follow "expected".
pub(super) const FORM: &str =
    "a list of addresses with ports, like [\"0.0.0.0:3000\", \"[::]:3000\"]";

/// The addresses in the order of the list, which may be empty; Unix sockets only if `unix`.
/// `span` is that of the list.
pub(super) fn read(
    entries: &DeArray<'_>,
    span: Range<usize>,
    unix: bool,
) -> Result<Vec<ListenAddress>, Vec<Wrong>> {
    let mut addresses = Vec::new();
    let mut wrong = Vec::new();
    for entry in entries {
        match entry_address(entry, unix) {
            Ok(address) if addresses.contains(&address) => {
                wrong.push(Wrong { span: entry.span(), what: "is listed twice".to_string() });
            }
            Ok(address) => match addresses.iter().find(|other| collide(&address, other)) {
                Some(other) => {
                    let what = format!("is listed with \"{other}\", and one includes the other");
                    wrong.push(Wrong { span: entry.span(), what });
                }
                None => addresses.push(address),
            },
            Err(what) => wrong.push(Wrong { span: entry.span(), what }),
        }
    }
    if entries.len() > LISTENERS_MAX {
        wrong.push(Wrong { span, what: format!("must be at most {LISTENERS_MAX} addresses") });
    }
    if wrong.is_empty() { Ok(addresses) } else { Err(wrong) }
}

/// Whether the kernel refuses one address where the other is listened on: they are the same, or
/// one of them stands for all of its family.
pub(crate) fn collide(one: &ListenAddress, other: &ListenAddress) -> bool {
    let (Some(one), Some(other)) = (one.tcp(), other.tcp()) else { return one == other };
    let all = one.ip().is_unspecified() || other.ip().is_unspecified();
    let alike = one.port() == other.port() && one.is_ipv4() == other.is_ipv4();
    one.port() != 0 && (one == other || (alike && all))
}

/// One of `own` that collides with one of `others`, to follow "must be".
pub(super) fn shared(own: &[SocketAddr], others: &[ListenAddress]) -> Option<String> {
    let collides = |own: SocketAddr| others.iter().any(|other| collide(&own.into(), other));
    let address = own.iter().find(|own| collides(**own))?;
    Some(format!("without \"{address}\""))
}

/// The same addresses, as those of a list that may have Unix sockets too.
pub(crate) fn widened(addresses: &[SocketAddr]) -> Vec<ListenAddress> {
    addresses.iter().copied().map(ListenAddress::from).collect()
}

fn entry_address(entry: &Spanned<DeValue<'_>>, unix: bool) -> Result<ListenAddress, String> {
    match entry.get_ref() {
        DeValue::String(text) => match text.parse() {
            Ok(ListenAddress::Tcp(address)) => bindable(address).map(ListenAddress::Tcp),
            Ok(address) if !unix => Err(format!(
                "a Unix socket: only listen takes \"{address}\", for proxies of this host that \
                 speak plain HTTP to it"
            )),
            Ok(address) => check_path(&text["unix:".len()..]).map(|()| address),
            Err(_) => Err(hint(text)),
        },
        DeValue::Integer(digits) => Err(hint(digits.as_str())),
        _ => Err("expected an address with a port in quotes, like \"0.0.0.0:3000\"".to_string()),
    }
}

/// Fails unless a Unix socket can be at `path`, which must not depend on the directory that the
/// program is started in.
fn check_path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') || path.ends_with('/') || path.contains(char::is_control) {
        return Err("after unix: stands the path of a socket from the root on, like \
                    \"unix:/run/annulus/http.sock\""
            .to_string());
    }
    if path.len() > UNIX_PATH_BYTES_MAX {
        let len = path.len();
        return Err(format!(
            "the path of a Unix socket has at most {UNIX_PATH_BYTES_MAX} bytes, not {len}"
        ));
    }
    Ok(())
}

/// An IPv6 socket takes IPv6 only here, so the kernel would refuse an IPv4-mapped address,
/// and with an errno that says nothing.
fn bindable(address: SocketAddr) -> Result<SocketAddr, String> {
    if let IpAddr::V6(ip) = address.ip()
        && let Some(ip) = ip.to_ipv4_mapped()
    {
        let plain = SocketAddrV4::new(ip, address.port());
        return Err(format!("an IPv4 address written as IPv6: write \"{plain}\""));
    }
    Ok(address)
}

/// What to write in place of `text`, which is no address with a port.
fn hint(text: &str) -> String {
    let port = text.strip_prefix("*:").or(text.strip_prefix(':')).unwrap_or(text);
    if port.parse::<u16>().is_ok() {
        return format!("a port alone: write \"0.0.0.0:{port}\", \"[::]:{port}\", or both");
    }
    if text.starts_with('/') {
        return format!("a path: write \"unix:{text}\" for the Unix socket there");
    }
    match text.trim_matches(['[', ']']).parse() {
        Ok(IpAddr::V4(ip)) => format!("the port is missing: write \"{ip}:3000\""),
        Ok(IpAddr::V6(_)) => {
            "an IPv6 address goes in brackets, the port after them, like \"[::1]:3000\"".to_string()
        }
        Err(_) => "not an IP address with a port, like \"127.0.0.1:3000\" or \"[::1]:3000\" \
                   (names are not looked up)"
            .to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::hint;

    #[test]
    fn every_near_miss_gets_its_hint() {
        for (text, start) in [
            ("3000", "a port alone: write \"0.0.0.0:3000\""),
            (":3000", "a port alone: write \"0.0.0.0:3000\""),
            ("*:80", "a port alone: write \"0.0.0.0:80\""),
            ("127.0.0.1", "the port is missing: write \"127.0.0.1:3000\""),
            ("::1", "an IPv6 address goes in brackets"),
            ("[::1]", "an IPv6 address goes in brackets"),
            ("::1:3000", "an IPv6 address goes in brackets"),
            ("localhost:3000", "not an IP address with a port"),
            ("127.0.0.1:70000", "not an IP address with a port"),
            ("70000", "not an IP address with a port"),
            ("", "not an IP address with a port"),
            ("/run/annulus.sock", "a path: write \"unix:/run/annulus.sock\""),
        ] {
            assert!(hint(text).starts_with(start), "{text}: {}", hint(text));
        }
    }
}
