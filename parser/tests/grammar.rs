//! The grammar of heads, as tables. Every row is given whole, byte by byte, and so that it ends
//! where the next byte of memory cannot be read.
#![allow(clippy::disallowed_methods, reason = "tests may wait")]
#![allow(clippy::too_many_lines, reason = "some tests are tables of cases")]

use std::time::{Duration, Instant};

use annulus_parser::{
    Bounds, Error, Head, Method, Parsed, Query, Target, Version, asks_for_head, parse_announce,
    parse_head, target_so_far,
};

mod guard_page;
use guard_page::GuardPage;

const BOUNDS: Bounds =
    Bounds { request_line_bytes_max: 4096, head_bytes_max: 8192, headers_max: 64 };

/// What comes of `input`, which must be the same however it is cut; and for how many of its
/// first bytes there is a result.
fn parse<'b>(input: &'b [u8], bounds: &Bounds) -> (Result<Parsed<'b>, Error>, usize) {
    let mut guard_page = GuardPage::new(input.len());
    let mut seen = 0;
    for length in 0..=input.len() {
        let prefix = guard_page.put(&input[..length]);
        let result = parse_head(prefix, seen, bounds);
        assert_eq!(result, parse_head(prefix, 0, bounds), "{seen} of {length} bytes seen");
        if result != Ok(Parsed::Partial) {
            let decided = parse_head(&input[..length], 0, bounds);
            assert_same_request(decided, parse_head(input, 0, bounds));
            return (parse_head(input, 0, bounds), length);
        }
        seen = length;
    }
    (Ok(Parsed::Partial), input.len())
}

/// More input may only add to what is skipped behind a request.
fn assert_same_request(early: Result<Parsed<'_>, Error>, late: Result<Parsed<'_>, Error>) {
    match (early, late) {
        (
            Ok(Parsed::Complete { head: early, consumed: less }),
            Ok(Parsed::Complete { head: late, consumed: more }),
        ) => {
            assert_eq!(early, late);
            assert!(less.get() <= more.get());
        }
        (early, late) => assert_eq!(early, late),
    }
}

fn complete<'b>(input: &'b str) -> (Head<'b>, usize) {
    match parse(input.as_bytes(), &BOUNDS).0 {
        Ok(Parsed::Complete { head, consumed }) => (head, consumed.get()),
        other => panic!("{input:?}: {other:?}"),
    }
}

#[test]
fn request_lines() {
    let announce = Target::Announce(Query::new(b"a=1"));
    let other = |target: &'static str| Target::Other(target.as_bytes());
    for (line, method, target, version) in [
        ("GET /announce?a=1 HTTP/1.1", Method::Get, announce, Version::Http11),
        ("HEAD /announce?a=1 HTTP/1.1", Method::Head, announce, Version::Http11),
        ("GET /announce?a=1 HTTP/1.0", Method::Get, announce, Version::Http10),
        ("GET /announce?a=1 HTTP/1.2", Method::Get, announce, Version::Http11),
        ("HEAD /announce?a=1 HTTP/1.9", Method::Head, announce, Version::Http11),
        ("GET http://[::1]/announce?a=1 HTTP/1.1", Method::Get, announce, Version::Http11),
        ("GET * HTTP/1.1", Method::Get, other("*"), Version::Http11),
        ("OPTIONS * HTTP/1.1", Method::Options, other("*"), Version::Http11),
        ("OPTIONS / HTTP/1.0", Method::Options, other("/"), Version::Http10),
        (
            "GET /\x7f\u{e9}\"<>^`{|} HTTP/1.1",
            Method::Get,
            other("/\x7f\u{e9}\"<>^`{|}"),
            Version::Http11,
        ),
    ] {
        for line_end in ["\r\n", "\n"] {
            for headers in ["", "Host: a\r\n", "host:a\nB:\n"] {
                for blank in ["\r\n", "\n"] {
                    let input = [line, line_end, headers, blank].concat();
                    let (head, consumed) = complete(&input);
                    assert_eq!((head.method, head.target), (method, target), "{input:?}");
                    assert_eq!(head.version, version, "{input:?}");
                    assert_eq!(head.headers().count(), headers.matches('\n').count());
                    assert_eq!(consumed, input.len(), "{input:?}");
                }
            }
        }
    }
}

