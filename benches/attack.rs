//! What one address can do to all others: their latency, and the server's CPU, with an attacker
//! and without, with limits and without.
//!
//! `cargo bench --bench attack` starts this tracker, lets a few hundred addresses announce at a
//! steady pace, each time over a connection of its own, and sets an attacker of each kind
//! ([`Attack`]) upon it from one address. The tracker has a CPU to itself; clients and attacker
//! share another, on which the attacker stands back (it is nice). Nothing is asserted of times,
//! but every announce of the others must have been answered.
//!
//! Then come thousands of connections in one moment ([`burst`]), and a client that was there before
//! says how long it waits; `cargo bench --bench attack -- burst` measures only this. Of another
//! build it is measured by `ANNULUS=path`.
//!
//! It needs setpriv, taskset, nice, prlimit, openssl and a C compiler, and two CPUs.
#![allow(dead_code, reason = "of what is shared with the wire benchmark not all is used")]

#[path = "attack/attacker.rs"]
mod attacker;
#[path = "attack/burst.rs"]
mod burst;
#[path = "wire/client.rs"]
mod client;
#[path = "wire/endpoint.rs"]
mod endpoint;
#[path = "wire/process.rs"]
mod process;
#[path = "wire/tls.rs"]
mod tls;

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, ChildStderr, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use attacker::{ATTACK, Attack, Spoils};
use burst::{BURST, measure_bursts};
use client::Client;
use endpoint::{Endpoint, Transport};
use process::{CpuTime, SERVER_CPU, pin_self, pinned, raise_descriptors, stop};

/// Seconds of every measurement, and how often each is made.
const SECONDS: u64 = 4;
const ROUNDS: usize = 2;
/// Seconds that an attacker goes on: it begins before and ends after.
const ATTACK_SECONDS: u64 = SECONDS + 1;

/// Time between two announces of the others together, and the addresses that they have.
const PACE: Duration = Duration::from_millis(2);
const SOURCES: u32 = 200;

/// What the limits are where there are some: one household's worth, generously.
const LIMITS: &str = "[limits]\nconnections_per_address = 50\nrequests_per_second = 50\n\
                      request_burst = 100\n";

/// Descriptors that the attacker and the tracker may have.
const DESCRIPTORS: u32 = 4096;

const _: () = assert!(SOURCES < 255);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, arguments @ ..] = arguments.as_slice()
        && word == ATTACK
    {
        return ended(attacker::attack(arguments));
    }
    // `cargo test --all-targets` runs benchmarks too, but without this argument.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("usage: cargo bench --bench attack");
        return ExitCode::SUCCESS;
    }
    let only_burst = arguments.iter().any(|argument| argument == BURST);
    ended(prepare().and_then(|()| {
        if !only_burst {
            measure_all()?;
            println!();
        }
        measure_bursts()
    }))
}

fn prepare() -> io::Result<()> {
    pin_self()?;
    raise_descriptors(DESCRIPTORS)?;
    tls::prepare()
}

fn ended(result: io::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("attack: {error}");
    ExitCode::FAILURE
}

fn measure_all() -> io::Result<()> {
    println!("- {ROUNDS} rounds of {SECONDS} s; others: an announce every {PACE:?}\n");
    println!(
        "| attack of one address | limits | others p50, µs | p99, µs | most, µs | server CPU \
         | attempts/s | answered/s |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for attack in [None].into_iter().chain(Attack::ALL.map(Some)) {
        let mut cells = [Cell::default(), Cell::default()];
        for _ in 0..ROUNDS {
            for (cell, limits) in cells.iter_mut().zip(["", LIMITS]) {
                cell.add(measure(attack, limits)?);
            }
        }
        for (cell, limits) in cells.into_iter().zip(["off", "on"]) {
            cell.print(attack, limits);
        }
    }
    Ok(())
}

/// What came of some rounds.
#[derive(Default)]
struct Cell {
    latencies_us: Vec<u64>,
    /// Of the server.
    ran: Duration,
    took: Duration,
    spoils: Spoils,
}

impl Cell {
    fn add(&mut self, other: Cell) {
        self.latencies_us.extend(other.latencies_us);
        self.ran += other.ran;
        self.took += other.took;
        self.spoils.add(other.spoils);
    }

    fn print(mut self, attack: Option<Attack>, limits: &str) {
        self.latencies_us.sort_unstable();
        let last = self.latencies_us.len() - 1;
        let at = |share: f64| self.latencies_us[(last as f64 * share) as usize];
        let attacked_s = (ATTACK_SECONDS * ROUNDS as u64) as f64;
        println!(
            "| {} | {limits} | {} | {} | {} | {:.0} % | {:.0} | {:.0} |",
            attack.map_or("none", Attack::name),
            at(0.5),
            at(0.99),
            at(1.0),
            100.0 * self.ran.as_secs_f64() / self.took.as_secs_f64(),
            self.spoils.attempts as f64 / attacked_s,
            self.spoils.answered as f64 / attacked_s,
        );
    }
}

