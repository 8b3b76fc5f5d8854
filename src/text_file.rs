//! Text files that an operator writes: bounded reading, and a message for those that are not UTF-8.

use std::fs::File;
use std::io::{self, Read};

/// Reads at most `bytes_max` bytes and one more, which shows the caller that the file is longer.
pub(crate) fn read_bounded(file: File, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// An error message for text in UTF-16 or UTF-32, which some editors and shells write; `None` for
/// other bytes. Only the beginning of `text` is examined.
pub(crate) fn not_utf8(text: &[u8]) -> Option<String> {
    /// Bytes examined where there is no byte order mark: a line or two.
    const EXAMINED_BYTES: usize = 256;
    let (name, from) = match text {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => ("UTF-32", "UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => ("UTF-16", "UTF-16"),
        _ => {
            let pairs = text[..text.len().min(EXAMINED_BYTES)].chunks_exact(2);
            let (all, mut highs, mut lows) = (pairs.len(), 0, 0);
            for pair in pairs {
                highs += usize::from(pair[0] == 0 && pair[1] != 0);
                lows += usize::from(pair[0] != 0 && pair[1] == 0);
            }
            // Most characters of these files are ASCII, whose high byte is 0 in UTF-16.
            match all > 1 {
                true if highs > all / 2 => ("UTF-16", "UTF-16BE"),
                true if lows > all / 2 => ("UTF-16", "UTF-16LE"),
                _ => return None,
            }
        }
    };
    Some(format!("text in {name}: save it as UTF-8, or convert it by \"iconv -f {from} -t UTF-8\""))
}

#[cfg(test)]
mod tests {
    use super::not_utf8;

    /// The text in UTF-16, the low byte first.
    fn wide(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    fn swapped(bytes: &[u8]) -> Vec<u8> {
        bytes.chunks(2).flat_map(|pair| pair.iter().rev().copied()).collect()
    }

    #[test]
    fn wide_text_is_named() {
        let text = "# Список\nlisten = []\n";
        for (bytes, from) in [
            (wide(&format!("\u{feff}{text}")), "UTF-16"),
            (swapped(&wide(&format!("\u{feff}{text}"))), "UTF-16"),
            (wide("\u{feff}"), "UTF-16"),
            (wide(text), "UTF-16LE"),
            (swapped(&wide(text)), "UTF-16BE"),
            (wide("a\n"), "UTF-16LE"),
            (wide(&"0".repeat(1000))[..999].to_vec(), "UTF-16LE"),
            (b"\xff\xfe\0\0a\0\0\0".to_vec(), "UTF-32"),
            (b"\0\0\xfe\xff\0\0\0a".to_vec(), "UTF-32"),
        ] {
            let said = not_utf8(&bytes).unwrap_or_else(|| panic!("{}", bytes.escape_ascii()));
            let (name, _) = from.split_at(6);
            assert!(said.starts_with(&format!("text in {name}: ")), "{said}");
            assert!(said.ends_with(&format!("\"iconv -f {from} -t UTF-8\"")), "{said}");
        }
    }

    #[test]
    fn other_bytes_are_left_alone() {
        let others: [&[u8]; 9] = [
            b"",
            b"a",
            b"a\0",
            b"listen = []\n",
            "# Список\n".as_bytes(),
            b"\xef\xbb\xbfa = 1\n",
            b"0\x82\x01\x02\x02\x01\0",
            b"a\0bcdefg\0h",
            &[0; 100],
        ];
        others.iter().for_each(|bytes| assert_eq!(not_utf8(bytes), None, "{bytes:?}"));
    }
}
