//! What the state on disk costs at ten million peers.
//!
//! `cargo bench --bench state`. A real worker on a real ring, whose turns also have announces, in
//! memory; a thread for each other core that does nothing but announce; and the thread that writes
//! the state in the background. Turns are timed from the ring's wake-up to its next wait, without
//! the writer and with it. The machine may have other work: a turn is given as it was, and without
//! the time in which the worker could have run and another thread had its core. Then the file is
//! written at full speed, as at a stop, and read by all cores. Nothing is asserted of times.
#![allow(clippy::disallowed_methods, reason = "it measures times")]

mod worker;

use std::env;
use std::fs;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use annulus::clock::Clock;
use annulus::os::StateDirectory;
use annulus::state::{StateLoader, StateReport, StateSaver, StateSaverParts, write_swarms};
use annulus_bench::process::status;
use annulus_bench::turns::{TurnTimer, TurnTimes};
use annulus_bench::{init, scratch};
use annulus_ring::{Waker, start_memory_thread};
use annulus_swarm::{
    AnnounceRequest, CompactAddr, PeerEvent, Random, Sample, SwarmConfig, Swarms, Totals,
};
use rustix::time::{ClockId, clock_gettime};
use worker::worker;

const PEERS: u32 = 10_000_000;

/// Announces in a turn, and peers in each of their answers.
const ANNOUNCES: usize = 32;
const NUMWANT: u32 = 50;

/// How long turns are timed without the writer.
const ALONE: Duration = Duration::from_secs(10);
const GIVE_UP: Duration = Duration::from_secs(300);

/// The name of the thread that writes.
const WRITER: &str = "state";

fn main() {
    if !env::args().any(|argument| argument == "--bench") {
        println!("usage: cargo bench --bench state");
        return;
    }
    init!();
    // As the tracker does.
    start_memory_thread().expect("a thread");
    sizes();
    run("10 million IPv4 peers over 1 million torrents", &Mix { torrents: 1_000_000, v6_every: 0 });
    run(
        "10 million peers, a tenth of them IPv6, over 1 million torrents",
        &Mix { torrents: 1_000_000, v6_every: 10 },
    );
    run("10 million IPv4 peers in one torrent", &Mix { torrents: 1, v6_every: 0 });
}

/// How the peers are spread.
struct Mix {
    torrents: u32,
    /// Every so many peers one has an IPv6 address; 0 is none.
    v6_every: u32,
}

impl Mix {
    /// The announce of a client that has an address of its own, the same each time.
    fn request(&self, client: u32) -> AnnounceRequest {
        // Odd, so that it is a permutation.
        let spread = client.wrapping_mul(2_654_435_761);
        let mut info_hash = [0x5a; 20];
        info_hash[..4].copy_from_slice(&(spread.rotate_left(15) % self.torrents).to_be_bytes());
        let [a, b, c, d] = spread.to_be_bytes();
        let peer = match self.v6_every > 0 && client.is_multiple_of(self.v6_every) {
            true => {
                CompactAddr::V6([0x20, 1, a, b, c, d, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 0x1a, 0xe1])
            }
            false => CompactAddr::V4([a, b, c, d, 0x1a, 0xe1]),
        };
        let seeder = client.is_multiple_of(3);
        AnnounceRequest {
            info_hash,
            peer,
            seeder,
            event: PeerEvent::None,
            numwant: NUMWANT,
            own_family_only: false,
        }
    }
}

fn empty() -> Swarms {
    let config = SwarmConfig {
        torrents_max: 100_000_000,
        peers_max: u64::MAX,
        peers_per_torrent_max: u32::MAX,
        peers_per_address_max: 16,
        peer_timeout_s: 2700,
    };
    Swarms::new(config, RandomState::new())
}

