//! The keys of `[proxy]`.

use annulus_ring::ListenAddress;

use super::key::{Key, Kind, Relation, Table};
use super::listen::widened;
use super::{Config, Range};

/// Proxies that stand between clients and the tracker. By default there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxy {
    /// Where they connect from. Not empty if anything below is not, unless they come by a Unix
    /// socket.
    pub trusted: Vec<Range>,
    /// The name of the header that says where a request came from: a field name of HTTP, or
    /// empty for none.
    pub header: String,
    /// Those of [`Config::listen`] and [`Tls::listen`](super::Tls::listen) on which every
    /// connection begins with a header of the PROXY protocol.
    pub protocol_listen: Vec<ListenAddress>,
}

/// What a header's name must look like, to follow "expected".
pub(super) const HEADER_FORM: &str =
    "the name of a header, like \"X-Forwarded-For\", or \"\" for none";

pub(super) const PROXY: Table = Table {
    name: "proxy",
    about: "Proxies, load balancers and CDNs between clients and the tracker, and how they say \
            where a client is. They must not change the query of a request.",
    keys: &[
        Key {
            name: "trusted",
            kind: Kind::Ranges { at: |config| &mut config.proxy.trusted },
            about: "Addresses and ranges that proxies connect from. What others say of a \
                    client's address is not believed. Who comes by a Unix socket of listen is \
                    trusted without being listed. For a CDN, all the ranges that it \
                    publishes.",
            reason: "none, as there is no proxy.",
        },
        Key {
            name: "header",
            kind: Kind::HeaderName { at: |config| &mut config.proxy.header },
            about: "The header by which a trusted proxy says where a request came from, such \
                    as X-Forwarded-For, X-Real-IP or CF-Connecting-IP, in either case. Of \
                    several addresses, on one line or more, the last one that is not trusted \
                    counts. A trusted proxy's announce fails, with a reason, without it or where \
                    it names what no client can have, such as 0.0.0.0 or 240.0.0.1; from \
                    anywhere else the header is ignored. Forwarded (RFC 7239) is not read. On a \
                    listener with the PROXY protocol, the address that this gives must be \
                    trusted for the header to count.",
            reason: "none.",
        },
        Key {
            name: "protocol_listen",
            kind: Kind::ListenAddresses { at: |config| &mut config.proxy.protocol_listen },
            about: "Those of the addresses above, for HTTP or HTTPS, on which every connection \
                    begins with a header of the PROXY protocol, version 1 or 2, ahead of TLS. \
                    Connections that are not from a trusted proxy, or begin otherwise, are \
                    closed. One whose header names no client (LOCAL, UNKNOWN, a UNIX socket), \
                    like a health check, is the proxy's own.",
            reason: "none: only balancers that pass connections on unread need it.",
        },
    ],
    relations: &[
        Relation {
            keys: ["proxy.trusted", "proxy.header"],
            broken: |Config { listen, proxy, .. }| {
                needs_trusted(proxy, !proxy.header.is_empty() && !any_unix(listen))
            },
        },
        Relation {
            keys: ["proxy.trusted", "proxy.protocol_listen"],
            broken: |Config { proxy, .. }| {
                needs_trusted(proxy, !proxy.protocol_listen.iter().all(ListenAddress::is_unix))
            },
        },
        Relation {
            keys: ["proxy.protocol_listen", "listen"],
            broken: |Config { listen, tls, proxy, .. }| {
                let known = [listen.clone(), widened(&tls.listen)].concat();
                let stray = proxy.protocol_listen.iter().find(|it| !known.contains(it))?;
                let tcp = stray.tcp();
                let is_meant = |known: &&ListenAddress| match (known.tcp(), tcp) {
                    (Some(known), Some(stray)) => known.port() == stray.port(),
                    (known, stray) => known.is_none() && stray.is_none(),
                };
                let other_family = |known: &&ListenAddress| {
                    known.tcp().map(|it| it.is_ipv4()) != tcp.map(|it| it.is_ipv4())
                };
                let meant = known.iter().filter(is_meant).min_by_key(other_family);
                let hint = meant.map_or(String::new(), |meant| format!(" (\"{meant}\"?)"));
                Some(format!("addresses of listen or tls.listen, not \"{stray}\"{hint}"))
            },
        },
    ],
};

fn needs_trusted(proxy: &Proxy, needed: bool) -> Option<String> {
    (needed && proxy.trusted.is_empty()).then(|| "one address or more".to_string())
}

fn any_unix(addresses: &[ListenAddress]) -> bool {
    addresses.iter().any(ListenAddress::is_unix)
}

/// A header's name, or what is wrong with it.
pub(super) fn header_name(name: &str) -> Result<String, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !name.bytes().all(is_token) {
        return Err(format!("not the name of a header: expected {HEADER_FORM}"));
    }
    if name.eq_ignore_ascii_case("Forwarded") {
        let what = "is not read: have the proxy send \"X-Forwarded-For\", and write that";
        return Err(what.to_string());
    }
    Ok(name.to_string())
}
