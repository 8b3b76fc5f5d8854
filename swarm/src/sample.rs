//! The peers that an answer names: all of them, or a uniform random sample without replacement.

use std::ops::Range;

use super::peer_store::PeerStore;
use super::peers::Peers;
use super::{CapacityError, CompactAddr, Random, Replaced};

/// The peers of one answer, and the buffers to choose them with. Each worker has one; an announce
/// clears and fills it and allocates nothing.
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
    /// At most `max` peers an answer, whatever an announce asks for.
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

    /// The peers of both families, for a caller that rewrites addresses.
    pub fn peers_mut(&mut self) -> (&mut Vec<[u8; 6]>, &mut Vec<[u8; 18]>) {
        (&mut self.v4, &mut self.v6)
    }

    /// Why the announcing peer, which is new, is not stored.
    pub fn capacity_error(&self) -> Option<CapacityError> {
        self.capacity_error
    }

    /// What was removed to store the announcing peer.
    pub fn replaced(&self) -> Option<Replaced> {
        self.replaced
    }

    pub(super) fn clear(&mut self) {
        self.v4.clear();
        self.v6.clear();
        self.capacity_error = None;
        self.replaced = None;
    }

    pub(super) fn set_capacity_error(&mut self, error: CapacityError) {
        self.capacity_error = Some(error);
    }

    pub(super) fn set_replaced(&mut self, replaced: Replaced) {
        self.replaced = Some(replaced);
    }

    /// Fills the sample with up to `numwant` of the peers that are useful to the announcer.
    pub(super) fn fill(&mut self, request: &SampleRequest<'_>, random: &mut Random) {
        self.clear();
        let SampleRequest { peers, announcer_row, leechers_only, own_family_only, .. } = *request;
        let numwant = request.numwant.min(self.max) as usize;
        let (row_v4, row_v6) = match request.announcer {
            CompactAddr::V4(_) => (announcer_row, None),
            CompactAddr::V6(_) => (None, announcer_row),
        };
        let (wants_v4, wants_v6) = match request.announcer {
            CompactAddr::V4(_) => (true, !own_family_only),
            CompactAddr::V6(_) => (!own_family_only, true),
        };
        let v4 = peers.v4().filter(|_| wants_v4);
        let v6 = peers.v6().filter(|_| wants_v6);
        let v4 = v4.map(|rows| Eligible::new(rows, row_v4, leechers_only));
        let v6 = v6.map(|rows| Eligible::new(rows, row_v6, leechers_only));
        let eligible_v4 = v4.as_ref().map_or(0, Eligible::len);
        let eligible_v6 = v6.as_ref().map_or(0, Eligible::len);
        let (count_v4, count_v6) = match request.announcer {
            CompactAddr::V4(_) => shares(numwant, eligible_v4, eligible_v6),
            CompactAddr::V6(_) => {
                let (own, other) = shares(numwant, eligible_v6, eligible_v4);
                (other, own)
            }
        };
        if let Some(eligible) = v4 {
            eligible.draw(count_v4, random, &mut self.sampler, &mut self.v4);
        }
        if let Some(eligible) = v6 {
            eligible.draw(count_v6, random, &mut self.sampler, &mut self.v6);
        }
    }
}

/// Which peers a [`Sample`] is to be drawn from.
pub(super) struct SampleRequest<'a> {
    pub(super) peers: &'a Peers,
    pub(super) announcer: &'a CompactAddr,
    /// The announcer's row among the peers of its family, if it is stored.
    pub(super) announcer_row: Option<usize>,
    /// The announcer is a seeder, to which other seeders are of no use.
    pub(super) leechers_only: bool,
    /// Peers of the other family are of no use.
    pub(super) own_family_only: bool,
    pub(super) numwant: u32,
}

/// How many of `own` and `other` eligible peers an answer of `numwant` peers names. The announcer's
/// own family goes first, because it can certainly reach those. The other family gets a quarter all
/// the same, or the swarm would split into two that do not know each other.
fn shares(numwant: usize, own: usize, other: usize) -> (usize, usize) {
    if own + other <= numwant {
        return (own, other);
    }
    let of_other = other.min((numwant / 4).max(numwant - own.min(numwant)));
    (own.min(numwant - of_other), of_other)
}

