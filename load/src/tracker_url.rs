//! The announce URL of a tracker.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// How a tracker is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackerScheme {
    Http,
    Https,
    /// BEP 15.
    Udp,
}

/// The parts of an announce URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackerUrl {
    pub scheme: TrackerScheme,
    /// A name, or an address without brackets.
    pub host: String,
    pub port: u16,
    /// For the Host header.
    pub authority: String,
    /// Path and query of announces before the first parameter: it ends with `?` or `&`.
    pub announce: String,
    /// The same for scrapes (BEP 48).
    pub scrape: String,
}

impl TrackerUrl {
    /// Reads a URL, and appends `suffix` to its path.
    pub fn parse(url: &str, suffix: &str) -> Result<TrackerUrl, String> {
        let schemes = [
            ("http://", TrackerScheme::Http),
            ("https://", TrackerScheme::Https),
            ("udp://", TrackerScheme::Udp),
        ];
        let known = |(prefix, scheme)| Some((scheme, url.strip_prefix(prefix)?));
        let Some((scheme, rest)) = schemes.into_iter().find_map(known) else {
            return Err("must begin with http://, https:// or udp://".to_owned());
        };
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("must be ASCII without spaces".to_owned());
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("must be without user and password".to_owned());
        }
        let (host, port) = match authority.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((host, ""))) => (host, Some("")),
            Some(Some((host, rest))) => (host, rest.strip_prefix(':')),
            Some(None) => return Err("must have a ] after the address".to_owned()),
            None => authority
                .split_once(':')
                .map_or((authority, Some("")), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            Some("") => match scheme {
                TrackerScheme::Http => Some(80),
                TrackerScheme::Https => Some(443),
                // There is no usual port.
                TrackerScheme::Udp => None,
            },
            Some(digits) => digits.parse().ok().filter(|port| *port > 0),
            None => None,
        };
        let port = port.ok_or("must have a port of 1 to 65535")?;
        if host.is_empty() {
            return Err("must name a host".to_owned());
        }
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let path = if matches!(path, "" | "/") { "/announce" } else { path };
        let path = format!("{path}{suffix}");
        let with_query = |path: &str| match query {
            "" => format!("{path}?"),
            query => format!("{path}?{query}&"),
        };
        let scrape = match path.rsplit_once("/announce") {
            Some((before, after)) => format!("{before}/scrape{after}"),
            None => path.clone(),
        };
        Ok(TrackerUrl {
            scheme,
            host: host.to_owned(),
            port,
            authority: authority.to_owned(),
            announce: with_query(&path),
            scrape: with_query(&scrape),
        })
    }

    /// The address of the host: the first, or if `v4` is given the first of its family.
    pub fn resolve(&self, v4: Option<bool>) -> Result<SocketAddr, String> {
        let TrackerUrl { host, port, .. } = self;
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(SocketAddr::new(ip, *port));
        }
        let addresses: Vec<SocketAddr> = (host.as_str(), *port)
            .to_socket_addrs()
            .map_err(|error| format!("{host}: has no address here: {error}; use an IP address"))?
            .collect();
        let of_family = addresses.iter().find(|it| v4.is_none_or(|v4| it.is_ipv4() == v4));
        let address = of_family.or(addresses.first()).copied();
        address.ok_or_else(|| format!("{host}: has no address; use an IP address"))
    }
}

#[cfg(test)]
mod tests {
    use super::{TrackerScheme, TrackerUrl};

    #[test]
    fn urls_of_all_kinds() {
        use TrackerScheme::{Http, Https, Udp};
        for (url, scheme, host, port, announce, scrape) in [
            ("http://127.0.0.1", Http, "127.0.0.1", 80, "/announce?", "/scrape?"),
            ("https://tracker.example/", Https, "tracker.example", 443, "/announce?", "/scrape?"),
            ("http://[::1]:7/announce", Http, "::1", 7, "/announce?", "/scrape?"),
            (
                "http://h:1/x/announce.php?k=1",
                Http,
                "h",
                1,
                "/x/announce.php?k=1&",
                "/x/scrape.php?k=1&",
            ),
            ("http://h:1/?", Http, "h", 1, "/announce?", "/scrape?"),
            ("udp://[::1]:7", Udp, "::1", 7, "/announce?", "/scrape?"),
            ("http://h/track#x", Http, "h", 80, "/track?", "/track?"),
        ] {
            let parsed = TrackerUrl::parse(url, "").unwrap();
            assert_eq!((parsed.scheme, &*parsed.host, parsed.port), (scheme, host, port), "{url}");
            assert_eq!((&*parsed.announce, &*parsed.scrape), (announce, scrape), "{url}");
        }
        let suffixed = TrackerUrl::parse("http://h/announce?k=1", "/pass").unwrap();
        assert_eq!(suffixed.announce, "/announce/pass?k=1&");
        assert_eq!(suffixed.scrape, "/scrape/pass?k=1&");
        for (url, address) in
            [("http://127.0.0.1:7", "127.0.0.1:7"), ("https://[::1]", "[::1]:443")]
        {
            let parsed = TrackerUrl::parse(url, "").unwrap();
            assert_eq!(parsed.resolve(None), Ok(address.parse().unwrap()));
        }
    }

    #[test]
    fn other_text_is_refused() {
        for rest in ["", ":80/", "h:0/", "h:x/", "h:70000/", "[::1/", "[::1]x/", "u@h/", "h/a b"] {
            assert!(TrackerUrl::parse(&format!("http://{rest}"), "").is_err(), "{rest}");
        }
        for url in ["", "127.0.0.1:80", "ftp://x/", "udp://x/announce"] {
            assert!(TrackerUrl::parse(url, "").is_err(), "{url}");
        }
    }
}
