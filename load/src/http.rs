//! The head of an answer (RFC 9112), as far as its body and its connection depend on it.

use super::fault::{Fault, Wrong};

/// Bytes of one line of a head, or between chunks, at most.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// Lines of a head at most.
const LINES_MAX: u32 = 100;

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes.
    Length(usize),
    /// As long as its chunks.
    Chunked,
    /// Up to the end of the connection.
    UntilEnd,
}

/// What the head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the head, with the empty line.
    pub bytes: usize,
    /// 100 to 999.
    pub status: u16,
    /// How long the body is.
    pub framing: Framing,
    /// Whether the connection can be used again.
    pub keep_alive: bool,
    /// Whether the body is encoded in some way.
    pub encoded: bool,
}

impl Head {
    /// Whether the answer is yet to come (RFC 9110 section 15.2). After 101 none does.
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

/// Reads a head; `None` if more bytes are needed.
///
/// # Errors
/// It is none, contradicts itself, or is longer than this program takes.
pub fn parse_head(bytes: &[u8]) -> Result<Option<Head>, Wrong> {
    const START: &[u8] = b"HTTP/1.";
    let begun = bytes.len().min(START.len());
    if bytes[..begun] != START[..begun] {
        return Err(Fault::NotHttp.into());
    }
    let mut lines = Lines { bytes, at: 0 };
    let Some(status_line) = lines.next_line()? else { return Ok(None) };
    let (minor, status) = parse_status_line(status_line).ok_or(Fault::NotHttp)?;
    let mut head = Head {
        bytes: 0,
        status,
        framing: Framing::UntilEnd,
        keep_alive: minor != b'0',
        encoded: false,
    };
    let mut length = None;
    let mut count = 0;
    loop {
        let Some(line) = lines.next_line()? else { return Ok(None) };
        if line.is_empty() {
            break;
        }
        count += 1;
        if count > LINES_MAX {
            return Err(Fault::TooLong.into());
        }
        let colon = line.iter().position(|byte| *byte == b':').filter(|at| *at > 0);
        let (name, value) = line.split_at(colon.ok_or(Fault::BadHeader)?);
        // Neither folded lines nor names with a space behind (RFC 9112 sections 5.1 and 5.2).
        if name.iter().any(u8::is_ascii_whitespace) {
            return Err(Wrong::because(Fault::BadHeader, "a space in a name"));
        }
        let value = value[1..].trim_ascii();
        // The length of a name tells those that matter apart.
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"Content-Length") => {
                let own = parse_length(value).ok_or(Fault::BadHeader)?;
                if length.is_some_and(|other| other != own) {
                    return Err(Wrong::because(Fault::BadHeader, "two lengths"));
                }
                length = Some(own);
            }
            10 if name.eq_ignore_ascii_case(b"Connection") => {
                if has_token(value, b"close") {
                    head.keep_alive = false;
                } else if has_token(value, b"keep-alive") {
                    head.keep_alive = true;
                }
            }
            17 if name.eq_ignore_ascii_case(b"Transfer-Encoding") => {
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Wrong::because(Fault::BadHeader, "unknown Transfer-Encoding"));
                }
                head.framing = Framing::Chunked;
            }
            16 if name.eq_ignore_ascii_case(b"Content-Encoding") => {
                head.encoded |= !value.eq_ignore_ascii_case(b"identity");
            }
            _ => {}
        }
    }
    head.bytes = lines.at;
    // What has no body whatever it says (RFC 9112 section 6.3).
    if status < 200 || matches!(status, 204 | 304) {
        head.framing = Framing::Length(0);
        return Ok(Some(head));
    }
    match (head.framing, length) {
        (Framing::Chunked, Some(_)) => {
            return Err(Wrong::because(Fault::BadHeader, "chunked, and a length"));
        }
        (Framing::Chunked, None) => {}
        (_, Some(length)) => head.framing = Framing::Length(length),
        (_, None) => head.keep_alive = false,
    }
    Ok(Some(head))
}