/// The rows of one family that an answer may name: a range, except the announcer's own row.
struct Eligible<'a, const N: usize> {
    rows: &'a dyn PeerStore<N>,
    range: Range<usize>,
    except: Option<usize>,
}

impl<'a, const N: usize> Eligible<'a, N> {
    fn new(rows: &'a dyn PeerStore<N>, own_row: Option<usize>, leechers_only: bool) -> Self {
        let range = if leechers_only { rows.seeders()..rows.len() } else { 0..rows.len() };
        let except = own_row.filter(|row| range.contains(row));
        Eligible { rows, range, except }
    }

    fn len(&self) -> usize {
        self.range.len() - usize::from(self.except.is_some())
    }

    /// Appends `count` of them; every set of that size is equally likely.
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
            // The last row, which is not drawn itself, stands in for the excepted one.
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

/// Bits of the map of drawn numbers, 2 KiB: it is exact for numbers below this, and a large swarm
/// clears all of it.
const MAP_BITS: usize = 1 << 14;

const WORD_BITS: usize = u64::BITS as usize;

/// Draws distinct random numbers.
#[derive(Debug)]
struct IndexSampler {
    chosen: Vec<u32>,
    /// One bit for each chosen number, modulo [`MAP_BITS`].
    map: Box<[u64; MAP_BITS / WORD_BITS]>,
}

impl IndexSampler {
    fn with_capacity(max: usize) -> IndexSampler {
        let chosen = Vec::with_capacity(2 * max);
        IndexSampler { chosen, map: Box::new([0; MAP_BITS / WORD_BITS]) }
    }

    /// `count` distinct numbers below `n`, in random order; `count` is less than `n` and at most
    /// the capacity. Every ordered choice is equally likely.
    ///
    /// If `count` is more than half of `n`, all numbers are shuffled as far as needed (Fisher and
    /// Yates); otherwise numbers are drawn until enough are distinct: less than half are repeats.
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

    /// For an `n` within the map. There is no branch on whether a number is new, which no processor
    /// can predict: a repeated number is overwritten by the next.
    fn draw_mapped(&mut self, count: usize, n: u32, random: &mut Random) {
        self.map[..(n as usize).div_ceil(WORD_BITS)].fill(0);
        self.chosen.resize(count, 0);
        let mut distinct = 0;
        while let Some(slot) = self.chosen.get_mut(distinct) {
            let pick = random.below(n);
            *slot = pick;
            distinct += usize::from(set_bit(&mut self.map, pick));
        }
    }

    /// For a larger `n`, of which two numbers may share a bit: then the chosen ones are searched.
    fn draw_filtered(&mut self, count: usize, n: u32, random: &mut Random) {
        self.map.fill(0);
        while self.chosen.len() < count {
            let pick = random.below(n);
            if set_bit(&mut self.map, pick) || !self.chosen.contains(&pick) {
                self.chosen.push(pick);
            }
        }
    }
}

/// Sets the bit of a number; returns whether it was clear.
fn set_bit(map: &mut [u64; MAP_BITS / WORD_BITS], number: u32) -> bool {
    let bit = number as usize % MAP_BITS;
    let (word, mask) = (&mut map[bit / WORD_BITS], 1 << (bit % WORD_BITS));
    let was_clear = *word & mask == 0;
    *word |= mask;
    was_clear
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a chi-square statistic fits a uniform distribution. A correct sampler fails with one
    /// in a billion seeds, and the seeds are fixed.
    fn is_uniform(statistic: f64, freedom: f64) -> bool {
        (statistic - freedom).abs() < 6.0 * (2.0 * freedom).sqrt() + 6.0
    }

    #[test]
    fn shares_add_up_and_waste_no_place() {
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
    fn drawn_numbers_are_distinct_and_as_many_as_asked_for() {
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

    /// Numbers that share a bit of the map are drawn as often as others.
    #[test]
    fn drawn_numbers_are_uniform_beyond_the_map() {
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
        assert!(is_uniform(statistic, 3.0), "{quarters:?}");
        // About 200 * 199 / 2 / MAP_BITS a draw share a bit, less those that are the same.
        let expected = 4000.0 * 19_900.0 * (1.0 / MAP_BITS as f64 - 1.0 / n as f64);
        assert!((shared as f64 - expected).abs() < 6.0 * expected.sqrt(), "{shared} {expected}");
    }
}
