//! The servers under test: how each is found, configured, started and stopped. Each has one worker,
//! the cheapest means that it offers, and the same certificate.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::Signal;

use crate::net::{Endpoint, KeepAlive, Transport};
use crate::process::{
    BOTH_CPUS, CpuTime, SERVER_CPU, pinned, pinned_unprivileged, resident_bytes, stop,
};
use crate::torrents::{SwarmSize, write_list};
use crate::{floor, large, process, tls};

/// Descriptors that a server needs: one for each connection of the idle row, and some to spare.
pub const DESCRIPTORS: u64 = 16_384;

/// Names another build of this tracker, which then is measured beside the one built here.
pub const REFERENCE: &str = "ANNULUS";

/// It may have ten million peers to read.
const START_WAIT: Duration = Duration::from_secs(60);
/// A large state, in the directory of a server.
const STATE_FILE: &str = "large.state";
/// The first port tried. Below the range from which the kernel takes the load's own ports.
const PORT_FIRST: u16 = 7300;

/// opentracker reads its whitelist in a thread, after it has started to listen.
const WHITELIST_WAIT: Duration = Duration::from_secs(1);

/// The cheapest cipher suite of TLS 1.3 here, for servers that let it be chosen.
const CIPHER_SUITE: &str = "TLS_AES_128_GCM_SHA256";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerKind {
    /// The bare io_uring loop of [`floor`], with responses as long as this tracker's are.
    Floor,
    /// This tracker, with the engine that it chooses itself.
    Annulus,
    AnnulusEpoll,
    /// The build that [`REFERENCE`] names.
    Reference,
    /// nginx with the floor's response.
    Nginx,
    /// Debian's opentracker, which closes every connection; over TLS behind hitch.
    Opentracker,
    /// aquatic_http, of which one process speaks TLS and another does not.
    Aquatic,
    /// aquatic_udp, on its io_uring.
    AquaticUdp,
    /// torrust-tracker, measured only if it is asked for: it takes twenty minutes to build.
    Torrust,
}

#[derive(Clone, Debug)]
pub struct Setup {
    pub keep_alive: KeepAlive,
    /// Torrents to serve, the first ones of [`crate::torrents`].
    pub torrents: u64,
    /// Lengths of the bodies of constant responses, given in turn.
    pub body_bytes: Vec<usize>,
    pub tls: bool,
    /// Workers of this tracker, on both CPUs; otherwise it has one, pinned like all servers.
    pub spread: Option<u64>,
    /// The engine of this tracker, and the end of its configuration.
    pub engine: &'static str,
    pub limits: &'static str,
    /// Whether it is loaded by UDP; the floor and aquatic_udp then do without HTTP.
    pub udp: bool,
    /// What this tracker holds at its start.
    pub size: SwarmSize,
}

impl Setup {
    /// Without TLS.
    pub fn plain(keep_alive: KeepAlive, torrents: u64) -> Setup {
        Setup {
            keep_alive,
            torrents,
            body_bytes: vec![floor::SHORT_BODY_BYTES],
            tls: false,
            spread: None,
            engine: "auto",
            limits: "",
            udp: false,
            size: SwarmSize::Usual,
        }
    }
}

impl ServerKind {
    /// In the order of the tables.
    pub fn all() -> Vec<ServerKind> {
        let all = [
            ServerKind::Floor,
            ServerKind::Annulus,
            ServerKind::AnnulusEpoll,
            ServerKind::Reference,
            ServerKind::Nginx,
            ServerKind::Opentracker,
            ServerKind::Aquatic,
            ServerKind::AquaticUdp,
            ServerKind::Torrust,
        ];
        let has_reference = env::var_os(REFERENCE).is_some();
        all.into_iter().filter(|it| *it != ServerKind::Reference || has_reference).collect()
    }

