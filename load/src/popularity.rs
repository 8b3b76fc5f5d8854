//! Picks torrents by their popularity.

use crate::options::{LoadOptions, Popularity};
use crate::random::SeededRandom;

/// Picks the rank of a torrent, 0 the most popular.
pub(crate) enum TorrentPicker {
    /// For each rank the sum of the weights up to it.
    Weights(Vec<f64>),
    Gamma {
        shape: f64,
        scale: f64,
        torrents: u32,
    },
    Even {
        torrents: u32,
    },
}

impl TorrentPicker {
    pub(crate) fn new(options: &LoadOptions, torrents: u32) -> TorrentPicker {
        match options.popularity {
            Popularity::Zipf => {
                let weight = |rank: u32| f64::from(rank).powf(-options.zipf_exponent);
                let sums = (1..=torrents).scan(0.0, |sum, rank| {
                    *sum += weight(rank);
                    Some(*sum)
                });
                TorrentPicker::Weights(sums.collect())
            }
            Popularity::Gamma => {
                let (shape, scale) = (options.gamma_shape, options.gamma_scale);
                TorrentPicker::Gamma { shape, scale, torrents }
            }
            Popularity::Even => TorrentPicker::Even { torrents },
        }
    }

    pub(crate) fn pick(&self, random: &mut SeededRandom) -> u32 {
        match self {
            TorrentPicker::Weights(sums) => {
                let target = random.unit() * sums.last().copied().unwrap_or(0.0);
                let at = sums.partition_point(|sum| *sum <= target);
                at.min(sums.len().saturating_sub(1)) as u32
            }
            TorrentPicker::Gamma { shape, scale, torrents } => {
                // As in aquatic_http_load_test: a sample of 1 to 101, less 1, is a percentage of
                // all torrents.
                let percent = (gamma(*shape, random) * scale).clamp(1.0, 101.0) - 1.0;
                let rank = percent / 100.0 * f64::from(*torrents);
                (rank as u32).min(torrents - 1)
            }
            TorrentPicker::Even { torrents } => random.below(*torrents),
        }
    }
}

/// A sample of the gamma distribution of scale 1 (Marsaglia and Tsang, "A simple method for
/// generating gamma variables", 2000).
fn gamma(shape: f64, random: &mut SeededRandom) -> f64 {
    if shape < 1.0 {
        let boost = (1.0 - random.unit()).powf(1.0 / shape);
        return gamma(shape + 1.0, random) * boost;
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(random);
        let v = (1.0 + c * x).powi(3);
        let log = (1.0 - random.unit()).ln();
        if v > 0.0 && log < 0.5 * x * x + d * (1.0 - v + v.ln()) {
            return d * v;
        }
    }
}

/// A sample of the normal distribution (Box and Muller, 1958).
fn normal(random: &mut SeededRandom) -> f64 {
    let radius = (-2.0 * (1.0 - random.unit()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.unit()).cos()
}

#[cfg(test)]
mod tests {
    use super::{TorrentPicker, gamma};
    use crate::options::{LoadOptions, Popularity};
    use crate::random::SeededRandom;

    fn counts(popularity: Popularity, torrents: u32, picks: u32) -> Vec<u32> {
        let options = LoadOptions { popularity, ..LoadOptions::default() };
        let picker = TorrentPicker::new(&options, torrents);
        let mut random = SeededRandom::new(1);
        let mut counts = vec![0; torrents as usize];
        for _ in 0..picks {
            counts[picker.pick(&mut random) as usize] += 1;
        }
        counts
    }

    #[test]
    fn zipf_gives_each_rank_its_share() {
        let counts = counts(Popularity::Zipf, 100, 100_000);
        // The harmonic number of 100 is 5.187.
        for (rank, expected) in [(0, 19_278), (1, 9_639), (9, 1_928), (99, 193)] {
            let deviation = f64::from(counts[rank]) - f64::from(expected);
            assert!(deviation.abs() < 6.0 * f64::from(expected).sqrt(), "{rank}: {}", counts[rank]);
        }
    }

    #[test]
    fn gamma_has_its_mean_variance_and_tail() {
        for shape in [0.2, 1.0, 3.5] {
            let mut random = SeededRandom::new(7);
            let samples: Vec<f64> = (0..200_000).map(|_| gamma(shape, &mut random)).collect();
            let mean = samples.iter().sum::<f64>() / 200_000.0;
            let squares = samples.iter().map(|sample| (sample - mean).powi(2));
            let variance = squares.sum::<f64>() / 200_000.0;
            assert!((mean / shape - 1.0).abs() < 0.05, "{shape}: mean {mean}");
            assert!((variance / shape - 1.0).abs() < 0.1, "{shape}: variance {variance}");
        }
        let counts = counts(Popularity::Gamma, 1000, 100_000);
        // Most samples of shape 0.2 and scale 100 are below 1.
        assert!(counts[0] > 30_000 && counts[0] > 10 * counts[1], "{}", counts[0]);
        assert!(counts[500..].iter().sum::<u32>() > 1000);
    }
}
