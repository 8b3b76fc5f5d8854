//! The list as a file: one info hash a line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use super::AccessList;
use crate::config::{Access, AccessMode, BadLines};
use crate::limits::{ACCESS_BAD_LINES_SHOWN, ACCESS_ENTRIES_MAX, ACCESS_LINE_BYTES_MAX};
use crate::os::{Files, not_utf8};
use annulus_swarm::InfoHash;

/// Bytes of the shortest line that has an info hash, its end included.
const ENTRY_BYTES: u64 = 41;

/// Bytes of a bad line that a message repeats at most.
const SHOWN_BYTES_MAX: usize = 48;

/// What editors of another system begin a file with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What [`AccessList::load`] makes of a file that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// Fit for use.
    pub list: AccessList,
    /// The lines that were skipped, if the operator chose so: the first
    /// [`ACCESS_BAD_LINES_SHOWN`] of them, and how many more there are.
    pub warnings: Vec<String>,
}

impl AccessList {
    /// Reads the file that `config` names, opened by `source`, whatever its mode. It takes no
    /// more memory than the 20 bytes of each info hash and a buffer.
    ///
    /// # Errors
    /// The file cannot be read or has more than [`ACCESS_ENTRIES_MAX`] info hashes; or some
    /// lines are bad, and the operator did not choose to skip them. Each mistake is one line
    /// that begins with its place: of what is wrong with the file, in the configuration; of
    /// what is wrong with a line of it, in the file. Of bad lines the first
    /// [`ACCESS_BAD_LINES_SHOWN`] are listed.
    pub fn load(config: &Access, source: &Files) -> Result<Loaded, Vec<String>> {
        let Access { file, bad_lines, place, .. } = config;
        let path = file.display();
        let opened = source.open(file).and_then(|file| Ok((room(&file)?, file)));
        let read = opened.map_err(unreadable).and_then(|(room, file)| {
            let text = BufReader::with_capacity(1 << 16, file);
            Reading::of(text, room, *bad_lines)
        });
        let Reading { hashes, bad, more_bad } =
            read.map_err(|what| vec![format!("{place}: access.file: {path}: {what}")])?;
        let mut lines: Vec<String> =
            bad.into_iter().map(|(line, what)| format!("{path}:{line}: {what}")).collect();
        if *bad_lines == BadLines::Refuse && !lines.is_empty() {
            if more_bad > 0 {
                lines.push(format!("{path}: more bad lines than can be listed"));
            }
            return Err(lines);
        }
        if more_bad > 0 {
            lines.push(format!("{path}: {more_bad} more bad lines"));
        }
        let warnings = lines.into_iter().map(|line| line + ": skipped").collect();
        Ok(Loaded { list: AccessList::new(hashes), warnings })
    }

    /// What is to be said if nothing is served by this list.
    pub fn warning(&self, config: &Access) -> Option<String> {
        let Access { mode, file, place, .. } = config;
        (*mode == AccessMode::Allow && self.is_empty()).then(|| {
            format!(
                "{place}: access.file: {}: no info hashes: no torrent is served",
                file.display()
            )
        })
    }
}

/// How many info hashes there can be in a file.
fn room(file: &File) -> io::Result<usize> {
    let most = file.metadata()?.len() / ENTRY_BYTES + 1;
    Ok(usize::try_from(most).unwrap_or(usize::MAX).min(ACCESS_ENTRIES_MAX))
}

fn unreadable(error: io::Error) -> String {
    format!("cannot be read: {error}")
}

/// What was read of a list.
#[derive(Debug, Default)]
struct Reading {
    /// In the order of the file.
    hashes: Vec<InfoHash>,
    /// The first bad lines, each with its number.
    bad: Vec<(u64, String)>,
    /// How many bad lines there are beside these.
    more_bad: u64,
}

