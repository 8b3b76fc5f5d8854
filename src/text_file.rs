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
