//! The framing of responses (RFC 9112), on top of httparse.

use std::mem::MaybeUninit;

use httparse::{Error, Header, ParserConfig, Response, Status};

use crate::failure::{Failure, FailureKind};

/// Bytes of a head, of trailers, or of a chunk's size line at most.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Headers of a response at most.
const HEADERS_MAX: usize = 64;

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// So many bytes.
    Length(usize),
    Chunked,
    /// Up to the end of the connection.
    UntilEnd,
}

/// What a head says about its body and its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// Bytes of the head with its empty line.
    pub bytes: usize,
    pub status: u16,
    pub framing: BodyFraming,
    /// Whether another request may follow on the connection.
    pub keep_alive: bool,
    /// Whether the body is compressed.
    pub encoded: bool,
}

impl ResponseHead {
    /// Whether the final response follows (RFC 9110 section 15.2). None does after 101.
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

/// Reads a head; `None` if more bytes are needed.
pub fn parse_head(bytes: &[u8]) -> Result<Option<ResponseHead>, Failure> {
    // httparse skips empty lines before the status line.
    if bytes.first().is_some_and(|first| *first != b'H') {
        return Err(FailureKind::NotHttp.into());
    }
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut response = Response::new(&mut []);
    let config = ParserConfig::default();
    let parsed = config.parse_response_with_uninit_headers(&mut response, bytes, &mut headers);
    let length = match parsed {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) if bytes.len() > HEAD_BYTES_MAX => {
            return Err(FailureKind::TooLong.into());
        }
        Ok(Status::Partial) => return Ok(None),
        Err(Error::TooManyHeaders) => return Err(FailureKind::TooLong.into()),
        Err(Error::Version | Error::Status) => return Err(FailureKind::NotHttp.into()),
        Err(error) => return Err(Failure::new(FailureKind::BadHeader, error)),
    };
    // httparse takes a bare LF too, which few clients do.
    if !bytes[..length].ends_with(b"\r\n\r\n") {
        return Err(Failure::new(FailureKind::BadHeader, "a line without CR"));
    }
    let mut head = ResponseHead {
        bytes: length,
        status: response.code.unwrap_or_default(),
        framing: BodyFraming::UntilEnd,
        keep_alive: response.version == Some(1),
        encoded: false,
    };
    apply_headers(&mut head, response.headers)?;
    Ok(Some(head))
}

fn apply_headers(head: &mut ResponseHead, headers: &[Header<'_>]) -> Result<(), Failure> {
    let bad = |what: &str| Failure::new(FailureKind::BadHeader, what);
    let mut length = None;
    for Header { name, value } in headers {
        // The length of a name distinguishes those that matter.
        match name.len() {
            14 if name.eq_ignore_ascii_case("Content-Length") => {
                let number = parse_length(value).ok_or_else(|| bad("Content-Length"))?;
                if length.is_some_and(|other| other != number) {
                    return Err(bad("two lengths"));
                }
                length = Some(number);
            }
            10 if name.eq_ignore_ascii_case("Connection") => {
                if has_token(value, b"close") {
                    head.keep_alive = false;
                } else if has_token(value, b"keep-alive") {
                    head.keep_alive = true;
                }
            }
            17 if name.eq_ignore_ascii_case("Transfer-Encoding") => {
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(bad("unknown Transfer-Encoding"));
                }
                head.framing = BodyFraming::Chunked;
            }
            16 if name.eq_ignore_ascii_case("Content-Encoding") => {
                head.encoded |= !value.eq_ignore_ascii_case(b"identity");
            }
            _ => {}
        }
    }
    match (head.framing, length) {
        // These have no body whatever their headers say (RFC 9112 section 6.3).
        _ if head.status < 200 || matches!(head.status, 204 | 304) => {
            head.framing = BodyFraming::Length(0);
        }
        (BodyFraming::Chunked, Some(_)) => return Err(bad("chunked, and a length")),
        (BodyFraming::Chunked, None) => {}
        (_, Some(length)) => head.framing = BodyFraming::Length(length),
        (_, None) => head.keep_alive = false,
    }
    Ok(())
}

fn parse_length(value: &[u8]) -> Option<usize> {
    let digits = value.iter().all(u8::is_ascii_digit).then_some(value)?;
    str::from_utf8(digits).ok()?.parse().ok()
}

fn has_token(value: &[u8], token: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}

