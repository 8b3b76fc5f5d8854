//! The list in memory: 18 bytes an info hash, and a cache miss or two to find one.

use annulus_swarm::InfoHash;

/// What is left of an info hash where its first two bytes are known.
type Rest = [u8; 18];

/// Values of the first two bytes.
const BUCKETS: usize = 1 << 16;

/// A set of info hashes that does not change. A million take 18.3 MB: they are sorted, and the
/// first two bytes of each are not stored, since an index over them says where in the order
/// those with the same two bytes are.
#[derive(Debug)]
pub struct AccessList {
    /// Where each bucket begins, and as the last one where all end.
    starts: Box<[u32]>,
    /// As many [`Rest`]s, in order.
    rests: Box<[u8]>,
}

impl AccessList {
    /// The list of these, in any order; of those that are there twice one is kept. It needs no
    /// memory beside theirs but the index, a quarter of a megabyte.
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

    /// Whether `hash` is one of the list.
    pub fn contains(&self, hash: &InfoHash) -> bool {
        let (bucket, rest) = bucket(hash);
        self.bucket(bucket).binary_search(rest).is_ok()
    }

    /// How many there are, each counted once.
    pub fn len(&self) -> usize {
        self.rests().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rests.is_empty()
    }

    /// How many of these `other` has not.
    pub fn missing_from(&self, other: &AccessList) -> usize {
        let missing = |bucket: usize| {
            let others = other.bucket(bucket);
            self.bucket(bucket).iter().filter(|rest| others.binary_search(rest).is_err()).count()
        };
        (0..BUCKETS).map(missing).sum()
    }

    /// What is stored of those whose first two bytes are those of this number.
    fn bucket(&self, bucket: usize) -> &[Rest] {
        &self.rests()[self.starts[bucket] as usize..self.starts[bucket + 1] as usize]
    }

    fn rests(&self) -> &[Rest] {
        self.rests.as_chunks().0
    }
}

/// The bucket of an info hash, and what is stored of it there.
fn bucket(hash: &InfoHash) -> (usize, &Rest) {
    let [first, second, rest @ ..] = hash;
    (usize::from(u16::from_be_bytes([*first, *second])), rest)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use quickcheck::quickcheck;

    use super::{AccessList, InfoHash};

    /// Few of each byte that matters, so that the same hashes, buckets and neighbours come up.
    fn hash((first, second, third, last): (u8, u8, u8, u8)) -> InfoHash {
        let few = |byte: u8| [0, 1, 0x7f, 0xfe, 0xff][usize::from(byte) % 5];
        let mut hash = [few(third); 20];
        [hash[0], hash[1], hash[19]] = [few(first), few(second), last % 4];
        hash
    }

    quickcheck! {
        fn holds_what_a_set_holds(
            listed: Vec<(u8, u8, u8, u8)>, asked: Vec<(u8, u8, u8, u8)>
        ) -> bool {
            let listed: Vec<InfoHash> = listed.into_iter().map(hash).collect();
            let list = AccessList::new(listed.clone());
            let set: BTreeSet<InfoHash> = listed.into_iter().collect();
            let asked = asked.into_iter().map(hash);
            list.len() == set.len()
                && list.is_empty() == set.is_empty()
                && set.iter().all(|hash| list.contains(hash))
                && { asked }.all(|hash| list.contains(&hash) == set.contains(&hash))
        }
    }

    quickcheck! {
        fn what_is_missing_is_what_sets_differ_by(
            one: Vec<(u8, u8, u8, u8)>, other: Vec<(u8, u8, u8, u8)>
        ) -> bool {
            let [one, other] = [one, other].map(|it| it.into_iter().map(hash).collect::<Vec<_>>());
            let lists = [&one, &other].map(|it| AccessList::new(it.clone()));
            let sets = [one, other].map(BTreeSet::from_iter);
            lists[0].missing_from(&lists[1]) == sets[0].difference(&sets[1]).count()
        }
    }

    #[test]
    fn a_crowded_bucket_is_like_any_other() {
        let hash = |n: u32| {
            let mut hash = [0xff; 20];
            hash[16..].copy_from_slice(&n.to_be_bytes());
            hash
        };
        let list = AccessList::new((0..100_000).map(|n| hash(n * 2)).collect());
        assert_eq!(list.len(), 100_000);
        for n in 0..200_000 {
            assert_eq!(list.contains(&hash(n)), n.is_multiple_of(2), "{n}");
        }
    }
}
