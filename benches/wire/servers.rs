//! The servers under test: how each is found, configured, started and stopped.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::configurations;
use crate::endpoint::{Endpoint, Transport};
use crate::floor::{Connections, SHORT_BODY_BYTES};
use crate::process::{
    BOTH_CPUS, CpuTime, SERVER_CPU, pinned, pinned_unprivileged, resident_bytes, stop,
};
use crate::torrents::write_list;

/// Time that a server has to accept its first connection.
const START_WAIT: Duration = Duration::from_secs(10);

/// The first port tried. Below the range from which the kernel takes the load's own ports.
const PORT_FIRST: u16 = 7300;

/// Name of opentracker's whitelist.
const WHITELIST: &str = "whitelist";

/// Time in which opentracker reads its whitelist, in a thread of its own after the start.
const WHITELIST_WAIT: Duration = Duration::from_secs(1);

/// The argument with which this executable serves as the floor.
pub(crate) const SERVE_FLOOR: &str = "serve-floor";

/// A server that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// The bare io_uring loop of `benches/floor`, with ten peers in its answer.
    ShortFloor,
    /// The same, with an answer as long as this tracker's are.
    Floor,
    /// This tracker, with the engine that it chooses itself.
    Annulus,
    /// This tracker on epoll.
    AnnulusEpoll,
    /// nginx with the floor's answer.
    Nginx,
    /// Debian's opentracker, which closes every connection; over TLS behind hitch.
    Opentracker,
    /// aquatic_http, of which one process speaks TLS and another does not.
    Aquatic,
}

/// How a server is to be started.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Whether a connection carries one request or many.
    pub(crate) connections: Connections,
    /// Torrents to serve, the first ones of [`crate::torrents`].
    pub(crate) torrents: u64,
    /// Bytes of the bodies of constant answers, given in turn.
    pub(crate) body_bytes: Vec<usize>,
    /// Whether it has to listen for TLS beside plain connections.
    pub(crate) tls: bool,
    /// Workers of this tracker, on both CPUs; otherwise it has one, pinned like all servers.
    pub(crate) spread: Option<u64>,
}

impl Setup {
    /// Without TLS.
    pub(crate) fn plain(connections: Connections, torrents: u64) -> Setup {
        let body_bytes = vec![SHORT_BODY_BYTES];
        Setup { connections, torrents, body_bytes, tls: false, spread: None }
    }

    /// With TLS beside.
    pub(crate) fn both(connections: Connections, torrents: u64) -> Setup {
        Setup { tls: true, ..Setup::plain(connections, torrents) }
    }
}

impl Server {
    /// In the order of the tables.
    pub(crate) const ALL: [Server; 7] = [
        Server::ShortFloor,
        Server::Floor,
        Server::Annulus,
        Server::AnnulusEpoll,
        Server::Nginx,
        Server::Opentracker,
        Server::Aquatic,
    ];

