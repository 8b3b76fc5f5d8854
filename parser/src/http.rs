//! The head of a request (RFC 9112): the request line, and header lines up to a blank one.

use crate::error::Error;
use crate::headers::{Framing, Headers, Line, Lines, is_token, line_end};
use crate::scan::{LineFeed, NotPadding, Positions, TargetEnd, contains, rfind};
use crate::target::{Target, classify};

/// Bytes of a method that is still without its end; a longer one is none. The longest in
/// IANA's registry has 17.
const METHOD_BYTES_MAX: usize = 32;

/// How much of a head is put up with. All of these hold for unfinished heads too, so that a
/// buffer of [`Bounds::head_bytes_max`] is enough for any request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of the request line, its line end included.
    pub request_line_bytes_max: usize,
    /// Bytes of the whole head: what is skipped before it, and the blank line, included.
    pub head_bytes_max: usize,
    /// Header lines.
    pub headers_max: usize,
}

/// What the bytes of a connection came to.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'b> {
    /// A whole head.
    Complete {
        /// The request.
        head: Head<'b>,
        /// Where the next request starts.
        consumed: Consumed,
    },
    /// The head is valid so far, but incomplete.
    Partial,
}

/// The length in bytes of what was parsed, including skipped bytes before and after it. The caller
/// must consume exactly so many.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consumed(usize);

impl Consumed {
    pub(crate) fn of(bytes: usize) -> Consumed {
        Consumed(bytes)
    }

    /// The bytes: at least 1, at most those of the input.
    pub fn get(self) -> usize {
        self.0
    }
}

/// A request without a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'b> {
    /// GET, HEAD or OPTIONS.
    pub method: Method,
    /// The version of the request line.
    pub version: Version,
    /// What is asked for.
    pub target: Target<'b>,
    /// Whether the client means to use the connection again (RFC 9112 section 9.3).
    pub keep_alive: bool,
    headers: &'b [u8],
}

impl<'b> Head<'b> {
    /// The header lines.
    pub fn headers(&self) -> Headers<'b> {
        Headers::new(self.headers)
    }
}

/// The methods that are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// GET (RFC 9110 section 9.3.1).
    Get,
    /// HEAD: a GET whose response has no body (RFC 9110 section 9.3.2).
    Head,
    /// OPTIONS: which methods are allowed; also a ping (RFC 9110 section 9.3.7).
    Options,
}

/// The versions that are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1, and any later minor version (RFC 9110 section 2.5).
    Http11,
}

/// Parses the request that `input`, the unconsumed bytes of a connection, starts with.
///
/// `seen` is how many leading bytes of `input` an earlier call for this request was given that
/// returned [`Parsed::Partial`]; 0 if there was none. It does not change the result. With it a
/// request that comes byte by byte is not parsed from its start each time.
///
/// CR, LF and NUL before the request line are skipped (RFC 9112 section 2.2; NUL because one
/// client sends its request with the terminator of the C string), as are NULs right behind
/// the blank line.
///
/// # Errors
///
/// The variants of [`Error`] up to [`Error::BodyNotAllowed`], as soon as `input` cannot be the
/// start of a valid request.
#[inline]
pub fn parse_head<'b>(input: &'b [u8], seen: usize, bounds: &Bounds) -> Result<Parsed<'b>, Error> {
    // Bytes out of bounds are not looked at, so that a bound fails at the same byte whether or
    // not more had arrived.
    let window = &input[..input.len().min(bounds.head_bytes_max)];
    match head(window, seen, bounds)? {
        Some((head, end)) => {
            let nuls = input[end..].iter().take_while(|&&byte| byte == 0).count();
            Ok(Parsed::Complete { head, consumed: Consumed(end + nuls) })
        }
        None if window.len() == bounds.head_bytes_max => Err(Error::HeadTooLarge),
        None => Ok(Parsed::Partial),
    }
}

/// Whether the request that `input` starts with is a HEAD, even if it is partial or invalid: its
/// response, also an error, has no body (RFC 9110 section 9.3.2).
pub fn asks_for_head(input: &[u8]) -> bool {
    let start = Positions::<NotPadding>::new(input, 0).next().unwrap_or(input.len());
    matches!(&input[start..], b"HEAD" | [b'H', b'E', b'A', b'D', b' ', ..])
}

/// The target of the request that `input` starts with, as far as it is there: for a request line
/// that is too long. `None` unless it is a GET or a HEAD with the beginning of a target.
pub fn target_so_far(input: &[u8]) -> Option<Target<'_>> {
    let start = Positions::<NotPadding>::new(input, 0).next()?;
    let (Method::Get | Method::Head, length) = method(&input[start..])? else { return None };
    let target = &input[start + length..];
    let end = Positions::<TargetEnd>::new(target, 0).next().unwrap_or(target.len());
    (end > 0).then(|| classify(&target[..end]))
}

