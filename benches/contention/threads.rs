//! Threads that announce to the same swarms at the same time.

use std::cell::Cell;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use annulus_bench::process::{pin_thread, status, thread_cpu_time};
use annulus_bench::swarms::NUMWANT;
use annulus_swarm::{AnnounceBatch, AnnounceRequest, BATCH_MAX, LockObserver, Random, Sample};

use crate::loads::{Load, PEERS};

pub(crate) const THREADS: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Announces of all threads together, with nothing else to do.
pub(crate) const ANNOUNCES: u32 = 1 << 19;

/// What a worker does between two announces, at least: the kernel's part of a request that is kept
/// (`docs/performance.md`).
pub(crate) const OTHER_WORK: Duration = Duration::from_nanos(3000);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// One announce after the other, and nothing else.
    Single,
    /// The same in batches, as a worker does with many requests in hand.
    Batches,
    /// In batches, and other work after each announce.
    Worker,
}

impl Pace {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Pace::Single => "single",
            Pace::Batches => "batches",
            Pace::Worker => "worker",
        }
    }
}

thread_local! {
    static WAITS: Cell<u64> = const { Cell::new(0) };
    /// Whether the locks of this thread are timed.
    static TIMED: Cell<bool> = const { Cell::new(false) };
    static LOCKED: Cell<Option<Instant>> = const { Cell::new(None) };
    static HELD: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static LONGEST: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Counts the waits of each thread, and times what it holds if it asks for that.
#[derive(Debug)]
pub(crate) struct LockTimes;

impl LockObserver for LockTimes {
    fn waits(&self) {
        WAITS.set(WAITS.get() + 1);
    }

    fn locked(&self) {
        if TIMED.get() {
            LOCKED.set(Some(Instant::now()));
        }
    }

    fn unlocks(&self) {
        if let Some(locked) = LOCKED.take() {
            let held = locked.elapsed();
            HELD.set(HELD.get() + held);
            LONGEST.set(LONGEST.get().max(held));
        }
    }
}

/// What was seen of 1,000 announces, and of one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) waits: f64,
    /// Voluntary context switches: waits that lasted.
    pub(crate) sleeps: f64,
    /// Involuntary ones: threads that had to leave their core, perhaps with a lock.
    pub(crate) preempted: f64,
    /// CPU time of an announce.
    pub(crate) cpu_ns: f64,
    /// Elapsed time of all announces, divided by their number.
    pub(crate) elapsed_ns: f64,
    /// For how long an announce held locks, and the longest time; none if it was not timed. The
    /// clock's own time is included.
    pub(crate) held_ns: f64,
    pub(crate) longest_ns: f64,
}

impl Seen {
    fn add(self, other: Seen) -> Seen {
        Seen {
            waits: self.waits + other.waits,
            sleeps: self.sleeps + other.sleeps,
            preempted: self.preempted + other.preempted,
            cpu_ns: self.cpu_ns + other.cpu_ns,
            elapsed_ns: self.elapsed_ns + other.elapsed_ns,
            held_ns: self.held_ns + other.held_ns,
            longest_ns: self.longest_ns.max(other.longest_ns),
        }
    }
}

/// One thread that announces.
pub(crate) struct Announcer<'a> {
    load: &'a Load,
    random: Random,
    sample: Sample,
    batch: AnnounceBatch,
    coming: Vec<AnnounceRequest>,
}

impl Announcer<'_> {
    pub(crate) fn new(load: &Load, seed: u64) -> Announcer<'_> {
        Announcer {
            load,
            random: Random::seeded(seed),
            sample: Sample::with_capacity(NUMWANT),
            batch: AnnounceBatch::new(),
            coming: Vec::with_capacity(BATCH_MAX),
        }
    }

    /// As many announces as a batch has.
    pub(crate) fn announce_batch(&mut self, pace: Pace) {
        self.coming.clear();
        for _ in 0..BATCH_MAX {
            self.coming.push(self.load.announce_of(self.random.below(PEERS), NUMWANT));
        }
        if pace != Pace::Single {
            for coming in &self.coming {
                self.batch.push(coming.info_hash, Some(coming.peer));
            }
            self.load.swarms.prefetch(&mut self.batch);
        }
        for request in &self.coming {
            let swarms = &self.load.swarms;
            let counts = swarms.announce(request, 1, &mut self.random, &mut self.sample);
            let eligible = (counts.complete + counts.incomplete - 1).min(NUMWANT);
            assert!(self.sample.v4().len() as u32 == eligible || request.seeder);
            if pace == Pace::Worker {
                let start = Instant::now();
                while start.elapsed() < OTHER_WORK {}
            }
        }
    }
}

/// `threads` threads that announce, and whether their locks are timed. Elapsed times of more
/// threads than cores mean nothing.
pub(crate) fn announce(load: &Load, pace: Pace, threads: u32, announces: u32, timed: bool) -> Seen {
    let barrier = Barrier::new(threads as usize);
    let work = |number: u32| {
        let mut announcer = Announcer::new(load, number.into());
        if threads <= 2 {
            pin_thread(number).expect("this CPU");
        }
        TIMED.set(timed);
        barrier.wait();
        let (start, before) = (Instant::now(), usage());
        for _ in 0..announces / threads / BATCH_MAX as u32 {
            announcer.announce_batch(pace);
        }
        let after = usage();
        let [cpu, sleeps, preempted] = [0, 1, 2].map(|at| (after[at] - before[at]) as f64);
        let elapsed = start.elapsed().as_nanos() as f64;
        Seen {
            waits: WAITS.get() as f64,
            sleeps,
            preempted,
            cpu_ns: cpu,
            elapsed_ns: elapsed / f64::from(threads),
            held_ns: HELD.get().as_nanos() as f64,
            longest_ns: LONGEST.get().as_nanos() as f64,
        }
    };
    let mut sum = thread::scope(|scope| {
        let work = &work;
        let all: Vec<_> = (0..threads).map(|number| scope.spawn(move || work(number))).collect();
        all.into_iter()
            .map(|one| one.join().expect("no thread panics"))
            .fold(Seen::default(), Seen::add)
    });
    let each = 1.0 / f64::from(announces);
    [&mut sum.cpu_ns, &mut sum.elapsed_ns, &mut sum.held_ns].into_iter().for_each(|ns| *ns *= each);
    [&mut sum.waits, &mut sum.sleeps, &mut sum.preempted]
        .into_iter()
        .for_each(|count| *count *= 1000.0 * each);
    sum
}

/// Nanoseconds of CPU, sleeps and preemptions of this thread.
fn usage() -> [u64; 3] {
    let count = |name| status("thread-self", name).expect("proc(5)");
    [
        thread_cpu_time().as_nanos() as u64,
        count("voluntary_ctxt_switches:"),
        count("nonvoluntary_ctxt_switches:"),
    ]
}