    /// As given to `--server`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Server::ShortFloor => "floor-short",
            Server::Floor => "floor",
            Server::Annulus => "annulus",
            Server::AnnulusEpoll => "annulus-epoll",
            Server::Nginx => "nginx",
            Server::Opentracker => "opentracker",
            Server::Aquatic => "aquatic_http",
        }
    }

    /// As the tables have it.
    pub(crate) fn title(self, transport: Transport) -> &'static str {
        match (self, transport) {
            (Server::ShortFloor, _) => "floor (short answer)",
            (Server::Floor, _) => "floor (same lengths)",
            (Server::Nginx, _) => "nginx (same mean length)",
            (Server::Opentracker, Transport::Tls) => "hitch + opentracker",
            _ => self.name(),
        }
    }

    /// Whether it is one of the floors.
    pub(crate) fn is_floor(self) -> bool {
        matches!(self, Server::ShortFloor | Server::Floor)
    }

    /// Whether it keeps peers, and not only gives a constant answer.
    pub(crate) fn is_tracker(self) -> bool {
        !self.is_floor() && self != Server::Nginx
    }

    /// Whether it is the tracker of this repository.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Server::Annulus | Server::AnnulusEpoll)
    }

    /// Whether it closes connections without `Connection: close` in the answer.
    pub(crate) fn closes_unannounced(self) -> bool {
        matches!(self, Server::Opentracker | Server::Aquatic)
    }

    /// Whether it answers requests that were sent before the last answer; otherwise it resets.
    pub(crate) fn takes_pipelined(self) -> bool {
        self != Server::Aquatic
    }

    /// Whether what it learns on one transport is known on the other.
    pub(crate) fn shares_swarms(self) -> bool {
        self != Server::Aquatic
    }

    /// Whether several of its threads are busy at a time: on one CPU they wait for each other.
    pub(crate) fn waits_for_itself(self, transport: Transport) -> bool {
        match self {
            Server::Opentracker => transport == Transport::Tls,
            _ => self == Server::Aquatic,
        }
    }

    /// Whether its constant answer is to be as long as this tracker's answers are.
    pub(crate) fn answers_at_length(self) -> bool {
        matches!(self, Server::Floor | Server::Nginx)
    }

    /// Whether it can serve connections of this kind.
    pub(crate) fn serves(self, connections: Connections, transport: Transport) -> bool {
        match self {
            Server::ShortFloor | Server::Floor => transport == Transport::Plain,
            Server::Opentracker => connections == Connections::Close,
            _ => true,
        }
    }

    /// Its executable, if there is one.
    pub(crate) fn executable(self) -> Option<PathBuf> {
        match self {
            Server::ShortFloor | Server::Floor => env::current_exe().ok(),
            Server::Annulus | Server::AnnulusEpoll => Some(env!("CARGO_BIN_EXE_annulus").into()),
            Server::Nginx => installed("nginx"),
            Server::Opentracker => installed("opentracker"),
            Server::Aquatic => installed("aquatic_http"),
        }
    }

    /// Starts it, pinned to its CPU, and waits until it accepts. Where TLS is asked for and
    /// cannot be had, [`Running::endpoint`] says why.
    ///
    /// # Errors
    ///
    /// If it is not installed, ends at once (with the last line of its log) or does not accept.
    pub(crate) fn start(self, setup: Setup) -> io::Result<Running> {
        let executable = self.executable().ok_or_else(|| io::Error::other("not installed"))?;
        let plain = free_address()?;
        let speaks_tls = setup.tls && self.serves(setup.connections, Transport::Tls);
        let tls = if speaks_tls { Some(free_address()?) } else { None };
        // Emptied at every start; within the target directory, so that nothing is littered.
        let name = match setup.spread {
            Some(workers) => format!("{}-{workers}", self.name()),
            None => self.name().to_owned(),
        };
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wire").join(name);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory)?;

        let mut running = Running { children: Vec::new(), plain, tls: Err("no TLS".to_owned()) };
        let command = self.command(&executable, &directory, (plain, tls), &setup)?;
        running.launch(command, &directory.join("log"), plain)?;
        if self == Server::Opentracker {
            sleep(WHITELIST_WAIT);
        }
        if let Some(tls) = tls {
            let listens = match self.tls_command(&executable, &directory, (plain, tls), setup) {
                Ok(Some(command)) => running.launch(command, &directory.join("tls-log"), tls),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            running.tls = listens.map(|()| tls).map_err(|error| error.to_string());
        }
        Ok(running)
    }

    /// The command that starts it on the first address, and on the second if it speaks both.
    fn command(
        self,
        executable: &Path,
        directory: &Path,
        (plain, tls): (SocketAddr, Option<SocketAddr>),
        setup: &Setup,
    ) -> io::Result<Command> {
        let mut command = match self {
            Server::Opentracker => pinned_unprivileged(SERVER_CPU, executable),
            _ if setup.spread.is_some() => pinned(BOTH_CPUS, executable),
            _ => pinned(SERVER_CPU, executable),
        };
        command.current_dir(directory);
        match self {
            Server::ShortFloor | Server::Floor => {
                let (address, connections) = (plain.to_string(), setup.connections.to_string());
                let lengths: Vec<String> = setup.body_bytes.iter().map(usize::to_string).collect();
                command.args([SERVE_FLOOR, &address, &connections]);
                command.args(["--body-bytes", &lengths.join(",")]);
            }
            Server::Annulus | Server::AnnulusEpoll => {
                let engine = if self == Server::Annulus { "auto" } else { "epoll" };
                let text = configurations::annulus(plain, tls, engine, setup.spread.unwrap_or(1));
                fs::write(directory.join("annulus.toml"), text)?;
                command.args(["-c", "annulus.toml"]);
            }
            Server::Nginx => {
                let mean = setup.body_bytes.iter().sum::<usize>() / setup.body_bytes.len();
                let text = configurations::nginx(plain, tls, mean);
                fs::write(directory.join("nginx.conf"), text)?;
                command.args([OsStr::new("-p"), directory.as_os_str()]);
                command.args(["-c", "nginx.conf", "-e", "stderr"]);
            }
            Server::Opentracker => {
                // Debian's build serves no torrent that is not listed.
                write_list(&directory.join(WHITELIST), setup.torrents)?;
                let (ip, port) = (plain.ip().to_string(), plain.port().to_string());
                command.args(["-i", &ip, "-p", &port, "-w", WHITELIST]);
            }
            Server::Aquatic => {
                let text = configurations::aquatic(plain, setup.connections, false);
                fs::write(directory.join("aquatic.toml"), text)?;
                command.args(["-c", "aquatic.toml"]);
            }
        }
        Ok(command)
    }

    /// The command that starts a second process, where it takes one to speak TLS.
    fn tls_command(
        self,
        executable: &Path,
        directory: &Path,
        (plain, tls): (SocketAddr, SocketAddr),
        setup: Setup,
    ) -> io::Result<Option<Command>> {
        let mut command = match self {
            Server::Opentracker => {
                let hitch = installed("hitch");
                let hitch = hitch.ok_or_else(|| io::Error::other("hitch is not installed"))?;
                fs::write(directory.join("hitch.conf"), configurations::hitch(tls, plain))?;
                let mut command = pinned_unprivileged(SERVER_CPU, hitch);
                command.arg("--config=hitch.conf");
                command
            }
            Server::Aquatic => {
                let text = configurations::aquatic(tls, setup.connections, true);
                fs::write(directory.join("aquatic-tls.toml"), text)?;
                let mut command = pinned(SERVER_CPU, executable);
                command.args(["-c", "aquatic-tls.toml"]);
                command
            }
            _ => return Ok(None),
        };
        command.current_dir(directory);
        Ok(Some(command))
    }
}

