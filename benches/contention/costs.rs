//! What a lock is held for, and what a cache line costs that another core has written.

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use annulus_bench::process::pin_thread;

use crate::loads::{Load, LoadKind};
use crate::threads::{self, Pace, Seen};

/// Which cache lines an announce of a known peer touches that another core has written since this
/// one had them, whatever the torrent's size.
///
/// | line | written by |
/// |---|---|
/// | the shard's first: lock, pointers | every announce to one of its torrents |
/// | of the torrent or its block of peers: the stamp | every announce of a peer beside it |
///
/// The others are read, and written only when peers or torrents come and go: the index of the
/// shard, the torrent, its index of peers, the addresses. A new peer writes six more: the shard's
/// statistics, the count of all peers, the length, the address, and two of the index of peers.
pub(crate) const LINES: f64 = 2.0;

/// Of these, the one that moves while the lock is held: the other is the lock's.
pub(crate) const LINES_HELD: f64 = 1.0;

/// Round trips of a cache line that are timed.
const ROUND_TRIPS: u32 = 20_000;

/// A number on cache lines of its own.
#[repr(align(128))]
struct LoneLine(AtomicU32);

/// Rounds of each measurement of a time: the best one counts, since noise only ever adds.
const ROUNDS: usize = 15;

/// Announces of a round.
const ANNOUNCES: u32 = 1 << 14;

/// How long it takes until a core sees what another one has written.
pub(crate) fn transfer_ns() -> f64 {
    (0..ROUNDS).map(|_| ping_pong_ns()).fold(f64::INFINITY, f64::min)
}

fn ping_pong_ns() -> f64 {
    let line = LoneLine(AtomicU32::new(0));
    let play = |cpu: u32| {
        pin_thread(cpu).expect("this CPU");
        let start = Instant::now();
        for turn in 0..ROUND_TRIPS {
            while line.0.load(Ordering::Acquire) != 2 * turn + cpu {}
            line.0.store(2 * turn + cpu + 1, Ordering::Release);
        }
        start.elapsed().as_nanos() as f64 / f64::from(2 * ROUND_TRIPS)
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| play(1));
        let own = scope.spawn(|| play(0)).join().expect("no thread panics");
        own.min(other.join().expect("no thread panics"))
    })
}

/// The time of a clock's reading, which is part of every hold that is timed.
fn clock_ns() -> f64 {
    let readings = 10_000;
    let round = |_| {
        let start = Instant::now();
        (0..readings).for_each(|_| {
            black_box(Instant::now());
        });
        start.elapsed().as_nanos() as f64 / f64::from(readings)
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}

/// The round that took the least time. Its waits are those of all rounds on average.
fn best(load: &Load, pace: Pace, threads: u32, timed: bool) -> Seen {
    let rounds: Vec<Seen> =
        (0..ROUNDS).map(|_| threads::announce(load, pace, threads, ANNOUNCES, timed)).collect();
    let waits = rounds.iter().map(|seen| seen.waits).sum::<f64>() / ROUNDS as f64;
    let best = rounds.into_iter().min_by(|a, b| a.elapsed_ns.total_cmp(&b.elapsed_ns));
    Seen { waits, ..best.unwrap_or_default() }
}

/// What announces of one load cost, on one core and on both.
pub(crate) struct Costs {
    pub(crate) kind: LoadKind,
    /// What part of the announces each torrent has.
    pub(crate) shares: Vec<f64>,
    /// One by one, by one thread and by two.
    pub(crate) single: [Seen; 2],
    /// As a worker does, by one thread and by two.
    pub(crate) worker: [Seen; 2],
    /// The time for which an announce holds a lock, by one thread and by two.
    pub(crate) held_ns: [f64; 2],
    longest_ns: f64,
}

impl Costs {
    pub(crate) fn measure(load: &Load) -> Costs {
        let seen = |pace, timed| [1, 2].map(|threads| best(load, pace, threads, timed));
        let (timed, clock_ns) = (seen(Pace::Single, true), clock_ns());
        Costs {
            kind: load.kind,
            shares: load.shares(),
            single: seen(Pace::Single, false),
            worker: seen(Pace::Worker, false),
            held_ns: timed.map(|seen| seen.held_ns - clock_ns),
            longest_ns: timed[1].longest_ns,
        }
    }

    /// For how long an announce holds a lock if `cores` announce: one line more comes from another
    /// core the more there are.
    pub(crate) fn held_at(&self, cores: u32, transfer_ns: f64) -> f64 {
        let others = f64::from(cores - 1) / f64::from(cores);
        self.held_ns[0] + LINES_HELD * transfer_ns * others
    }

    pub(crate) fn print(&self, transfer_ns: f64) {
        let [one, two] = self.held_ns;
        println!(
            "{}: an announce takes {:.0} ns on one core, {:.0} on two; it holds a lock for \
             {one:.0} and {two:.0} ns (calculated: {:.0}), at most {:.1} us",
            self.kind.name(),
            self.single[0].cpu_ns,
            self.single[1].cpu_ns,
            self.held_at(2, transfer_ns),
            self.longest_ns / 1000.0,
        );
    }
}
