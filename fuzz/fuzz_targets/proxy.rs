//! The header of the PROXY protocol: the result depends neither on how the bytes were cut nor on
//! what follows, and the addresses of version 1 are those in the text.
#![no_main]

use std::net::IpAddr;

use annulus_parser::{NotProxied, Proxied, parse_proxy, proxy_destination};
use libfuzzer_sys::fuzz_target;

/// Small, so that the bound is reached.
const BYTES_MAX: usize = 256;

/// Bytes of the longest line of version 1.
const V1_BYTES_MAX: usize = 107;

fuzz_target!(|input: &[u8]| {
    let whole = parse_proxy(input, BYTES_MAX);
    // Byte by byte: partial up to some byte, and one and the same result from there on.
    let decided = (0..=input.len())
        .find(|&len| parse_proxy(&input[..len], BYTES_MAX) != Ok(Proxied::Partial));
    match (whole, decided) {
        (Ok(Proxied::Partial), decided) => {
            assert_eq!(decided, None, "a longer input undoes a decision");
            assert!(input.len() < BYTES_MAX, "more than a header may have is still none");
        }
        (whole, Some(decided)) => {
            assert_eq!(parse_proxy(&input[..decided], BYTES_MAX), whole);
            if let Ok(Proxied::Complete { source, consumed }) = whole {
                assert_eq!(consumed.get(), decided, "decided at another byte than its last");
                check(&input[..decided], source);
            }
        }
        (whole, None) => panic!("{whole:?} of the whole and of none of its beginnings"),
    }
    // An invalid header stays invalid, whatever follows.
    if whole == Err(NotProxied) {
        assert_eq!(parse_proxy(&[input, b"\r\n"].concat(), BYTES_MAX), Err(NotProxied));
    }
});

/// A complete header is within its bound, and has both addresses or none.
fn check(header: &[u8], source: Option<IpAddr>) {
    let destination = proxy_destination(header, BYTES_MAX);
    assert_eq!(destination.is_some(), source.is_some());
    let Some(line) = header.strip_prefix(b"PROXY ") else {
        assert!(header.len() <= BYTES_MAX);
        return;
    };
    assert!(header.len() <= V1_BYTES_MAX && header.ends_with(b"\r\n"));
    let mut words = line.split(|&byte| byte == b' ');
    let family = words.next().expect("split gives one at least");
    match source {
        None => assert!(family.starts_with(b"UNKNOWN")),
        Some(source) => {
            for address in [Some(source), destination] {
                let word = words.next().and_then(|word| std::str::from_utf8(word).ok());
                assert_eq!(word.and_then(|word| word.parse().ok()), address);
            }
            assert_eq!(family, if source.is_ipv4() { b"TCP4" } else { b"TCP6" });
        }
    }
}
