//! What an announce costs of a core, in large swarms and in small ones.

use std::sync::Arc;

use annulus_bench::process::thread_cpu_time;
use annulus_bench::stats;
use annulus_swarm::{AnnounceBatch, AnnounceRequest, BATCH_MAX, Random, Sample, Swarms};

use crate::population::{Announcer, NUMWANT, Population};

const ROUNDS: usize = 7;

/// Announces of a measurement, each of a random client.
const ANNOUNCES: u32 = 200_000;

/// What is measured, alone and in batches.
const NAMES: [&str; 4] = [
    "in the swarms, alone",
    "in the swarms, in batches of 32",
    "whole by UDP without the kernel, alone",
    "the same in batches of 32",
];

/// Prints a table; the first of `all` is what the second is compared with.
pub(crate) fn print(all: [(&Arc<Swarms>, &Population); 2]) {
    let mut figures: [[Vec<f64>; 2]; 4] = Default::default();
    let mut random = Random::seeded(3);
    for _ in 0..ROUNDS {
        for (size, (swarms, population)) in all.iter().enumerate() {
            let measured = measure(swarms, population, &mut random);
            for (row, nanos) in figures.iter_mut().zip(measured) {
                row[size].push(nanos);
            }
        }
    }
    let rows = NAMES.iter().zip(&figures).map(|(name, [small, large])| {
        let ratios = large.iter().zip(small).map(|(large, small)| large / small);
        let [small, large] = [small, large].map(|it| stats::spread(it.iter().copied(), 0));
        vec![(*name).to_owned(), small, large, stats::spread(ratios, 2)]
    });
    let [small, large] = all.map(|(_, it)| format!("{} torrents, ns", it.torrents));
    println!("\n### CPU of an announce, 50 peers wanted, thread's CPU time\n");
    println!("{}", stats::table(&["announce", &small, &large, "ratio"], rows));
}

fn measure(swarms: &Arc<Swarms>, population: &Population, random: &mut Random) -> [f64; 4] {
    let mut clients =
        || -> Vec<u32> { (0..ANNOUNCES).map(|_| random.below(population.peers)).collect() };
    let requests = |clients: Vec<u32>| -> Vec<_> {
        clients.iter().map(|it| population.request(*it)).collect()
    };
    let [alone, together] = [requests(clients()), requests(clients())];
    let mut announcer = Announcer::new(swarms, 5, None);
    let mut by_udp = |batch: usize| {
        announcer.expect(population, clients().into_iter(), NUMWANT, 1);
        time(|| announcer.answer(batch))
    };
    [
        time(|| announce(swarms, &alone, 1)),
        time(|| announce(swarms, &together, BATCH_MAX)),
        by_udp(1),
        by_udp(BATCH_MAX),
    ]
}

fn announce(swarms: &Swarms, requests: &[AnnounceRequest], batch: usize) {
    let (mut random, mut sample) = (Random::seeded(4), Sample::with_capacity(NUMWANT));
    let mut coming = AnnounceBatch::new();
    for requests in requests.chunks(batch) {
        if batch > 1 {
            requests.iter().for_each(|it| coming.push(it.info_hash, Some(it.peer)));
            swarms.prefetch(&mut coming);
        }
        for request in requests {
            let counts = swarms.announce(request, 1, &mut random, &mut sample);
            assert!(counts.complete + counts.incomplete > 0);
        }
    }
}

/// Nanoseconds of this thread's CPU time for an announce.
fn time(work: impl FnOnce()) -> f64 {
    let began = thread_cpu_time();
    work();
    (thread_cpu_time() - began).as_nanos() as f64 / f64::from(ANNOUNCES)
}