/// Each of these goes wrong with its last byte and not before.
#[test]
fn errors_come_with_the_first_wrong_byte() {
    for (input, error) in [
        ("\x16", Error::MethodMalformed),
        (" ", Error::MethodMalformed),
        ("\t", Error::MethodMalformed),
        (":", Error::MethodMalformed),
        ("\r\n\0\x01", Error::MethodMalformed),
        ("GET\t", Error::MethodMalformed),
        ("GET\r", Error::MethodMalformed),
        ("hello\n", Error::MethodMalformed),
        ("AAAAAAAAAAAAAAAABBBBBBBBBBBBBBBBC", Error::MethodMalformed),
        ("hello ", Error::MethodNotAllowed),
        ("POST ", Error::MethodNotAllowed),
        ("get ", Error::MethodNotAllowed),
        ("GETS ", Error::MethodNotAllowed),
        ("options ", Error::MethodNotAllowed),
        ("OPTION ", Error::MethodNotAllowed),
        ("OPTIONSS ", Error::MethodNotAllowed),
        ("OPTIONS\t", Error::MethodMalformed),
        ("OPTIONS  ", Error::TargetMalformed),
        ("OPTIONS * HTTP/1.1\r\nContent-Length: 1\r\n", Error::BodyNotAllowed),
        ("AAAAAAAAAAAAAAAABBBBBBBBBBBBBBBB ", Error::MethodNotAllowed),
        ("GET  ", Error::TargetMalformed),
        ("GET \r", Error::TargetMalformed),
        ("GET /announce?a=\t", Error::TargetMalformed),
        ("GET /announce?a=\0", Error::TargetMalformed),
        ("GET /\r", Error::VersionMalformed),
        ("GET /\n", Error::VersionMalformed),
        ("GET /  ", Error::VersionMalformed),
        ("GET / h", Error::VersionMalformed),
        ("GET / HTTX", Error::VersionMalformed),
        ("GET / HTTP/\r", Error::VersionMalformed),
        ("GET / HTTP/1\r", Error::VersionMalformed),
        ("GET / HTTP/1,", Error::VersionMalformed),
        ("GET / HTTP/1.\r", Error::VersionMalformed),
        ("GET / HTTP/1.a", Error::VersionMalformed),
        ("GET / HTTP/1.10", Error::VersionMalformed),
        ("GET / HTTP/1.1 ", Error::VersionMalformed),
        ("GET / HTTP/2", Error::VersionNotSupported),
        ("GET / HTTP/0", Error::VersionNotSupported),
        ("GET / HTTP/1.1\r\r", Error::LineEndMalformed),
        ("GET / HTTP/1.0\rH", Error::LineEndMalformed),
        ("GET / HTTP/1.1\r\n\rH", Error::LineEndMalformed),
        ("GET / HTTP/1.1\r\nHost: a\rb", Error::LineEndMalformed),
        ("GET / HTTP/1.1\r\nHost: a\r\r", Error::LineEndMalformed),
        ("GET / HTTP/1.1\r\n ", Error::HeaderFolded),
        ("GET / HTTP/1.1\r\nHost: a\r\n\t", Error::HeaderFolded),
        ("GET / HTTP/1.1\r\n:", Error::HeaderNameMalformed),
        ("GET / HTTP/1.1\r\nHost ", Error::HeaderNameMalformed),
        ("GET / HTTP/1.1\r\nHost\r", Error::HeaderNameMalformed),
        ("GET / HTTP/1.1\r\nHost\n", Error::HeaderNameMalformed),
        ("GET / HTTP/1.1\r\nHo\0", Error::HeaderNameMalformed),
        ("GET / HTTP/1.1\r\nA-header-name-of-some-length(", Error::HeaderNameMalformed),
        ("GET / HTTP/1.1\r\nHost: a\0", Error::HeaderValueMalformed),
        ("GET / HTTP/1.1\r\nHost: a\tb\x1e\0", Error::HeaderValueMalformed),
        ("GET / HTTP/1.1\r\nHost: a\x1eb\rc", Error::LineEndMalformed),
        ("GET / HTTP/1.1\r\nHost\x1e", Error::HeaderNameMalformed),
        ("GET / HTTP/1.1\r\nContent-Length: 0\x1e\r\n", Error::ContentLengthMalformed),
        ("GET / HTTP/1.1\r\nContent-Length: \x0b0\n", Error::ContentLengthMalformed),
        ("GET / HTTP/1.1\r\nTransfer-Encoding: \x0c\r\n", Error::BodyNotAllowed),
        ("GET / HTTP/1.1\r\nContent-Length: 1\r\n", Error::BodyNotAllowed),
        (
            "GET / HTTP/1.1\r\ncontent-length:\t0\r\nContent-Length: 1\n",
            Error::ContentLengthMalformed,
        ),
        ("GET / HTTP/1.1\r\nContent-Length:\r\n", Error::ContentLengthMalformed),
        ("GET / HTTP/1.1\r\nContent-Length: 0, 0\r\n", Error::ContentLengthMalformed),
        ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n", Error::BodyNotAllowed),
    ] {
        let mut input = input.as_bytes().to_vec();
        for more in ["", "\n", " HTTP/1.1\r\n\r\n"] {
            let length = input.len();
            let longer = [&input, more.as_bytes()].concat();
            assert_eq!(parse(&longer, &BOUNDS), (Err(error), length), "{longer:?}");
        }
        input.pop();
        assert_eq!(parse(&input, &BOUNDS).0, Ok(Parsed::Partial), "{input:?}");
    }
}

