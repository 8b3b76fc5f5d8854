//! The state file as bytes: a header, blocks of entries, an end record. docs/state.md has the
//! layout. Reads and writes go through `Read` and `Write`: nothing here knows files.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};

use annulus_swarm::{ENTRY_BYTES_MAX, EntryError};
use crc32c::{crc32c, crc32c_append};

/// The version that is written, and the newest that is read.
pub const FORMAT_VERSION: u32 = 1;

/// Bytes of a block's entries. Threads that read take blocks in turn, and each has one in memory;
/// a checksum of fewer bytes would find no more.
pub const BLOCK_BYTES_MAX: usize = 256 * 1024;

const _: () = assert!(BLOCK_BYTES_MAX >= 2 * ENTRY_BYTES_MAX);

/// Bytes of the header, with its checksum.
pub const HEADER_BYTES: usize = 40;

/// In place of a block's length.
const END: u32 = u32::MAX;

/// Bytes of the end record behind [`END`], with its checksum.
const END_BYTES: usize = 36;

const MAGIC: &[u8; 8] = b"ANNULUS\0";

/// What the ages of all entries are relative to, and who wrote them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateHeader {
    /// [`Swarms::tick_s`](annulus_swarm::Swarms::tick_s); at least 1.
    pub tick_s: u32,
    /// [`Swarms::tick_phase_s`](annulus_swarm::Swarms::tick_phase_s) at `unix_s`; below `tick_s`.
    pub phase_s: u32,
    /// When the writing began, in seconds since 1970.
    pub unix_s: u64,
    /// The number of the node that wrote. 0 if it was in no cluster, or knew that it lacked
    /// something that the others have: then nothing of them can be taken for known.
    pub node: u64,
}

/// What a whole file has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateTotals {
    /// Entries: torrents, of which large ones count more than once.
    pub entries: u64,
    pub peers: u64,
    pub blocks: u64,
    /// Of all blocks' entries.
    pub bytes: u64,
}

/// Why a file is not used.
#[derive(Debug)]
pub enum StateError {
    /// It cannot be read.
    Io(io::Error),
    /// It begins differently: some other program's file.
    Foreign,
    /// Its version of the format is a later one than [`FORMAT_VERSION`].
    Newer(u32),
    /// It is not as it was written.
    Damaged {
        /// Bytes from the beginning of the file.
        at: u64,
        what: &'static str,
    },
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StateError::Io(error) => write!(f, "cannot be read: {error}"),
            StateError::Foreign => f.write_str("not a state file of annulus (at byte 0)"),
            StateError::Newer(version) => write!(
                f,
                "of format version {version} (at byte 8): this annulus reads versions up to \
                 {FORMAT_VERSION}"
            ),
            StateError::Damaged { at, what } => write!(f, "damaged: {what} at byte {at}"),
        }
    }
}

impl std::error::Error for StateError {}

impl From<io::Error> for StateError {
    fn from(error: io::Error) -> StateError {
        StateError::Io(error)
    }
}

impl StateHeader {
    /// [`StateHeader::unix_s`] as the clock counts.
    pub fn written_unix_s(&self) -> i64 {
        i64::try_from(self.unix_s).unwrap_or(i64::MAX)
    }

    fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let StateHeader { tick_s, phase_s, unix_s, node } = self;
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&tick_s.to_le_bytes());
        bytes[16..20].copy_from_slice(&phase_s.to_le_bytes());
        bytes[20..28].copy_from_slice(&unix_s.to_le_bytes());
        bytes[28..36].copy_from_slice(&node.to_le_bytes());
        seal(&mut bytes);
        bytes
    }
}

/// Writes the checksum of all other bytes to the last four.
fn seal(bytes: &mut [u8]) {
    let (rest, sum) = bytes.split_at_mut(bytes.len() - 4);
    sum.copy_from_slice(&crc32c(rest).to_le_bytes());
}

/// Writes a file from its first byte to its last.
#[derive(Debug)]
pub struct StateWriter<W> {
    out: W,
    blocks: u64,
    bytes: u64,
}

impl<W: Write> StateWriter<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// That of `out`, as for the other methods: what was written then is no state file.
    pub fn begin(mut out: W, header: &StateHeader) -> io::Result<StateWriter<W>> {
        out.write_all(&header.to_bytes())?;
        Ok(StateWriter { out, blocks: 0, bytes: 0 })
    }

    /// Writes these entries, at most [`BLOCK_BYTES_MAX`] bytes; if there are none, nothing.
    pub fn block(&mut self, entries: &[u8]) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let length = (entries.len() as u32).to_le_bytes();
        let sum = block_sum(length, entries).to_le_bytes();
        self.out.write_all(&[length, sum].concat())?;
        self.out.write_all(entries)?;
        self.blocks += 1;
        self.bytes += entries.len() as u64;
        Ok(())
    }

    /// Writes the end record, with these numbers of entries and peers. Returns what was written,
    /// and the bytes of the file.
    pub fn finish(mut self, entries: u64, peers: u64) -> io::Result<(StateTotals, u64)> {
        let StateWriter { blocks, bytes, .. } = self;
        let mut record = [0; 4 + END_BYTES];
        record[..4].copy_from_slice(&END.to_le_bytes());
        for (number, at) in [entries, peers, blocks, bytes].iter().zip((4..).step_by(8)) {
            record[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        seal(&mut record);
        self.out.write_all(&record)?;
        self.out.flush()?;
        let file_bytes = (HEADER_BYTES + record.len()) as u64 + blocks * 8 + bytes;
        Ok((StateTotals { entries, peers, blocks, bytes }, file_bytes))
    }
}

/// The checksum of a block covers its length too, so that none is read in other places.
fn block_sum(length: [u8; 4], entries: &[u8]) -> u32 {
    crc32c_append(crc32c(&length), entries)
}

/// Reads a file from its first byte to its last.
#[derive(Debug)]
pub struct StateReader<R> {
    input: R,
    /// Bytes read.
    at: u64,
    blocks: u64,
    bytes: u64,
}

/// What comes next in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatePart {
    /// A block of entries.
    Block(BlockSeal),
    /// The end record. Nothing follows it.
    End(StateTotals),
}

