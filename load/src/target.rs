//! Which tracker: what its URL says.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// The parts of an announce URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whether it is spoken to by TLS.
    pub secure: bool,
    /// A name, or an address without brackets.
    pub host: String,
    /// 80 or 443 if the URL has none.
    pub port: u16,
    /// What stands in the Host header.
    pub authority: String,
    /// Path and query of announces, up to the first parameter: ends with `?` or `&`.
    pub announce: String,
    /// The same for scrapes.
    pub scrape: String,
}

impl Target {
    /// Reads a URL, and puts `suffix` behind its path.
    ///
    /// # Errors
    /// What it must be.
    pub fn parse(url: &str, suffix: &str) -> Result<Target, String> {
        let (secure, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err("must begin with http:// or https://".to_owned()),
        };
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("must be without spaces and other than ASCII letters".to_owned());
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("must be without user and password".to_owned());
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) =
                    rest.split_once(']').ok_or("must have a ] behind the address")?;
                (host, rest.strip_prefix(':').or(rest.is_empty().then_some("")))
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, Some("")),
            },
        };
        let port = match port {
            Some("") => Some(if secure { 443 } else { 80 }),
            Some(digits) => digits.parse().ok().filter(|port| *port > 0),
            None => None,
        };
        let port = port.ok_or("must have a port of 1 to 65535")?;
        if host.is_empty() {
            return Err("must name a host".to_owned());
        }
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path, None),
        };
        let path = if matches!(path, "" | "/") { "/announce" } else { path };
        let path = format!("{path}{suffix}");
        let with_query = |path: &str| match query {
            Some("") | None => format!("{path}?"),
            Some(query) => format!("{path}?{query}&"),
        };
        let scrape = match path.rfind("/announce") {
            Some(at) => format!("{}/scrape{}", &path[..at], &path[at + "/announce".len()..]),
            None => path.clone(),
        };
        Ok(Target {
            secure,
            host: host.to_owned(),
            port,
            authority: authority.to_owned(),
            announce: with_query(&path),
            scrape: with_query(&scrape),
        })
    }

    /// The host's address: of several the first, or the first of a family if that is given.
    ///
    /// # Errors
    /// It has none, or it cannot be found out.
    pub fn resolve(&self, v4: Option<bool>) -> Result<SocketAddr, String> {
        let Target { host, port, .. } = self;
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(SocketAddr::new(ip, *port));
        }
        let hint = "an address instead of the name always works";
        let found = (host.as_str(), *port).to_socket_addrs();
        let addresses: Vec<SocketAddr> = found
            .map_err(|error| format!("{host}: has no address here: {error}; {hint}"))?
            .collect();
        let fitting = addresses.iter().find(|it| v4.is_none_or(|v4| it.is_ipv4() == v4));
        let address = fitting.or(addresses.first()).copied();
        address.ok_or_else(|| format!("{host}: has no address; {hint}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Target;

    #[test]
    fn urls_of_all_kinds() {
        for (url, secure, host, port, announce, scrape) in [
            ("http://127.0.0.1", false, "127.0.0.1", 80, "/announce?", "/scrape?"),
            ("https://tracker.example/", true, "tracker.example", 443, "/announce?", "/scrape?"),
            ("http://[::1]:7/announce", false, "::1", 7, "/announce?", "/scrape?"),
            (
                "http://h:1/x/announce.php?k=1",
                false,
                "h",
                1,
                "/x/announce.php?k=1&",
                "/x/scrape.php?k=1&",
            ),
            ("http://h:1/?", false, "h", 1, "/announce?", "/scrape?"),
            ("http://h/track#x", false, "h", 80, "/track?", "/track?"),
            ("http://h?k=1", false, "h", 80, "/announce?k=1&", "/scrape?k=1&"),
        ] {
            let target = Target::parse(url, "").unwrap();
            let got =
                (target.secure, &*target.host, target.port, &*target.announce, &*target.scrape);
            assert_eq!(got, (secure, host, port, announce, scrape), "{url}");
        }
        assert_eq!(Target::parse("http://[::1]:7/", "").unwrap().authority, "[::1]:7");
        let target = Target::parse("http://h/announce?k=1", "/pass").unwrap();
        assert_eq!(
            (&*target.announce, &*target.scrape),
            ("/announce/pass?k=1&", "/scrape/pass?k=1&")
        );
    }

    #[test]
    fn what_is_no_url() {
        for url in [
            "",
            "127.0.0.1:80",
            "ftp://x/",
            "http://",
            "http://:80/",
            "http://h:0/",
            "http://h:x/",
            "http://h:70000/",
            "http://[::1/",
            "http://[::1]x/",
            "http://u@h/",
            "http://h/a b",
        ] {
            assert!(Target::parse(url, "").is_err(), "{url}");
        }
    }

    #[test]
    fn addresses_are_taken_as_they_are() {
        for (url, address) in
            [("http://127.0.0.1:7", "127.0.0.1:7"), ("https://[::1]", "[::1]:443")]
        {
            let target = Target::parse(url, "").unwrap();
            assert_eq!(target.resolve(None), Ok(address.parse().unwrap()));
        }
    }
}
