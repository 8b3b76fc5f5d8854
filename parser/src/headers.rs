//! Header lines (RFC 9112 section 5): their grammar, and the few headers that are evaluated.

use core::ops::Range;

use crate::error::Error;
use crate::scan::{LowControl, NotNameLike, Positions, find_near};

/// A header line, or what is there instead.
pub(crate) enum Line {
    /// A whole line, and where in the bytes its parts stand. White space around the value is
    /// still there.
    Field { name: Range<usize>, value: Range<usize> },
    /// The empty line that ends a head.
    Blank,
    /// The line has no end yet; it is valid so far.
    Unfinished,
}

/// Walks the lines after a request line.
pub(crate) struct Lines<'b> {
    bytes: &'b [u8],
    at: usize,
    low_controls: Positions<'b, LowControl>,
}

impl<'b> Lines<'b> {
    /// The lines of `bytes` from `at` on, where one must start.
    #[inline]
    pub(crate) fn new(bytes: &'b [u8], at: usize) -> Lines<'b> {
        Lines { bytes, at, low_controls: Positions::new(bytes, at) }
    }

    /// Where the next line starts.
    #[inline]
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The next line. Nothing may be asked of this after [`Line::Unfinished`] or an error.
    #[inline]
    pub(crate) fn next_line(&mut self) -> Result<Line, Error> {
        let start = self.at;
        match self.bytes.get(start) {
            None => return Ok(Line::Unfinished),
            Some(b'\r' | b'\n') => {
                let Some(length) = line_end(&self.bytes[start..])? else {
                    return Ok(Line::Unfinished);
                };
                self.at = start + length;
                return Ok(Line::Blank);
            }
            Some(b' ' | b'\t') => return Err(Error::HeaderFolded),
            Some(_) => {}
        }
        let Some(colon) = self.next_colon(start)? else { return Ok(Line::Unfinished) };
        let Some(end) = self.next_end(colon + 1)? else { return Ok(Line::Unfinished) };
        let Some(length) = line_end(&self.bytes[end..])? else { return Ok(Line::Unfinished) };
        self.at = end + length;
        Ok(Line::Field { name: start..colon, value: colon + 1..end })
    }

    /// The colon after the name at `start`.
    #[inline]
    fn next_colon(&self, start: usize) -> Result<Option<usize>, Error> {
        let mut from = start;
        while let Some(at) = find_near::<NotNameLike>(self.bytes, from) {
            match self.bytes[at] {
                b':' if at > start => return Ok(Some(at)),
                byte if is_token(byte) => from = at + 1,
                _ => return Err(Error::HeaderNameMalformed),
            }
        }
        Ok(None)
    }

    /// The CR or LF after the value at `start`.
    #[inline]
    fn next_end(&mut self, start: usize) -> Result<Option<usize>, Error> {
        let mut from = start;
        while let Some(at) = self.low_controls.next_from(from) {
            match self.bytes[at] {
                b'\r' | b'\n' => return Ok(Some(at)),
                0 => return Err(Error::HeaderValueMalformed),
                _ => from = at + 1,
            }
        }
        Ok(None)
    }
}

/// Bytes of the line end that `bytes`, which are not empty, start with: CRLF, or the bare LF
/// that RFC 9112 section 2.2 lets a recipient take. `None` for a CR that nothing follows yet.
#[inline]
pub(crate) fn line_end(bytes: &[u8]) -> Result<Option<usize>, Error> {
    match bytes {
        [b'\r', b'\n', ..] => Ok(Some(2)),
        [b'\n', ..] => Ok(Some(1)),
        [b'\r'] => Ok(None),
        _ => Err(Error::LineEndMalformed),
    }
}

/// A character of a token (RFC 9110 section 5.6.2): of a method, or of a header name.
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Without optional white space at both ends (RFC 9110 section 5.6.3).
#[inline]
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The header lines of a request in the order sent: name, as written, and value without the
/// white space around it. Neither is decoded, joined or compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'b> {
    /// Whole lines that have been through [`Lines`] once.
    lines: &'b [u8],
}