/// Starts a tracker and an attacker, and measures what the others meet.
fn measure(attack: Option<Attack>, limits: &str) -> io::Result<Cell> {
    let mut tracker = Tracker::start(limits)?;
    let attacker = match attack {
        Some(attack) => Some(attack.begin(tracker.plain, tracker.secured, ATTACK_SECONDS)?),
        None => None,
    };
    // The attacker has spent its first burst when it begins to count.
    thread::sleep(Duration::from_millis(500));
    let before = CpuTime::of(tracker.child.id())?;
    let begun = Instant::now();
    let latencies_us = announce(tracker.plain, begun + Duration::from_secs(SECONDS))?;
    let took = begun.elapsed();
    let ran = CpuTime::of(tracker.child.id())?.since(before).ran;
    let spoils = match attacker {
        Some(attacker) => attacker.spoils()?,
        None => Spoils::default(),
    };
    stop(&mut tracker.child);
    Ok(Cell { latencies_us, ran, took, spoils })
}

/// Announces at a steady pace, from one address after another; how long each took, from the
/// connect to the last byte of the answer.
fn announce(to: SocketAddr, until: Instant) -> io::Result<Vec<u64>> {
    let endpoint = Endpoint { address: to, transport: Transport::Plain };
    let request = attacker::announce(to, "Connection: close\r\n");
    let mut latencies_us = Vec::new();
    let mut due = Instant::now();
    for number in 0.. {
        due += PACE;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let begun = Instant::now();
        if begun > until {
            break;
        }
        // Who is late does not hurry.
        due = due.max(begun);
        let source = Ipv4Addr::new(127, 3, 0, 1 + (number % SOURCES) as u8);
        let mut client = Client::connect(source, endpoint)?;
        client.send(&request)?;
        if !client.receive()?.is_peer_list() {
            return Err(io::Error::other("an announce of the others was not served"));
        }
        latencies_us.push(begun.elapsed().as_micros() as u64);
    }
    Ok(latencies_us)
}

/// A running tracker.
struct Tracker {
    child: Child,
    plain: SocketAddr,
    secured: SocketAddr,
}

impl Tracker {
    /// Starts one on its own CPU and waits until it listens.
    fn start(limits: &str) -> io::Result<Tracker> {
        Tracker::start_on("auto", limits)
    }

    /// The same, with this engine.
    fn start_on(engine: &str, limits: &str) -> io::Result<Tracker> {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("attack");
        fs::create_dir_all(&directory)?;
        let config = directory.join("annulus.toml");
        let text = format!(
            "engine = {engine:?}\nlisten = [\"127.0.0.1:0\"]\n[tls]\nlisten = [\"127.0.0.1:0\"]\n\
             certificates = [{{ chain = {:?}, key = {:?} }}]\n{limits}",
            tls::file(tls::CHAIN),
            tls::file(tls::KEY),
        );
        fs::write(&config, text)?;
        let built = env!("CARGO_BIN_EXE_annulus").into();
        let mut command = pinned(SERVER_CPU, std::env::var_os("ANNULUS").unwrap_or(built));
        command.arg("-c").arg(config).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        match child.stderr.take().ok_or(io::ErrorKind::BrokenPipe.into()).and_then(listening) {
            Ok((plain, secured)) => Ok(Tracker { child, plain, secured }),
            Err(error) => {
                stop(&mut child);
                Err(error)
            }
        }
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

/// The two addresses that a tracker's log says it listens on. The rest of the log is read, and
/// forgotten.
fn listening(log: ChildStderr) -> io::Result<(SocketAddr, SocketAddr)> {
    let mut lines = BufReader::new(log).lines();
    let (mut plain, mut said) = (None, String::new());
    while let Some(line) = lines.next().transpose()? {
        if let Some((_, address)) = line.split_once("listening on ") {
            match address.strip_suffix(" (https)") {
                None => plain = address.parse().ok(),
                Some(secured) => {
                    let secured = secured.parse().map_err(io::Error::other)?;
                    let plain = plain.ok_or_else(|| io::Error::other("no plain address"))?;
                    thread::spawn(move || lines.for_each(drop));
                    return Ok((plain, secured));
                }
            }
        }
        said = line;
    }
    Err(io::Error::other(format!("the tracker did not start: {said}")))
}
