//! The list in memory: 18 bytes an info hash, one or two cache misses a look-up.

use annulus_swarm::InfoHash;

/// An info hash without its first two bytes.
type Rest = [u8; 18];

/// Values of the first two bytes.
const BUCKETS: usize = 1 << 16;

/// An immutable set of info hashes. A million take 18.3 MB: they are sorted, and the first two
/// bytes of each are not stored, since an index over these bytes says where each bucket begins.
#[derive(Debug)]
pub struct AccessList {
    /// Where each bucket begins, and as the last one where all end.
    starts: Box<[u32]>,
    /// As many [`Rest`]s, in order.
    rests: Box<[u8]>,
}

impl AccessList {
    /// Takes info hashes in any order, duplicates included. It needs no memory beside theirs but
    /// the index, a quarter of a megabyte.
    pub fn new(mut hashes: Vec<InfoHash>) -> AccessList {
        hashes.sort_unstable();
        hashes.dedup();
        let mut starts = vec![0; BUCKETS + 1].into_boxed_slice();
        for hash in &hashes {
            starts[bucket(hash).0 + 1] += 1;
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        let len = hashes.len();
        let mut bytes = hashes.into_flattened();
        for at in 0..len {
            let end = (at + 1) * size_of::<InfoHash>();
            bytes.copy_within(end - size_of::<Rest>()..end, at * size_of::<Rest>());
        }
        bytes.truncate(len * size_of::<Rest>());
        AccessList { starts, rests: bytes.into_boxed_slice() }
    }

    pub fn contains(&self, hash: &InfoHash) -> bool {
        let (bucket, rest) = bucket(hash);
        self.bucket(bucket).binary_search(rest).is_ok()
    }

    pub fn len(&self) -> usize {
        self.rests().len()
    }

    pub fn is_empty(&self) -> bool {
        self.rests.is_empty()
    }

    /// How many of these are not in `other`.
    pub fn missing_from(&self, other: &AccessList) -> usize {
        let missing = |bucket: usize| {
            let others = other.bucket(bucket);
            self.bucket(bucket).iter().filter(|rest| others.binary_search(rest).is_err()).count()
        };
        (0..BUCKETS).map(missing).sum()
    }

    /// The stored part of all info hashes whose first two bytes are this number.
    fn bucket(&self, bucket: usize) -> &[Rest] {
        &self.rests()[self.starts[bucket] as usize..self.starts[bucket + 1] as usize]
    }

    fn rests(&self) -> &[Rest] {
        self.rests.as_chunks().0
    }
}

/// The bucket of an info hash, and the part of it that is stored.
fn bucket(hash: &InfoHash) -> (usize, &Rest) {
    let [first, second, rest @ ..] = hash;
    (usize::from(u16::from_be_bytes([*first, *second])), rest)
}
