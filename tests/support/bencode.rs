//! A decoder of bencode (BEP 3) that accepts nothing but the canonical form.

use std::fmt;

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Bencode {
    Integer(i64),
    Bytes(Vec<u8>),
    List(Vec<Bencode>),
    /// In the order of the keys.
    Dictionary(Vec<(Vec<u8>, Bencode)>),
}

impl fmt::Debug for Bencode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bencode::Integer(number) => number.fmt(f),
            Bencode::Bytes(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Bencode::List(values) => values.fmt(f),
            Bencode::Dictionary(entries) => {
                let entries = entries.iter().map(|(key, value)| (key.escape_ascii(), value));
                f.debug_map().entries(entries.map(|(key, value)| (key.to_string(), value))).finish()
            }
        }
    }
}

impl Bencode {
    /// The value under a key of a dictionary.
    pub(crate) fn get(&self, key: &str) -> Option<&Bencode> {
        let entry = self.entries().iter().find(|(known, _)| known == key.as_bytes());
        entry.map(|(_, value)| value)
    }

    #[track_caller]
    pub(crate) fn entries(&self) -> &[(Vec<u8>, Bencode)] {
        match self {
            Bencode::Dictionary(entries) => entries,
            other => panic!("no dictionary: {other:?}"),
        }
    }

    /// The keys of a dictionary that has text for keys.
    pub(crate) fn keys(&self) -> Vec<&str> {
        self.entries().iter().map(|(key, _)| std::str::from_utf8(key).unwrap()).collect()
    }

    #[track_caller]
    pub(crate) fn integer(&self, key: &str) -> i64 {
        match self.get(key) {
            Some(Bencode::Integer(number)) => *number,
            other => panic!("{key} is {other:?} in {self:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn bytes(&self, key: &str) -> &[u8] {
        match self.get(key) {
            Some(Bencode::Bytes(bytes)) => bytes,
            other => panic!("{key} is {other:?} in {self:?}"),
        }
    }

    /// Text under a key.
    #[track_caller]
    pub(crate) fn text(&self, key: &str) -> &str {
        std::str::from_utf8(self.bytes(key)).unwrap()
    }
}

/// Decodes bytes that hold one value and nothing else.
#[track_caller]
pub(crate) fn decode(bytes: &[u8]) -> Bencode {
    let mut rest = bytes;
    match value(&mut rest) {
        Some(value) if rest.is_empty() => value,
        Some(_) => panic!("bytes after the value: \"{}\"", rest.escape_ascii()),
        None => {
            let at = bytes.len() - rest.len();
            panic!("no canonical bencode at byte {at} of \"{}\"", bytes.escape_ascii())
        }
    }
}

fn value(rest: &mut &[u8]) -> Option<Bencode> {
    match *rest.first()? {
        b'i' => {
            let digits = until(rest, b'e')?.strip_prefix("i")?;
            let number: i64 = digits.parse().ok()?;
            (number.to_string() == digits).then_some(Bencode::Integer(number))
        }
        b'l' => {
            *rest = &rest[1..];
            let mut values = Vec::new();
            while *rest.first()? != b'e' {
                values.push(value(rest)?);
            }
            *rest = &rest[1..];
            Some(Bencode::List(values))
        }
        b'd' => {
            *rest = &rest[1..];
            let mut entries: Vec<(Vec<u8>, Bencode)> = Vec::new();
            while *rest.first()? != b'e' {
                let key = string(rest)?;
                if entries.last().is_some_and(|(last, _)| *last >= key) {
                    return None;
                }
                entries.push((key, value(rest)?));
            }
            *rest = &rest[1..];
            Some(Bencode::Dictionary(entries))
        }
        _ => string(rest).map(Bencode::Bytes),
    }
}

fn string(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let digits = until(rest, b':')?;
    let length: usize = digits.parse().ok()?;
    if length.to_string() != digits || length > rest.len() {
        return None;
    }
    let (bytes, after) = rest.split_at(length);
    *rest = after;
    Some(bytes.to_vec())
}

/// The text before `end`; consumes both.
fn until<'b>(rest: &mut &'b [u8], end: u8) -> Option<&'b str> {
    let at = rest.iter().position(|&byte| byte == end)?;
    let text = std::str::from_utf8(&rest[..at]).ok()?;
    *rest = &rest[at + 1..];
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_what_is_canonical_and_nothing_else() {
        let value = decode(b"d1:ai-7e1:bl1:xi0eee");
        assert_eq!(value.integer("a"), -7);
        let list = Bencode::List(vec![Bencode::Bytes(b"x".to_vec()), Bencode::Integer(0)]);
        assert_eq!(value.get("b"), Some(&list));
        for wrong in [
            "",
            "i1",
            "i01e",
            "i-0e",
            "i+1e",
            "ie",
            "01:a",
            "2:a",
            "l",
            "d1:a",
            "d1:ae",
            "d1:bi1e1:ai1ee",
            "d1:ai1e1:ai1ee",
            "di1ei1ee",
            "i1ei1e",
            "i1e\r\n",
        ] {
            let decoded = std::panic::catch_unwind(|| decode(wrong.as_bytes()));
            assert!(decoded.is_err(), "{wrong:?} was decoded");
        }
    }
}
