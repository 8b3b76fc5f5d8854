//! Values that are written as text: how they are read, and what a message says of a wrong one.
//!
//! Most functions are a `deserialize_with` of a field in [`super`]. Host names are never resolved
//! here: what is listened on must not depend on a resolver that may not be up at the start.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};

use annulus_ring::{EngineChoice, ListenAddress};
use ipnet::IpNet;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};

use crate::addresses::is_public;
use crate::limits::{LISTENERS_MAX, LOCATION_BYTES_MAX, STATE_NAME_BYTES_MAX, UNIX_PATH_BYTES_MAX};
use crate::log::{Format, Level};
use crate::suggest::{did_you_mean, suggest};

const ADDRESSES_FORM: &str =
    "a list of addresses with ports, like [\"0.0.0.0:3000\", \"[::]:3000\"]";
const ADDRESS_FORM: &str = "an address with a port in quotes, like \"0.0.0.0:3000\"";
const UDP_FORM: &str =
    "\"same\", or a list of addresses with ports, like [\"0.0.0.0:3000\", \"[::]:3000\"]";
const RANGES_FORM: &str =
    "a list of addresses and ranges, like [\"192.0.2.1\", \"10.0.0.0/8\", \"2001:db8::/32\"]";
const RANGE_FORM: &str = "an address or a range in quotes, like \"10.0.0.0/8\"";
const HEADER_FORM: &str = "the name of a header, like \"X-Forwarded-For\", or \"\" for none";

/// What the access list means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessMode {
    /// There is none: all torrents are served.
    #[default]
    Off,
    /// Only its torrents are served.
    Allow,
    /// All torrents but those are served.
    Deny,
}

/// What is done with an access list in which some lines are no info hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BadLines {
    /// It is not used.
    #[default]
    Refuse,
    /// Its other lines are used.
    Skip,
}

/// Where datagrams are received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UdpListen {
    /// At the TCP addresses of `listen` and their ports, but for those of `proxy.protocol_listen`:
    /// load balancers stand before them, which pass TCP on.
    #[default]
    Same,
    /// At these. None of them overlaps with another; with addresses for TCP they may.
    Addresses(Vec<SocketAddr>),
}

/// Reads a string by `parse`. `form` completes "expected".
struct StringVisitor<'f, F> {
    form: &'f str,
    parse: F,
}

impl<T, F: FnOnce(&str) -> Result<T, String>> Visitor<'_> for StringVisitor<'_, F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.form)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }
}

impl<'de, T, F: FnOnce(&str) -> Result<T, String>> DeserializeSeed<'de> for StringVisitor<'_, F> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_str(self)
    }
}

/// Reads a list of strings by `parse`, which also gets the entries before.
struct ListVisitor<T, F> {
    form: &'static str,
    entry_form: &'static str,
    len_max: usize,
    parse: F,
    entries: PhantomData<T>,
}

impl<'de, T, F: Fn(&[T], &str) -> Result<T, String>> Visitor<'de> for ListVisitor<T, F> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.form)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut entries = Vec::new();
        loop {
            let parse = |text: &str| (self.parse)(&entries, text);
            let Some(entry) =
                list.next_element_seed(StringVisitor { form: self.entry_form, parse })?
            else {
                return Ok(entries);
            };
            if entries.len() == self.len_max {
                return Err(A::Error::custom(format!(
                    "must be at most {} addresses",
                    self.len_max
                )));
            }
            entries.push(entry);
        }
    }
}

/// Reads a string by `parse`. `form` completes "expected".
pub(super) fn text<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    form: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    deserializer.deserialize_str(StringVisitor { form, parse })
}

fn one_of<'de, D: Deserializer<'de>, T: Copy>(
    deserializer: D,
    choices: &[(&str, T)],
) -> Result<T, D::Error> {
    let quoted: Vec<String> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    let (last, others) = quoted.split_last().expect("there are choices");
    let form = format!("{} or {last}", others.join(", "));
    text(deserializer, &form, |text| {
        let known = choices.iter().find(|(word, _)| *word == text);
        known.map(|(_, choice)| *choice).ok_or_else(|| {
            let guess = suggest(text, choices.iter().map(|(word, _)| *word));
            format!("must be {form}{}", did_you_mean(guess))
        })
    })
}