    pub fn name(self) -> &'static str {
        match self {
            ServerKind::Floor => "floor",
            ServerKind::Annulus => "annulus",
            ServerKind::AnnulusEpoll => "annulus-epoll",
            ServerKind::Reference => "annulus-reference",
            ServerKind::Nginx => "nginx",
            ServerKind::Opentracker => "opentracker",
            ServerKind::Aquatic => "aquatic_http",
            ServerKind::AquaticUdp => "aquatic_udp",
            ServerKind::Torrust => "torrust-tracker",
        }
    }

    /// Whether it keeps peers; otherwise its response is constant.
    pub fn is_tracker(self) -> bool {
        !matches!(self, ServerKind::Floor | ServerKind::Nginx)
    }

    pub fn is_ours(self) -> bool {
        matches!(self, ServerKind::Annulus | ServerKind::AnnulusEpoll | ServerKind::Reference)
    }

    /// Whether several of its threads are busy at a time: on one CPU they wait for each other.
    pub fn waits_for_itself(self, transport: Transport) -> bool {
        match self {
            ServerKind::Opentracker => transport == Transport::Tls,
            _ => self == ServerKind::Aquatic,
        }
    }

    pub fn serves(self, keep_alive: KeepAlive, transport: Transport) -> bool {
        match self {
            ServerKind::Floor => transport == Transport::Plain,
            ServerKind::Opentracker => keep_alive == KeepAlive::Close,
            ServerKind::AquaticUdp => false,
            _ => true,
        }
    }

    pub fn serves_udp(self) -> bool {
        !matches!(self, ServerKind::Nginx | ServerKind::Aquatic)
    }

    pub fn program(self) -> Option<PathBuf> {
        match self {
            ServerKind::Floor => env::current_exe().ok(),
            ServerKind::Annulus | ServerKind::AnnulusEpoll => Some(crate::tracker().into()),
            ServerKind::Reference => env::var_os(REFERENCE).map(PathBuf::from),
            _ => installed(self.name()),
        }
    }

    /// Starts it, pinned to its CPU, and waits until it accepts. If TLS is asked for and it cannot
    /// be started for that, [`RunningServer::endpoint`] says why.
    pub fn start(self, setup: &Setup) -> Result<RunningServer> {
        let program = self.program().context("not installed")?;
        let plain = free_address()?;
        let has_tls = setup.tls && self.serves(setup.keep_alive, Transport::Tls);
        let tls = if has_tls { Some(free_address()?) } else { None };
        let is_large = setup.size == SwarmSize::Large;
        // Emptied at every start.
        let kind = if is_large { "-large" } else { "" };
        let name = format!("{}{}{kind}", self.name(), setup.spread.unwrap_or_default());
        let directory = crate::scratch("bench").join(name);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory)?;

        let state = (is_large && self.is_ours()).then(|| directory.join(STATE_FILE));
        if let Some(state) = &state {
            fs::hard_link(large::state_file(), state).context("no state file")?;
        }
        let tls_address = Err("no TLS".into());
        let mut running = RunningServer { children: Vec::new(), plain, tls: tls_address, state };
        let start = ServerStart { server: self, program: &program, directory: &directory, setup };
        let answers = if setup.udp { answers_udp } else { accepts };
        running.launch(start.command(plain, tls)?, &directory.join("log"), plain, answers)?;
        if self == ServerKind::Opentracker {
            sleep(WHITELIST_WAIT);
        }
        if let Some(tls) = tls {
            let listens = match start.tls_command(plain, tls) {
                Ok(Some(command)) => {
                    running.launch(command, &directory.join("tls-log"), tls, accepts)
                }
                other => other.map(drop),
            };
            running.tls = listens.map(|()| tls).map_err(|error| format!("{error:#}"));
        }
        Ok(running)
    }
}

struct ServerStart<'a> {
    server: ServerKind,
    program: &'a Path,
    directory: &'a Path,
    setup: &'a Setup,
}

