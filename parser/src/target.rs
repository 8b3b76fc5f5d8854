//! What a request target (RFC 9112 section 3.2) asks for.

use crate::query::Query;
use crate::scan::{Positions, QueryStart};

/// What a request asks for.
///
/// The path of an announce is `announce` or `announce.php`, that of a scrape `scrape` or
/// `scrape.php`, alone or with one segment before or after it, which is where old torrents
/// carry a passkey; if both segments are such words the last one counts. One `/` at the end
/// is ignored. Case matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'b> {
    /// An announce (BEP 3).
    Announce(Query<'b>),
    /// A scrape (BEP 48).
    Scrape(Query<'b>),
    /// Neither: its path and query, or the whole of a target that has no path.
    Other(&'b [u8]),
}

enum Service {
    Announce,
    Scrape,
}

/// What `target`, without space or control characters, asks for.
#[inline]
pub(crate) fn classify(target: &[u8]) -> Target<'_> {
    // What nearly every request says.
    if let Some(query) = target.strip_prefix(b"/announce?") {
        return Target::Announce(Query::new(query));
    }
    let Some(local) = without_authority(target) else { return Target::Other(target) };
    let (path, query) = match Positions::<QueryStart>::new(local, 0).next() {
        Some(at) => (&local[..at], &local[at + 1..]),
        None => (local, &local[local.len()..]),
    };
    match service(path) {
        Some(Service::Announce) => Target::Announce(Query::new(query)),
        Some(Service::Scrape) => Target::Scrape(Query::new(query)),
        None => Target::Other(local),
    }
}

/// Path and query of an origin-form or an absolute-form target (RFC 9112 sections 3.2.1 and
/// 3.2.2).
fn without_authority(target: &[u8]) -> Option<&[u8]> {
    if target.first() == Some(&b'/') {
        return Some(target);
    }
    let schemes: [&[u8]; 2] = [b"http://", b"https://"];
    let after_scheme = schemes.iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })?;
    let end = after_scheme.iter().position(|&byte| byte == b'/' || byte == b'?');
    let end = end.unwrap_or(after_scheme.len());
    // An authority without a host is invalid (RFC 9110 section 4.2.1).
    (end > 0).then(|| &after_scheme[end..])
}

fn service(path: &[u8]) -> Option<Service> {
    let path = path.strip_prefix(b"/")?;
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let mut segments = path.split(|&byte| byte == b'/');
    match (segments.next(), segments.next(), segments.next()) {
        (Some(only), None, _) => keyword(only),
        (Some(first), Some(last), None) => keyword(last).or_else(|| keyword(first)),
        _ => None,
    }
}

fn keyword(segment: &[u8]) -> Option<Service> {
    match segment.strip_suffix(b".php").unwrap_or(segment) {
        b"announce" => Some(Service::Announce),
        b"scrape" => Some(Service::Scrape),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announces() {
        for target in [
            "/announce?a=1",
            "/announce/?a=1",
            "/announce.php?a=1",
            "/announce.php/?a=1",
            "/announce/0123456789abcdef?a=1",
            "/announce/0123456789abcdef/?a=1",
            "/0123456789abcdef/announce?a=1",
            "/0123456789abcdef/announce.php?a=1",
            "/scrape/announce?a=1",
            "//announce?a=1",
            "http://tracker/announce?a=1",
            "HTTPS://user@[::1]:443/key/announce?a=1",
        ] {
            let query = Query::new(b"a=1");
            assert_eq!(classify(target.as_bytes()), Target::Announce(query), "{target}");
        }
        for target in ["/announce", "/announce/", "/announce?", "http://tracker/announce"] {
            let query = Query::new(b"");
            assert_eq!(classify(target.as_bytes()), Target::Announce(query), "{target}");
        }
    }

    #[test]
    fn scrapes() {
        for target in [
            "/scrape?a=1?b",
            "/scrape/?a=1?b",
            "/scrape.php?a=1?b",
            "/key/scrape?a=1?b",
            "/scrape/key?a=1?b",
            "/announce/scrape?a=1?b",
            "http://[::1]:3000/scrape?a=1?b",
        ] {
            assert_eq!(
                classify(target.as_bytes()),
                Target::Scrape(Query::new(b"a=1?b")),
                "{target}"
            );
        }
    }

    #[test]
    fn others() {
        for target in [
            "/",
            "*",
            "?",
            "announce",
            "announce?a=1",
            "/Announce",
            "/announced",
            "/announce.PHP",
            "/announce.php.php",
            "/.php",
            "/a/b/announce",
            "/a/announce/b",
            "/announce/a/b",
            "/announce///",
            "/a?/announce",
            "/%61nnounce",
            "http:///announce",
            "http://",
            "http:/announce",
            "ftp://tracker/announce",
            "tracker:80",
        ] {
            assert_eq!(classify(target.as_bytes()), Target::Other(target.as_bytes()), "{target}");
        }
        for (target, local) in [
            ("http://tracker/", "/"),
            ("HTTPS://[::1]:443/robots.txt?a=1", "/robots.txt?a=1"),
            ("http://announce", ""),
            ("http://announce?a=1", "?a=1"),
        ] {
            assert_eq!(classify(target.as_bytes()), Target::Other(local.as_bytes()), "{target}");
        }
    }
}