/// Where the entries of a block are in the file, and their checksum, which is yet to be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSeal {
    at: u64,
    sum: u32,
}

impl<R: Read> StateReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// The file is not to be used, as for the other methods.
    pub fn begin(input: R) -> Result<(StateReader<R>, StateHeader), StateError> {
        let mut reader = StateReader { input, at: 0, blocks: 0, bytes: 0 };
        let mut bytes = [0; HEADER_BYTES];
        let length = reader.fill(&mut bytes)?;
        if length < MAGIC.len() || !bytes.starts_with(MAGIC) {
            return Err(match length {
                0 => damaged(0, "an empty file"),
                _ => StateError::Foreign,
            });
        }
        // A later version may have another header.
        let [version, tick_s, phase_s] = [8, 12, 16].map(|at| u32_at(&bytes, at));
        if length >= 12 && version > FORMAT_VERSION {
            return Err(StateError::Newer(version));
        }
        if length < HEADER_BYTES {
            return Err(damaged(length as u64, "an end within the header"));
        }
        if u32_at(&bytes, HEADER_BYTES - 4) != crc32c(&bytes[..HEADER_BYTES - 4]) {
            return Err(damaged(0, "a header with a wrong checksum"));
        }
        if version == 0 || tick_s == 0 || phase_s >= tick_s {
            return Err(damaged(8, "a header with impossible values"));
        }
        let [unix_s, node] = [20, 28].map(|at| u64_at(&bytes, at));
        Ok((reader, StateHeader { tick_s, phase_s, unix_s, node }))
    }

    /// Reads the next block's entries into `entries`, in place of what is there, or the end.
    pub fn next_part(&mut self, entries: &mut Vec<u8>) -> Result<StatePart, StateError> {
        let start = self.at;
        let mut length = [0; 4];
        self.fill_whole(&mut length, "an end before the end record")?;
        match u32::from_le_bytes(length) {
            END => return self.end_record(start),
            length if !(1..=BLOCK_BYTES_MAX).contains(&(length as usize)) => {
                return Err(damaged(start, "a block of impossible length"));
            }
            length => entries.resize(length as usize, 0),
        }
        let mut sum = [0; 4];
        self.fill_whole(&mut sum, "an end within a block")?;
        let at = self.at;
        self.fill_whole(entries, "an end within a block")?;
        self.blocks += 1;
        self.bytes += entries.len() as u64;
        Ok(StatePart::Block(BlockSeal { at, sum: u32::from_le_bytes(sum) }))
    }

    fn end_record(&mut self, start: u64) -> Result<StatePart, StateError> {
        let mut record = [0; 4 + END_BYTES];
        record[..4].copy_from_slice(&END.to_le_bytes());
        self.fill_whole(&mut record[4..], "an end within the end record")?;
        if u32_at(&record, END_BYTES) != crc32c(&record[..END_BYTES]) {
            return Err(damaged(start, "an end record with a wrong checksum"));
        }
        let [entries, peers, blocks, bytes] = [4, 12, 20, 28].map(|at| u64_at(&record, at));
        if (blocks, bytes) != (self.blocks, self.bytes) {
            return Err(damaged(start, "an end record of other blocks"));
        }
        if self.fill(&mut [0])? > 0 {
            return Err(damaged(self.at - 1, "something behind the end record"));
        }
        Ok(StatePart::End(StateTotals { entries, peers, blocks, bytes }))
    }

    /// Reads until `into` is full or the input ends; returns the number of bytes.
    fn fill(&mut self, into: &mut [u8]) -> Result<usize, StateError> {
        let mut length = 0;
        while length < into.len() {
            match self.input.read(&mut into[length..]) {
                Ok(0) => break,
                Ok(more) => length += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.at += length as u64;
        Ok(length)
    }

    fn fill_whole(&mut self, into: &mut [u8], what: &'static str) -> Result<(), StateError> {
        match self.fill(into)? {
            length if length == into.len() => Ok(()),
            _ => Err(damaged(self.at, what)),
        }
    }
}

impl BlockSeal {
    /// Checks that `entries` are as they were written.
    ///
    /// # Errors
    /// They are not.
    pub fn check(self, entries: &[u8]) -> Result<(), StateError> {
        if block_sum((entries.len() as u32).to_le_bytes(), entries) == self.sum {
            return Ok(());
        }
        Err(damaged(self.at - 8, "a block with a wrong checksum"))
    }

    /// What to say of an entry that cannot be read, although the checksum was right.
    pub fn damage(self, error: EntryError) -> StateError {
        damaged(self.at + error.at as u64, error.what)
    }
}

/// Checks the end record against what was read of the entries.
///
/// # Errors
/// The numbers differ.
pub fn check_totals(totals: StateTotals, entries: u64, peers: u64) -> Result<(), StateError> {
    if (totals.entries, totals.peers) == (entries, peers) {
        return Ok(());
    }
    let at = HEADER_BYTES as u64 + totals.blocks * 8 + totals.bytes;
    Err(damaged(at, "an end record of other entries"))
}

fn damaged(at: u64, what: &'static str) -> StateError {
    StateError::Damaged { at, what }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..].first_chunk().copied().unwrap_or_default())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..].first_chunk().copied().unwrap_or_default())
}
