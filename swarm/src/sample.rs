//! Which peers an answer names: all, or a uniform random sample without replacement.

use std::ops::Range;

use super::peer_store::PeerStore;
use super::peers::Peers;
use super::{CapacityError, CompactAddr, Random, Replaced};

/// The peers of one answer, and what it takes to choose them. Made once for each worker; an
/// announce clears and fills it and allocates nothing.
#[derive(Debug)]
pub struct Sample {
    v4: Vec<[u8; 6]>,
    v6: Vec<[u8; 18]>,
    capacity_error: Option<CapacityError>,
    replaced: Option<Replaced>,
    max: u32,
    sampler: IndexSampler,
}

impl Sample {
    /// Room for `max` peers in all; an announce that wants more gets so many.
    pub fn with_capacity(max: u32) -> Sample {
        Sample {
            v4: Vec::with_capacity(max as usize),
            v6: Vec::with_capacity(max as usize),
            capacity_error: None,
            replaced: None,
            max,
            sampler: IndexSampler::with_capacity(max as usize),
        }
    }

    /// IPv4 peers as they go on the wire (BEP 23): 4 bytes of address, 2 of port.
    pub fn v4(&self) -> &[[u8; 6]] {
        &self.v4
    }

    /// IPv6 peers as they go on the wire (BEP 7): 16 bytes of address, 2 of port.
    pub fn v6(&self) -> &[[u8; 18]] {
        &self.v6
    }

    /// The peers of either family, for who tells them otherwise than they are stored.
    pub fn peers_mut(&mut self) -> (&mut Vec<[u8; 6]>, &mut Vec<[u8; 18]>) {
        (&mut self.v4, &mut self.v6)
    }

    /// Why the announcer is not stored, if it is new and there was no room for it.
    pub fn capacity_error(&self) -> Option<CapacityError> {
        self.capacity_error
    }

    /// What had to go for the announcer, which is stored.
    pub fn replaced(&self) -> Option<Replaced> {
        self.replaced
    }

    pub(super) fn clear(&mut self) {
        self.v4.clear();
        self.v6.clear();
        self.capacity_error = None;
        self.replaced = None;
    }

    /// There was no room for the announcer of whom this is the answer.
    pub(super) fn set_capacity_error(&mut self, error: CapacityError) {
        self.capacity_error = Some(error);
    }

    /// Something had to go for the announcer of whom this is the answer.
    pub(super) fn set_replaced(&mut self, replaced: Replaced) {
        self.replaced = Some(replaced);
    }

    /// Fills it with up to `numwant` of the peers that are of use to `announcer`, which is at row
    /// `announcer_at` of its family if it is stored.
    pub(super) fn fill(
        &mut self,
        peers: &Peers,
        announcer: &CompactAddr,
        announcer_at: Option<usize>,
        seeder: bool,
        numwant: u32,
        random: &mut Random,
    ) {
        self.clear();
        let numwant = numwant.min(self.max) as usize;
        let (at_v4, at_v6) = match announcer {
            CompactAddr::V4(_) => (announcer_at, None),
            CompactAddr::V6(_) => (None, announcer_at),
        };
        let v4 = peers.v4().map(|rows| Eligible::new(rows, at_v4, seeder));
        let v6 = peers.v6().map(|rows| Eligible::new(rows, at_v6, seeder));
        let eligible_v4 = v4.as_ref().map_or(0, Eligible::len);
        let eligible_v6 = v6.as_ref().map_or(0, Eligible::len);
        let (want_v4, want_v6) = match announcer {
            CompactAddr::V4(_) => shares(numwant, eligible_v4, eligible_v6),
            CompactAddr::V6(_) => {
                let (own, other) = shares(numwant, eligible_v6, eligible_v4);
                (other, own)
            }
        };
        if let Some(eligible) = v4 {
            eligible.draw(want_v4, random, &mut self.sampler, &mut self.v4);
        }
        if let Some(eligible) = v6 {
            eligible.draw(want_v6, random, &mut self.sampler, &mut self.v6);
        }
    }
}

