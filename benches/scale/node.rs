//! Nodes of a cluster, each a process of its own: one reads the state file, another joins.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use annulus::clock::Clock;
use annulus::cluster::{
    ClusterLink, ClusterView, LinkParts, NodeHalves, NodeId, NodeParts, PubSubServers,
    WorkerOutbox, node_time,
};
use annulus::config::ClusterConfig;
use annulus::os::StateDirectory;
use annulus::state::StateLoader;
use annulus_bench::Helper;
use annulus_bench::process::{BOTH_CPUS, LOAD_CPU, SERVER_CPU, pinned, resident_bytes, stop};
use annulus_bench::scratch;
use annulus_swarm::Swarms;
use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::time::{ClockId, clock_gettime};

use crate::population::Population;
use crate::turn_loop::TurnLoop;
use crate::{PEER_TIMEOUT_S, empty, megabytes};

/// Runs a node; see [`serve`].
pub(crate) const HELPER: Helper = ("scale-node", |arguments| {
    let [role, peers, server, state] = arguments else { bail!("not ROLE PEERS SERVER STATE") };
    serve(role, &Population::of(peers.parse()?), server, Path::new(state))
});

/// The roles of a node: to read the state and end; to serve it until the input ends; and to join.
const READS: &str = "reads";
const SERVES: &str = "serves";
const JOINS: &str = "joins";

/// Between two turns: with 32 announces each, these are some 28,000 a second, as fifty million
/// peers make that announce every half hour.
const PAUSE: Duration = Duration::from_millis(1);

/// What a node says when it can be joined.
const READY: &str = "ready";

const START_WAIT: Duration = Duration::from_secs(10);
const JOIN_WAIT: Duration = Duration::from_secs(180);

/// Reads the state in a process of its own, by all cores.
pub(crate) fn read(peers: u32, state: &Path) -> Result<()> {
    let mut reader = NodeProcess::start(READS, peers, "", state)?;
    print!("{}", reader.rest()?);
    Ok(())
}

/// Has a node read the state and another join it. Returns lines of the table.
pub(crate) fn join(peers: u32, state: &Path) -> Result<Vec<Vec<String>>> {
    let redis = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let _redis = start_redis(redis)?;
    let server = format!("redis://{redis}");
    let mut first = NodeProcess::start(SERVES, peers, &server, state)?;
    first.until_ready()?;
    let mut second = NodeProcess::start(JOINS, peers, &server, state)?;
    let joined = second.rest()?;
    first.end_input();
    let served = first.rest()?;
    let mut lines = Vec::new();
    for (role, text) in [("streaming to a node that joins", served), ("joining", joined)] {
        for line in text.lines() {
            match line.strip_prefix("| ") {
                Some(cells) => {
                    let cells = cells.split(" | ").map(str::to_owned);
                    lines.push([role.to_owned()].into_iter().chain(cells).collect());
                }
                None => println!("{line}"),
            }
        }
    }
    Ok(lines)
}

/// Stopped when the value is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        stop(&mut self.0);
    }
}

fn start_redis(address: SocketAddr) -> Result<Running> {
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let mut command = pinned(BOTH_CPUS, "redis-server");
    command.args(["--bind", &ip, "--port", &port, "--save", "", "--appendonly", "no"]);
    command.args(["--dir", &scratch("").to_string_lossy()]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let running = Running(command.spawn().context("redis-server is not installed")?);
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        ensure!(began.elapsed() < START_WAIT, "redis-server does not accept");
        sleep(Duration::from_millis(20));
    }
    Ok(running)
}

/// A node in a process of its own.
struct NodeProcess {
    process: Running,
    output: BufReader<ChildStdout>,
}

impl NodeProcess {
    fn start(role: &str, peers: u32, server: &str, state: &Path) -> Result<NodeProcess> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([HELPER.0, role, &peers.to_string(), server]).arg(state);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let output = BufReader::new(process.stdout.take().context("it is piped")?);
        Ok(NodeProcess { process: Running(process), output })
    }

    fn until_ready(&mut self) -> Result<()> {
        let mut line = String::new();
        while line.trim() != READY {
            print!("{line}");
            line.clear();
            ensure!(self.output.read_line(&mut line)? > 0, "a node has ended");
        }
        Ok(())
    }

    fn end_input(&mut self) {
        self.process.0.stdin = None;
    }

    /// What it still prints.
    fn rest(&mut self) -> Result<String> {
        let mut text = String::new();
        self.output.read_to_string(&mut text)?;
        let status = self.process.0.wait()?;
        ensure!(status.success(), "a node has failed: {status}");
        Ok(text)
    }
}

