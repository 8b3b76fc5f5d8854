//! A strict reader of bencode (BEP 3) that copies nothing.

/// Nested lists and dictionaries at most, more than any response has.
const DEPTH_MAX: u32 = 16;

/// The bytes are not bencode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MalformedBencode;

/// Reads values one after the other.
#[derive(Clone, Debug)]
pub(crate) struct BencodeReader<'a> {
    rest: &'a [u8],
}

impl<'a> BencodeReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> BencodeReader<'a> {
        BencodeReader { rest: bytes }
    }

    /// What was not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next byte, which decides the type of the next value.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Reads `byte` if it comes next.
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    pub(crate) fn string(&mut self) -> Result<&'a [u8], MalformedBencode> {
        let length = usize::try_from(self.digits(b':')?).map_err(|_| MalformedBencode)?;
        let (string, rest) = self.rest.split_at_checked(length).ok_or(MalformedBencode)?;
        self.rest = rest;
        Ok(string)
    }

    /// An integer of at most 63 bits and a sign.
    pub(crate) fn integer(&mut self) -> Result<i64, MalformedBencode> {
        if !self.take(b'i') {
            return Err(MalformedBencode);
        }
        let negative = self.take(b'-');
        match self.digits(b'e')? {
            0 if negative => Err(MalformedBencode),
            number if negative => Ok(-number),
            number => Ok(number),
        }
    }

    /// Digits without leading zeros up to `end`, which is read too.
    fn digits(&mut self, end: u8) -> Result<i64, MalformedBencode> {
        let mut number: i64 = 0;
        for (at, &byte) in self.rest.iter().enumerate() {
            match byte {
                b'0'..=b'9' if at == 0 || number > 0 => {
                    let digit = i64::from(byte - b'0');
                    let number_and_digit =
                        number.checked_mul(10).and_then(|n| n.checked_add(digit));
                    number = number_and_digit.ok_or(MalformedBencode)?;
                }
                _ if byte == end && at > 0 => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(number);
                }
                _ => return Err(MalformedBencode),
            }
        }
        Err(MalformedBencode)
    }

    /// Reads any value. Returns whether all dictionaries in it are sorted.
    pub(crate) fn skip(&mut self) -> Result<bool, MalformedBencode> {
        self.skip_within(DEPTH_MAX)
    }

    fn skip_within(&mut self, depth: u32) -> Result<bool, MalformedBencode> {
        match self.peek() {
            Some(b'i') => self.integer().map(|_| true),
            Some(b'0'..=b'9') => self.string().map(|_| true),
            Some(kind @ (b'l' | b'd')) if depth > 0 => {
                self.take(kind);
                let mut sorted = true;
                let mut last: Option<&[u8]> = None;
                while !self.take(b'e') {
                    if kind == b'd' {
                        let key = self.string()?;
                        sorted &= last.is_none_or(|last| last < key);
                        last = Some(key);
                    }
                    sorted &= self.skip_within(depth - 1)?;
                }
                Ok(sorted)
            }
            _ => Err(MalformedBencode),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BencodeReader, MalformedBencode};

    #[test]
    fn bencode_is_read() {
        for (text, sorted) in [
            (&b"i0e"[..], true),
            (b"i-42e", true),
            (b"0:", true),
            (b"3:abc", true),
            (b"le", true),
            (b"d1:ai1e1:bi2ee", true),
            (b"d1:bi1e1:ai2ee", false),
            (b"d1:ai1e1:ai2ee", false),
            (b"ld1:b0:1:a0:ee", false),
            (b"i9223372036854775807e", true),
        ] {
            let mut reader = BencodeReader::new(text);
            assert_eq!(reader.skip(), Ok(sorted), "{}", text.escape_ascii());
            assert!(reader.rest().is_empty());
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let deep = [b"l".repeat(100), b"e".repeat(100)].concat();
        let texts =
            "|i|ie|i-e|i-0e|i01e|i9223372036854775808e|i1|01:a|2:a|:|-1:a|l|d1:a|di1ei2ee|x";
        let texts = texts.split('|').map(str::as_bytes);
        for text in texts.chain([&b"99999999999999999999:a"[..], &deep]) {
            let skipped = BencodeReader::new(text).skip();
            assert_eq!(skipped, Err(MalformedBencode), "{}", text.escape_ascii());
        }
    }
}
