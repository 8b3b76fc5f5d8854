//! The largest torrents as JSON: a list of objects, the largest first.

use std::fmt::Write;

use crate::limits::{TOP_TORRENTS_DEFAULT, TOP_TORRENTS_MAX};
use annulus_swarm::{RankBy, Ranking, TorrentCounts};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) by: RankBy,
    /// How many torrents, from 1 to [`TOP_TORRENTS_MAX`].
    pub(super) most: usize,
}

impl Wanted {
    /// Reads a query as in `by=seeders&n=10`; what it leaves out is `by=leechers` and
    /// [`TOP_TORRENTS_DEFAULT`]. Other parameters are ignored.
    ///
    /// # Errors
    /// A line that says what is wrong.
    pub(super) fn parse(query: &[u8]) -> Result<Wanted, String> {
        let mut wanted = Wanted { by: RankBy::Leechers, most: TOP_TORRENTS_DEFAULT };
        for parameter in query.split(|&byte| byte == b'&') {
            if let Some(by) = parameter.strip_prefix(b"by=") {
                wanted.by = measure(by).ok_or("by must be leechers, seeders or downloads\n")?;
            } else if let Some(n) = parameter.strip_prefix(b"n=") {
                let wrong = || format!("n must be a number from 1 to {TOP_TORRENTS_MAX}\n");
                wanted.most = number(n).ok_or_else(wrong)?;
            }
        }
        Ok(wanted)
    }
}

fn measure(name: &[u8]) -> Option<RankBy> {
    match name {
        b"leechers" => Some(RankBy::Leechers),
        b"seeders" => Some(RankBy::Seeders),
        b"downloads" => Some(RankBy::Downloads),
        _ => None,
    }
}

fn number(digits: &[u8]) -> Option<usize> {
    // What parses is not only digits.
    let digits = if digits.iter().all(u8::is_ascii_digit) { digits } else { return None };
    let number = str::from_utf8(digits).ok()?.parse().ok()?;
    (1..=TOP_TORRENTS_MAX).contains(&number).then_some(number)
}

/// The whole text.
pub(super) fn write(ranking: &Ranking, wanted: Wanted) -> String {
    let mut text = String::from("[");
    for (info_hash, counts) in ranking.top(wanted.by).take(wanted.most) {
        text += if text.len() > 1 { ",\n{\"info_hash\":\"" } else { "{\"info_hash\":\"" };
        let TorrentCounts { complete, incomplete, downloaded } = counts;
        // Writing to a String does not fail.
        for byte in info_hash {
            let _ = write!(text, "{byte:02x}");
        }
        let _ = write!(
            text,
            "\",\"complete\":{complete},\"incomplete\":{incomplete},\"downloaded\":{downloaded}}}"
        );
    }
    text + "]\n"
}

#[cfg(test)]
mod tests {
    use super::{RankBy, Wanted};

    #[test]
    fn queries_are_read() {
        let read = |query: &str| Wanted::parse(query.as_bytes());
        let wanted = |by, most| Ok(Wanted { by, most });
        for (query, expected) in [
            ("", wanted(RankBy::Leechers, 100)),
            ("by=leechers", wanted(RankBy::Leechers, 100)),
            ("by=seeders", wanted(RankBy::Seeders, 100)),
            ("n=1&by=downloads", wanted(RankBy::Downloads, 1)),
            ("&&_=5&n=1000&", wanted(RankBy::Leechers, 1000)),
            ("n=0010", wanted(RankBy::Leechers, 10)),
        ] {
            assert_eq!(read(query), expected, "{query}");
        }
        let of_by = Err("by must be leechers, seeders or downloads\n".to_owned());
        for query in ["by=", "by=peers", "by=Seeders", "n=5&by=seeders%20", "by=seeders&by=x"] {
            assert_eq!(read(query), of_by, "{query}");
        }
        let of_n = Err("n must be a number from 1 to 1000\n".to_owned());
        for query in ["n=", "n=0", "n=1001", "n=-1", "n=%31", "n=+1", "n=1e2", "n=\u{0661}"] {
            assert_eq!(read(query), of_n, "{query}");
        }
        let long = format!("n={}", "9".repeat(1000));
        assert_eq!(read(&long), of_n);
    }
}