pub(super) fn engine<'de, D: Deserializer<'de>>(from: D) -> Result<EngineChoice, D::Error> {
    use EngineChoice::{Auto, Epoll, IoUring};
    one_of(from, &[("auto", Auto), ("io_uring", IoUring), ("epoll", Epoll)])
}

pub(super) fn access_mode<'de, D: Deserializer<'de>>(from: D) -> Result<AccessMode, D::Error> {
    use AccessMode::{Allow, Deny, Off};
    one_of(from, &[("off", Off), ("allow", Allow), ("deny", Deny)])
}

pub(super) fn bad_lines<'de, D: Deserializer<'de>>(from: D) -> Result<BadLines, D::Error> {
    one_of(from, &[("refuse", BadLines::Refuse), ("skip", BadLines::Skip)])
}

pub(super) fn level<'de, D: Deserializer<'de>>(from: D) -> Result<Level, D::Error> {
    use Level::{Error, Info, Warning};
    one_of(from, &[("error", Error), ("warning", Warning), ("info", Info)])
}

pub(super) fn format<'de, D: Deserializer<'de>>(from: D) -> Result<Format, D::Error> {
    use Format::{Auto, Journald, Plain, Timestamps};
    let choices =
        [("auto", Auto), ("timestamps", Timestamps), ("journald", Journald), ("plain", Plain)];
    one_of(from, &choices)
}

/// A URL that may stand in a Location header, or nothing.
pub(super) fn redirect<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let form = format!(
        "\"\", or a URL like \"https://example.org/\" of {LOCATION_BYTES_MAX} bytes at most"
    );
    text(from, &form, |url| {
        let rest = url.strip_prefix("https://").or(url.strip_prefix("http://")).unwrap_or_default();
        let printable = url.bytes().all(|byte| byte.is_ascii_graphic());
        let is_url = !rest.is_empty() && printable && url.len() <= LOCATION_BYTES_MAX;
        if url.is_empty() || is_url { Ok(url.into()) } else { Err(format!("expected {form}")) }
    })
}

pub(super) fn external_ipv4<'de, D>(from: D) -> Result<Option<Ipv4Addr>, D::Error>
where
    D: Deserializer<'de>,
{
    public(from, "\"\", or an IPv4 address like \"203.0.113.7\"", |ip| match ip {
        IpAddr::V4(ip) => Ok(ip),
        IpAddr::V6(_) => Err("is IPv6: write it to external_ipv6"),
    })
}

pub(super) fn external_ipv6<'de, D>(from: D) -> Result<Option<Ipv6Addr>, D::Error>
where
    D: Deserializer<'de>,
{
    let form = "\"\", or an IPv6 address like \"2001:db8::7\", without brackets";
    public(from, form, |ip| match ip {
        IpAddr::V6(ip) => Ok(ip),
        IpAddr::V4(_) => Err("is IPv4: write it to external_ipv4"),
    })
}

/// A public address that `family` accepts, or nothing.
fn public<'de, D: Deserializer<'de>, T>(
    from: D,
    form: &str,
    family: impl Fn(IpAddr) -> Result<T, &'static str>,
) -> Result<Option<T>, D::Error> {
    text(from, form, |text| match text.parse().map(|ip: IpAddr| ip.to_canonical()) {
        _ if text.is_empty() => Ok(None),
        Err(_) => Err(format!("expected {form} (no port, and names are not looked up)")),
        Ok(ip) if !is_public(ip) => {
            Err("must be a public address: others cannot reach this one".to_string())
        }
        Ok(ip) => Ok(Some(family(ip)?)),
    })
}

/// The name of a user or a group, or its number.
pub(super) fn account<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    text(from, "a name or a number, in quotes, or \"\"", |name| Ok(name.to_string()))
}

pub(super) fn path<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    path_text(from, "the path of a file, in quotes", is_path)
}

