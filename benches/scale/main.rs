//! The size of the largest public tracker: ten million torrents and fifty million peers, a third of
//! them IPv6.
//!
//! It fills the swarms by the calls with which a worker answers datagrams, batch by batch, from all
//! cores; then it measures memory, the CPU of an announce, and how long the turns of a worker on a
//! real ring last at worst while the tracker does what takes long. The worker has a CPU to itself,
//! and a batch of announces in each turn. Beside it a thread does nothing but read the clock: that
//! is what the machine itself does to a thread meanwhile. Nothing is asserted of times.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it waits and measures")]

mod announce;
mod node;
mod population;
mod turn_loop;
#[path = "../worker/mod.rs"]
mod worker;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use annulus::clock::Clock;
use annulus::os::StateDirectory;
use annulus::state::{StateReport, StateSaver, StateSaverParts};
use annulus_bench::process::{LOAD_CPU, SERVER_CPU, resident_bytes};
use annulus_bench::swarms::unbounded;
use annulus_bench::{machine, scratch, stats};
use annulus_ring::{Listener, start_memory_thread};
use annulus_swarm::{BATCH_MAX, Swarms};
use anyhow::{Result, bail, ensure};
use lexopt::{Arg, Parser, ValueExt};

use population::{Announcer, Population};
use turn_loop::{TITLES, TurnLoop};

const USAGE: &str = "\
usage: cargo bench --bench scale -- [OPTIONS]
  --peers N      peers (default 50000000), over a fifth as many torrents
  --part PART    only this part, after the filling: announce, state (written in the background),
                 scrape (of all torrents), expire, read (the state) or join (a second node); may be
                 repeated
It needs two CPUs, 5 GB of memory, and for the part join redis-server, setpriv and taskset.";

const PARTS: [&str; 6] = ["announce", "state", "scrape", "expire", "read", "join"];

pub(crate) const PEER_TIMEOUT_S: u32 = 2700;

/// Torrents that an announce is compared with, five peers to each.
const FEW_TORRENTS: u32 = 10_000;

/// Clients that go on announcing while all others expire.
const REMAINING: u32 = 3200;

/// How long memory is given to come back.
const SETTLE: Duration = Duration::from_secs(60);

const GIVE_UP: Duration = Duration::from_secs(300);

struct ScaleOptions {
    peers: u32,
    parts: Vec<String>,
}

fn main() -> ExitCode {
    annulus_bench::init!();
    // As the tracker does.
    start_memory_thread().expect("a thread");
    annulus_bench::run(USAGE, &[node::HELPER], || measure(&parse()?).map(|()| true))
}

fn parse() -> Result<ScaleOptions> {
    let mut options = ScaleOptions { peers: 50_000_000, parts: Vec::new() };
    let mut parser = Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            // Added by cargo.
            Arg::Long("bench") => {}
            Arg::Long("peers") => options.peers = parser.value()?.parse()?,
            Arg::Long("part") => {
                let part = parser.value()?.string()?;
                ensure!(PARTS.contains(&part.as_str()), "no such part: {part}");
                options.parts.push(part);
            }
            argument => return Err(argument.unexpected().into()),
        }
    }
    if !(100_000..=500_000_000).contains(&options.peers) {
        bail!("not 100000 to 500000000 peers: {}", options.peers);
    }
    if options.parts.is_empty() {
        options.parts = PARTS.map(str::to_owned).into();
    }
    Ok(options)
}

pub(crate) fn empty() -> Swarms {
    unbounded(PEER_TIMEOUT_S)
}

pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn resident() -> Result<u64> {
    Ok(resident_bytes(std::process::id())?)
}

/// The directory of the state file; removed when the value is dropped.
struct StateFile(PathBuf);