/// How many of `own` and `other` eligible peers an answer of `numwant` names. The own family comes
/// first, because the announcer can surely reach it; the other gets a quarter nevertheless, or
/// a swarm of two families would fall in two.
fn shares(numwant: usize, own: usize, other: usize) -> (usize, usize) {
    if own + other <= numwant {
        return (own, other);
    }
    let of_other = other.min((numwant / 4).max(numwant - own.min(numwant)));
    (own.min(numwant - of_other), of_other)
}

/// The rows of one family that an answer may name: a range, without the announcer's own.
struct Eligible<'a, const N: usize> {
    rows: &'a dyn PeerStore<N>,
    range: Range<usize>,
    except: Option<usize>,
}

impl<'a, const N: usize> Eligible<'a, N> {
    fn new(rows: &'a dyn PeerStore<N>, announcer_at: Option<usize>, seeder: bool) -> Self {
        let range = rows.eligible_rows(seeder);
        let except = announcer_at.filter(|at| range.contains(at));
        Eligible { rows, range, except }
    }

    fn len(&self) -> usize {
        self.range.len() - usize::from(self.except.is_some())
    }

    /// Appends `count` of them, every set of so many as likely as any other.
    fn draw(
        &self,
        count: usize,
        random: &mut Random,
        sampler: &mut IndexSampler,
        out: &mut Vec<[u8; N]>,
    ) {
        if count >= self.len() {
            let except = self.except.unwrap_or(self.range.end);
            self.copy(self.range.start..except, out);
            self.copy((except + 1).min(self.range.end)..self.range.end, out);
            return;
        }
        let chosen = sampler.draw(count, self.len(), random);
        for pick in chosen.iter_mut() {
            *pick += self.range.start as u32;
            // The last row stands in for the one that is left out, and is not picked itself.
            if self.except == Some(*pick as usize) {
                *pick = self.range.end as u32 - 1;
            }
        }
        self.rows.gather(chosen, out);
    }

    fn copy(&self, range: Range<usize>, out: &mut Vec<[u8; N]>) {
        let mut at = range.start;
        while at < range.end {
            let run = self.rows.addresses_from(at, range.end);
            out.extend_from_slice(run);
            at += run.len();
        }
    }
}

/// Bits of the map of what was drawn: it exactly tells apart so many numbers. Cleared whole for
/// the largest swarms, it is 2 KiB.
const MAP_BITS: usize = 1 << 14;

/// Bits of one word of the map.
const WORD_BITS: usize = u64::BITS as usize;

/// Draws distinct numbers.
#[derive(Debug)]
struct IndexSampler {
    chosen: Vec<u32>,
    /// Which numbers, modulo [`MAP_BITS`], are among the chosen.
    map: Box<[u64; MAP_BITS / WORD_BITS]>,
}

impl IndexSampler {
    fn with_capacity(max: usize) -> IndexSampler {
        let chosen = Vec::with_capacity(2 * max);
        IndexSampler { chosen, map: Box::new([0; MAP_BITS / WORD_BITS]) }
    }

    /// `count` distinct numbers below `n`, in random order, where `count` is less than `n` and
    /// at most the capacity. Every ordered choice is equally likely.
    ///
    /// If they are most of all numbers, these are shuffled as far as needed (Fisher and Yates);
    /// otherwise numbers are drawn until enough are distinct, of which less than half repeat.
    fn draw(&mut self, count: usize, n: usize, random: &mut Random) -> &mut [u32] {
        debug_assert!(count < n);
        self.chosen.clear();
        if n < 2 * count {
            self.chosen.extend(0..n as u32);
            for at in 0..count {
                let other = at + random.below((n - at) as u32) as usize;
                self.chosen.swap(at, other);
            }
            self.chosen.truncate(count);
        } else if n <= MAP_BITS {
            self.draw_mapped(count, n as u32, random);
        } else {
            self.draw_filtered(count, n as u32, random);
        }
        &mut self.chosen
    }

