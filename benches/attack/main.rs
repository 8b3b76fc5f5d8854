//! What one address can do to all others: their latency, and the server's CPU, with an attacker and
//! without, with limits and without.
//!
//! It starts this tracker, lets a few hundred addresses announce at a steady pace, each time over a
//! connection of its own, and lets an attacker of each kind ([`Attack`]) work from one address. The
//! tracker has a CPU to itself; clients and attacker share another, on which the attacker yields
//! (it is nice). Nothing is asserted of times, but every announce of the others must be answered.
//!
//! A flood by UDP is then compared with none on both engines, each round beside each other.
//!
//! Then thousands of connections come at once ([`burst`]), and a client with a kept connection
//! measures how long it waits.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "clients may block")]

mod attacker;
mod burst;

use std::env;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use annulus_bench::net::{BenchClient, Endpoint, KeepAlive, Transport};
use annulus_bench::servers::{REFERENCE, RunningServer, ServerKind, Setup};
use annulus_bench::stats;
use annulus_bench::torrents::{CHECK_TORRENT, announce};
use anyhow::Result;

use attacker::{Attack, Attempts};

const USAGE: &str = "\
usage: cargo bench --bench attack -- [burst|flood]
With `burst`, only the wait behind thousands of new connections is measured, and with `flood` only
that of announces by HTTP during a flood by UDP. With ANNULUS=path in
the environment that build is measured. It needs setpriv, taskset, nice, openssl and two CPUs.";

/// Length of every measurement, and how often each is made. An attacker begins before, and ends
/// after.
const SECONDS: u64 = 4;
const ROUNDS: usize = 2;
const ATTACK_SECONDS: u64 = SECONDS + 1;

/// Rounds of the comparison with a flood.
const FLOOD_ROUNDS: usize = 3;

/// Time between two announces of the others together, and the addresses that they have.
const PACE: Duration = Duration::from_millis(2);
const SOURCES: u32 = 200;

/// One household's worth, generously.
const LIMITS: &str = "[limits]\nconnections_per_address = 50\nrequests_per_second = 50\n\
                      request_burst = 100\n";

const DESCRIPTORS: u64 = 3 * burst::CONNECTIONS as u64;

fn main() -> ExitCode {
    annulus_bench::init!();
    annulus_bench::run(USAGE, &[attacker::HELPER], || {
        annulus_bench::prepare(DESCRIPTORS)?;
        let only = |part| env::args().any(|argument| argument == part);
        if !only("burst") && !only("flood") {
            measure_all()?;
        }
        if !only("burst") {
            measure_floods()?;
        }
        if !only("flood") {
            burst::measure_all()?;
        }
        Ok(true)
    })
}

fn measure_all() -> Result<()> {
    println!("- {ROUNDS} rounds of {SECONDS} s; others: an announce every {PACE:?}\n");
    let mut lines = Vec::new();
    for attack in [None].into_iter().chain(Attack::ALL.map(Some)) {
        let mut both = [Measured::default(), Measured::default()];
        for _ in 0..ROUNDS {
            for (measured, limits) in both.iter_mut().zip(["", LIMITS]) {
                measured.add(attack, "auto", limits)?;
            }
        }
        let name = attack.map_or("none", Attack::name);
        lines.extend(both.into_iter().zip(["off", "on"]).map(|(it, limits)| it.line(name, limits)));
    }
    let titles = [
        "attack of one address",
        "limits",
        "others p50, µs",
        "p99, µs",
        "most, µs",
        "server CPU",
        "attempts/s",
        "answered/s",
    ];
    println!("{}", stats::table(&titles, lines));
    Ok(())
}

/// Announces by HTTP with a flood by UDP and without, on both engines. The ratios are of medians
/// and of 99th percentiles over all rounds.
fn measure_floods() -> Result<()> {
    let mut lines = Vec::new();
    for engine in ["auto", "epoll"] {
        let mut both = [Measured::default(), Measured::default()];
        for _ in 0..FLOOD_ROUNDS {
            for (measured, attack) in both.iter_mut().zip([None, Some(Attack::Datagrams)]) {
                measured.add(attack, engine, "")?;
            }
        }
        let [quiet, flooded] = &mut both;
        let ratio = |share: &f64| flooded.percentile(*share) / quiet.percentile(*share);
        let ratios: Vec<_> = [0.5, 0.99].iter().map(ratio).map(|it| format!("{it:.2}")).collect();
        for (measured, name) in both.into_iter().zip(["none", "datagrams"]) {
            let mut line = measured.line(name, engine);
            if name != "none" {
                line.extend(ratios.clone());
            }
            lines.push(line);
        }
    }
    let titles = [
        "flood by UDP",
        "engine",
        "HTTP p50, µs",
        "p99, µs",
        "most, µs",
        "server CPU",
        "datagrams/s",
        "answered/s",
        "p50 ratio",
        "p99 ratio",
    ];
    println!("{}", stats::table(&titles, lines));
    Ok(())
}