/// Bytes of the file for a peer and a torrent more.
fn sizes() {
    // A thousand torrents, with so many peers of each family; those of one address, or not.
    let bytes = |torrents: u32, v4: u32, v6: u32, shares: bool| {
        let swarms = empty();
        let (mut random, mut sample) = (Random::seeded(1), Sample::with_capacity(0));
        for torrent in 0..torrents {
            for peer in 0..v4 + v6 {
                let mut request =
                    Mix { torrents: 1, v6_every: u32::from(peer >= v4) }.request(peer);
                request.info_hash[..4].copy_from_slice(&torrent.to_be_bytes());
                match &mut request.peer {
                    CompactAddr::V4(address) if shares => address[..4].fill(9),
                    CompactAddr::V6(address) if shares => address[2..8].fill(9),
                    _ => {}
                }
                // The endpoint differs all the same.
                match &mut request.peer {
                    CompactAddr::V4([.., port]) | CompactAddr::V6([.., port]) => *port = peer as u8,
                }
                swarms.announce(&request, 0, &mut random, &mut sample);
            }
        }
        let mut file = Vec::new();
        write_swarms(&swarms, &mut file, (0, 0), || 0, || true).expect("memory");
        file.len() as f64
    };
    for (what, shares) in [("own addresses", false), ("one address", true)] {
        let v4 = (bytes(1000, 12, 2, shares) - bytes(1000, 2, 2, shares)) / 10_000.0;
        let v6 = (bytes(1000, 2, 12, shares) - bytes(1000, 2, 2, shares)) / 10_000.0;
        println!("{what}: {v4:.2} bytes an IPv4 peer, {v6:.2} an IPv6 peer");
    }
    let more = bytes(2000, 1, 0, false) - bytes(1000, 1, 0, false);
    let torrent = more / 1000.0 - (bytes(1000, 2, 0, false) - bytes(1000, 1, 0, false)) / 1000.0;
    println!("{torrent:.2} bytes a torrent");
}

fn run(name: &str, mix: &Mix) {
    let swarms = Arc::new(empty());
    let (mut random, mut sample) = (Random::seeded(1), Sample::with_capacity(NUMWANT));
    for client in 0..PEERS {
        let request = AnnounceRequest { numwant: 0, ..mix.request(client) };
        swarms.announce(&request, 0, &mut random, &mut sample);
    }
    let totals = swarms.totals();
    assert_eq!(totals.peers, u64::from(PEERS));
    println!("\n{name}");

    let path = scratch("state-bench");
    let directory = StateDirectory::open(&path).expect("cargo's directory for benchmarks");
    let clock = Clock::start();
    let saver = Arc::new(StateSaver::new(StateSaverParts {
        directory,
        swarms: Arc::clone(&swarms),
        clock,
        interval: Duration::from_millis(500),
        report: StateReport::default(),
        obstacle: None,
    }));
    under_load(&swarms, mix, &clock, &saver);

    let began = Instant::now();
    let (thread, _end) = saver.save_last().expect("a thread");
    thread.join().expect("it does not panic");
    let bytes = fs::metadata(&path).expect("it was written").len();
    println!(
        "  written at full speed in {:.2} s; {bytes} bytes, {:.2} a peer",
        began.elapsed().as_secs_f64(),
        bytes as f64 / f64::from(PEERS)
    );
    drop((saver, swarms));
    read(&clock, totals);
    fs::remove_file(&path).expect("it is there");
}