#[test]
fn bytes_above_ascii_are_no_token() {
    assert_eq!(parse_head(b"GE\xe9", 0, &BOUNDS), Err(Error::MethodMalformed));
    let input = b"GET / HTTP/1.1\r\nHost\xe9";
    assert_eq!(parse(input, &BOUNDS), (Err(Error::HeaderNameMalformed), input.len()));
}

#[test]
fn header_lines() {
    let odd = "GET / HTTP/1.1\r\n!#$%&'*+-.^_`|~09azAZ: \t a\tb\u{e9}\"(),/:;<=>?@[\\]{} \t\r\n\
               A-very-long-header-name-that-no-block-of-bytes-holds-in-one-piece-or-even-two: v\n\
               c:\r\n\r\n";
    let (head, _) = complete(odd);
    let headers: Vec<_> = head.headers().collect();
    let expected: [(&[u8], &[u8]); 3] = [
        (b"!#$%&'*+-.^_`|~09azAZ", "a\tb\u{e9}\"(),/:;<=>?@[\\]{}".as_bytes()),
        (b"A-very-long-header-name-that-no-block-of-bytes-holds-in-one-piece-or-even-two", b"v"),
        (b"c", b""),
    ];
    assert_eq!(headers, expected);
}

/// All but CR, LF and NUL: clients send such in their user agents (RFC 9110 section 5.5).
#[test]
fn control_characters_in_values_stay() {
    for byte in (1..=0x7f_u8).filter(|byte| !b"\r\n".contains(byte)) {
        let value = [b"a", &[byte][..], b"b"].concat();
        let whole = [b"GET / HTTP/1.1\r\nUser-Agent: ", &value[..], b"\r\nB: c\r\n\r\n"].concat();
        let (result, length) = parse(&whole, &BOUNDS);
        let Ok(Parsed::Complete { head, .. }) = result else { panic!("{byte:#x}: {result:?}") };
        assert_eq!(length, whole.len());
        assert!(head.headers().eq([(&b"User-Agent"[..], &value[..]), (b"B", b"c")]), "{byte:#x}");
    }
    // They are neither white space around a value nor part of an option.
    let input = "GET / HTTP/1.1\r\nConnection: close\x1e\r\nA: \x0b \r\n\r\n";
    let (head, _) = complete(input);
    assert!(head.keep_alive);
    assert_eq!(head.headers().last(), Some((&b"A"[..], &b"\x0b"[..])));
}

