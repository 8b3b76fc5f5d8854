//! The PROXY protocol, as tables. Every row is given whole, byte by byte, and so that it ends
//! where the next byte of memory cannot be read.

use std::net::IpAddr;

use annulus_parser::{NotProxied, Proxied, parse_proxy, proxy_destination};
use quickcheck::quickcheck;

mod guard_page;
use guard_page::GuardPage;

const BYTES_MAX: usize = 4096;
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What comes of `input`, which must be the same however it is cut: partial up to some byte,
/// and from there on one and the same result.
fn parse(input: &[u8]) -> Result<Proxied, NotProxied> {
    let mut guard_page = GuardPage::new(input.len());
    let mut decided = None;
    for length in 0..=input.len() {
        match (parse_proxy(guard_page.put(&input[..length]), BYTES_MAX), decided) {
            (Ok(Proxied::Partial), None) => {}
            (result, None) => decided = Some((result, length)),
            (result, Some((decided, _))) => assert_eq!(result, decided, "at {length} bytes"),
        }
    }
    match decided {
        Some((Ok(Proxied::Complete { consumed, .. }), length)) => {
            assert_eq!(consumed.get(), length)
        }
        Some(_) => {}
        None => return Ok(Proxied::Partial),
    }
    parse_proxy(input, BYTES_MAX)
}