/// Joins the chunks at the start of `bytes` in `body`, which is cleared first. Returns how many
/// bytes they take, or `None` if more are needed.
/// Fails if they are malformed, or longer than `body_bytes_max` with their sizes and trailers.
pub fn join_chunks(
    bytes: &[u8],
    body: &mut Vec<u8>,
    body_bytes_max: usize,
) -> Result<Option<usize>, Failure> {
    body.clear();
    let incomplete = || match bytes.len() > body_bytes_max {
        true => Err(FailureKind::TooLong.into()),
        false => Ok(None),
    };
    let mut at = 0;
    loop {
        // httparse takes a line without digits for 0.
        if bytes.get(at).is_some_and(|digit| !digit.is_ascii_hexdigit()) {
            return Err(FailureKind::BadChunk.into());
        }
        let (line, size) = match httparse::parse_chunk_size(&bytes[at..]) {
            Ok(Status::Complete(parsed)) => parsed,
            Ok(Status::Partial) if bytes.len() - at <= HEAD_BYTES_MAX => return incomplete(),
            Ok(Status::Partial) => return Err(FailureKind::TooLong.into()),
            Err(_) => return Err(FailureKind::BadChunk.into()),
        };
        at += line;
        if size > (body_bytes_max - body.len()) as u64 {
            return Err(FailureKind::TooLong.into());
        }
        if size == 0 {
            break;
        }
        let Some((chunk, rest)) = bytes[at..].split_at_checked(size as usize) else {
            return incomplete();
        };
        match rest {
            [b'\r', b'\n', ..] => {}
            [] | [b'\r'] => return incomplete(),
            _ => return Err(FailureKind::BadChunk.into()),
        }
        body.extend_from_slice(chunk);
        at += chunk.len() + 2;
    }
    let mut trailers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    match httparse::parse_headers(&bytes[at..], &mut trailers) {
        Ok(Status::Complete((length, _))) => Ok(Some(at + length)),
        Ok(Status::Partial) if bytes.len() - at <= HEAD_BYTES_MAX => incomplete(),
        Ok(Status::Partial) | Err(Error::TooManyHeaders) => Err(FailureKind::TooLong.into()),
        Err(_) => Err(FailureKind::BadChunk.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{BodyFraming, HEADERS_MAX, ResponseHead, join_chunks, parse_head};
    use crate::failure::FailureKind;

    #[test]
    fn heads_of_all_kinds() {
        use BodyFraming::{Chunked, Length, UntilEnd};
        for (text, status, framing, keep_alive) in [
            ("1.1 200 OK\r\nContent-Length: 12\r\nX: y", 200, Length(12), true),
            ("1.1 200\r\ncontent-length:0\r\nCONNECTION: Close", 200, Length(0), false),
            ("1.0 404 Not Found\r\nContent-Length: 0012 ", 404, Length(12), false),
            ("1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive", 200, Length(1), true),
            ("1.1 200 OK\r\nX: y", 200, UntilEnd, false),
            ("1.1 200 OK\r\nTransfer-Encoding: chunked", 200, Chunked, true),
            ("1.1 204 No Content\r\nContent-Length: 7", 204, Length(0), true),
        ] {
            let text = format!("HTTP/{text}\r\n\r\n");
            let expected =
                ResponseHead { bytes: text.len(), status, framing, keep_alive, encoded: false };
            assert_eq!(parse_head(text.as_bytes()), Ok(Some(expected)), "{text}");
            for at in 0..text.len() {
                assert_eq!(parse_head(&text.as_bytes()[..at]), Ok(None), "{at}");
            }
        }
    }

    #[test]
    fn malformed_heads_are_refused() {
        use FailureKind::{BadHeader, NotHttp, TooLong};
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(20_000));
        let many = format!("HTTP/1.1 200 OK\r\n{}", "x: y\r\n".repeat(HEADERS_MAX + 1));
        let whole =
            [(&*endless, TooLong), (&many, TooLong), ("<html>", NotHttp), ("\r\n", NotHttp)];
        for (text, kind) in whole {
            assert_eq!(parse_head(text.as_bytes()).unwrap_err().kind, kind, "{text:?}");
        }
        for (text, kind) in [
            ("2 200 OK", NotHttp),
            ("1.1 20 OK", NotHttp),
            ("1.1 2000 OK", NotHttp),
            ("1.1 200 OK\nContent-Length: 1\n", BadHeader),
            ("1.1 200 OK\r\nno colon", BadHeader),
            ("1.1 200 OK\r\nContent-Length: -1", BadHeader),
            ("1.1 200 OK\r\nContent-Length: ", BadHeader),
            ("1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2", BadHeader),
            ("1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2", BadHeader),
            ("1.1 200 OK\r\nTransfer-Encoding: gzip", BadHeader),
            ("1.1 200 OK\r\nContent-Length : 1", BadHeader),
            ("1.1 200 OK\r\nX: y\r\n z: folded", BadHeader),
        ] {
            let end = if text.ends_with('\n') { "\n" } else { "\r\n\r\n" };
            let failure = parse_head(format!("HTTP/{text}{end}").as_bytes()).unwrap_err();
            assert_eq!(failure.kind, kind, "{text:?}");
        }
    }

    #[test]
    fn chunks_are_joined() {
        let mut body = Vec::new();
        let text = b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\nrest";
        assert_eq!(join_chunks(text, &mut body, 100), Ok(Some(text.len() - 4)));
        assert_eq!(body, b"abc0123456789");
        for at in 0..text.len() - 4 {
            assert_eq!(join_chunks(&text[..at], &mut body, 100), Ok(None), "{at}");
        }
        // A large chunk is not a size line without an end.
        let large = format!("5000\r\n{}\r\n", "x".repeat(0x5000));
        assert_eq!(join_chunks(large.as_bytes(), &mut body, 1 << 20), Ok(None));
        let extensions = format!("1;{}\r\na\r\n", "e".repeat(50)).repeat(2);
        let trailers = format!("0\r\n{}", "t: x\r\n".repeat(20));
        for (text, kind) in [
            (extensions.as_bytes(), FailureKind::TooLong),
            (trailers.as_bytes(), FailureKind::TooLong),
            (b"x\r\n", FailureKind::BadChunk),
            (b"\r\n", FailureKind::BadChunk),
            (b"1\r\nab\r\n", FailureKind::BadChunk),
            (b"ff\r\n", FailureKind::TooLong),
            (b"ffffffffffffffffff\r\n", FailureKind::BadChunk),
        ] {
            let failure = join_chunks(text, &mut body, 100).unwrap_err();
            assert_eq!(failure.kind, kind, "{}", text.escape_ascii());
        }
    }
}