impl Reading {
    /// Reads a list. `room` is how many info hashes to expect. Where bad lines are refused, it
    /// stops when there are too many to list.
    fn of(mut text: impl BufRead, room: usize, bad_lines: BadLines) -> Result<Reading, String> {
        let mut reading = Reading::default();
        if let Some(what) = not_utf8(text.fill_buf().map_err(unreadable)?) {
            return Err(what);
        }
        reading.make_room(room)?;
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let is_whole = read_line(&mut text, &mut line).map_err(unreadable)?;
            if line.is_empty() || (reading.more_bad > 0 && bad_lines == BadLines::Refuse) {
                break;
            }
            let mut line = &line[..];
            if number == 1 {
                line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
            }
            let entry = if is_whole {
                entry(line)
            } else {
                Err(format!("a line of more than {ACCESS_LINE_BYTES_MAX} bytes"))
            };
            match entry {
                Ok(None) => {}
                Ok(Some(_)) if reading.hashes.len() == ACCESS_ENTRIES_MAX => {
                    return Err(format!("more than {ACCESS_ENTRIES_MAX} info hashes"));
                }
                Ok(Some(hash)) => {
                    // None but of a file that has grown meanwhile.
                    reading.make_room(1)?;
                    reading.hashes.push(hash);
                }
                Err(what) if reading.bad.len() < ACCESS_BAD_LINES_SHOWN => {
                    reading.bad.push((number, what));
                }
                Err(_) => reading.more_bad += 1,
            }
        }
        Ok(reading)
    }

    /// Has room for so many more info hashes. A file may be large enough to ask for a gigabyte,
    /// and to be refused it is no reason to end.
    fn make_room(&mut self, more: usize) -> Result<(), String> {
        let all = self.hashes.len() + more;
        let made = self.hashes.try_reserve_exact(more);
        made.map_err(|_| format!("there is no memory for {all} info hashes"))
    }
}

/// Appends the next line to `line`, with its end, or nothing at the end of the text; says
/// whether it is whole. Of one that is too long the rest is passed over.
fn read_line(text: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    let most = ACCESS_LINE_BYTES_MAX + 1;
    text.take(most as u64).read_until(b'\n', line)?;
    if line.len() < most || line.ends_with(b"\n") {
        return Ok(true);
    }
    text.skip_until(b'\n')?;
    Ok(false)
}

/// The info hash of a line, if it has one, or what is wrong with it.
fn entry(line: &[u8]) -> Result<Option<InfoHash>, String> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.contains(&b'\r') {
        // To whoever wrote it, it may be the end of a line: what follows is no comment.
        return Err("a carriage return (CR) within a line: lines end with LF or CRLF".to_string());
    }
    let is_end = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'#';
    let word = line.trim_ascii_start().split(is_end).next().unwrap_or_default();
    if word.is_empty() {
        return Ok(None);
    }
    let hash = match word.len() {
        40 => decoded(word),
        // Of a v2 torrent (BEP 52): cut as in announces.
        64 => decoded::<32>(word).and_then(|hash| hash.first_chunk().copied()),
        _ => None,
    };
    hash.map(Some).ok_or_else(|| {
        let shown = word[..word.len().min(SHOWN_BYTES_MAX)].escape_ascii();
        let more = if word.len() > SHOWN_BYTES_MAX { "..." } else { "" };
        format!("\"{shown}{more}\" is no info hash: 40 hex digits are, or 64 for a v2 torrent")
    })
}