    /// Of so few numbers that the map knows each. Without a branch on whether one is new, which
    /// no processor can predict: a repeated one is overwritten by the next.
    fn draw_mapped(&mut self, count: usize, n: u32, random: &mut Random) {
        self.map[..(n as usize).div_ceil(WORD_BITS)].fill(0);
        self.chosen.resize(count, 0);
        let mut distinct = 0;
        while let Some(place) = self.chosen.get_mut(distinct) {
            let pick = random.below(n);
            *place = pick;
            distinct += usize::from(note(&mut self.map, pick));
        }
    }

    /// Of so many that two may share a bit: then the chosen ones are looked through.
    fn draw_filtered(&mut self, count: usize, n: u32, random: &mut Random) {
        self.map.fill(0);
        while self.chosen.len() < count {
            let pick = random.below(n);
            if note(&mut self.map, pick) || !self.chosen.contains(&pick) {
                self.chosen.push(pick);
            }
        }
    }
}

/// Sets the bit of a number; says whether it was clear.
fn note(map: &mut [u64; MAP_BITS / WORD_BITS], number: u32) -> bool {
    let bit = number as usize % MAP_BITS;
    let (word, mask) = (&mut map[bit / WORD_BITS], 1 << (bit % WORD_BITS));
    let was_clear = *word & mask == 0;
    *word |= mask;
    was_clear
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::hash::RandomState;

    use super::*;
    use crate::{AnnounceRequest, PeerEvent, SwarmConfig, Swarms};

    const INFO_HASH: [u8; 20] = [1; 20];

    fn endpoint(n: u16, v6: bool) -> CompactAddr {
        let [high, low] = n.to_be_bytes();
        if v6 {
            CompactAddr::V6([2, high, low, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 9, 9])
        } else {
            CompactAddr::V4([10, 1, high, low, 9, 9])
        }
    }

    /// One swarm with peers of both families, and one of its peers that asks again and again.
    struct Requester {
        swarms: Swarms,
        random: Random,
        sample: Sample,
        asks: AnnounceRequest,
    }

    impl Requester {
        /// `v4` and `v6` leechers beside the one that asks, which is put among its own.
        fn new(v4: u16, v6: u16, asker_v6: bool, numwant: u32) -> Requester {
            let config = SwarmConfig {
                torrents_max: 1,
                peers_max: 1_000_000,
                peers_per_torrent_max: 1_000_000,
                peers_per_address_max: 0,
                peer_timeout_s: 1000,
            };
            let asks = AnnounceRequest {
                info_hash: INFO_HASH,
                peer: endpoint(u16::MAX, asker_v6),
                seeder: false,
                event: PeerEvent::None,
                numwant,
            };
            let mut requester = Requester {
                swarms: Swarms::new(config, RandomState::new()),
                random: Random::seeded(
                    u64::from(v4) << 32 | u64::from(v6) << 16 | u64::from(numwant),
                ),
                sample: Sample::with_capacity(200),
                asks,
            };
            for (count, is_v6) in [(v4, false), (v6, true)] {
                for n in 0..count {
                    if n == count / 2 && is_v6 == asker_v6 {
                        requester.announce(asks);
                    }
                    requester.announce(AnnounceRequest {
                        peer: endpoint(n, is_v6),
                        numwant: 0,
                        ..asks
                    });
                }
            }
            requester
        }

        fn announce(&mut self, request: AnnounceRequest) {
            self.swarms.announce(&request, 0, &mut self.random, &mut self.sample);
        }

        /// The numbers of the peers in one answer, IPv6 from 10000 on.
        fn ask(&mut self) -> Vec<usize> {
            self.announce(self.asks);
            let number = |high: u8, low: u8| usize::from(u16::from_be_bytes([high, low]));
            let v4 = self.sample.v4().iter().map(|peer| number(peer[2], peer[3]));
            let v6 = self.sample.v6().iter().map(|peer| 10_000 + number(peer[1], peer[2]));
            v4.chain(v6).collect()
        }
    }

    /// Whether a chi-square statistic is what even chances give; a right sampler fails one in a
    /// billion seeds, and the seeds are fixed.
    fn is_even(statistic: f64, freedom: f64) -> bool {
        (statistic - freedom).abs() < 6.0 * (2.0 * freedom).sqrt() + 6.0
    }

    #[test]
    fn every_subset_is_equally_likely() {
        // Few rows, rows in a flat block; as many as wanted and one, and far more.
        for (peers, numwant, subsets) in
            [(3, 1, 3.0), (3, 2, 3.0), (7, 1, 7.0), (7, 3, 35.0), (7, 6, 7.0), (9, 4, 126.0)]
        {
            for v6 in [false, true] {
                let counts = if v6 { (0, peers) } else { (peers, 0) };
                let mut requester = Requester::new(counts.0, counts.1, v6, numwant);
                let rounds = 40_000.0;
                let mut seen: BTreeMap<Vec<usize>, f64> = BTreeMap::new();
                for _ in 0..rounds as u32 {
                    let mut subset = requester.ask();
                    subset.sort_unstable();
                    *seen.entry(subset).or_default() += 1.0;
                }
                assert_eq!(seen.len() as f64, subsets);
                let expected = rounds / subsets;
                let statistic: f64 =
                    seen.values().map(|count| (count - expected).powi(2) / expected).sum();
                assert!(is_even(statistic, subsets - 1.0), "{peers} {numwant} {v6}: {statistic}");
            }
        }
    }

    #[test]
    fn every_order_is_equally_likely() {
        let mut requester = Requester::new(20, 0, false, 3);
        let rounds = 60_000.0;
        let mut seen: BTreeMap<Vec<bool>, f64> = BTreeMap::new();
        for _ in 0..rounds as u32 {
            let peers = requester.ask();
            let order = vec![peers[0] < peers[1], peers[1] < peers[2], peers[0] < peers[2]];
            *seen.entry(order).or_default() += 1.0;
        }
        let expected = rounds / 6.0;
        let statistic: f64 = seen.values().map(|count| (count - expected).powi(2) / expected).sum();
        assert!(seen.len() == 6 && is_even(statistic, 5.0), "{seen:?}");
    }

    /// Counts how often each peer, and each two of one family, come together.
    #[test]
    fn peers_and_pairs_are_even_in_every_layout() {
        // IPv4, IPv6, whether the asker is IPv6, wanted, and the share of each family.
        for (v4, v6, asker_v6, numwant, share_v4, share_v6) in [
            (60, 0, false, 50, 50, 0),
            (51, 0, false, 50, 50, 0),
            (300, 0, false, 50, 50, 0),
            (0, 300, true, 199, 0, 199),
            (300, 300, false, 51, 39, 12),
            (300, 40, true, 50, 12, 38),
            (300, 20, true, 50, 30, 20),
            (300, 300, false, 1, 1, 0),
            (300, 300, true, 7, 1, 6),
        ] {
            let mut requester = Requester::new(v4, v6, asker_v6, numwant);
            let rounds = 6000.0;
            let (v4, v6) = (usize::from(v4), usize::from(v6));
            let mut together = vec![0_u32; (v4 + v6) * (v4 + v6)];
            for _ in 0..rounds as u32 {
                let mut peers = requester.ask();
                assert_eq!(peers.iter().filter(|&&peer| peer < 10_000).count(), share_v4);
                assert_eq!(peers.len(), share_v4 + share_v6);
                peers.iter_mut().filter(|peer| **peer >= 10_000).for_each(|p| *p -= 10_000 - v4);
                for &one in &peers {
                    peers.iter().for_each(|&other| together[one * (v4 + v6) + other] += 1);
                }
            }
            for (family, share) in [(0..v4, share_v4 as f64), (v4..v4 + v6, share_v6 as f64)] {
                let n = family.len() as f64;
                // Of a large share those who are left out say more.
                let few = share.min(n - share);
                let (chance, chance_of_two) = (few / n, few / n * (few - 1.0) / (n - 1.0));
                let count = |one: usize, other: usize| {
                    let [one_alone, other_alone, both] = [(one, one), (other, other), (one, other)]
                        .map(|(a, b)| f64::from(together[a * (v4 + v6) + b]));
                    if few == share { both } else { rounds - one_alone - other_alone + both }
                };
                let square = |count: f64, chance: f64| {
                    (count - rounds * chance).powi(2) / (rounds * chance * (1.0 - chance))
                };
                let (mut singles, mut pairs) = (0.0, 0.0);
                for one in family.clone() {
                    singles += square(count(one, one), chance);
                    let others = one + 1..family.end;
                    pairs +=
                        others.map(|other| square(count(one, other), chance_of_two)).sum::<f64>();
                }
                let what = format!("{v4} {v6} {asker_v6} {numwant}: {singles} {pairs} of {n}");
                if few > 0.0 {
                    assert!(is_even(singles * (n - 1.0) / n, n - 1.0), "{what}");
                }
                if few > 1.0 {
                    // The pairs with one peer rise and fall together a little, so their mean
                    // spreads wider than that of as many independent squares.
                    let mean = pairs / (n * (n - 1.0) / 2.0);
                    let spread = 0.05 + 6.0 * chance * (2.0 / n).sqrt();
                    assert!((mean - 1.0).abs() < spread, "{what}: {mean} {spread}");
                }
            }
        }
    }

    #[test]
    fn shares_add_up_and_leave_nobody_out_for_nothing() {
        for numwant in 0..40 {
            for own in 0..60 {
                for other in 0..60 {
                    let (of_own, of_other) = shares(numwant, own, other);
                    assert!(of_own <= own && of_other <= other);
                    assert_eq!(of_own + of_other, numwant.min(own + other));
                    // The own family gives up a quarter at most, and only for the other.
                    assert!(of_own >= own.min(numwant - numwant / 4));
                    assert!(of_other >= other.min(numwant / 4));
                }
            }
        }
    }

    #[test]
    fn picks_are_distinct_and_as_many_as_asked_for() {
        let mut sampler = IndexSampler::with_capacity(200);
        let mut random = Random::seeded(3);
        let most = MAP_BITS;
        for n in [1, 2, 3, 63, 64, 65, 200, 201, 399, 400, 401, most - 1, most, most + 1, 1 << 30] {
            for count in [0, 1, 2, 100, 199, 200].into_iter().filter(|&count| count < n) {
                for _ in 0..100 {
                    let mut chosen = sampler.draw(count, n, &mut random).to_vec();
                    chosen.sort_unstable();
                    chosen.dedup();
                    assert_eq!(chosen.len(), count, "of {n}");
                    assert!(chosen.iter().all(|&pick| (pick as usize) < n), "{chosen:?} of {n}");
                }
            }
        }
    }

    /// Numbers that share a bit of the map are all drawn, and as often as others.
    #[test]
    fn picks_are_even_where_the_map_is_too_small() {
        let (mut sampler, mut random) = (IndexSampler::with_capacity(200), Random::seeded(4));
        let n = 4 * MAP_BITS;
        let mut quarters = [0_u32; 4];
        let mut shared = 0;
        for _ in 0..4000 {
            let chosen = sampler.draw(200, n, &mut random);
            chosen.iter().for_each(|&pick| quarters[pick as usize / MAP_BITS] += 1);
            let mut bits: Vec<usize> =
                chosen.iter().map(|&pick| pick as usize % MAP_BITS).collect();
            bits.sort_unstable();
            shared += bits.windows(2).filter(|two| two[0] == two[1]).count();
        }
        let statistic: f64 =
            quarters.iter().map(|&count| (f64::from(count) - 200_000.0).powi(2) / 200_000.0).sum();
        assert!(is_even(statistic, 3.0), "{quarters:?}");
        // About 200 * 199 / 2 / MAP_BITS a draw share a bit, less those that are the same.
        let expected = 4000.0 * 19_900.0 * (1.0 / MAP_BITS as f64 - 1.0 / n as f64);
        assert!((shared as f64 - expected).abs() < 6.0 * expected.sqrt(), "{shared} {expected}");
    }
}