#[test]
fn keep_alive() {
    for (version, lines, keep_alive) in [
        ("1.1", "", true),
        ("1.0", "", false),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "connection:CLOSE\n", false),
        ("1.0", "CONNECTION: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive\r\nconnection: close\r\n", false),
        ("1.1", "Connection: close\r\nconnection: keep-alive\r\n", false),
        ("1.1", "Connection: te, close , x\r\n", false),
        ("1.1", "Proxy-Connection: close\r\nConnectiom: close\r\nX: close\r\n", true),
    ] {
        let input = format!("GET /announce HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(complete(&input).0.keep_alive, keep_alive, "{input:?}");
    }
}

#[test]
fn what_needs_no_attention() {
    let input = "GET /announce HTTP/1.1\r\nContent-Length: 00\r\nContent-Length: 0\r\n\
                 Expect: 100-continue\r\nUpgrade: h2c\r\nRange: bytes=0-88\r\n\
                 Host: ::1:7070\r\n\r\n";
    assert_eq!(complete(input).0.headers().count(), 6);
}

#[test]
fn padding_around_requests() {
    let request = "GET /announce?a=1 HTTP/1.1\r\n\r\n";
    for before in ["", "\r\n", "\n\n\0\r", "\0\0"] {
        for after in ["", "\0", "\0\0\0"] {
            let input = [before, request, after].concat();
            assert_eq!(complete(&input).1, input.len(), "{input:?}");
            let (head, _) = complete(&input);
            assert_eq!(head.target, Target::Announce(Query::new(b"a=1")));
        }
        assert_eq!(parse(before.as_bytes(), &BOUNDS).0, Ok(Parsed::Partial));
    }
    // Only NULs are certain not to be for the next request to skip.
    assert_eq!(complete("GET / HTTP/1.1\r\n\r\n\0\r\n").1, "GET / HTTP/1.1\r\n\r\n\0".len());
    let long = "\r\n".repeat(200) + request;
    assert_eq!(complete(&long).1, long.len());
}

#[test]
fn pipelined_requests() {
    let requests = [
        "GET /announce?info_hash=aaaaaaaaaaaaaaaaaaaa&port=1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nHEAD /announce?info_hash=aaaaaaaaaaaaaaaaaaaa&port=2 HTTP/1.1\n\n\0",
        "GET /announce?info_hash=aaaaaaaaaaaaaaaaaaaa&port=3 HTTP/1.0\r\n\r\n",
    ];
    let stream = requests.concat();
    let mut rest = stream.as_str();
    for (index, request) in requests.iter().enumerate() {
        let (head, consumed) = complete(rest);
        assert_eq!(consumed, request.len());
        let Target::Announce(query) = head.target else { panic!("{head:?}") };
        assert_eq!(usize::from(parse_announce(query).unwrap().port), index + 1);
        rest = &rest[consumed..];
    }
    assert_eq!(rest, "");
}

