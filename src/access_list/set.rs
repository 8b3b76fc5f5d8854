//! The list in memory: 18 bytes an info hash, one or two cache misses a look-up.

use annulus_swarm::InfoHash;

/// An info hash without its first two bytes.
type Rest = [u8; 18];

/// Values of the first two bytes.
const BUCKETS: usize = 1 << 16;

/// Places from the guess that a search looks at first.
const FIRST_STEP: usize = 4;

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
        contains(self.bucket(bucket), rest)
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

/// Whether a bucket, which is in order, has this one. Info hashes are hashes: their next bytes tell
/// within a few places where one is in a large bucket, and the search widens from there, so that it
/// visits one or two cache lines. In a list of other numbers it takes twice the steps of a binary
/// search at most.
fn contains(bucket: &[Rest], rest: &Rest) -> bool {
    let guess = (bucket.len() * usize::from(u16::from_be_bytes([rest[0], rest[1]]))) >> 16;
    let Some(guessed) = bucket.get(guess) else { return false };
    let mut step = FIRST_STEP;
    let within = if rest < guessed {
        let mut end = guess;
        loop {
            let start = end.saturating_sub(step);
            if start == 0 || bucket[start] <= *rest {
                break start..end;
            }
            (end, step) = (start, step * 2);
        }
    } else {
        let mut start = guess;
        loop {
            let end = start + step;
            if end >= bucket.len() || bucket[end] > *rest {
                break start..end.min(bucket.len());
            }
            (start, step) = (end, step * 2);
        }
    };
    bucket[within].binary_search(rest).is_ok()
}

/// The bucket of an info hash, and the part of it that is stored.
fn bucket(hash: &InfoHash) -> (usize, &Rest) {
    let [first, second, rest @ ..] = hash;
    (usize::from(u16::from_be_bytes([*first, *second])), rest)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use annulus_swarm::Random;

    use super::*;

    /// Lists of hashes that all have `prefix`, and are random behind it.
    fn finds_what_is_listed(prefix: &[u8], len: usize) {
        let mut random = Random::seeded(len as u64);
        let mut hash = || {
            let mut hash = [0; 20];
            hash.iter_mut().for_each(|byte| *byte = random.below(256) as u8);
            hash[..prefix.len()].copy_from_slice(prefix);
            hash
        };
        let listed: Vec<InfoHash> = (0..len).map(|_| hash()).collect();
        let set: BTreeSet<InfoHash> = listed.iter().copied().collect();
        let list = AccessList::new(listed.clone());
        assert_eq!(list.len(), set.len());
        assert!(listed.iter().all(|hash| list.contains(hash)));
        for other in (0..1000).map(|_| hash()) {
            assert_eq!(list.contains(&other), set.contains(&other), "{other:?}");
        }
        for bound in [0, 1, 0xfe, 0xff] {
            let mut bound = [bound; 20];
            bound[..prefix.len()].copy_from_slice(prefix);
            assert_eq!(list.contains(&bound), set.contains(&bound), "{bound:?}");
        }
    }

    #[test]
    fn finds_what_is_listed_however_it_is_distributed() {
        for len in [0, 1, 2, 3, 5, 100, 3000] {
            finds_what_is_listed(&[], len);
            // All in one bucket: evenly, at its begin, at its end, and in one place.
            finds_what_is_listed(&[7, 7], len);
            finds_what_is_listed(&[7, 7, 0, 0], len);
            finds_what_is_listed(&[7, 7, 255, 255], len);
            finds_what_is_listed(&[7, 7, 100, 100, 100], len);
            finds_what_is_listed(&[7; 19], len);
        }
    }
}