impl<'b> Headers<'b> {
    pub(crate) fn new(lines: &'b [u8]) -> Headers<'b> {
        Headers { lines }
    }

    /// The values of all lines of this name, of either case, in the order sent.
    pub fn values<'n>(self, name: &'n [u8]) -> impl Iterator<Item = &'b [u8]> + use<'b, 'n> {
        self.filter(move |(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl<'b> Iterator for Headers<'b> {
    type Item = (&'b [u8], &'b [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let mut lines = Lines::new(self.lines, 0);
        let Ok(Line::Field { name, value }) = lines.next_line() else { return None };
        let field = (&self.lines[name], trim(&self.lines[value]));
        self.lines = &self.lines[lines.at()..];
        Some(field)
    }
}

/// What the header lines so far say about the connection and the body.
#[derive(Default)]
pub(crate) struct Framing {
    close: bool,
    keep_alive: bool,
    content_length_seen: bool,
}

impl Framing {
    /// Evaluates one more header line, whose parts are in `bytes`.
    ///
    /// # Errors
    ///
    /// [`Error::BodyNotAllowed`] and [`Error::ContentLengthMalformed`]. Refusing whatever
    /// announces a body leaves two readers of this connection nothing to disagree about.
    #[inline]
    pub(crate) fn note(
        &mut self,
        bytes: &[u8],
        name: Range<usize>,
        value: Range<usize>,
    ) -> Result<(), Error> {
        // The length alone rules out most other names.
        let name = &bytes[name];
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match name.len() {
            10 if name == b"Connection" || is(b"connection") => {
                self.note_connection(&bytes[value]);
                Ok(())
            }
            14 if is(b"content-length") => self.note_content_length(trim(&bytes[value])),
            17 if is(b"transfer-encoding") => Err(Error::BodyNotAllowed),
            _ => Ok(()),
        }
    }

    /// Whether the connection stays open after a request that is `persistent` by its version
    /// (RFC 9112 section 9.3).
    pub(crate) fn keeps_alive(&self, persistent: bool) -> bool {
        !self.close && (persistent || self.keep_alive)
    }

    #[inline]
    fn note_connection(&mut self, value: &[u8]) {
        // As nearly every client writes it; the general way takes longer than the whole line.
        match trim(value) {
            b"close" => self.close = true,
            b"keep-alive" | b"Keep-Alive" => self.keep_alive = true,
            list => self.note_connection_options(list),
        }
    }

    fn note_connection_options(&mut self, list: &[u8]) {
        for option in list.split(|&byte| byte == b',').map(trim) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    fn note_content_length(&mut self, value: &[u8]) -> Result<(), Error> {
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(Error::ContentLengthMalformed);
        }
        let is_zero = value.iter().all(|&digit| digit == b'0');
        if !is_zero {
            // Any length seen before was 0, or it would have ended the request.
            let conflicts = self.content_length_seen;
            return Err(if conflicts {
                Error::ContentLengthMalformed
            } else {
                Error::BodyNotAllowed
            });
        }
        self.content_length_seen = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn token_characters_are_those_of_the_rfc() {
        let others = b"\"(),/:;<=>?@[\\]{}";
        for byte in 0..=255u8 {
            let expected = byte.is_ascii_graphic() && !others.contains(&byte);
            assert_eq!(is_token(byte), expected, "{byte:#x}");
        }
    }

    #[test]
    fn lines_are_walked_in_order_and_trimmed() {
        let bytes = b"Host: a\r\nX_odd~name:\t b c \t\nempty:\r\n";
        let headers: Vec<_> = Headers::new(bytes).collect();
        let expected: [(&[u8], &[u8]); 3] =
            [(b"Host", b"a"), (b"X_odd~name", b"b c"), (b"empty", b"")];
        assert_eq!(headers, expected);
    }

    #[test]
    fn values_are_found_by_name() {
        let bytes = b"Via: 1\r\nX-Via: 2\r\nvia:\r\nVia-X: 3\r\nVIA:\t4 \r\nVi: 5\r\n";
        let headers = Headers::new(bytes);
        let expected: [&[u8]; 3] = [b"1", b"", b"4"];
        assert!(headers.values(b"vIA").eq(expected));
        assert_eq!(headers.values(b"").count(), 0);
    }

    fn note(framing: &mut Framing, name: &[u8], value: &[u8]) -> Result<(), Error> {
        let bytes = [name, value].concat();
        framing.note(&bytes, 0..name.len(), name.len()..bytes.len())
    }

    #[test]
    fn connection_options() {
        let cases: [(&[&[u8]], bool, bool); 8] = [
            (&[], false, true),
            (&[b"close"], false, false),
            (&[b"Keep-Alive"], true, true),
            (&[b"keep-alive, Close"], false, false),
            (&[b"keep-alive", b"close"], false, false),
            (&[b"upgrade ,\tKEEP-ALIVE"], true, true),
            (&[b"closed, keep-alive2"], false, true),
            (&[b", ,"], false, true),
        ];
        for (values, on_http10, on_http11) in cases {
            let mut framing = Framing::default();
            for value in values {
                note(&mut framing, b"conNection", value).unwrap();
            }
            assert_eq!(framing.keeps_alive(false), on_http10, "{values:?}");
            assert_eq!(framing.keeps_alive(true), on_http11, "{values:?}");
        }
    }

    #[test]
    fn bodies() {
        let check = |lines: &[(&[u8], &[u8])]| {
            let mut framing = Framing::default();
            lines.iter().try_for_each(|(name, value)| note(&mut framing, name, value))
        };
        let length: &[u8] = b"Content-LENGTH";
        assert_eq!(check(&[(length, b"0")]), Ok(()));
        assert_eq!(check(&[(length, b"00"), (length, b"0")]), Ok(()));
        assert_eq!(check(&[(length, b"1")]), Err(Error::BodyNotAllowed));
        assert_eq!(check(&[(length, &[b'9'; 40])]), Err(Error::BodyNotAllowed));
        assert_eq!(check(&[(length, b"0"), (length, b"5")]), Err(Error::ContentLengthMalformed));
        let malformed: [&[u8]; 6] = [b"", b"-0", b"+0", b"0, 0", b"0x0", b"a"];
        for value in malformed {
            assert_eq!(check(&[(length, value)]), Err(Error::ContentLengthMalformed));
        }
        let encodings: [&[u8]; 3] = [b"chunked", b"identity", b""];
        for value in encodings {
            assert_eq!(check(&[(b"transfer-encoding", value)]), Err(Error::BodyNotAllowed));
        }
        assert_eq!(check(&[(b"content-type", b"5"), (b"te", b"chunked")]), Ok(()));
    }
}