impl ServerStart<'_> {
    /// The command that starts it on the first address, and on the second if it speaks both.
    fn command(&self, plain: SocketAddr, tls: Option<SocketAddr>) -> Result<Command> {
        let setup = self.setup;
        let mut command = match self.server {
            ServerKind::Opentracker => pinned_unprivileged(SERVER_CPU, self.program),
            _ if setup.spread.is_some() => pinned(BOTH_CPUS, self.program),
            _ => pinned(SERVER_CPU, self.program),
        };
        command.current_dir(self.directory);
        match self.server {
            ServerKind::Floor if setup.udp => {
                command.args([floor::HELPER.0, &plain.to_string(), "udp"]);
            }
            ServerKind::Floor => {
                let lengths: Vec<String> = setup.body_bytes.iter().map(usize::to_string).collect();
                command.args([floor::HELPER.0, &plain.to_string(), setup.keep_alive.word()]);
                command.args(["--body-bytes", &lengths.join(",")]);
            }
            ServerKind::Annulus | ServerKind::AnnulusEpoll | ServerKind::Reference => {
                let is_epoll = self.server == ServerKind::AnnulusEpoll;
                let engine = if is_epoll { "epoll" } else { setup.engine };
                let text = annulus_config(plain, tls, engine, setup);
                fs::write(self.directory.join("annulus.toml"), text)?;
                command.args(["-c", "annulus.toml"]);
            }
            ServerKind::Nginx => {
                let mean = setup.body_bytes.iter().sum::<usize>() / setup.body_bytes.len();
                fs::write(self.directory.join("nginx.conf"), nginx_config(plain, tls, mean))?;
                command.args([OsStr::new("-p"), self.directory.as_os_str()]);
                command.args(["-c", "nginx.conf", "-e", "stderr"]);
            }
            ServerKind::Opentracker => {
                // Debian's build serves no torrent that is not listed.
                write_list(&self.directory.join("whitelist"), setup.torrents)?;
                let (ip, port) = (plain.ip().to_string(), plain.port().to_string());
                command.args(["-i", &ip, "-p", &port, "-P", &port, "-w", "whitelist"]);
            }
            ServerKind::Aquatic => {
                let text = aquatic_config(plain, setup.keep_alive, false);
                fs::write(self.directory.join("aquatic.toml"), text)?;
                command.args(["-c", "aquatic.toml"]);
            }
            ServerKind::AquaticUdp => {
                fs::write(self.directory.join("aquatic.toml"), aquatic_udp_config(plain))?;
                command.args(["-c", "aquatic.toml"]);
            }
            ServerKind::Torrust => {
                let text = torrust_config(plain, tls, free_address()?, setup.udp);
                fs::write(self.directory.join("torrust.toml"), text)?;
                command.env("TORRUST_TRACKER_CONFIG_TOML_PATH", "torrust.toml");
            }
        }
        Ok(command)
    }

    /// The command that starts a second process, for servers that need one to speak TLS.
    fn tls_command(&self, plain: SocketAddr, tls: SocketAddr) -> Result<Option<Command>> {
        let mut command = match self.server {
            ServerKind::Opentracker => {
                let hitch = installed("hitch").context("hitch is not installed")?;
                fs::write(self.directory.join("hitch.conf"), hitch_config(tls, plain))?;
                let mut command = pinned_unprivileged(SERVER_CPU, hitch);
                command.arg("--config=hitch.conf");
                command
            }
            ServerKind::Aquatic => {
                let text = aquatic_config(tls, self.setup.keep_alive, true);
                fs::write(self.directory.join("aquatic-tls.toml"), text)?;
                let mut command = pinned(SERVER_CPU, self.program);
                command.args(["-c", "aquatic-tls.toml"]);
                command
            }
            _ => return Ok(None),
        };
        command.current_dir(self.directory);
        Ok(Some(command))
    }
}