/// The lines of a head, without their ends.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    fn next_line(&mut self) -> Result<Option<&'a [u8]>, Wrong> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\n');
        if length.unwrap_or(rest.len()) > LINE_BYTES_MAX {
            return Err(Fault::TooLong.into());
        }
        let Some(length) = length else { return Ok(None) };
        self.at += length + 1;
        let line = rest[..length].strip_suffix(b"\r");
        // Clients that take a bare LF are few.
        line.map(Some).ok_or_else(|| Wrong::because(Fault::BadHeader, "a line without CR"))
    }
}

/// `HTTP/1.1 200 OK`, whose reason may be missing: the minor version and the status.
fn parse_status_line(line: &[u8]) -> Option<(u8, u16)> {
    let [minor, b' ', status @ ..] = line.strip_prefix(b"HTTP/1.")? else { return None };
    let (digits, reason) = status.split_at_checked(3)?;
    let number: u16 = str::from_utf8(digits).ok()?.parse().ok()?;
    let ends = reason.is_empty() || reason[0] == b' ';
    (ends && minor.is_ascii_digit() && (100..=999).contains(&number)).then_some((*minor, number))
}

fn parse_length(value: &[u8]) -> Option<usize> {
    if !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(value).ok()?.parse().ok()
}

fn has_token(value: &[u8], token: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}

/// Puts the chunks of `bytes` together in `body`, which is emptied first. Returns how many bytes
/// they take, or `None` if more are needed.
///
/// # Errors
/// They are no chunks, or longer than `body_bytes_max` with all that is around them.
pub fn join_chunks(
    bytes: &[u8],
    body: &mut Vec<u8>,
    body_bytes_max: usize,
) -> Result<Option<usize>, Wrong> {
    match join(bytes, body, body_bytes_max)? {
        // Extensions and trailers may be endless too.
        None if bytes.len() > body_bytes_max => Err(Fault::TooLong.into()),
        end => Ok(end),
    }
}

