//! Classifies a request target (RFC 9112 section 3.2): announce, scrape or another path.

use crate::decode::Decoded;
use crate::query::Query;
use crate::scan::{Positions, QueryStart, Separator};

/// The service that a request asks for.
///
/// A query with an `info_hash` is that of an announce wherever it arrives: users write announce
/// URLs without a path or with any, behind segments of a passkey, or with white space at the
/// end. It is that of a scrape if the last segment of the path that is not empty begins with
/// `scrape`, percent-encoded or not, or if the last segment that is `announce`, `announce.php`,
/// `scrape` or `scrape.php` is one of the latter two.
///
/// A query without one is classified by its path: `announce`, `announce.php`, `scrape` or
/// `scrape.php`, alone or with one segment before or after it, which is where old torrents
/// carry a passkey; if both segments are such words the last one counts. One `/` at the end is
/// ignored.
///
/// The query is what follows the first `?`, or, without one, the first `&`. Case matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'b> {
    /// An announce (BEP 3).
    Announce(Query<'b>),
    /// A scrape (BEP 48).
    Scrape(Query<'b>),
    /// Neither: its path and query, or the whole of a target that has no path.
    Other(&'b [u8]),
}

#[derive(Clone, Copy)]
enum TargetKind {
    Announce,
    Scrape,
}

/// What `target`, without space or control characters, asks for.
#[inline]
pub(crate) fn classify(target: &[u8]) -> Target<'_> {
    // Nearly every request.
    if let Some(query) = target.strip_prefix(b"/announce?") {
        return Target::Announce(Query::new(query));
    }
    classify_other(target)
}

/// [`classify`] for all else. Apart, because inlined it makes the usual case slower.
#[inline(never)]
fn classify_other(target: &[u8]) -> Target<'_> {
    let local = without_authority(target);
    let start = Positions::<QueryStart>::new(local, 0).next();
    let (path, query) = match start.or_else(|| Positions::<Separator>::new(local, 0).next()) {
        Some(at) => (&local[..at], Query::new(&local[at + 1..])),
        None => (local, Query::new(&local[local.len()..])),
    };
    match service(path, query).or_else(|| query.has_info_hash().then(|| service_anywhere(path))) {
        Some(TargetKind::Announce) => Target::Announce(query),
        Some(TargetKind::Scrape) => Target::Scrape(query),
        None => Target::Other(local),
    }
}

/// Path and query of an absolute-form target (RFC 9112 section 3.2.2); any other as it is.
fn without_authority(target: &[u8]) -> &[u8] {
    if target.first() == Some(&b'/') {
        return target;
    }
    let schemes: [&[u8]; 2] = [b"http://", b"https://"];
    let after_scheme = schemes.iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    });
    let Some(after_scheme) = after_scheme else { return target };
    let end = after_scheme.iter().position(|&byte| byte == b'/' || byte == b'?');
    match end.unwrap_or(after_scheme.len()) {
        // An authority without a host is invalid (RFC 9110 section 4.2.1).
        0 => target,
        end => &after_scheme[end..],
    }
}

/// What a path asks for by itself; that of an announce may ask for a scrape if the query has an
/// info hash.
fn service(path: &[u8], query: Query<'_>) -> Option<TargetKind> {
    let path = path.strip_prefix(b"/")?;
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let mut segments = path.split(|&byte| byte == b'/');
    match (segments.next(), segments.next(), segments.next()) {
        (Some(only), None, _) => keyword(only),
        (Some(first), Some(last), None) => {
            let scrape = || scrape(last).filter(|_| query.has_info_hash());
            keyword(last).or_else(scrape).or_else(|| keyword(first))
        }
        _ => None,
    }
}

/// What a query with an info hash asks for under this path.
fn service_anywhere(path: &[u8]) -> TargetKind {
    let mut segments = path.rsplit(|&byte| byte == b'/').filter(|segment| !segment.is_empty());
    let last = segments.clone().next().and_then(scrape);
    last.or_else(|| segments.find_map(keyword)).unwrap_or(TargetKind::Announce)
}