fn annulus_config(
    plain: SocketAddr,
    tls: Option<SocketAddr>,
    engine: &str,
    setup: &Setup,
) -> String {
    let (chain, key) = (tls::file(tls::CHAIN), tls::file(tls::KEY));
    let tls = tls.map_or(String::new(), |tls| {
        format!(
            "[tls]\nlisten = [\"{tls}\"]\ncertificates = [{{ chain = {chain:?}, key = {key:?} }}]\n"
        )
    });
    let (workers, limits) = (setup.spread.unwrap_or(1), setup.limits);
    let state = match setup.size {
        SwarmSize::Usual => String::new(),
        // Not to be written again meanwhile.
        SwarmSize::Large => format!("[state]\nfile = {STATE_FILE:?}\ninterval = 86400\n"),
    };
    format!(
        "workers = {workers}\nengine = {engine:?}\nlisten = [\"{plain}\"]\n{tls}{limits}{state}"
    )
}

fn nginx_config(plain: SocketAddr, tls: Option<SocketAddr>, body_bytes: usize) -> String {
    let body = floor::body(body_bytes);
    let (chain, key) = (tls::file(tls::CHAIN), tls::file(tls::KEY));
    let tls = tls.map_or(String::new(), |address| {
        format!(
            "listen {address} ssl deferred reuseport backlog=4096;
        ssl_certificate {};
        ssl_certificate_key {};
        ssl_protocols TLSv1.3;
        ssl_conf_command Ciphersuites {CIPHER_SUITE};",
            chain.display(),
            key.display()
        )
    });
    format!(
        "daemon off;
worker_processes 1;
pid nginx.pid;
events {{ worker_connections {DESCRIPTORS}; }}
http {{
    access_log off;
    server_tokens off;
    default_type text/plain;
    keepalive_requests 1000000000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen {plain} deferred reuseport backlog=4096;
        {tls}
        location / {{ return 200 \"{body}\"; }}
    }}
}}
"
    )
}

/// hitch in front of a server that does not speak TLS.
fn hitch_config(frontend: SocketAddr, backend: SocketAddr) -> String {
    let brackets = |address: SocketAddr| format!("[{}]:{}", address.ip(), address.port());
    format!(
        "frontend = \"{}\"\nbackend = \"{}\"\npem-file = {:?}\ntls-protos = TLSv1.3
ciphersuites = \"{CIPHER_SUITE}\"\nworkers = 1\nbacklog = 4096\ndaemon = off\nocsp-dir = \"\"\n",
        brackets(frontend),
        brackets(backend),
        tls::file(tls::KEY_AND_CHAIN)
    )
}

/// aquatic_http, which has one listener, closes all connections or none, and gives 200 peers at
/// most, as the other trackers do by default.
fn aquatic_config(address: SocketAddr, keep_alive: KeepAlive, enable_tls: bool) -> String {
    let keep_alive = keep_alive == KeepAlive::Keep;
    let (chain, key) = (tls::file(tls::CHAIN), tls::file(tls::KEY));
    format!(
        "socket_workers = 1
swarm_workers = 1
[network]
address = \"{address}\"
keep_alive = {keep_alive}
enable_tls = {enable_tls}
tls_certificate_path = {chain:?}
tls_private_key_path = {key:?}
[protocol]
max_peers = 200
"
    )
}

/// aquatic_udp, built with its feature `io-uring`, and giving as many peers as the others.
fn aquatic_udp_config(address: SocketAddr) -> String {
    format!(
        "socket_workers = 1
[network]
address = \"{address}\"
use_io_uring = true
[protocol]
max_response_peers = 200
"
    )
}

