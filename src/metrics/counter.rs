//! Counters that one thread writes and any thread reads.

use std::array;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Serialize, Serializer};

/// A counter or gauge with a single writer: adding is a load and a store, not a locked
/// operation, and two threads that added at once would lose counts.
#[derive(Debug, Default)]
pub struct Metric(AtomicU64);

impl Metric {
    /// Adds; beyond `u64::MAX` it wraps around to 0.
    pub fn add(&self, more: u64) {
        self.set(self.get().wrapping_add(more));
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The label values of a counter in a [`CounterVec`].
pub trait CounterKey: Copy {
    /// How many different keys there are.
    const COUNT: usize;

    /// The key's number, below [`CounterKey::COUNT`].
    fn index(self) -> usize;

    /// The key with this number, which is below [`CounterKey::COUNT`].
    fn at(index: usize) -> Self;

    /// The label values, in lower case. They do not change from one version to the next.
    fn labels(self) -> Vec<&'static str>;
}

impl<A: CounterKey, B: CounterKey> CounterKey for (A, B) {
    const COUNT: usize = A::COUNT * B::COUNT;

    fn index(self) -> usize {
        self.0.index() * B::COUNT + self.1.index()
    }

    fn at(index: usize) -> Self {
        (A::at(index / B::COUNT), B::at(index % B::COUNT))
    }

    fn labels(self) -> Vec<&'static str> {
        [self.0.labels(), self.1.labels()].concat()
    }
}

/// A counter for each of the `N` keys.
pub struct CounterVec<K, const N: usize> {
    counters: [Metric; N],
    keys: PhantomData<K>,
}

impl<K: CounterKey, const N: usize> CounterVec<K, N> {
    /// Adds one to the counter of this key.
    pub fn add(&self, key: K) {
        self.add_many(key, 1);
    }

    pub fn add_many(&self, key: K, more: u64) {
        self.counters[key.index()].add(more);
    }

    pub fn iter(&self) -> impl Iterator<Item = (K, u64)> {
        self.counters.iter().enumerate().map(|(index, counter)| (K::at(index), counter.get()))
    }

    /// The sum of the counters whose keys are `wanted`.
    pub fn sum(&self, wanted: impl Fn(K) -> bool) -> u64 {
        self.iter().filter(|&(key, _)| wanted(key)).map(|(_, count)| count).sum()
    }

    /// Adds the counts of `other` to these.
    pub fn absorb(&self, other: &CounterVec<K, N>) {
        for (own, other) in self.counters.iter().zip(&other.counters) {
            own.add(other.get());
        }
    }
}

impl<K, const N: usize> Default for CounterVec<K, N> {
    fn default() -> CounterVec<K, N> {
        CounterVec { counters: array::from_fn(|_| Metric::default()), keys: PhantomData }
    }
}

/// A map from label values to counts, in the order of the keys.
impl<K: CounterKey, const N: usize> Serialize for CounterVec<K, N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(key, count)| (key.labels().join("_"), count)))
    }
}