impl StateFile {
    fn path(&self) -> PathBuf {
        self.0.join("swarms.state")
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn measure(options: &ScaleOptions) -> Result<()> {
    let names = |part: &str| options.parts.iter().any(|named| named == part);
    let population = Population::of(options.peers);
    for (name, fact) in machine::facts() {
        println!("- {name}: {fact}");
    }
    let file = StateFile(scratch("scale"));
    fs::create_dir_all(&file.0)?;
    let mut lines = Vec::new();
    let before = resident()?;
    let clock = Clock::start();
    let swarms = fill(&population)?;
    if names("announce") {
        let few = Population::of(FEW_TORRENTS * 5);
        let small = Arc::new(empty());
        announce_all(&small, &few, 0..few.peers);
        announce::print([(&small, &few), (&swarms, &population)]);
    }
    let mut part = |what: &str, turned: Result<[Vec<String>; 2]>| -> Result<()> {
        for line in turned? {
            lines.push([what.to_owned()].into_iter().chain(line).collect());
        }
        Ok(())
    };
    let base = Turning { swarms: &swarms, population: &population, clock: &clock };
    if ["state", "read", "join"].iter().any(|it| names(it)) {
        part("writing the state", base.write_state(&file.path()))?;
    }
    if names("scrape") {
        part("sending a full scrape", base.scrape())?;
    }
    if names("expire") {
        part("expiring", base.expire())?;
        settle(before)?;
    }
    drop(swarms);
    if names("read") {
        node::read(options.peers, &file.path())?;
    }
    if names("join") {
        lines.extend(node::join(options.peers, &file.path())?);
    }
    println!("\n### turns\n\n{}", stats::table(&TITLES, lines));
    Ok(())
}

/// Fills swarms, and prints the memory and the time that this took.
fn fill(population: &Population) -> Result<Arc<Swarms>> {
    let Population { torrents, peers } = *population;
    let swarms = Arc::new(empty());
    let began = (Instant::now(), resident()?);
    announce_all(&swarms, population, 0..torrents);
    let with_torrents = (Instant::now(), resident()?);
    announce_all(&swarms, population, torrents..peers);
    let full = (Instant::now(), resident()?);
    let totals = swarms.totals();
    ensure!((totals.torrents, totals.peers) == (torrents.into(), peers.into()), "{totals:?}");
    let row = |what: &str, count: u32, from: (Instant, u64), to: (Instant, u64)| {
        let bytes = to.1.saturating_sub(from.1);
        let nanos = (to.0 - from.0).as_nanos() as f64 / f64::from(count);
        let each = bytes as f64 / f64::from(count);
        let megabytes = format!("{:.0}", megabytes(bytes));
        vec![what.to_owned(), megabytes, format!("{each:.1}"), format!("{nanos:.0}")]
    };
    let rows = [
        row("torrents with a peer each", torrents, began, with_torrents),
        row("the other peers", peers - torrents, with_torrents, full),
        row("together, by peers", peers, began, full),
    ];
    println!("\n### memory, {torrents} torrents and {peers} peers, a third of them IPv6\n");
    println!("{}", stats::table(&["", "MB", "bytes each", "ns to announce, all cores"], rows));
    println!(
        "{:.0} MB resident in all, {:.0} before; of the torrents {:.0} MB are the index and \
         {:.0} the rows, by their layout",
        megabytes(full.1),
        megabytes(began.1),
        megabytes(index_bytes(torrents)),
        megabytes(u64::from(torrents) * 56)
    );
    Ok(swarms)
}

/// Bytes of the indices of 2048 shards (`swarm/src/torrent_index.rs`): four a slot, of which an
/// eighth stays empty, and a power of two of slots.
fn index_bytes(torrents: u32) -> u64 {
    const SHARDS: u64 = 2048;
    let each = u64::from(torrents).div_ceil(SHARDS);
    SHARDS * 4 * (each * 8).div_ceil(7).next_power_of_two()
}

/// Announces these clients, from all cores.
fn announce_all(swarms: &Arc<Swarms>, population: &Population, clients: std::ops::Range<u32>) {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for core in 0..cores {
            let clients = clients.clone().skip(core).step_by(cores);
            scope.spawn(move || {
                let mut announcer = Announcer::new(swarms, core as u64, None);
                let mut clients = clients.peekable();
                while clients.peek().is_some() {
                    announcer.expect(population, clients.by_ref().take(BATCH_MAX), 0, 0);
                    announcer.answer(BATCH_MAX);
                }
            });
        }
    });
}

/// What the turns are measured with.
#[derive(Clone, Copy)]
struct Turning<'a> {
    swarms: &'a Arc<Swarms>,
    population: &'a Population,
    clock: &'a Clock,
}

