//! The set of info hashes behind an access list, against the sets of the standard library, and what
//! a reload says of its change.

use std::collections::BTreeSet;

use annulus::access_list::{AccessList, ListChange, SharedAccessList};
use annulus_swarm::InfoHash;
use quickcheck::quickcheck;

/// Few of each byte that matters, so that the same hashes, buckets and adjacent hashes come up.
fn hash((first, second, third, last): (u8, u8, u8, u8)) -> InfoHash {
    let few = |byte: u8| [0, 1, 0x7f, 0xfe, 0xff][usize::from(byte) % 5];
    let mut hash = [few(third); 20];
    [hash[0], hash[1], hash[19]] = [few(first), few(second), last % 4];
    hash
}

quickcheck! {
    fn contains_what_a_set_contains(
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
    fn missing_hashes_are_the_difference_of_sets(
        one: Vec<(u8, u8, u8, u8)>, other: Vec<(u8, u8, u8, u8)>
    ) -> bool {
        let [one, other] = [one, other].map(|it| it.into_iter().map(hash).collect::<Vec<_>>());
        let lists = [&one, &other].map(|it| AccessList::new(it.clone()));
        let sets = [one, other].map(BTreeSet::from_iter);
        lists[0].missing_from(&lists[1]) == sets[0].difference(&sets[1]).count()
    }
}

#[test]
fn a_full_bucket_finds_its_hashes() {
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

#[test]
fn a_list_that_loses_most_of_its_hashes_is_noticed() {
    let list = |numbers: &[u8]| AccessList::new(numbers.iter().map(|it| [*it; 20]).collect());
    let change = |allows, before: &[u8], after: &[u8]| {
        SharedAccessList::new(list(before), allows).change_to(&list(after))
    };
    let lost = |before, lost, after| ListChange::MostLost { before, lost, after };
    for allows in [true, false] {
        for (before, after, expected) in [
            (&[][..], &[][..], ListChange::Ordinary),
            (&[], &[1, 2], ListChange::Ordinary),
            (&[1, 2], &[1, 2], ListChange::Ordinary),
            (&[1, 2, 3, 4], &[4, 1], ListChange::Ordinary),
            (&[1, 2, 3, 4], &[3], lost(4, 3, 1)),
            (&[1, 2, 3], &[1], lost(3, 2, 1)),
            (&[1, 2, 3], &[1, 2], ListChange::Ordinary),
            // As many as before, but others.
            (&[1, 2, 3], &[3, 4, 5, 6], lost(3, 2, 4)),
        ] {
            assert_eq!(change(allows, before, after), expected, "{before:?} {after:?}");
        }
    }
    assert_eq!(change(true, &[1, 2], &[]), ListChange::Emptied { before: 2 });
    assert_eq!(change(false, &[1, 2], &[]), lost(2, 2, 0));
}
