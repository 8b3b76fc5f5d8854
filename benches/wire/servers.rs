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

use crate::floor::{BODY, Connections};
use crate::process::{SERVER_CPU, pinned, pinned_unprivileged, stop};
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
    /// The bare io_uring loop of `benches/floor`.
    Floor,
    /// This tracker, with the engine that it chooses itself.
    Annulus,
    /// This tracker on epoll.
    AnnulusEpoll,
    /// nginx with the floor's answer.
    Nginx,
    /// Debian's opentracker, which closes every connection.
    Opentracker,
}

impl Server {
    /// In the order of the tables.
    pub(crate) const ALL: [Server; 5] =
        [Server::Floor, Server::Annulus, Server::AnnulusEpoll, Server::Nginx, Server::Opentracker];

    /// As given to `--server`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Server::Floor => "floor",
            Server::Annulus => "annulus",
            Server::AnnulusEpoll => "annulus-epoll",
            Server::Nginx => "nginx",
            Server::Opentracker => "opentracker",
        }
    }

    /// Whether it keeps peers, and not only gives a constant answer.
    pub(crate) fn is_tracker(self) -> bool {
        !matches!(self, Server::Floor | Server::Nginx)
    }

    /// Whether it is the tracker of this repository.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Server::Annulus | Server::AnnulusEpoll)
    }

    /// Whether it can serve connections of this kind.
    pub(crate) fn serves(self, connections: Connections) -> bool {
        self != Server::Opentracker || connections == Connections::Close
    }

    /// Its executable, if there is one.
    pub(crate) fn executable(self) -> Option<PathBuf> {
        match self {
            Server::Floor => env::current_exe().ok(),
            Server::Annulus | Server::AnnulusEpoll => Some(env!("CARGO_BIN_EXE_annulus").into()),
            Server::Nginx => installed("nginx"),
            Server::Opentracker => installed("opentracker"),
        }
    }

    /// Starts it, pinned to its CPU, and waits until it accepts. It has to serve the first
    /// `torrents` of [`crate::torrents`].
    ///
    /// # Errors
    ///
    /// If it is not installed, ends at once (with the last line of its log) or does not accept.
    pub(crate) fn start(self, connections: Connections, torrents: u64) -> io::Result<Running> {
        let executable = self.executable().ok_or_else(|| io::Error::other("not installed"))?;
        let address = free_address()?;
        // Emptied at every start; within the target directory, so that nothing is littered.
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wire").join(self.name());
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory)?;
        let log = directory.join("log");

        let mut command = match self {
            Server::Opentracker => pinned_unprivileged(SERVER_CPU, &executable),
            _ => pinned(SERVER_CPU, &executable),
        };
        command.current_dir(&directory);
        if self == Server::Opentracker {
            // Debian's build serves no torrent that is not listed.
            write_list(&directory.join(WHITELIST), torrents)?;
        }
        self.configure(&mut command, &directory, address, connections)?;
        let output = File::create(&log)?;
        let child =
            command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).spawn()?;
        let mut running = Running { child, address };

        let started = Instant::now();
        loop {
            if let Some(status) = running.child.try_wait()? {
                let log = fs::read_to_string(&log).unwrap_or_default();
                let last = log.lines().last().unwrap_or("no word in its log");
                return Err(io::Error::other(format!("ended at once ({status}): {last}")));
            }
            if TcpStream::connect(address).is_ok() {
                if self == Server::Opentracker {
                    sleep(WHITELIST_WAIT);
                }
                return Ok(running);
            }
            if started.elapsed() > START_WAIT {
                return Err(io::Error::other("does not accept connections"));
            }
            sleep(Duration::from_millis(20));
        }
    }

    fn configure(
        self,
        command: &mut Command,
        directory: &Path,
        address: SocketAddr,
        connections: Connections,
    ) -> io::Result<()> {
        match self {
            Server::Floor => {
                command.args([SERVE_FLOOR, &address.to_string(), &connections.to_string()]);
            }
            Server::Annulus | Server::AnnulusEpoll => {
                let engine = if self == Server::Annulus { "auto" } else { "epoll" };
                let file = directory.join("annulus.toml");
                fs::write(&file, annulus_configuration(address, engine))?;
                command.arg("-c").arg(file);
            }
            Server::Nginx => {
                fs::write(directory.join("nginx.conf"), nginx_configuration(address))?;
                command.args([OsStr::new("-p"), directory.as_os_str()]);
                command.args(["-c", "nginx.conf", "-e", "stderr"]);
            }
            Server::Opentracker => {
                let (ip, port) = (address.ip().to_string(), address.port().to_string());
                command.args(["-i", &ip, "-p", &port, "-w", WHITELIST]);
            }
        }
        Ok(())
    }
}

/// A server that was started; dropping it stops it.
pub(crate) struct Running {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Running {
    /// Its first process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

fn annulus_configuration(address: SocketAddr, engine: &str) -> String {
    format!("listen = [\"{address}\"]\nworkers = 1\nengine = \"{engine}\"\n")
}

/// The floor's answer, by the cheapest means that nginx has.
fn nginx_configuration(address: SocketAddr) -> String {
    format!(
        "daemon off;
worker_processes 1;
pid nginx.pid;
events {{ worker_connections 4096; }}
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
        listen {address} deferred reuseport backlog=4096;
        location / {{ return 200 \"{BODY}\"; }}
    }}
}}
"
    )
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

/// Finds a program. Debian keeps servers out of the path of ordinary users.
pub(crate) fn installed(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}