pub(super) fn path_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    let allowed = |text: &str| text.is_empty() || is_path(text);
    path_text(from, "the path of a file, in quotes, or \"\"", allowed)
}

/// The path of a file that the tracker makes, so that it must have a name.
pub(super) fn file_path_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    let allowed = |text: &str| {
        let name = Path::new(text).file_name().unwrap_or_default();
        let is_name = (1..=STATE_NAME_BYTES_MAX).contains(&name.len());
        text.is_empty() || is_path(text) && !text.ends_with('/') && is_name
    };
    path_text(from, "the path of a file (not of a directory), in quotes, or \"\"", allowed)
}

fn path_text<'de, D: Deserializer<'de>>(
    from: D,
    form: &str,
    allowed: impl Fn(&str) -> bool,
) -> Result<PathBuf, D::Error> {
    text(from, form, |text| match allowed(text) {
        true => Ok(PathBuf::from(text)),
        false => Err(format!("expected {form}")),
    })
}

/// Whether `text` can name a file. A private key that was pasted here is none: it would be printed
/// wherever the path is.
fn is_path(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_control) && !text.starts_with("-----BEGIN")
}

pub(super) fn header_name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    text(from, HEADER_FORM, |name| {
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if !name.bytes().all(is_token) {
            return Err(format!("not the name of a header: expected {HEADER_FORM}"));
        }
        if name.eq_ignore_ascii_case("Forwarded") {
            let what = "is not read: have the proxy send \"X-Forwarded-For\", and write that";
            return Err(what.to_string());
        }
        Ok(name.to_string())
    })
}

/// Addresses to listen on by IP.
pub(super) fn ip_addresses<'de, D>(from: D) -> Result<Vec<SocketAddr>, D::Error>
where
    D: Deserializer<'de>,
{
    addresses(from, |listed, text| match listen_address(text)? {
        ListenAddress::Tcp(address) => distinct(listed, address, &|it| (*it).into()),
        address @ ListenAddress::Unix(_) => Err(format!(
            "a Unix socket: only listen takes \"{address}\", for proxies of this host that speak \
             plain HTTP to it"
        )),
    })
}

/// `"same"`, or addresses to receive datagrams at.
pub(super) fn udp_listen<'de, D: Deserializer<'de>>(from: D) -> Result<UdpListen, D::Error> {
    struct UdpVisitor;

    impl<'de> Visitor<'de> for UdpVisitor {
        type Value = UdpListen;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(UDP_FORM)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<UdpListen, E> {
            match text {
                "same" => Ok(UdpListen::Same),
                _ => Err(E::custom(format!("expected {UDP_FORM}"))),
            }
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<UdpListen, A::Error> {
            ip_addresses(SeqAccessDeserializer::new(list)).map(UdpListen::Addresses)
        }
    }

    from.deserialize_any(UdpVisitor)
}

/// Addresses to listen on by TCP or by a Unix socket.
pub(super) fn listen_addresses<'de, D>(from: D) -> Result<Vec<ListenAddress>, D::Error>
where
    D: Deserializer<'de>,
{
    addresses(from, |listed, text| distinct(listed, listen_address(text)?, &ListenAddress::clone))
}

fn addresses<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: impl Fn(&[T], &str) -> Result<T, String>,
) -> Result<Vec<T>, D::Error> {
    let form = ADDRESSES_FORM;
    let len_max = LISTENERS_MAX;
    let entries = PhantomData;
    deserializer.deserialize_seq(ListVisitor {
        form,
        entry_form: ADDRESS_FORM,
        len_max,
        parse,
        entries,
    })
}

/// `address`, unless the kernel would refuse it beside those `listed` before it.
fn distinct<T: PartialEq + fmt::Display>(
    listed: &[T],
    address: T,
    widened: &dyn Fn(&T) -> ListenAddress,
) -> Result<T, String> {
    if listed.contains(&address) {
        return Err("is listed twice".to_string());
    }
    match listed.iter().find(|other| overlaps(&widened(&address), &widened(other))) {
        Some(other) => Err(format!("is listed with \"{other}\", and one includes the other")),
        None => Ok(address),
    }
}