#[derive(Default)]
struct Measured {
    latencies_us: Vec<u64>,
    /// CPU time of the server.
    ran: Duration,
    took: Duration,
    attempts: Attempts,
    /// How long attackers worked.
    attacked: Duration,
}

impl Measured {
    /// Starts a tracker and an attacker, and measures how the others fare.
    fn add(
        &mut self,
        attack: Option<Attack>,
        engine: &'static str,
        limits: &'static str,
    ) -> Result<()> {
        let tracker = start(engine, limits)?;
        let attacker = attack.map(|it| it.begin(&tracker, ATTACK_SECONDS)).transpose()?;
        // The attacker has spent its first burst when counting begins.
        thread::sleep(Duration::from_millis(500));
        let before = tracker.cpu_time()?;
        let begun = Instant::now();
        self.announce(tracker.endpoint(Transport::Plain)?, begun + Duration::from_secs(SECONDS))?;
        self.took += begun.elapsed();
        self.ran += tracker.cpu_time()?.since(before).ran;
        if let Some(attacker) = attacker {
            let [made, answered] = attacker.wait()?;
            self.attempts = [self.attempts[0] + made, self.attempts[1] + answered];
            self.attacked += Duration::from_secs(ATTACK_SECONDS);
        }
        Ok(())
    }

    /// Announces at a steady pace, from one address after another. A latency is from the connect to
    /// the last byte of the response.
    fn announce(&mut self, at: Endpoint, until: Instant) -> Result<()> {
        let request = request(KeepAlive::Close);
        let mut due = Instant::now();
        for number in 0.. {
            due += PACE;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let begun = Instant::now();
            if begun > until {
                break;
            }
            // A late announce does not make the next ones come faster.
            due = due.max(begun);
            let source = Ipv4Addr::new(127, 3, 0, 1 + (number % SOURCES) as u8);
            let mut client = BenchClient::connect(source, at)?;
            client.send(&request)?;
            client.receive_peers()?;
            self.latencies_us.push(begun.elapsed().as_micros() as u64);
        }
        Ok(())
    }

    /// The latency in microseconds within which this share of the announces was answered.
    fn percentile(&mut self, share: f64) -> f64 {
        self.latencies_us.sort_unstable();
        let last = (self.latencies_us.len() - 1) as f64;
        self.latencies_us[(last * share) as usize] as f64
    }

    fn line(mut self, attack: &str, second: &str) -> Vec<String> {
        let [p50, p99, most] = [0.5, 0.99, 1.0].map(|share| self.percentile(share).to_string());
        let attacked_s = self.attacked.as_secs_f64().max(1.0);
        vec![
            attack.to_owned(),
            second.to_owned(),
            p50,
            p99,
            most,
            format!("{:.0} %", 100.0 * self.ran.as_secs_f64() / self.took.as_secs_f64()),
            format!("{:.0}", self.attempts[0] as f64 / attacked_s),
            format!("{:.0}", self.attempts[1] as f64 / attacked_s),
        ]
    }
}

fn request(keep_alive: KeepAlive) -> Vec<u8> {
    let query = "port=6881&left=201000&numwant=50";
    announce(CHECK_TORRENT, 0, query, keep_alive.headers()).into_bytes()
}

/// Starts this tracker, or the build that `ANNULUS` names.
fn start(engine: &'static str, limits: &'static str) -> Result<RunningServer> {
    let is_reference = env::var_os(REFERENCE).is_some();
    let server = if is_reference { ServerKind::Reference } else { ServerKind::Annulus };
    server.start(&Setup { tls: true, engine, limits, ..Setup::plain(KeepAlive::Close, 0) })
}