/// A server that was started; dropping it stops it.
pub(crate) struct Running {
    children: Vec<Child>,
    plain: SocketAddr,
    tls: Result<SocketAddr, String>,
}

impl Running {
    /// Where it listens.
    ///
    /// # Errors
    ///
    /// Why it does not speak TLS.
    pub(crate) fn endpoint(&self, transport: Transport) -> io::Result<Endpoint> {
        let address = match transport {
            Transport::Plain => self.plain,
            Transport::Tls => self.tls.clone().map_err(io::Error::other)?,
        };
        Ok(Endpoint { address, transport })
    }

    /// What all its processes have had of the CPU.
    ///
    /// # Errors
    ///
    /// If one of them is gone.
    pub(crate) fn cpu_time(&self) -> io::Result<CpuTime> {
        self.children
            .iter()
            .try_fold(CpuTime::default(), |sum, child| Ok(sum.plus(CpuTime::of(child.id())?)))
    }

    /// Bytes of memory that all its processes have resident.
    ///
    /// # Errors
    ///
    /// If one of them is gone.
    pub(crate) fn resident_bytes(&self) -> io::Result<u64> {
        self.children.iter().map(|child| resident_bytes(child.id())).sum()
    }

    /// Starts one process and waits until it accepts.
    fn launch(&mut self, mut command: Command, log: &Path, address: SocketAddr) -> io::Result<()> {
        let output = File::create(log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let mut child = command.spawn()?;
        let started = Instant::now();
        let accepts = loop {
            if let Some(status) = child.try_wait()? {
                let log = fs::read_to_string(log).unwrap_or_default();
                let last = log.lines().last().unwrap_or("no word in its log");
                return Err(io::Error::other(format!("ended at once ({status}): {last}")));
            }
            if TcpStream::connect(address).is_ok() {
                break Ok(());
            }
            if started.elapsed() > START_WAIT {
                break Err(io::Error::other("does not accept connections"));
            }
            sleep(Duration::from_millis(20));
        };
        self.children.push(child);
        accepts
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.children.iter_mut().for_each(stop);
    }
}

/// An address of which the port is free now. Ports are not given twice: that of a server just
/// stopped can be busy for a while, because the kernel takes a ring apart in its own time.
fn free_address() -> io::Result<SocketAddr> {
    use std::sync::atomic::{AtomicU16, Ordering};
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

/// Finds a program. Debian keeps servers out of the path of ordinary users, and cargo installs
/// to a place of its own.
pub(crate) fn installed(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let cargo = env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo/bin"));
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .chain(cargo)
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}