/// Whether the kernel refuses to listen on one address beside the other: they are the same, or
/// one of them stands for all addresses of its family.
pub(crate) fn overlaps(one: &ListenAddress, other: &ListenAddress) -> bool {
    let (Some(one), Some(other)) = (one.tcp(), other.tcp()) else { return one == other };
    let all = one.ip().is_unspecified() || other.ip().is_unspecified();
    let alike = one.port() == other.port() && one.is_ipv4() == other.is_ipv4();
    one.port() != 0 && (one == other || (alike && all))
}

/// TCP addresses as those of a list that may have Unix sockets too.
pub(crate) fn widened(addresses: &[SocketAddr]) -> Vec<ListenAddress> {
    addresses.iter().copied().map(ListenAddress::from).collect()
}

fn listen_address(text: &str) -> Result<ListenAddress, String> {
    match text.parse() {
        // An IPv6 socket accepts IPv6 only, so the kernel would refuse a mapped address, and
        // with an errno that explains nothing.
        Ok(ListenAddress::Tcp(address)) => match address.ip().to_canonical() {
            IpAddr::V4(ip) if address.is_ipv6() => {
                let plain = SocketAddrV4::new(ip, address.port());
                Err(format!("an IPv4 address written as IPv6: write \"{plain}\""))
            }
            _ => Ok(ListenAddress::Tcp(address)),
        },
        Ok(address) => check_socket_path(&text["unix:".len()..]).map(|()| address),
        Err(_) => Err(address_hint(text)),
    }
}

pub(super) fn check_socket_path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') || path.ends_with('/') || path.contains(char::is_control) {
        let like = "\"unix:/run/annulus/http.sock\"";
        return Err(format!(
            "unix: must be followed by the absolute path of a socket, like {like}"
        ));
    }
    match path.len() {
        ..=UNIX_PATH_BYTES_MAX => Ok(()),
        len => Err(format!(
            "the path of a Unix socket has at most {UNIX_PATH_BYTES_MAX} bytes, not {len}"
        )),
    }
}

/// What to write in place of `text`, which is no address with a port.
fn address_hint(text: &str) -> String {
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

/// Addresses, and ranges such as `10.0.0.0/8`.
pub(super) fn ranges<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpNet>, D::Error> {
    let parse = |listed: &[IpNet], text: &str| match range(text)? {
        range if listed.contains(&range) => Err("is listed twice".to_string()),
        range => Ok(range),
    };
    let (form, len_max, entries) = (RANGES_FORM, usize::MAX, PhantomData);
    from.deserialize_seq(ListVisitor { form, entry_form: RANGE_FORM, len_max, parse, entries })
}

fn range(text: &str) -> Result<IpNet, String> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| range_hint(text))?;
    if address.to_canonical() != address {
        let plain = address.to_canonical();
        return Err(format!("an IPv4 address written as IPv6: write it like \"{plain}\""));
    }
    let Some(bits) = bits else { return Ok(address.into()) };
    let prefix = bits.parse().ok().filter(|_| !bits.starts_with('+'));
    let range = prefix.and_then(|prefix| IpNet::new(address, prefix).ok()).ok_or_else(|| {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        format!("after the / must be 0 to {bits} bits")
    })?;
    if range.trunc() != range {
        let (prefix, meant) = (range.prefix_len(), range.trunc());
        return Err(format!("there are bits set after the first {prefix}: write \"{meant}\""));
    }
    Ok(range)
}

/// What to write in place of `text`, which is no range.
fn range_hint(text: &str) -> String {
    let (address, bits) = text.split_at(text.find('/').unwrap_or(text.len()));
    if let Some(inner) = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return format!("brackets are for ports only: write \"{inner}{bits}\"");
    }
    if address.parse::<SocketAddr>().is_ok() {
        return "write the address without a port: a proxy connects from any".to_string();
    }
    "not an IP address or a range of them, like \"192.0.2.1\" or \"10.0.0.0/8\" \
     (names are not looked up)"
        .to_string()
}
