//! How long turns of a worker last, and how long the machine alone makes a thread wait.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::process::{lower_priority, pin_thread};

/// How long the idle thread runs before it looks at the clock: about as long as a turn.
const IDLE_TURN: Duration = Duration::from_micros(100);

/// How long turns took.
pub struct Turns {
    /// How many took so many microseconds; the last are those that took longer. In place, because
    /// memory may be measured meanwhile.
    micros: Vec<u32>,
    pub longest: Duration,
}

impl Turns {
    fn new() -> Turns {
        Turns { micros: vec![0; 100_000], longest: Duration::ZERO }
    }

    fn add(&mut self, took: Duration) {
        let last = self.micros.len() - 1;
        self.micros[last.min(took.as_micros() as usize)] += 1;
        self.longest = self.longest.max(took);
    }

    pub fn count(&self) -> u32 {
        self.micros.iter().sum()
    }

    pub fn over_a_millisecond(&self) -> u32 {
        self.micros[1000..].iter().sum()
    }

    /// The microseconds that this share of the turns did not exceed.
    pub fn quantile_us(&self, share: f64) -> usize {
        let mut left = (f64::from(self.count()) * share) as u32;
        let found = self.micros.iter().position(|&turns| {
            let is_here = left < turns;
            left = left.saturating_sub(turns);
            is_here
        });
        found.unwrap_or(0)
    }

    fn print(&self, name: &str) {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| self.quantile_us(share));
        println!(
            "  {name}: {} turns, p50 {p50} us, p99 {p99} us, p99.9 {p999} us, longest {} us, {} \
             over 1 ms",
            self.count(),
            self.longest.as_micros(),
            self.over_a_millisecond()
        );
    }
}

/// The same turns as they were, and without the time in which another thread had the core.
pub struct TurnTimes {
    pub as_they_were: Turns,
    pub with_a_core: Turns,
}

impl TurnTimes {
    pub fn print(&self, name: &str) {
        self.as_they_were.print(&format!("{name}, as they were"));
        self.with_a_core.print(&format!("{name}, without waits for a core"));
    }
}

/// Times turns of the thread that made it.
pub struct TurnTimer {
    schedule: File,
    times: TurnTimes,
}

impl TurnTimer {
    /// # Errors
    /// The kernel keeps no statistics of its scheduler.
    pub fn new() -> io::Result<TurnTimer> {
        let times = TurnTimes { as_they_were: Turns::new(), with_a_core: Turns::new() };
        Ok(TurnTimer { schedule: File::open("/proc/thread-self/schedstat")?, times })
    }

    pub fn time(&mut self, turn: impl FnOnce()) {
        let waited = waited(&self.schedule);
        let began = Instant::now();
        turn();
        let took = began.elapsed();
        self.times.as_they_were.add(took);
        let waited = self::waited(&self.schedule) - waited;
        self.times.with_a_core.add(took.saturating_sub(waited));
    }

    pub fn times(self) -> TurnTimes {
        self.times
    }
}

/// How long a thread could have run and another had its core, by its schedstat
/// (Documentation/scheduler/sched-stats.rst).
fn waited(schedule: &File) -> Duration {
    let mut line = [0; 80];
    let read = schedule.read_at(&mut line, 0).expect("proc(5)");
    let numbers = String::from_utf8_lossy(&line[..read]);
    let waited = numbers.split_whitespace().nth(1).and_then(|number| number.parse().ok());
    Duration::from_nanos(waited.expect("the second number"))
}

/// A thread of the lowest priority on a CPU that does nothing but read the clock: what its turns
/// last longer than a tenth of a millisecond is the machine's doing.
pub struct IdleThread {
    done: Arc<AtomicBool>,
    thread: JoinHandle<TurnTimes>,
}

impl IdleThread {
    /// # Errors
    /// There is no such CPU, or no statistics of the scheduler.
    pub fn start(cpu: u32) -> io::Result<IdleThread> {
        let done = Arc::<AtomicBool>::default();
        let is_done = Arc::clone(&done);
        let work = move || {
            pin_thread(cpu).expect("the CPU is there");
            lower_priority();
            let mut timer = TurnTimer::new().expect("schedstat");
            while !is_done.load(Ordering::Relaxed) {
                timer.time(|| {
                    let began = Instant::now();
                    while began.elapsed() < IDLE_TURN {}
                });
            }
            timer.times()
        };
        Ok(IdleThread { done, thread: thread::Builder::new().spawn(work)? })
    }

    pub fn stop(self) -> TurnTimes {
        self.done.store(true, Ordering::Relaxed);
        self.thread.join().expect("it does not panic")
    }
}
