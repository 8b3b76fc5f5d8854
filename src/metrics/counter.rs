//! Numbers that one thread writes and any thread reads.

use std::array;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread writes. Adding is no locked operation, so that it costs what it
/// would without other threads; two that added at once would lose some.
#[derive(Debug, Default)]
pub struct Metric(AtomicU64);

impl Metric {
    /// Adds; after the largest number it begins again at 0, as counters are known to.
    pub fn add(&self, more: u64) {
        self.set(self.get().wrapping_add(more));
    }

    /// Takes another value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value of this moment.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What numbers are told apart by.
pub trait CounterKey: Copy {
    /// How many different ones there are.
    const COUNT: usize;

    /// Which it is, below [`CounterKey::COUNT`].
    fn index(self) -> usize;

    /// The one with this index, which is below [`CounterKey::COUNT`].
    fn at(index: usize) -> Self;
}

impl<A: CounterKey, B: CounterKey> CounterKey for (A, B) {
    const COUNT: usize = A::COUNT * B::COUNT;

    fn index(self) -> usize {
        self.0.index() * B::COUNT + self.1.index()
    }

    fn at(index: usize) -> Self {
        (A::at(index / B::COUNT), B::at(index % B::COUNT))
    }
}

impl<A: CounterKey, B: CounterKey, C: CounterKey> CounterKey for (A, B, C) {
    const COUNT: usize = A::COUNT * <(B, C)>::COUNT;

    fn index(self) -> usize {
        (self.0, (self.1, self.2)).index()
    }

    fn at(index: usize) -> Self {
        let (a, (b, c)) = <(A, (B, C))>::at(index);
        (a, b, c)
    }
}

/// A number for each of the `N` keys that there are.
pub struct CounterVec<K, const N: usize> {
    counts: [Metric; N],
    keys: PhantomData<K>,
}

impl<K: CounterKey, const N: usize> CounterVec<K, N> {
    /// Adds one to the number of this key.
    pub fn add(&self, key: K) {
        self.counts[key.index()].add(1);
    }

    /// The number of this key.
    pub fn get(&self, key: K) -> u64 {
        self.counts[key.index()].get()
    }

    /// All keys and their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (K, u64)> {
        self.counts.iter().enumerate().map(|(index, count)| (K::at(index), count.get()))
    }

    /// The sum of the numbers whose keys are `wanted`.
    pub fn sum(&self, wanted: impl Fn(K) -> bool) -> u64 {
        self.iter().filter(|&(key, _)| wanted(key)).map(|(_, count)| count).sum()
    }

    /// Adds other numbers to these.
    pub fn absorb(&self, other: &CounterVec<K, N>) {
        for (own, other) in self.counts.iter().zip(&other.counts) {
            own.add(other.get());
        }
    }
}

impl<K, const N: usize> Default for CounterVec<K, N> {
    fn default() -> CounterVec<K, N> {
        CounterVec { counts: array::from_fn(|_| Metric::default()), keys: PhantomData }
    }
}

impl<K: CounterKey + fmt::Debug, const N: usize> fmt::Debug for CounterVec<K, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::RequestKey;
    use super::super::labels::{AddressFamily, FailureReason, RequestOutcome, RequestType};
    use super::{CounterKey, CounterVec};

    fn each_key_has_an_index_of_its_own<K: CounterKey + std::fmt::Debug>() {
        for index in 0..K::COUNT {
            assert_eq!(K::at(index).index(), index, "{:?}", K::at(index));
        }
    }

    #[test]
    fn keys_and_indices_are_one_to_one() {
        each_key_has_an_index_of_its_own::<RequestType>();
        each_key_has_an_index_of_its_own::<FailureReason>();
        each_key_has_an_index_of_its_own::<RequestKey>();
        assert_eq!(
            RequestKey::COUNT,
            RequestType::COUNT * AddressFamily::COUNT * RequestOutcome::COUNT
        );
    }

    #[test]
    fn each_key_has_a_number_of_its_own() {
        let counts = CounterVec::<RequestKey, { RequestKey::COUNT }>::default();
        let key = (RequestType::Scrape, AddressFamily::V6, RequestOutcome::Answered);
        counts.add(key);
        counts.add(key);
        counts.add((RequestType::Announce, AddressFamily::V6, RequestOutcome::Answered));
        assert_eq!(counts.get(key), 2);
        assert_eq!(counts.sum(|_| true), 3);
        assert_eq!(counts.sum(|(kind, ..)| kind == RequestType::Announce), 1);
        let sum = CounterVec::default();
        sum.absorb(&counts);
        sum.absorb(&counts);
        assert_eq!(sum.get(key), 4);
    }
}