/// The head that `window` starts with and where it ends; `None` if it has no end.
#[inline]
fn head<'b>(
    window: &'b [u8],
    seen: usize,
    bounds: &Bounds,
) -> Result<Option<(Head<'b>, usize)>, Error> {
    let start = match window.first() {
        Some(&byte) if contains::<NotPadding>(byte) => 0,
        _ => match Positions::<NotPadding>::new(window, 0).next() {
            Some(start) => start,
            None => return Ok(None),
        },
    };
    if let Some(line_start) = resume(window, start, seen) {
        // No line has ended since the last call: only the open one can have gone wrong.
        Lines::new(window, line_start).next_line()?;
        return Ok(None);
    }

    let line_end_max = start.saturating_add(bounds.request_line_bytes_max);
    let Some(line) = request_line(&window[start..window.len().min(line_end_max)])? else {
        let full = window.len() >= line_end_max;
        return if full { Err(Error::RequestLineTooLong) } else { Ok(None) };
    };

    let headers_start = start + line.length;
    let mut lines = Lines::new(window, headers_start);
    let mut framing = Framing::default();
    let mut count = 0;
    let headers_end = loop {
        let line_start = lines.at();
        match lines.next_line()? {
            Line::Field { .. } if count == bounds.headers_max => {
                return Err(Error::TooManyHeaders);
            }
            Line::Field { name, value } => {
                framing.note(window, name, value)?;
                count += 1;
            }
            Line::Blank => break line_start,
            Line::Unfinished => return Ok(None),
        }
    };
    let head = Head {
        method: line.method,
        version: line.version,
        target: classify(line.target),
        keep_alive: framing.keeps_alive(line.version == Version::Http11),
        headers: &window[headers_start..headers_end],
    };
    Ok(Some((head, lines.at())))
}

/// Where the header line starts that was open after `seen` bytes and still is; `None` if
/// there is none such, and the head must be read from `start`, its first byte.
#[inline]
fn resume(window: &[u8], start: usize, seen: usize) -> Option<usize> {
    if seen <= start {
        return None;
    }
    let (old, new) = window.split_at_checked(seen)?;
    if Positions::<LineFeed>::new(new, 0).next().is_some() {
        return None;
    }
    let line_start = rfind::<LineFeed>(old)? + 1;
    (line_start > start).then_some(line_start)
}

struct RequestLine<'b> {
    method: Method,
    target: &'b [u8],
    version: Version,
    /// Bytes, its line end included.
    length: usize,
}

/// The request line that `bytes` start with (RFC 9112 section 3); `None` if it has no end.
#[inline]
fn request_line(bytes: &[u8]) -> Result<Option<RequestLine<'_>>, Error> {
    let Some((method, target_start)) = method(bytes) else {
        return check_other_method(bytes).map(|()| None);
    };
    let Some(target_end) = Positions::<TargetEnd>::new(bytes, target_start).next() else {
        return Ok(None);
    };
    match bytes[target_end] {
        b' ' if target_end > target_start => {}
        // The request of HTTP/0.9.
        b'\r' | b'\n' if target_end > target_start => return Err(Error::VersionMalformed),
        _ => return Err(Error::TargetMalformed),
    }
    let version_start = target_end + 1;
    let Some((version, length)) = version(&bytes[version_start..])? else { return Ok(None) };
    let target = &bytes[target_start..target_end];
    Ok(Some(RequestLine { method, target, version, length: version_start + length }))
}

/// The method that `bytes` start with, if it is one that is answered, and where the target starts.
#[inline]
fn method(bytes: &[u8]) -> Option<(Method, usize)> {
    match bytes {
        [b'G', b'E', b'T', b' ', ..] => Some((Method::Get, 4)),
        [b'H', b'E', b'A', b'D', b' ', ..] => Some((Method::Head, 5)),
        [b'O', b'P', b'T', b'I', b'O', b'N', b'S', b' ', ..] => Some((Method::Options, 8)),
        _ => None,
    }
}

/// What is wrong with a request line that does not start with a method that is answered; nothing
/// if its method may go on.
#[cold]
fn check_other_method(bytes: &[u8]) -> Result<(), Error> {
    for (index, &byte) in bytes.iter().enumerate() {
        match byte {
            b' ' if index > 0 => return Err(Error::MethodNotAllowed),
            byte if is_token(byte) && index < METHOD_BYTES_MAX => {}
            _ => return Err(Error::MethodMalformed),
        }
    }
    Ok(())
}

/// The version that `bytes` start with (RFC 9112 section 2.3), and its length with the line
/// end behind it; `None` if it has no end.
#[inline]
fn version(bytes: &[u8]) -> Result<Option<(Version, usize)>, Error> {
    const NAME: &[u8] = b"HTTP/";
    if bytes.starts_with(b"HTTP/1.1\r\n") {
        return Ok(Some((Version::Http11, 10)));
    }
    let name = &bytes[..bytes.len().min(NAME.len())];
    if name != &NAME[..name.len()] {
        return Err(Error::VersionMalformed);
    }
    let digits = &bytes[name.len()..];
    match digits {
        [] => return Ok(None),
        [b'1', ..] => {}
        [b'0'..=b'9', ..] => return Err(Error::VersionNotSupported),
        _ => return Err(Error::VersionMalformed),
    }
    let (version, rest) = match digits {
        [_] | [_, b'.'] => return Ok(None),
        [_, b'.', b'0', rest @ ..] => (Version::Http10, rest),
        [_, b'.', b'1'..=b'9', rest @ ..] => (Version::Http11, rest),
        _ => return Err(Error::VersionMalformed),
    };
    match rest {
        [] => Ok(None),
        [b'\r' | b'\n', ..] => {
            let length = line_end(rest)?;
            Ok(length.map(|length| (version, NAME.len() + 3 + length)))
        }
        _ => Err(Error::VersionMalformed),
    }
}
