//! The queue of buffered bytes, against a `Vec`.

use annulus::buffered::{BufferedBytes, allocated_max};
use annulus_swarm::Random;

#[test]
fn is_a_queue_of_bytes_and_takes_little_more_than_they_are() {
    for seed in 0..200 {
        let mut random = Random::seeded(seed);
        let (mut buffered, mut model) = (BufferedBytes::default(), Vec::new());
        for _ in 0..300 {
            let most = [1, 10, 1000, 10_000][random.below(4) as usize];
            if random.below(2) == 0 {
                let added: Vec<u8> =
                    (0..random.below(most)).map(|_| random.below(256) as u8).collect();
                buffered.extend(&added);
                model.extend(added);
            } else {
                let count = (random.below(most) as usize).min(model.len());
                buffered.consume(count);
                model.drain(..count);
            }
            assert_eq!(buffered.as_slice(), model, "seed {seed}");
            assert_eq!(buffered.as_mut_slice(), model, "seed {seed}");
            assert_eq!(buffered.len(), model.len(), "seed {seed}");
            assert_eq!(buffered.is_empty(), model.is_empty(), "seed {seed}");
            let (allocated, len) = (buffered.allocated(), model.len());
            assert!(allocated >= len, "seed {seed}");
            assert!(allocated <= allocated_max(len), "seed {seed}: {allocated} for {len}");
            assert!(allocated == 0 || len > 0, "seed {seed}: {allocated} for none");
        }
    }
}

#[test]
fn bytes_that_come_one_by_one_are_moved_seldom() {
    let (mut buffered, mut moves) = (BufferedBytes::default(), 0);
    for _ in 0..100_000 {
        let before = buffered.allocated();
        buffered.extend(&[0]);
        moves += u32::from(buffered.allocated() != before);
    }
    assert!(moves < 100, "moved {moves} times");
}

#[test]
fn one_piece_takes_what_it_is() {
    let mut buffered = BufferedBytes::default();
    buffered.extend(&[7; 5000]);
    assert_eq!(buffered.allocated(), 5000);
    buffered.consume(4999);
    assert_eq!((buffered.as_slice(), buffered.allocated()), (&[7][..], 1));
}
