//! The list as a file: one info hash a line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use annulus_swarm::InfoHash;

use super::AccessList;
use crate::config::{AccessConfig, AccessMode, BadLines};
use crate::limits::{ACCESS_BAD_LINES_SHOWN, ACCESS_ENTRIES_MAX, ACCESS_LINE_BYTES_MAX};
use crate::os::FileSource;
use crate::text_file::not_utf8;

/// Bytes of the shortest line with an info hash, its end included.
const ENTRY_BYTES: u64 = 41;

/// Bytes of a bad line that a message repeats at most.
const SHOWN_BYTES_MAX: usize = 48;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A list that can be used.
#[derive(Debug)]
pub struct LoadedAccessList {
    pub list: AccessList,
    /// The lines that were skipped, if the operator chose to skip bad lines: the first
    /// [`ACCESS_BAD_LINES_SHOWN`], and how many more there are.
    pub warnings: Vec<String>,
}

impl AccessList {
    /// Reads the file that `config` names, opened by `source`. It takes no more memory than the
    /// 20 bytes of each info hash and a buffer.
    ///
    /// # Errors
    /// The file cannot be read or has more than [`ACCESS_ENTRIES_MAX`] info hashes, or it has bad
    /// lines and the operator did not choose to skip them. Each error is one line that begins with
    /// its place: in the configuration for the file as a whole, in the file for a line of it. The
    /// first [`ACCESS_BAD_LINES_SHOWN`] bad lines are listed.
    pub fn load(
        config: &AccessConfig,
        source: &FileSource,
    ) -> Result<LoadedAccessList, Vec<String>> {
        let AccessConfig { file, bad_lines, place, .. } = config;
        let path = file.display();
        let opened = source.open(file).and_then(|file| Ok((hashes_max(&file)?, file)));
        let read = opened.map_err(unreadable).and_then(|(hashes_max, file)| {
            let text = BufReader::with_capacity(1 << 16, file);
            ParsedAccessList::read(text, hashes_max, *bad_lines)
        });
        let ParsedAccessList { hashes, bad, more_bad } =
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
        Ok(LoadedAccessList { list: AccessList::new(hashes), warnings })
    }

    /// A warning if no torrent is served with this list.
    pub fn warning(&self, config: &AccessConfig) -> Option<String> {
        let AccessConfig { mode, file, place, .. } = config;
        (*mode == AccessMode::Allow && self.is_empty()).then(|| {
            format!(
                "{place}: access.file: {}: no info hashes: no torrent is served",
                file.display()
            )
        })
    }
}

/// The most info hashes that a file of this length can have.
fn hashes_max(file: &File) -> io::Result<usize> {
    let most = file.metadata()?.len() / ENTRY_BYTES + 1;
    Ok(usize::try_from(most).unwrap_or(usize::MAX).min(ACCESS_ENTRIES_MAX))
}

fn unreadable(error: io::Error) -> String {
    format!("cannot be read: {error}")
}

/// The lines of a list.
#[derive(Debug, Default)]
pub struct ParsedAccessList {
    /// In the order of the file.
    pub hashes: Vec<InfoHash>,
    /// The first bad lines, each with its number and what is wrong with it.
    pub bad: Vec<(u64, String)>,
    /// Bad lines beyond those.
    pub more_bad: u64,
}

impl ParsedAccessList {
    /// Reads a list of about `expected` info hashes. Where bad lines are refused, it stops when
    /// there are too many to list.
    ///
    /// # Errors
    /// `text` cannot be read, is UTF-16, has more than [`ACCESS_ENTRIES_MAX`] info hashes, or there
    /// is no memory for them.
    pub fn read(
        mut text: impl BufRead,
        expected: usize,
        bad_lines: BadLines,
    ) -> Result<ParsedAccessList, String> {
        let mut parsed = ParsedAccessList::default();
        if let Some(what) = not_utf8(text.fill_buf().map_err(unreadable)?) {
            return Err(what);
        }
        parsed.reserve(expected)?;
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let is_whole = read_line(&mut text, &mut line).map_err(unreadable)?;
            if line.is_empty() || (parsed.more_bad > 0 && bad_lines == BadLines::Refuse) {
                break;
            }
            let mut line = &line[..];
            if number == 1 {
                line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
            }
            let entry = if is_whole {
                parse_line(line)
            } else {
                Err(format!("a line of more than {ACCESS_LINE_BYTES_MAX} bytes"))
            };
            match entry {
                Ok(None) => {}
                Ok(Some(_)) if parsed.hashes.len() == ACCESS_ENTRIES_MAX => {
                    return Err(format!("more than {ACCESS_ENTRIES_MAX} info hashes"));
                }
                Ok(Some(hash)) => {
                    // Allocates only if the file has grown meanwhile.
                    parsed.reserve(1)?;
                    parsed.hashes.push(hash);
                }
                Err(what) if parsed.bad.len() < ACCESS_BAD_LINES_SHOWN => {
                    parsed.bad.push((number, what));
                }
                Err(_) => parsed.more_bad += 1,
            }
        }
        Ok(parsed)
    }

    /// Reserves memory without aborting: a list may need a gigabyte, and a tracker that cannot load
    /// it serves on with the old one.
    fn reserve(&mut self, more: usize) -> Result<(), String> {
        let all = self.hashes.len() + more;
        let reserved = self.hashes.try_reserve_exact(more);
        reserved.map_err(|_| format!("there is no memory for {all} info hashes"))
    }
}

/// Appends the next line to `line`, with its end, or nothing at the end of the text. Returns
/// whether the line is whole; of one that is too long the rest is skipped.
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
fn parse_line(line: &[u8]) -> Result<Option<InfoHash>, String> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.contains(&b'\r') {
        // Some old editors end lines with CR: what follows it may be meant as an entry.
        return Err("a carriage return (CR) within a line: lines end with LF or CRLF".to_string());
    }
    let is_end = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'#';
    let word = line.trim_ascii_start().split(is_end).next().unwrap_or_default();
    if word.is_empty() {
        return Ok(None);
    }
    let hash = match word.len() {
        40 => decode_hex(word),
        // Of a v2 torrent (BEP 52): cut as in announces.
        64 => decode_hex::<32>(word).and_then(|hash| hash.first_chunk().copied()),
        _ => None,
    };
    hash.map(Some).ok_or_else(|| {
        let shown = word[..word.len().min(SHOWN_BYTES_MAX)].escape_ascii();
        let more = if word.len() > SHOWN_BYTES_MAX { "..." } else { "" };
        format!("\"{shown}{more}\" is no info hash: 40 hex digits are, or 64 for a v2 torrent")
    })
}

/// Decodes `2 * N` hex digits of either case.
fn decode_hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(digits.as_chunks().0) {
        let value = |digit: u8| char::from(digit).to_digit(16);
        *byte = (value(*high)? << 4 | value(*low)?) as u8;
    }
    Some(bytes)
}