impl Turning<'_> {
    /// Turns as long as `go_on`.
    fn run(
        self,
        listeners: Vec<Listener>,
        go_on: impl FnMut() -> bool + Send,
    ) -> Result<[Vec<String>; 2]> {
        let Turning { swarms, population, clock } = self;
        let turns = TurnLoop {
            swarms,
            population,
            clients: population.peers,
            now_s: &|| clock.now_s(),
            listeners,
            outbox: None,
            pause: Duration::ZERO,
        };
        turns.run((SERVER_CPU, LOAD_CPU), go_on)
    }

    /// Turns while the thread that writes the state does so once.
    fn write_state(self, path: &Path) -> Result<[Vec<String>; 2]> {
        let saver = Arc::new(StateSaver::new(StateSaverParts {
            directory: StateDirectory::open(path)?,
            swarms: Arc::clone(self.swarms),
            clock: *self.clock,
            interval: Duration::from_millis(500),
            report: StateReport::default(),
            obstacle: None,
        }));
        saver.start()?;
        let began = Instant::now();
        let is_writing = || saver.status.report().writes == 0 && began.elapsed() < GIVE_UP;
        let lines = self.run(Vec::new(), is_writing)?;
        saver.stop();
        let report = saver.status.report();
        ensure!(report.writes > 0, "not written in time: {:?}", report.problem);
        let bytes = report.bytes as f64;
        println!(
            "state: {bytes} bytes, {:.2} a peer, written in {:.1} s",
            bytes / f64::from(self.population.peers),
            report.took.as_secs_f64()
        );
        Ok(lines)
    }

    /// Turns while a client takes a full scrape.
    fn scrape(self) -> Result<[Vec<String>; 2]> {
        let (address, listeners) =
            Listener::bind_group(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 1)?;
        let client = thread::spawn(move || -> Result<(usize, Duration)> {
            let began = Instant::now();
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(b"GET /scrape HTTP/1.1\r\nHost: tracker\r\n\r\n")?;
            let (mut buffer, mut bytes) = (vec![0; 1 << 20], 0);
            loop {
                let read = stream.read(&mut buffer)?;
                if read == 0 {
                    return Ok((bytes, began.elapsed()));
                }
                bytes += read;
            }
        });
        let began = Instant::now();
        let lines = self.run(listeners, || !client.is_finished() && began.elapsed() < GIVE_UP)?;
        ensure!(client.is_finished(), "not sent in time");
        let (bytes, took) = client.join().expect("it does not panic")?;
        println!("full scrape: {bytes} bytes in {:.1} s", took.as_secs_f64());
        // An entry has 20 bytes of info hash, and three numbers with their names.
        ensure!(bytes as u64 > 50 * u64::from(self.population.torrents), "cut");
        Ok(lines)
    }

    /// Turns on a clock that jumps to a time when all peers but those that announce then are too
    /// old: everything is due at once.
    fn expire(self) -> Result<[Vec<String>; 2]> {
        let Turning { swarms, population, clock } = self;
        let clients = REMAINING.min(population.peers / 10);
        let jumps_at_s = clock.now_s() + 2;
        let turns = TurnLoop {
            swarms,
            population,
            clients,
            now_s: &|| match clock.now_s() {
                now_s if now_s < jumps_at_s => now_s,
                now_s => now_s + 2 * PEER_TIMEOUT_S,
            },
            listeners: Vec::new(),
            outbox: None,
            pause: Duration::ZERO,
        };
        let began = Instant::now();
        let is_expiring = || swarms.totals().peers > clients.into() && began.elapsed() < GIVE_UP;
        let lines = turns.run((SERVER_CPU, LOAD_CPU), is_expiring)?;
        let took = clock.now().saturating_sub(Duration::from_secs(jumps_at_s.into()));
        let totals = swarms.totals();
        ensure!(totals.peers <= clients.into(), "not expired in time: {totals:?}");
        println!("expired within {:.1} s", took.as_secs_f64());
        Ok(lines)
    }
}

/// Prints how memory comes back after the end of the peers.
fn settle(before: u64) -> Result<()> {
    let after = resident()?;
    sleep(SETTLE);
    println!(
        "memory: {:.0} MB at the start, {:.0} when all has expired, {:.0} after {} s",
        megabytes(before),
        megabytes(after),
        megabytes(resident()?),
        SETTLE.as_secs()
    );
    Ok(())
}
