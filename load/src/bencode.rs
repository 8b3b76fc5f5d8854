//! Bencode (BEP 3), read strictly and where it lies.

/// Lists and dictionaries within each other: more than any answer has.
const DEPTH_MAX: u32 = 16;

/// The bytes are no bencode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A reader of values, one behind the other.
#[derive(Clone, Debug)]
pub(super) struct Scan<'a> {
    rest: &'a [u8],
}

impl<'a> Scan<'a> {
    /// Reads from the first byte on.
    pub(super) fn new(bytes: &'a [u8]) -> Scan<'a> {
        Scan { rest: bytes }
    }

    /// What was not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The byte that comes next, which tells the type of the next value.
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Takes `byte` if it comes next.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// A string.
    ///
    /// # Errors
    /// There is none, its length has leading zeros, or it is longer than what is left.
    pub(super) fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.digits(b':')?;
        let length = usize::try_from(length).map_err(|_| Malformed)?;
        let (string, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(string)
    }

    /// An integer of at most 63 bits and a sign.
    ///
    /// # Errors
    /// There is none, or it has leading zeros, or is minus zero.
    pub(super) fn integer(&mut self) -> Result<i64, Malformed> {
        if !self.take(b'i') {
            return Err(Malformed);
        }
        let negative = self.take(b'-');
        match self.digits(b'e')? {
            0 if negative => Err(Malformed),
            number if negative => Ok(-number),
            number => Ok(number),
        }
    }

    /// Digits up to `end`, which is taken too.
    fn digits(&mut self, end: u8) -> Result<i64, Malformed> {
        let mut number: i64 = 0;
        for (at, &byte) in self.rest.iter().enumerate() {
            match byte {
                b'0'..=b'9' if at == 0 || number > 0 => {
                    let digit = i64::from(byte - b'0');
                    let tens = number.checked_mul(10);
                    number = tens.and_then(|tens| tens.checked_add(digit)).ok_or(Malformed)?;
                }
                _ if byte == end && at > 0 => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(number);
                }
                _ => return Err(Malformed),
            }
        }
        Err(Malformed)
    }

    /// Any value; whether all dictionaries in it are sorted.
    ///
    /// # Errors
    /// It is malformed, or too deep.
    pub(super) fn skip(&mut self) -> Result<bool, Malformed> {
        self.skip_within(DEPTH_MAX)
    }

    fn skip_within(&mut self, depth: u32) -> Result<bool, Malformed> {
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
            _ => Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::{Malformed, Scan};

    #[test]
    fn what_bencode_is() {
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
            let mut scan = Scan::new(text);
            assert_eq!(scan.skip(), Ok(sorted), "{}", text.escape_ascii());
            assert!(scan.rest().is_empty());
        }
    }

    #[test]
    fn what_it_is_not() {
        let deep = [b"l".repeat(100), b"e".repeat(100)].concat();
        for text in [
            &b""[..],
            b"i",
            b"ie",
            b"i-e",
            b"i-0e",
            b"i01e",
            b"i9223372036854775808e",
            b"i1",
            b"01:a",
            b"2:a",
            b":",
            b"-1:a",
            b"l",
            b"d1:a",
            b"di1ei2ee",
            b"x",
            b"99999999999999999999:a",
            &deep,
        ] {
            assert_eq!(Scan::new(text).skip(), Err(Malformed), "{}", text.escape_ascii());
        }
    }

    quickcheck! {
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) -> bool {
            let mut scan = Scan::new(&bytes);
            scan.skip().is_err() || scan.rest().len() < bytes.len()
        }
    }
}
