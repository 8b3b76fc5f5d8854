//! Random numbers for choosing peers. They need to be fast and uniform, not secret: predicting them
//! tells which peers an answer will name, and the answer tells the same.

/// A SplitMix64 generator (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", OOPSLA 2014): 64 bits of state, every 64-bit value once in its period of 2^64.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The whole sequence follows from `seed`. Workers take different seeds.
    pub fn seeded(seed: u64) -> Random {
        Random { state: seed }
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = self.state;
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `n` - 1; 0 if `n` is 0.
    ///
    /// The top of a 96-bit product (Lemire, "Fast random integer generation in an interval", 2019):
    /// no division. Without the rejection step some values are more likely than others by less than
    /// one part in 2^32, which no tracker can make visible.
    pub fn below(&mut self, n: u32) -> u32 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_sequence() {
        let (mut a, mut b, mut c) = (Random::seeded(7), Random::seeded(7), Random::seeded(8));
        let first: Vec<u64> = (0..8).map(|_| a.bits()).collect();
        assert_eq!(first, (0..8).map(|_| b.bits()).collect::<Vec<u64>>());
        assert_ne!(first, (0..8).map(|_| c.bits()).collect::<Vec<u64>>());
    }

    #[test]
    fn below_stays_below_and_reaches_everything() {
        let mut random = Random::seeded(1);
        assert_eq!(random.below(0), 0);
        assert_eq!(random.below(1), 0);
        for n in [2, 3, 7, 50] {
            let mut hits = vec![0_u32; n as usize];
            for _ in 0..n * 1000 {
                hits[random.below(n) as usize] += 1;
            }
            // 1000 expected, standard deviation below 32: six of them either way.
            assert!(hits.iter().all(|&h| (810..1190).contains(&h)), "{n}: {hits:?}");
        }
        let big = (0..1000).map(|_| random.below(u32::MAX)).max().unwrap_or(0);
        assert!(big > u32::MAX / 100 * 98);
    }
}
