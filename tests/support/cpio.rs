//! Writes the archive that the kernel unpacks as its first file system: cpio's "newc"
//! format (the kernel's Documentation/driver-api/early-userspace/buffer-format.rst).

/// An archive of directories and executable files.
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;

impl Archive {
    /// An empty archive.
    pub(crate) fn new() -> Archive {
        Archive { bytes: Vec::new(), entries: 0 }
    }

    /// Adds a directory; `path` has no leading slash, and what holds it comes first.
    pub(crate) fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY, &[]);
    }

    /// Adds an executable file.
    pub(crate) fn executable(&mut self, path: &str, content: &[u8]) {
        self.entry(path, EXECUTABLE, content);
    }

    /// The whole archive, its end marked.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(content.len()).expect("newc holds sizes of 32 bits");
        let path_size = u32::try_from(path.len() + 1).expect("a short path");
        // Thirteen numbers of eight hexadecimal digits: inode, mode, user, group, links,
        // time, size, two numbers each of the file's and of its device's own number, the
        // path's size with its NUL, and a checksum that this format does not use.
        let head = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, path_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for number in head {
            self.bytes.extend_from_slice(format!("{number:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    /// Head with path, and content, each end at a multiple of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn entries_are_padded_and_end_with_the_trailer() {
        let mut archive = Archive::new();
        archive.directory("bin");
        archive.executable("bin/a", b"12345");
        let bytes = archive.finish();
        // Each entry: 110 bytes of head, path and NUL, to a multiple of four; content too.
        let (first, second) = (116, 116 + 116 + 8);
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[14..22], b"000041ed");
        assert_eq!(&bytes[110..116], b"bin\0\0\0");
        assert_eq!(&bytes[first..first + 6], b"070701");
        assert_eq!(&bytes[first + 54..first + 62], b"00000005");
        assert_eq!(&bytes[first + 116..second], b"12345\0\0\0");
        assert_eq!(&bytes[second + 110..second + 121], b"TRAILER!!!\0");
        assert_eq!(bytes.len() % 4, 0);
    }
}