#[test]
fn bounds_fail_at_the_first_byte_beyond() {
    let bounds = Bounds { request_line_bytes_max: 40, head_bytes_max: 80, headers_max: 3 };
    let line = |length: usize| format!("GET /{} HTTP/1.1\r\n", "a".repeat(length - 16));
    let check = |input: String, expected: Result<(), Error>, decided: usize| {
        let (result, length) = parse(input.as_bytes(), &bounds);
        assert_eq!(result.map(|parsed| assert_ne!(parsed, Parsed::Partial)), expected, "{input:?}");
        assert_eq!(length, decided, "{input:?}");
    };
    check(line(40) + "\r\n", Ok(()), 42);
    check(line(41) + "\r\n", Err(Error::RequestLineTooLong), 40);
    check("\r\n".to_string() + &line(40) + "\r\n", Ok(()), 44);
    check("GET /".to_string() + &"a".repeat(100), Err(Error::RequestLineTooLong), 40);

    check(line(40) + &format!("A: {}\r\n\r\n", "a".repeat(33)), Ok(()), 80);
    check(line(40) + &format!("A: {}\r\n\r\n", "a".repeat(34)), Err(Error::HeadTooLarge), 80);
    check(line(40) + &"a".repeat(100), Err(Error::HeadTooLarge), 80);
    check("\0".repeat(100), Err(Error::HeadTooLarge), 80);
    check("\r\n".repeat(24) + &line(40), Err(Error::HeadTooLarge), 80);

    check(line(40) + "a:\nb:\nc:\n\n", Ok(()), 50);
    check(line(40) + "a:\nb:\nc:\nd:\n\n", Err(Error::TooManyHeaders), 52);
}

/// A sender of single bytes must not make the parser read everything again for each of them:
/// a hundred thousand lines, ten thousand times, would take many minutes.
#[test]
fn single_bytes_cost_no_square() {
    let bounds =
        Bounds { request_line_bytes_max: 4096, head_bytes_max: 1 << 20, headers_max: usize::MAX };
    let input = "GET /announce HTTP/1.1\r\n".to_string() + &"a: b\r\n".repeat(100_000) + "a: b";
    let started = Instant::now();
    for _ in 0..10_000 {
        let result = parse_head(input.as_bytes(), input.len() - 1, &bounds);
        assert_eq!(result, Ok(Parsed::Partial));
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn what_is_answered_without_a_body() {
    for head in ["HEAD", "HEAD ", "HEAD / HTTP/1.1\r\n\r\n", "\r\n\0HEAD /", "HEAD \x01", "\nHEAD"]
    {
        assert!(asks_for_head(head.as_bytes()), "{head:?}");
    }
    for other in ["", "\r\n", "H", "HEA", "HEADS", "HEAD\t/", "head /", " HEAD /", "GET /HEAD "] {
        assert!(!asks_for_head(other.as_bytes()), "{other:?}");
    }
}

#[test]
fn what_a_line_without_an_end_asks_for() {
    let announce = |query: &'static [u8]| Some(Target::Announce(Query::new(query)));
    let scrape = |query: &'static [u8]| Some(Target::Scrape(Query::new(query)));
    for (input, expected) in [
        ("GET /announce?a=1", announce(b"a=1")),
        ("\r\n\0HEAD /announce?a=1&b", announce(b"a=1&b")),
        ("GET /announce?a=1 HTTP", announce(b"a=1")),
        ("GET /announce?a=1\rb", announce(b"a=1")),
        ("GET /?info_hash=%4", announce(b"info_hash=%4")),
        ("GET /a/b/scrape?info_hash=%4", scrape(b"info_hash=%4")),
        ("HEAD http://t/scrape", scrape(b"")),
        ("GET /index", Some(Target::Other(b"/index"))),
        ("GET /?info_has", Some(Target::Other(b"/?info_has"))),
        ("GET  /", None),
        ("GET ", None),
        ("GET", None),
        ("", None),
        ("\n", None),
        ("OPTIONS /announce?a=1", None),
        ("POST /announce?a=1", None),
        ("\x16\x03\x01", None),
    ] {
        let mut guard_page = GuardPage::new(input.len());
        assert_eq!(target_so_far(guard_page.put(input.as_bytes())), expected, "{input:?}");
    }
}