/// torrust-tracker, with its health check at an address of its own.
fn torrust_config(
    plain: SocketAddr,
    tls: Option<SocketAddr>,
    health: SocketAddr,
    is_udp: bool,
) -> String {
    let kind = if is_udp { "udp" } else { "http" };
    let (chain, key) = (tls::file(tls::CHAIN), tls::file(tls::KEY));
    let tls = tls.map_or(String::new(), |tls| {
        format!(
            "[[http_trackers]]
bind_address = \"{tls}\"
[http_trackers.tsl_config]
ssl_cert_path = {chain:?}
ssl_key_path = {key:?}
"
        )
    });
    format!(
        "[metadata]
app = \"torrust-tracker\"
purpose = \"configuration\"
schema_version = \"2.0.0\"
[logging]
threshold = \"error\"
[core]
listed = false
private = false
tracker_usage_statistics = false
[core.database]
driver = \"sqlite3\"
path = \"torrust.db\"
[health_check_api]
bind_address = \"{health}\"
[[{kind}_trackers]]
bind_address = \"{plain}\"
{tls}"
    )
}

/// A server that was started; dropping it stops it.
pub struct RunningServer {
    children: Vec<Child>,
    plain: SocketAddr,
    tls: Result<SocketAddr, String>,
    /// The state that it has read.
    state: Option<PathBuf>,
}

impl RunningServer {
    pub fn endpoint(&self, transport: Transport) -> Result<Endpoint> {
        let address = match transport {
            Transport::Plain => self.plain,
            Transport::Tls => self.tls.clone().map_err(|why| anyhow!(why))?,
        };
        Ok(Endpoint { address, transport })
    }

    pub fn signal(&self, signal: Signal) {
        process::signal(&self.children[0], signal);
    }

    pub fn cpu_time(&self) -> io::Result<CpuTime> {
        let mut sum = CpuTime::default();
        for child in &self.children {
            let CpuTime { ran, waited } = CpuTime::of(child.id())?;
            sum = CpuTime { ran: sum.ran + ran, waited: sum.waited + waited };
        }
        Ok(sum)
    }

    pub fn resident_bytes(&self) -> io::Result<u64> {
        self.children.iter().map(|child| resident_bytes(child.id())).sum()
    }

    /// Starts a process, and waits until it `answers` at an address.
    fn launch(
        &mut self,
        mut command: Command,
        log: &Path,
        address: SocketAddr,
        answers: fn(SocketAddr) -> bool,
    ) -> Result<()> {
        let output = File::create(log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        self.children.push(command.spawn()?);
        let child = self.children.last_mut().context("one was pushed")?;
        let started = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                let log = fs::read_to_string(log).unwrap_or_default();
                let last = log.lines().last().unwrap_or("its log is empty");
                bail!("ended at once ({status}): {last}");
            }
            if answers(address) {
                return Ok(());
            }
            if started.elapsed() > START_WAIT {
                bail!("does not answer");
            }
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        if let Some(state) = &self.state {
            // It would write its state at a stop.
            self.children.iter_mut().for_each(|child| drop(child.kill()));
            let _ = fs::remove_file(state);
        }
        self.children.iter_mut().for_each(stop);
    }
}

fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

/// Whether it answers a connect request (BEP 15).
fn answers_udp(address: SocketAddr) -> bool {
    const CONNECT: [u8; 16] = *b"\x00\x00\x04\x17\x27\x10\x19\x80\x00\x00\x00\x00wait";
    let ask = || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(address)?;
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        socket.send(&CONNECT)?;
        socket.recv(&mut [0; 64])
    };
    ask().is_ok_and(|len| len == CONNECT.len())
}

/// An address of which the port is free now. Ports are not given twice: that of a server just
/// stopped can be busy for a while, because the kernel takes a ring apart in its own time.
fn free_address() -> io::Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(PORT_FIRST);
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        match TcpListener::bind(address) {
            Ok(_) => return Ok(address),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && port < u16::MAX => {}
            Err(e) => return Err(e),
        }
    }
}

/// Finds a program. Debian keeps servers out of the path of ordinary users, and cargo installs to a
/// directory of its own.
pub fn installed(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let cargo = env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo/bin"));
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .chain(cargo)
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}