/// The bytes that twice as many hex digits of either case stand for.
fn decoded<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(digits.as_chunks().0) {
        let value = |digit: u8| char::from(digit).to_digit(16);
        *byte = (value(*high)? << 4 | value(*low)?) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::{ACCESS_BAD_LINES_SHOWN, ACCESS_LINE_BYTES_MAX, BadLines, InfoHash, Reading};

    const HASH: &str = "00112233445566778899AabBcCdDeEfF01234567";
    const BYTES: InfoHash = [
        0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee,
        0xff, 1, 0x23, 0x45, 0x67,
    ];

    fn read(text: impl AsRef<[u8]>, bad_lines: BadLines) -> Reading {
        Reading::of(text.as_ref(), 0, bad_lines).expect("memory can be read")
    }

    /// The numbers of the lines of `text` that are bad.
    fn bad(text: impl AsRef<[u8]>) -> Vec<u64> {
        read(text, BadLines::Skip).bad.iter().map(|(number, _)| *number).collect()
    }

    #[test]
    fn a_line_is_a_hash_with_anything_around_it_that_is_no_text() {
        let long_comment = format!("{HASH} #{}", "x".repeat(ACCESS_LINE_BYTES_MAX - 42));
        for text in [
            HASH,
            &format!("{HASH}\n"),
            &format!("{HASH}\r\n"),
            &format!("\u{feff}{HASH}\r\n"),
            &format!(" \t{HASH}\t \n"),
            &format!("{HASH}#a comment\n"),
            &format!("{HASH} the name of it\r\n"),
            &format!("\n\r\n # {HASH}\n#\n   \n{HASH}\n\n"),
            &format!("{}\n", HASH.to_lowercase()),
            &format!("{}\n", HASH.to_uppercase()),
            &format!("{HASH}{}\n", "0123456789abcdefABCDEF99"),
            &long_comment,
            &format!("{long_comment}\n"),
        ] {
            let Reading { hashes, bad, .. } = read(text, BadLines::Refuse);
            assert_eq!((hashes, bad), (vec![BYTES], vec![]), "{text:?}");
        }
    }

    #[test]
    fn everything_else_is_a_bad_line_with_its_number() {
        let too_long = format!("{HASH}#{}", "x".repeat(ACCESS_LINE_BYTES_MAX - 40));
        for line in [
            &HASH[1..],
            &format!("{HASH}0"),
            &format!("x{HASH}"),
            &format!("{}g", &HASH[1..]),
            &format!("{HASH}0123456789abcdefABCDEF9g"),
            &format!("{HASH}0123456789abcdefABCDEF9"),
            &format!("\u{feff}{HASH}"),
            &format!("{HASH},"),
            &format!("{HASH}\r{HASH}"),
            &format!("{HASH}\r{HASH}\r"),
            &format!("# lines of an old Mac\r{HASH}"),
            &format!("{HASH}\r\r"),
            "\u{e9}",
            &too_long,
            &too_long.repeat(100),
        ] {
            let text = format!("{HASH}\n\n{line}\n{HASH}\n{line}");
            assert_eq!(bad(&text), [3, 5], "{line:?}");
            assert_eq!(read(&text, BadLines::Skip).hashes, [BYTES; 2], "{line:?}");
        }
    }

    #[test]
    fn what_is_shown_of_a_bad_line_fits_a_line_of_the_log() {
        let reading = read(["\x1b[1m\"\u{85}", &"y".repeat(100)].join("\n"), BadLines::Skip);
        let [(1, first), (2, second)] = &reading.bad[..] else { panic!("{reading:?}") };
        assert!(first.starts_with(r#""\x1b[1m\"\xc2\x85" is no info hash"#), "{first}");
        assert!(second.starts_with(&format!("\"{}...\" is no", "y".repeat(48))), "{second}");
    }

    #[test]
    fn more_than_memory_holds_is_a_mistake_and_not_the_end() {
        let refused = Reading::of(HASH.as_bytes(), usize::MAX, BadLines::Skip).unwrap_err();
        assert!(refused.starts_with("there is no memory for 1844674407370955"), "{refused}");
    }

    #[test]
    fn a_file_that_is_no_list_is_not_read_to_its_end() {
        let text = "what?\n".repeat(1000);
        let Reading { bad, more_bad, .. } = read(&text, BadLines::Skip);
        assert_eq!((bad.len(), more_bad as usize), (ACCESS_BAD_LINES_SHOWN, 1000 - bad.len()));
        let Reading { bad, more_bad, .. } = read(&text, BadLines::Refuse);
        assert_eq!((bad.len(), more_bad), (ACCESS_BAD_LINES_SHOWN, 1));
    }

    quickcheck! {
        fn any_bytes_are_a_list_or_have_bad_lines(text: Vec<u8>) -> bool {
            let Reading { hashes, bad, more_bad } = read(&text, BadLines::Skip);
            let lines = text.split(|byte| *byte == b'\n').count() as u64;
            hashes.len() as u64 + bad.len() as u64 + more_bad <= lines
                && bad.is_sorted_by(|(one, _), (next, _)| one < next)
        }

        fn what_is_written_is_read(hashes: Vec<(u64, u64, u32)>, ends: Vec<u8>) -> bool {
            let hash = |(a, b, c): &(u64, u64, u32)| {
                let mut hash: InfoHash = [0; 20];
                hash[..8].copy_from_slice(&a.to_be_bytes());
                hash[8..16].copy_from_slice(&b.to_be_bytes());
                hash[16..].copy_from_slice(&c.to_be_bytes());
                hash
            };
            let hashes: Vec<InfoHash> = hashes.iter().map(hash).collect();
            let mut text = String::new();
            for (at, hash) in hashes.iter().enumerate() {
                let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
                let end = usize::from(ends.get(at).copied().unwrap_or_default());
                text += &if end % 2 == 0 { digits } else { digits.to_uppercase() };
                text += ["\n", "\r\n", " # one\n", "\tname\r\n\n", "#\n"][end % 5];
            }
            read(text, BadLines::Refuse).hashes == hashes
        }
    }
}