fn join(bytes: &[u8], body: &mut Vec<u8>, body_bytes_max: usize) -> Result<Option<usize>, Wrong> {
    body.clear();
    let mut lines = Lines { bytes, at: 0 };
    loop {
        let Some(line) = lines.next_line()? else { return Ok(None) };
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(Fault::BadChunk.into());
        }
        let size = str::from_utf8(digits).ok().and_then(|it| usize::from_str_radix(it, 16).ok());
        let size = size.ok_or(Fault::BadChunk)?;
        if size > body_bytes_max - body.len() {
            return Err(Fault::TooLong.into());
        }
        if size == 0 {
            break;
        }
        let Some(chunk) = bytes[lines.at..].get(..size) else { return Ok(None) };
        body.extend_from_slice(chunk);
        lines.at += size;
        match lines.next_line()? {
            Some([]) => {}
            Some(_) => return Err(Fault::BadChunk.into()),
            None => return Ok(None),
        }
    }
    // Trailers, up to an empty line.
    loop {
        match lines.next_line()? {
            Some([]) => return Ok(Some(lines.at)),
            Some(_) => {}
            None => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::{Framing, Head, join_chunks, parse_head};
    use crate::fault::Fault;

    fn head(text: &str) -> Head {
        parse_head(text.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn heads_of_all_kinds() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 12\r\nX: y\r\n\r\nd";
        let expected = Head {
            bytes: text.len() - 1,
            status: 200,
            framing: Framing::Length(12),
            keep_alive: true,
            encoded: false,
        };
        assert_eq!(head(text), expected);
        for at in 0..text.len() - 1 {
            assert_eq!(parse_head(&text.as_bytes()[..at]), Ok(None), "{at}");
        }
        let close = head("HTTP/1.1 200\r\ncontent-length:0\r\nCONNECTION: Close\r\n\r\n");
        assert_eq!((close.framing, close.keep_alive), (Framing::Length(0), false));
        let old = head("HTTP/1.0 404 Not Found\r\nContent-Length: 0012 \r\n\r\n");
        assert_eq!((old.status, old.framing, old.keep_alive), (404, Framing::Length(12), false));
        let kept = head("HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n");
        assert!(kept.keep_alive);
        let endless = head("HTTP/1.1 200 OK\r\n\r\n");
        assert_eq!((endless.framing, endless.keep_alive), (Framing::UntilEnd, false));
        let chunked = head("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!((chunked.framing, chunked.keep_alive), (Framing::Chunked, true));
        assert!(head("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n").encoded);
        for bodiless in ["100 Continue", "204 No Content", "304 Not Modified"] {
            let head = head(&format!("HTTP/1.1 {bodiless}\r\nContent-Length: 7\r\n\r\n"));
            assert_eq!((head.framing, head.keep_alive), (Framing::Length(0), true));
        }
    }

    #[test]
    fn what_is_no_head() {
        for (text, fault) in [
            ("<html>", Fault::NotHttp),
            ("HTTP/2 200 OK\r\n\r\n", Fault::NotHttp),
            ("HTTP/1.1 20 OK\r\n\r\n", Fault::NotHttp),
            ("HTTP/1.1 2000 OK\r\n\r\n", Fault::NotHttp),
            ("HTTP/1.1 200 OK\nContent-Length: 1\n\n", Fault::BadHeader),
            ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", Fault::BadHeader),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", Fault::BadHeader),
            ("HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n", Fault::BadHeader),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", Fault::BadHeader),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", Fault::BadHeader),
            ("HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\n", Fault::BadHeader),
            ("HTTP/1.1 200 OK\r\nX: y\r\n z: folded\r\n\r\n", Fault::BadHeader),
        ] {
            assert_eq!(parse_head(text.as_bytes()).unwrap_err().fault, fault, "{text:?}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(20_000));
        assert_eq!(parse_head(endless.as_bytes()).unwrap_err().fault, Fault::TooLong);
        let many = format!("HTTP/1.1 200 OK\r\n{}", "x: y\r\n".repeat(101));
        assert_eq!(parse_head(many.as_bytes()).unwrap_err().fault, Fault::TooLong);
    }

    #[test]
    fn chunks_are_put_together() {
        let mut body = Vec::new();
        let text = b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\nrest";
        assert_eq!(join_chunks(text, &mut body, 100), Ok(Some(text.len() - 4)));
        assert_eq!(body, b"abc0123456789");
        for at in 0..text.len() - 4 {
            assert_eq!(join_chunks(&text[..at], &mut body, 100), Ok(None), "{at}");
        }
        // A chunk that has come is no line that does not end.
        let large = format!("5000\r\n{}\r\n", "x".repeat(0x5000));
        assert_eq!(join_chunks(large.as_bytes(), &mut body, 1 << 20), Ok(None));
        let endless = [
            format!("1;{}\r\na\r\n", "e".repeat(50)).repeat(2),
            format!("0\r\n{}", "t: x\r\n".repeat(20)),
        ];
        for text in endless {
            let wrong = join_chunks(text.as_bytes(), &mut body, 100).unwrap_err();
            assert_eq!(wrong.fault, Fault::TooLong, "{text}");
        }
        for (text, fault) in [
            (&b"x\r\n"[..], Fault::BadChunk),
            (b"\r\n", Fault::BadChunk),
            (b"1\r\nab\r\n", Fault::BadChunk),
            (b"ff\r\n", Fault::TooLong),
            (b"ffffffffffffffffff\r\n", Fault::BadChunk),
        ] {
            assert_eq!(join_chunks(text, &mut body, 100).unwrap_err().fault, fault);
        }
    }

    quickcheck! {
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) -> bool {
            let head = [b"HTTP/1.1 200 OK\r\n", &bytes[..]].concat();
            let _ = join_chunks(&bytes, &mut Vec::new(), 100);
            parse_head(&head).is_ok_and(|head| head.is_none_or(|head| head.status == 200))
                || parse_head(&head).is_err()
        }
    }
}
