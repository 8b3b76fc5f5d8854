//! A Redis server and three trackers that share their swarms through it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use annulus_bench::net::{BenchClient, Endpoint, Transport};
use annulus_bench::process::{CpuTime, pinned, stop};
use annulus_bench::scratch;
use anyhow::{Context, Result, bail};

pub(crate) const NODES: usize = 3;

/// The channel of the nodes here.
pub(crate) const CHANNEL: &str = "annulus-bench";

const START_WAIT: Duration = Duration::from_secs(30);

/// A process that was started; it is stopped when the value is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        stop(&mut self.0);
    }
}

/// A Redis server without a disk.
pub(crate) struct Redis {
    process: Running,
    pub(crate) address: SocketAddr,
}

impl Redis {
    pub(crate) fn start(cpus: &str) -> Result<Redis> {
        let address = free_address()?;
        let mut command = pinned(cpus, "redis-server");
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        command.args(["--bind", &ip, "--port", &port, "--save", "", "--appendonly", "no"]);
        command.args(["--dir", &scratch("").to_string_lossy()]);
        let process = spawn(command, "cluster-redis.log")?;
        let redis = Redis { process, address };
        wait("the Redis server", || Ok(redis.connect().and_then(|mut it| it.ping()).is_ok()))?;
        Ok(redis)
    }

    pub(crate) fn connect(&self) -> Result<RedisConnection> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        Ok(RedisConnection { replies: BufReader::new(stream.try_clone()?), stream, pending: 0 })
    }

    pub(crate) fn cpu_time(&self) -> Result<CpuTime> {
        Ok(CpuTime::of(self.process.0.id())?)
    }
}

/// A connection that publishes without waiting for each reply.
pub(crate) struct RedisConnection {
    stream: TcpStream,
    replies: BufReader<TcpStream>,
    pending: usize,
}

impl RedisConnection {
    fn ping(&mut self) -> Result<()> {
        self.stream.write_all(b"PING\r\n")?;
        self.pending += 1;
        self.drain()
    }

    /// Publishes; replies are read by [`Self::drain`], now and then.
    pub(crate) fn publish(&mut self, channel: &str, message: &[u8]) -> Result<()> {
        let mut bytes = Vec::with_capacity(message.len() + 128);
        let (name, length) = (channel.len(), message.len());
        write!(bytes, "*3\r\n$7\r\nPUBLISH\r\n${name}\r\n{channel}\r\n${length}\r\n")?;
        bytes.extend_from_slice(message);
        bytes.extend_from_slice(b"\r\n");
        self.stream.write_all(&bytes)?;
        self.pending += 1;
        if self.pending >= 64 { self.drain() } else { Ok(()) }
    }

    /// Waits until the server has taken everything.
    pub(crate) fn drain(&mut self) -> Result<()> {
        let mut line = String::new();
        while self.pending > 0 {
            line.clear();
            self.replies.read_line(&mut line)?;
            if !line.starts_with([':', '+']) {
                bail!("the Redis server says {line:?}");
            }
            self.pending -= 1;
        }
        Ok(())
    }

    /// A connection that receives what is published to a channel, and drops it in a thread until
    /// the server ends.
    pub(crate) fn listen(mut self, channel: &str) -> Result<()> {
        write!(self.stream, "SUBSCRIBE {channel}\r\n")?;
        std::thread::spawn(move || std::io::copy(&mut self.replies, &mut std::io::sink()));
        Ok(())
    }
}

/// A tracker with one worker.
pub(crate) struct Node {
    process: Running,
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
}

impl Node {
    /// Starts a tracker, which shares its swarms if there is a server.
    pub(crate) fn start(name: &str, cpus: &str, redis: Option<&Redis>) -> Result<Node> {
        let (address, admin) = (free_address()?, free_address()?);
        let cluster = redis.map_or(String::new(), |redis| {
            format!("[cluster]\nserver = \"redis://{}\"\nchannel = \"{CHANNEL}\"\n", redis.address)
        });
        let text = format!(
            "listen = [\"{address}\"]\nworkers = 1\n\
             [swarms]\nmax_peers_per_address = 0\n\
             [operations]\nlisten = [\"{admin}\"]\n{cluster}"
        );
        let file = scratch(&format!("cluster-{name}.toml"));
        fs::write(&file, text)?;
        let mut command = pinned(cpus, annulus_bench::tracker());
        command.arg("-c").arg(file);
        let node =
            Node { process: spawn(command, &format!("cluster-{name}.log"))?, address, admin };
        wait(name, || Ok(TcpStream::connect(address).is_ok() && node.is_whole()))?;
        Ok(node)
    }

    fn is_whole(&self) -> bool {
        self.get("/health").is_ok_and(|(status, _)| status == 200)
    }

    fn get(&self, path: &str) -> Result<(u16, String)> {
        let at = Endpoint { address: self.admin, transport: Transport::Plain };
        let mut client = BenchClient::connect(Ipv4Addr::LOCALHOST, at)?;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: node\r\n\r\n").as_bytes())?;
        let response = client.receive()?;
        Ok((response.status, String::from_utf8(response.body)?))
    }

    /// The sum of all samples of a metric.
    pub(crate) fn metric(&self, name: &str) -> Result<u64> {
        let (_, text) = self.get("/metrics")?;
        let samples = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = rest.rsplit_once(' ')?;
            (labels.is_empty() || labels.starts_with('{')).then(|| value.parse::<f64>().ok())?
        });
        let samples: Vec<f64> = samples.collect();
        if samples.is_empty() {
            bail!("no metric {name}")
        }
        Ok(samples.iter().sum::<f64>() as u64)
    }

    /// CPU time of its threads, by their names without a number at the end.
    pub(crate) fn cpu_by_thread(&self) -> Result<BTreeMap<String, Duration>> {
        let mut times = BTreeMap::new();
        for thread in fs::read_dir(format!("/proc/{}/task", self.process.0.id()))? {
            let thread = thread?.path();
            // Documentation/scheduler/sched-stats.rst: nanoseconds run, nanoseconds waited.
            let [name, line] = ["comm", "schedstat"].map(|it| fs::read_to_string(thread.join(it)));
            // A thread may have ended meanwhile.
            let (Ok(name), Ok(line)) = (name, line) else { continue };
            let name = name.trim().trim_end_matches(|c: char| c.is_ascii_digit() || c == '-');
            let ran: u64 = line.split(' ').next().context("a number")?.parse()?;
            *times.entry(name.to_owned()).or_default() += Duration::from_nanos(ran);
        }
        Ok(times)
    }
}

/// A server and the nodes around it.
pub(crate) struct Site {
    pub(crate) nodes: Vec<Node>,
    pub(crate) redis: Redis,
}

impl Site {
    pub(crate) fn start(cpus: &str) -> Result<Site> {
        let redis = Redis::start(cpus)?;
        let nodes = (0..NODES).map(|node| Node::start(&format!("node-{node}"), cpus, Some(&redis)));
        Ok(Site { nodes: nodes.collect::<Result<_>>()?, redis })
    }
}

fn spawn(mut command: Command, log: &str) -> Result<Running> {
    let output = File::create(scratch(log))?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    Ok(Running(command.spawn()?))
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Waits until `check` holds.
pub(crate) fn wait(what: &str, mut check: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !check()? {
        if start.elapsed() > START_WAIT {
            bail!("{what}: still waiting after {START_WAIT:?}");
        }
        sleep(Duration::from_millis(20));
    }
    Ok(())
}