fn serve(role: &str, population: &Population, server: &str, state: &Path) -> Result<()> {
    let clock = Clock::start();
    let swarms = if role == JOINS { Arc::new(empty()) } else { Arc::new(load(state, clock)?) };
    if role == READS {
        return Ok(());
    }
    let (link, outbox) = connect(&swarms, server, clock)?;
    let turns = TurnLoop {
        swarms: &swarms,
        population,
        clients: population.peers,
        now_s: &|| clock.now_s(),
        listeners: Vec::new(),
        outbox: Some(outbox),
        pause: PAUSE,
    };
    let lines = if role == SERVES {
        wait_until_warm(&link.view)?;
        println!("{READY}");
        let over = until_input_ends();
        turns.run((SERVER_CPU, SERVER_CPU), move || !over.load(Ordering::Relaxed))?
    } else {
        let all = u64::from(population.peers);
        let joins = || swarms.totals().peers < all || !link.view.node.is_whole();
        let lines = turns.run((LOAD_CPU, LOAD_CPU), || joins() && clock.now() < JOIN_WAIT)?;
        let totals = swarms.totals();
        ensure!(!joins(), "not joined after {JOIN_WAIT:?}: {totals:?}");
        println!("joined in {:.1} s: {totals:?}", clock.now().as_secs_f64());
        lines
    };
    println!("{role}: {:.0} MB resident", megabytes(resident_bytes(std::process::id())?));
    for line in lines {
        println!("| {}", line.join(" | "));
    }
    Ok(())
}

/// Starts the threads of a node.
fn connect(
    swarms: &Arc<Swarms>,
    server: &str,
    clock: Clock,
) -> Result<(ClusterLink, WorkerOutbox)> {
    let (outbox, slot) = WorkerOutbox::new();
    let [id, seed] = ["id", "seed"].map(|about| RandomState::new().hash_one(about));
    let halves = NodeHalves::new(NodeParts {
        swarms: Arc::clone(swarms),
        id: NodeId(id),
        seed,
        peer_timeout_s: PEER_TIMEOUT_S,
        state_age_s: None,
        start: node_time(&clock),
    });
    let config: ClusterConfig = toml::from_str(&format!("server = {server:?}"))?;
    let loaded = PubSubServers::load(&config).map_err(|mistakes| anyhow!(mistakes.join("\n")))?;
    let link = ClusterLink::start(LinkParts {
        servers: loaded.context("there is a server")?.servers,
        channel: "annulus-scale".to_owned(),
        id: NodeId(id),
        halves,
        slots: vec![slot],
        access_list: None,
        clock,
    })?;
    Ok((link, outbox))
}

/// Set when standard input ends.
fn until_input_ends() -> Arc<AtomicBool> {
    let over = Arc::<AtomicBool>::default();
    let is_over = Arc::clone(&over);
    thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        is_over.store(true, Ordering::Relaxed);
    });
    over
}

/// Waits until a first node knows that there is no other to ask.
fn wait_until_warm(view: &ClusterView) -> Result<()> {
    let began = Instant::now();
    while view.node.is_warming() {
        ensure!(began.elapsed() < JOIN_WAIT, "the first node waits for others");
        sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn load(state: &Path, clock: Clock) -> Result<Swarms> {
    let directory = StateDirectory::open(state)?;
    let loader = StateLoader { directory: &directory, empty: &empty, serves: &|_| true, clock };
    let process = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let (began, cpu) = (Instant::now(), process());
    let (swarms, loaded) = loader.load();
    ensure!(loaded.read.is_some(), "the state was not read");
    println!(
        "state: {} bytes read by {} cores in {:.2} s, {:.2} s of CPU; {:?}, {:.0} MB resident",
        fs::metadata(state)?.len(),
        thread::available_parallelism().map_or(1, usize::from),
        began.elapsed().as_secs_f64(),
        process().saturating_sub(cpu).as_secs_f64(),
        swarms.totals(),
        megabytes(resident_bytes(std::process::id())?)
    );
    Ok(swarms)
}