/// Times turns without the writer and with it.
fn under_load(swarms: &Arc<Swarms>, mix: &Mix, clock: &Clock, saver: &Arc<StateSaver>) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        for core in 1..cores {
            let done = &done;
            scope.spawn(move || {
                let mut random = Random::seeded(core as u64);
                let mut sample = Sample::with_capacity(NUMWANT);
                while !done.load(Ordering::Relaxed) {
                    let request = mix.request(random.below(PEERS));
                    swarms.announce(&request, clock.now_s(), &mut random, &mut sample);
                }
            });
        }
        let mut load = WorkerLoad::new(swarms, mix, clock);
        let start = Instant::now();
        load.turn_while(|| start.elapsed() < ALONE).print("without the writer");
        saver.start().expect("a thread");
        let (memory, ran) = (resident_bytes(), cpu_time(WRITER));
        let start = Instant::now();
        let mut most = memory;
        let turns = load.turn_while(|| {
            let report = saver.status.report();
            assert_eq!(report.problem, None);
            most = most.max(resident_bytes());
            report.writes == 0 && start.elapsed() < GIVE_UP
        });
        turns.print("with the writer");
        let cpu = cpu_time(WRITER).saturating_sub(ran);
        saver.stop();
        println!(
            "  the writer: {:.2} s from beginning to end, {:.2} s of CPU, {:.2} MB of memory",
            saver.status.report().took.as_secs_f64(),
            cpu.as_secs_f64(),
            (most - memory) as f64 / 1e6
        );
        done.store(true, Ordering::Relaxed);
    });
}

fn read(clock: &Clock, totals: Totals) {
    let directory = StateDirectory::open(&scratch("state-bench")).expect("it was open before");
    let loader =
        StateLoader { directory: &directory, empty: &empty, serves: &|_| true, clock: *clock };
    let process = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let (began, cpu) = (Instant::now(), process());
    let (swarms, loaded) = loader.load();
    println!(
        "  read by {} cores in {:.2} s, {:.2} s of CPU",
        thread::available_parallelism().map_or(1, usize::from),
        began.elapsed().as_secs_f64(),
        process().saturating_sub(cpu).as_secs_f64()
    );
    assert!(loaded.read.is_some() && swarms.totals() == totals);
}

/// A worker whose turns have announces besides.
struct WorkerLoad<'a> {
    swarms: &'a Arc<Swarms>,
    mix: &'a Mix,
    clock: &'a Clock,
    random: Random,
    sample: Sample,
    waker: Waker,
}

impl<'a> WorkerLoad<'a> {
    fn new(swarms: &'a Arc<Swarms>, mix: &'a Mix, clock: &'a Clock) -> WorkerLoad<'a> {
        let (random, sample) = (Random::seeded(9), Sample::with_capacity(NUMWANT));
        let waker = Waker::new().expect("an eventfd");
        WorkerLoad { swarms, mix, clock, random, sample, waker }
    }

    /// Turns as long as `go_on`, which is asked now and then.
    fn turn_while(&mut self, mut go_on: impl FnMut() -> bool) -> TurnTimes {
        let mut worker = worker(self.swarms, self.waker.clone(), Vec::new());
        let mut timer = TurnTimer::new().expect("schedstat");
        for number in 0_u64.. {
            if number.is_multiple_of(64) && !go_on() {
                break;
            }
            self.waker.wake();
            worker.wait().expect("the engine goes on");
            timer.time(|| {
                worker.act(self.clock.now_s());
                let now_s = self.clock.now_s();
                for _ in 0..ANNOUNCES {
                    let request = self.mix.request(self.random.below(PEERS));
                    self.swarms.announce(&request, now_s, &mut self.random, &mut self.sample);
                }
            });
        }
        timer.times()
    }
}

/// What the threads of this name have run.
fn cpu_time(name: &str) -> Duration {
    let threads = fs::read_dir("/proc/self/task").expect("proc(5)");
    let ran = threads.filter_map(|thread| {
        let path = thread.ok()?.path();
        let is_it = fs::read_to_string(path.join("comm")).ok()?.trim() == name;
        let schedule = fs::read_to_string(path.join("schedstat")).ok()?;
        let ran = schedule.split_whitespace().next()?.parse().ok()?;
        is_it.then_some(Duration::from_nanos(ran))
    });
    ran.sum()
}

fn resident_bytes() -> u64 {
    status("self", "VmRSS:").expect("proc(5)") * 1024
}
