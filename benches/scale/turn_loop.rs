//! A worker on a real ring whose turns have announces besides, and how long these turns last.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use annulus::cluster::WorkerOutbox;
use annulus_bench::process::pin_thread;
use annulus_bench::turns::{IdleThread, TurnTimer, TurnTimes, Turns};
use annulus_ring::{Listener, Waker};
use annulus_swarm::{BATCH_MAX, Random, Swarms};
use anyhow::{Result, anyhow};

use crate::population::{Announcer, NUMWANT, Population};
use crate::worker::worker;

/// What a worker does.
pub(crate) struct TurnLoop<'a> {
    pub(crate) swarms: &'a Arc<Swarms>,
    pub(crate) population: &'a Population,
    /// How many clients announce: the first ones.
    pub(crate) clients: u32,
    /// The second, since the start.
    pub(crate) now_s: &'a (dyn Fn() -> u32 + Sync),
    pub(crate) listeners: Vec<Listener>,
    /// Where records for the other nodes go.
    pub(crate) outbox: Option<WorkerOutbox>,
    /// Between two turns.
    pub(crate) pause: Duration,
}

impl TurnLoop<'_> {
    /// Turns on a CPU as long as `go_on`, which is asked now and then, beside a thread that does
    /// nothing on CPU `idle_cpu`. Returns lines of the table, without their first cell.
    pub(crate) fn run(
        self,
        (cpu, idle_cpu): (u32, u32),
        go_on: impl FnMut() -> bool + Send,
    ) -> Result<[Vec<String>; 2]> {
        let idle = IdleThread::start(idle_cpu)?;
        let work = move || {
            pin_thread(cpu)?;
            self.turn_while(go_on)
        };
        let turned = thread::scope(|scope| scope.spawn(work).join());
        let idle = idle.stop();
        let times = turned.map_err(|_| anyhow!("the worker has panicked"))??;
        Ok([line("worker", &times), line("idle thread", &idle)])
    }

    fn turn_while(self, mut go_on: impl FnMut() -> bool) -> Result<TurnTimes> {
        let waker = Waker::new()?;
        let mut worker = worker(self.swarms, waker.clone(), self.listeners);
        let mut announcer = Announcer::new(self.swarms, 9, self.outbox);
        let mut random = Random::seeded(9);
        let mut timer = TurnTimer::new()?;
        for number in 0_u64.. {
            let is_asked = number.is_multiple_of(64) || !self.pause.is_zero();
            if is_asked && !go_on() {
                break;
            }
            if !self.pause.is_zero() {
                thread::sleep(self.pause);
            }
            let now_s = (self.now_s)();
            let clients = (0..BATCH_MAX).map(|_| random.below(self.clients));
            announcer.expect(self.population, clients, NUMWANT, now_s);
            waker.wake();
            worker.wait()?;
            timer.time(|| {
                worker.act(now_s);
                announcer.answer(BATCH_MAX);
                announcer.hand_over_records();
            });
        }
        Ok(timer.times())
    }
}

/// The titles of the table.
pub(crate) const TITLES: [&str; 10] = [
    "while",
    "thread",
    "turns",
    "p50, µs",
    "p99, µs",
    "p99.9, µs",
    "longest, µs",
    "over 1 ms",
    "longest with a core, µs",
    "over 1 ms with a core",
];

fn line(thread: &str, times: &TurnTimes) -> Vec<String> {
    let TurnTimes { as_they_were, with_a_core } = times;
    let mut cells = vec![thread.to_owned(), as_they_were.count().to_string()];
    cells.extend([0.5, 0.99, 0.999].map(|share| as_they_were.quantile_us(share).to_string()));
    let longest = |turns: &Turns| turns.longest.as_micros().to_string();
    let long = |turns: &Turns| turns.over_a_millisecond().to_string();
    cells.extend([longest(as_they_were), long(as_they_were)]);
    cells.extend([longest(with_a_core), long(with_a_core)]);
    cells
}