fn keyword(segment: &[u8]) -> Option<TargetKind> {
    match segment.strip_suffix(b".php").unwrap_or(segment) {
        b"announce" => Some(TargetKind::Announce),
        b"scrape" => Some(TargetKind::Scrape),
        _ => None,
    }
}

/// A scrape, if the segment begins with that word.
fn scrape(segment: &[u8]) -> Option<TargetKind> {
    Decoded::new(segment).begins_with(b"scrape").then_some(TargetKind::Scrape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

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

    /// Paths under which nothing is found by themselves.
    const PATHS: [&str; 27] = [
        "",
        "/",
        "//",
        "*",
        "announce",
        "/a",
        "/Announce",
        "/announced",
        "/announce.PHP",
        "/announce.php.php",
        "/announce%0D",
        "/announce%0d%0A",
        "/announce%20/",
        "/.php",
        "/tracker.php",
        "/robots.txt",
        "/a/b/announce",
        "/a/announce/b",
        "/a/b/c/d/e/announce.php",
        "/announce/a/b",
        "/announce///",
        "/%61nnounce",
        "/key/Scrape",
        "/descrape",
        "/%",
        "/caf\u{e9}/\x7f",
        "ftp://tracker/announce",
    ];

    #[test]
    fn an_info_hash_makes_an_announce_anywhere() {
        let authorities = ["", "http://tracker", "HTTPS://user@[::1]:443"];
        let queries = [
            "info_hash=a",
            "port=1&info_hash=a",
            "magnet&info_hash=a",
            "passkey=a/b?info_hash=a",
            "&&info_hash=",
            "info%5Fhash=a&%zz",
            "%69nfo_has%68=a",
        ];
        for (path, query) in PATHS.iter().flat_map(|path| queries.map(|query| (path, query))) {
            let expected = Target::Announce(Query::new(query.as_bytes()));
            let prefixes = if path.is_empty() || path.starts_with('/') { 3 } else { 1 };
            for authority in &authorities[..prefixes] {
                let target = format!("{authority}{path}?{query}");
                assert_eq!(classify(target.as_bytes()), expected, "{target}");
            }
            let target = format!("{path}&{query}");
            if !query.contains('?') {
                assert_eq!(classify(target.as_bytes()), expected, "{target}");
            }
        }
        for target in ["http:///announce?info_hash=a", "http://?info_hash=a", "udp://t?info_hash=a"]
        {
            let expected = Target::Announce(Query::new(b"info_hash=a"));
            assert_eq!(classify(target.as_bytes()), expected, "{target}");
        }
    }

    #[test]
    fn an_info_hash_makes_a_scrape_where_the_path_says_so() {
        for path in [
            "/scrape_x",
            "/scraper",
            "/scrape%0D",
            "/scrape.php.php",
            "/%73crape",
            "/s%63r%61pe.php",
            "/a/b/c/scrape",
            "/a/b/c/scrape.php/",
            "/announce/scrape-it",
            "/scrape/%0D",
            "/scrape/a/b",
            "/announce/scrape/a",
            "scrape",
            "http://tracker/a/b/scrape//",
        ] {
            let target = format!("{path}?port=1&info_hash=a");
            let expected = Target::Scrape(Query::new(b"port=1&info_hash=a"));
            assert_eq!(classify(target.as_bytes()), expected, "{target}");
        }
    }

    #[test]
    fn others() {
        // Names that are not that of an info hash.
        let queries =
            ["", "?", "?a=1", "?info_has=a", "?info_hashes=a", "?Info_hash=a", "?a=info_hash=a"];
        for (path, query) in PATHS.iter().flat_map(|path| queries.map(|query| (path, query))) {
            let target = format!("{path}{query}");
            assert_eq!(classify(target.as_bytes()), Target::Other(target.as_bytes()), "{target}");
        }
        for target in [
            "/scrape_x",
            "/a/b/scrape",
            "/a/scraper",
            "/img/scrape.png?a=1",
            "/a/%73crape%0D",
            "/a?/announce",
            "http:///announce",
            "http://",
            "http:/announce",
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
