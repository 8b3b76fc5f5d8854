//! How the files that the configuration names are opened: by this process, or, when it has
//! given up the power to, by the one that kept it.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use annulus_ring::{Attendant, may_read};

use super::Keeper;

/// Opens files to be read.
#[derive(Debug)]
pub enum Files {
    /// By this process itself.
    Own,
    /// By the keeper, and only those that it knows.
    Kept(Keeper),
}

impl Files {
    /// Begins the time within which the keeper, if there is one, has to open all files that are
    /// asked for from now on.
    pub fn renew_patience(&self) {
        if let Files::Kept(keeper) = self {
            keeper.renew_patience();
        }
    }

    /// The process of the keeper, if there is one.
    pub fn keeper(&self) -> Option<Arc<Attendant>> {
        match self {
            Files::Own => None,
            Files::Kept(keeper) => Some(keeper.process()),
        }
    }

    /// Opens a file that the configuration names.
    ///
    /// # Errors
    /// It is not there, may not be read or is not a file; or Landlock hides it since the start,
    /// or the keeper has ended, each of which a restart cures.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        match self {
            Files::Own => open(path).map_err(|error| explained(error, path)),
            Files::Kept(keeper) => keeper.open(path),
        }
    }
}

/// What keeps the files from being read again, as far as that is known.
#[derive(Debug, Default)]
pub struct Obstacles {
    keeper_ended: AtomicBool,
    reload_hangs: AtomicBool,
}

impl Obstacles {
    /// Notes that there is nobody any more who could open them.
    pub fn note_keeper_ended(&self) {
        self.keeper_ended.store(true, Ordering::Relaxed);
    }

    /// Notes whether a reload was given up that has not ended, so that no other can begin.
    pub fn note_reload_hangs(&self, hangs: bool) {
        self.reload_hangs.store(hangs, Ordering::Relaxed);
    }

    /// What there is to be done about it, if there is anything.
    pub fn describe(&self) -> Option<&'static str> {
        if self.keeper_ended.load(Ordering::Relaxed) {
            Some("the keeper of the files has ended: restart annulus")
        } else if self.reload_hangs.load(Ordering::Relaxed) {
            Some("a reload hangs: see whether the disk of the files answers")
        } else {
            None
        }
    }
}

/// Opens a file, and nothing that is none: a pipe or a device would have the tracker wait,
/// perhaps for ever.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        return Err(not_a_file());
    }
    File::open(path)
}

pub(crate) fn not_a_file() -> io::Error {
    io::Error::other("it is not a file")
}

/// Says of a file that its own rights do not close that Landlock does.
fn explained(error: io::Error, path: &Path) -> io::Error {
    if error.kind() != ErrorKind::PermissionDenied || !may_read(path) {
        return error;
    }
    let what = format!(
        "{error}: it is outside of the directories that the configured files were in at the \
         start, and Landlock hides all else: restart annulus"
    );
    io::Error::new(ErrorKind::PermissionDenied, what)
}

/// Says of text in UTF-16 or UTF-32, which some editors and shells write, that it is, and what
/// helps; nothing of any other. Only the beginning of `text` is looked at.
pub(crate) fn not_utf8(text: &[u8]) -> Option<String> {
    /// Bytes that show it where no mark does: a line or two.
    const LOOK: usize = 256;
    let (name, from) = match text {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => ("UTF-32", "UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => ("UTF-16", "UTF-16"),
        _ => {
            let pairs = text[..text.len().min(LOOK)].chunks_exact(2);
            let (all, mut highs, mut lows) = (pairs.len(), 0, 0);
            for pair in pairs {
                highs += usize::from(pair[0] == 0 && pair[1] != 0);
                lows += usize::from(pair[0] != 0 && pair[1] == 0);
            }
            // Most characters of a file that is read here are ASCII.
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