/// The source of a header, which must end where `header` does, whatever follows it.
#[track_caller]
fn source(header: &[u8]) -> Option<IpAddr> {
    for behind in [&b""[..], b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", header] {
        let Ok(Proxied::Complete { consumed, .. }) = parse(&[header, behind].concat()) else {
            panic!("{}: {:?}", header.escape_ascii(), parse(header));
        };
        assert_eq!(consumed.get(), header.len(), "{}", header.escape_ascii());
    }
    match parse(header) {
        Ok(Proxied::Complete { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}

/// A header of version 2.
fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, rest].concat()
}

/// Addresses and ports of version 2.
fn addresses(source: &str, destination: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for address in [source, destination] {
        match address.parse().unwrap() {
            IpAddr::V4(ip) => bytes.extend(ip.octets()),
            IpAddr::V6(ip) => bytes.extend(ip.octets()),
        }
    }
    bytes.extend([0xdc, 0x04, 0x01, 0xbb]);
    bytes
}

#[test]
fn lines_of_version_1() {
    let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let longest_line = format!("PROXY UNKNOWN {longest} {longest} 65535 65535\r\n");
    assert_eq!(longest_line.len(), 107);
    for (line, expected) in [
        ("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", Some("192.0.2.1")),
        ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", Some("255.255.255.255")),
        ("PROXY TCP4 192.0.2.1 192.0.2.1 0 0\r\n", Some("192.0.2.1")),
        ("PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n", Some("2001:db8::1")),
        ("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", Some("::ffff:192.0.2.1")),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN what ever, really\r\n", None),
        (&longest_line, None),
    ] {
        let expected = expected.map(|ip| ip.parse().unwrap());
        assert_eq!(source(line.as_bytes()), expected, "{line}");
    }
}

/// A health check, and a client that the proxy cannot name.
#[test]
fn who_names_no_client_names_no_destination() {
    let v4 = addresses("192.0.2.1", "198.51.100.1");
    for header in [
        b"PROXY UNKNOWN 192.0.2.1 198.51.100.1 1 2\r\n".to_vec(),
        version_2(0x20, 0x11, &v4),
        version_2(0x21, 0x00, &v4),
        b"GET / HTTP/1.1\r\n".to_vec(),
    ] {
        assert_eq!(proxy_destination(&header, BYTES_MAX), None, "{}", header.escape_ascii());
    }
}

#[test]
fn broken_lines_of_version_1() {
    let long = format!("PROXY UNKNOWN {}", "x".repeat(93));
    assert_eq!(long.len(), 107);
    for line in [
        "PROXY\r\n",
        "PROXY \r\n",
        "proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 192.0.2.1\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
        "PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1\t192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 +2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 -2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.256 1 2\r\n",
        "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP6 2001:db8::1%1 2001:db8::2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\r\n",
        "PROXY UNKNOWN \u{e9}\n",
        "GET /announce HTTP/1.1\r\n",
        "PUT",
        "\x16\x03\x01",
        "\n",
        &long,
    ] {
        assert_eq!(parse(line.as_bytes()), Err(NotProxied), "{line:?}");
    }
    assert_eq!(parse(b"PROXY UNKNOWN \xff\r\n"), Err(NotProxied));
}

#[test]
fn headers_of_version_2() {
    let v4 = addresses("192.0.2.1", "198.51.100.1");
    let v6 = addresses("2001:db8::1", "2001:db8::2");
    let mapped = addresses("::ffff:192.0.2.1", "::1");
    let extension = [0x04, 0x00, 0x03, 1, 2, 3];
    let most = vec![0; BYTES_MAX - 16];
    for (header, expected) in [
        (version_2(0x21, 0x11, &v4), Some("192.0.2.1")),
        (version_2(0x21, 0x21, &v6), Some("2001:db8::1")),
        (version_2(0x21, 0x21, &mapped), Some("::ffff:192.0.2.1")),
        (version_2(0x21, 0x11, &[&v4[..], &extension].concat()), Some("192.0.2.1")),
        (version_2(0x21, 0x21, &[&v6[..], &extension].concat()), Some("2001:db8::1")),
        // Extensions are not checked.
        (version_2(0x21, 0x11, &[&v4[..], b"\xff"].concat()), Some("192.0.2.1")),
        (version_2(0x21, 0x11, &most), Some("0.0.0.0")),
        (version_2(0x21, 0x00, &[]), None),
        (version_2(0x21, 0x00, &v4), None),
        // Other than TCP: as if the proxy named no client.
        (version_2(0x21, 0x12, &v4), None),
        (version_2(0x21, 0x22, &v6), None),
        (version_2(0x21, 0x31, &[b'/'; 216]), None),
        (version_2(0x21, 0x32, &[b'/'; 216]), None),
        (version_2(0x21, 0x31, &[]), None),
        (version_2(0x20, 0x00, &[]), None),
        (version_2(0x20, 0x11, &v4), None),
        (version_2(0x20, 0xff, &extension), None),
    ] {
        let expected = expected.map(|ip| ip.parse().unwrap());
        assert_eq!(source(&header), expected, "{}", header.escape_ascii());
    }
}

#[test]
fn broken_headers_of_version_2() {
    let v4 = addresses("192.0.2.1", "198.51.100.1");
    let v6 = addresses("2001:db8::1", "2001:db8::2");
    let mut headers = vec![
        version_2(0x11, 0x11, &v4),
        version_2(0x31, 0x11, &v4),
        version_2(0x22, 0x11, &v4),
        version_2(0x21, 0x01, &v4),
        version_2(0x21, 0x10, &v4),
        version_2(0x21, 0x13, &v4),
        version_2(0x21, 0x41, &v4),
        version_2(0x21, 0x33, &[0; 216]),
        version_2(0x21, 0x11, &v4[..11]),
        version_2(0x21, 0x11, &[]),
        version_2(0x21, 0x21, &v6[..35]),
        version_2(0x21, 0x21, &v4),
        version_2(0x21, 0x11, &[0; BYTES_MAX - 15]),
        version_2(0x20, 0x00, &[0; BYTES_MAX - 15]),
        version_2(0x21, 0x11, &[0; 65535]),
        b"\r\n\r\n".repeat(2),
        b"\r\n\r\nGET / HTTP/1.1".to_vec(),
    ];
    for at in 1..SIGNATURE.len() {
        let mut header = version_2(0x21, 0x11, &v4);
        header[at] ^= 0x20;
        headers.push(header);
    }
    for header in headers {
        // The first bytes decide.
        let header = &header[..header.len().min(64)];
        assert_eq!(parse(header), Err(NotProxied), "{}", header.escape_ascii());
    }
}

quickcheck! {
    fn any_bytes_are_survived(bytes: Vec<u8>, version: u8) -> bool {
        let v2 = &[SIGNATURE, &[0x21, 0x11, 0]].concat()[..];
        let starts: [&[u8]; 5] = [b"", b"PROXY ", b"PROXY TCP4 1.1.1.1 ", SIGNATURE, v2];
        let input = [starts[usize::from(version) % 5], &bytes].concat();
        match parse(&input) {
            Ok(Proxied::Complete { consumed, .. }) => consumed.get() <= input.len(),
            Ok(Proxied::Partial) => input.len() < BYTES_MAX,
            Err(NotProxied) => true,
        }
    }

    fn destinations_are_read_back(v4: [u32; 2], v6: [u128; 2], behind: Vec<u8>) -> bool {
        let v4 = v4.map(|ip| IpAddr::V4(ip.into()));
        let v6 = v6.map(|ip| IpAddr::V6(ip.into()));
        [(v4, "TCP4", 0x11), (v6, "TCP6", 0x21)].into_iter().all(|([from, to], name, family)| {
            let line = format!("PROXY {name} {from} {to} 1 65535\r\n").into_bytes();
            let binary = version_2(0x21, family, &addresses(&from.to_string(), &to.to_string()));
            [line, binary].iter().all(|header| {
                let whole = [&header[..], &behind].concat();
                let unfinished = &header[..header.len() - 1];
                proxy_destination(&whole, BYTES_MAX) == Some(to)
                    && proxy_destination(unfinished, BYTES_MAX).is_none()
            })
        })
    }

    fn sources_are_read_back(v4: u32, v6: u128, behind: Vec<u8>) -> bool {
        let (v4, v6) = (IpAddr::V4(v4.into()), IpAddr::V6(v6.into()));
        [(v4, "TCP4", 0x11), (v6, "TCP6", 0x21)].into_iter().all(|(ip, name, family)| {
            let line = format!("PROXY {name} {ip} {ip} 1 65535\r\n").into_bytes();
            let text = ip.to_string();
            let binary = version_2(0x21, family, &addresses(&text, &text));
            [line, binary].iter().all(|header| {
                let whole = [&header[..], &behind].concat();
                matches!(
                    parse_proxy(&whole, BYTES_MAX),
                    Ok(Proxied::Complete { source, consumed })
                        if source == Some(ip) && consumed.get() == header.len()
                )
            })
        })
    }
}
