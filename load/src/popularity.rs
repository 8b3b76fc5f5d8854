//! How likely each torrent is, and choosing by it.

use super::options::{Options, Popularity};
use crate::random::Random;

/// Chooses torrents by their rank, 0 the most popular.
pub(super) enum Ranks {
    /// Sums of the weights up to each rank.
    Sums(Vec<f64>),
    /// See [`Popularity::Gamma`].
    Gamma { shape: f64, scale: f64, torrents: u32 },
    /// All alike.
    Even { torrents: u32 },
}

impl Ranks {
    /// For so many torrents, as the options say.
    pub(super) fn new(options: &Options, torrents: u32) -> Ranks {
        match options.popularity {
            Popularity::Zipf => {
                let mut sum = 0.0;
                let weights =
                    (1..=torrents).map(|rank| f64::from(rank).powf(-options.zipf_exponent));
                let sums = weights.map(|weight| {
                    sum += weight;
                    sum
                });
                Ranks::Sums(sums.collect())
            }
            Popularity::Gamma => {
                let (shape, scale) = (options.gamma_shape, options.gamma_scale);
                Ranks::Gamma { shape, scale, torrents }
            }
            Popularity::Even => Ranks::Even { torrents },
        }
    }

    /// One rank.
    pub(super) fn draw(&self, random: &mut Random) -> u32 {
        match self {
            Ranks::Sums(sums) => {
                let wanted = unit(random) * sums.last().copied().unwrap_or(0.0);
                let at = sums.partition_point(|sum| *sum <= wanted);
                at.min(sums.len().saturating_sub(1)) as u32
            }
            Ranks::Gamma { shape, scale, torrents } => {
                // What aquatic_http_load_test makes of a sample: at most 101, less 1, in
                // hundredths of all torrents.
                let part = (gamma(*shape, random) * scale).clamp(1.0, 101.0) - 1.0;
                let rank = part / 100.0 * f64::from(*torrents);
                (rank as u32).min(torrents - 1)
            }
            Ranks::Even { torrents } => random.below(*torrents),
        }
    }
}

/// A number from 0 up to, but not, 1.
pub(super) fn unit(random: &mut Random) -> f64 {
    (random.bits() >> 11) as f64 / (1_u64 << 53) as f64
}

/// A sample of the gamma distribution of scale 1 (Marsaglia and Tsang, "A simple method for
/// generating gamma variables", 2000).
fn gamma(shape: f64, random: &mut Random) -> f64 {
    if shape < 1.0 {
        let boost = (1.0 - unit(random)).powf(1.0 / shape);
        return gamma(shape + 1.0, random) * boost;
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(random);
        let v = (1.0 + c * x).powi(3);
        let log = (1.0 - unit(random)).ln();
        if v > 0.0 && log < 0.5 * x * x + d * (1.0 - v + v.ln()) {
            return d * v;
        }
    }
}

/// A sample of the normal distribution (Box and Muller, 1958).
fn normal(random: &mut Random) -> f64 {
    let radius = (-2.0 * (1.0 - unit(random)).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit(random)).cos()
}

#[cfg(test)]
mod tests {
    use super::{Ranks, gamma};
    use crate::options::{Options, Popularity};
    use crate::random::Random;

    fn counts(options: &Options, torrents: u32, draws: u32) -> Vec<u32> {
        let ranks = Ranks::new(options, torrents);
        let mut random = Random::seeded(1);
        let mut counts = vec![0; torrents as usize];
        for _ in 0..draws {
            counts[ranks.draw(&mut random) as usize] += 1;
        }
        counts
    }

    #[test]
    fn zipf_gives_each_rank_its_share() {
        let counts = counts(&Options::default(), 100, 100_000);
        // The harmonic number of 100 is 5.187.
        for (rank, expected) in [(0, 19_278), (1, 9_639), (9, 1_928), (99, 193)] {
            let deviation = f64::from(counts[rank]) - f64::from(expected);
            assert!(deviation.abs() < 6.0 * f64::from(expected).sqrt(), "{rank}: {}", counts[rank]);
        }
    }

    #[test]
    fn even_is_even_and_reaches_all() {
        let options = Options { popularity: Popularity::Even, ..Options::default() };
        let counts = counts(&options, 50, 50_000);
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }

    #[test]
    fn gamma_has_its_mean_and_variance() {
        for shape in [0.2, 1.0, 3.5] {
            let mut random = Random::seeded(7);
            let samples: Vec<f64> = (0..200_000).map(|_| gamma(shape, &mut random)).collect();
            let mean = samples.iter().sum::<f64>() / 200_000.0;
            let variance =
                samples.iter().map(|sample| (sample - mean).powi(2)).sum::<f64>() / 200_000.0;
            assert!((mean / shape - 1.0).abs() < 0.05, "{shape}: mean {mean}");
            assert!((variance / shape - 1.0).abs() < 0.1, "{shape}: variance {variance}");
        }
    }

    #[test]
    fn gamma_has_a_head_and_a_tail() {
        let options = Options { popularity: Popularity::Gamma, ..Options::default() };
        let counts = counts(&options, 1000, 100_000);
        // Samples below 1 and their like: by far most of shape 0.2 and scale 100.
        assert!(counts[0] > 30_000 && counts[0] > 10 * counts[1], "{}", counts[0]);
        assert!(counts[500..].iter().sum::<u32>() > 1000);
    }
}
