//! How each client shares one torrent: unattended, with all other ways to find peers switched off.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::recorder;
use crate::support::network::Network;

/// A BitTorrent client of Debian's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientProgram {
    /// aria2.
    Aria2,
    /// Transmission's daemon.
    Transmission,
    /// rTorrent, on rakshasa's libtorrent.
    Rtorrent,
    /// Rasterbar's libtorrent (qBittorrent's and Deluge's), by its Python binding.
    Libtorrent,
    /// Enhanced CTorrent: HTTP/1.0, IPv4 only.
    Ctorrent,
}

/// The listening port of every client; each has its own host.
const PORT: &str = "6881";

/// The programs the clients need.
pub(crate) const PROGRAMS: [&str; 4] = ["aria2c", "transmission-daemon", "rtorrent", "ctorrent"];

/// How long a client that is recorded may take to leave.
const LEAVE_MAX: Duration = Duration::from_secs(5);

/// Debian's Python, which has Debian's packages.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// The files and settings of a peer.
pub(crate) struct Share<'a> {
    /// The torrent file; for aria2 and libtorrent, it may be a magnet link.
    pub(crate) torrent: &'a Path,
    /// The only root certificate that it trusts; without it, its own ones.
    pub(crate) trusted: Option<&'a Path>,
    /// The directory of the content: complete for a seeder, empty for a leecher.
    pub(crate) content: PathBuf,
    /// The content's file name.
    pub(crate) file: &'a str,
    /// A directory for the client's own files; its output goes to `log` in it.
    pub(crate) state: PathBuf,
}

impl ClientProgram {
    /// The clients with TLS; all verify certificates.
    pub(crate) const WITH_TLS: [ClientProgram; 4] = [
        ClientProgram::Aria2,
        ClientProgram::Transmission,
        ClientProgram::Libtorrent,
        ClientProgram::Rtorrent,
    ];

    /// The clients with UDP trackers (BEP 15). ctorrent has none.
    pub(crate) const WITH_UDP: [ClientProgram; 4] = ClientProgram::WITH_TLS;

    /// Seeders that reach UDP trackers over IPv6, and who leeches from them. aria2 reaches them
    /// over IPv4 only. Transmission 3.00 takes an IPv6 address in the URL for a name, and both it
    /// and rTorrent 0.9.8 read the peers in any reply as IPv4.
    pub(crate) const WITH_UDP_OVER_IPV6: [(ClientProgram, ClientProgram); 2] = [
        (ClientProgram::Rtorrent, ClientProgram::Libtorrent),
        (ClientProgram::Libtorrent, ClientProgram::Libtorrent),
    ];

    /// Starts a peer on a host.
    pub(crate) fn start(self, network: &Network, host: u8, share: &Share<'_>) -> Peer {
        for directory in [&share.content, &share.state] {
            fs::create_dir_all(directory).expect("a peer's directory");
        }
        let mut command = match self {
            ClientProgram::Aria2 => aria2(network, host, share),
            ClientProgram::Transmission => transmission(network, host, share),
            ClientProgram::Rtorrent => rtorrent(network, host, share),
            ClientProgram::Libtorrent => libtorrent(network, host, share),
            ClientProgram::Ctorrent => ctorrent(network, host, share),
        };
        let log = share.state.join("log");
        let output = File::create(&log).expect("a peer's log");
        // The settings of the machine's user (proxies, certificates, clients' files) must not
        // apply.
        let child = command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", &share.state)
            .env("LANG", "C.UTF-8")
            .env("TERM", "dumb")
            .envs(self.environment(share.trusted))
            .current_dir(&share.state)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Peer { child, log }
    }

    /// Environment variables: the trusted root, if there is no setting for it, and verbose errors
    /// of trackers, which Transmission otherwise calls "could not connect".
    fn environment(self, root: Option<&Path>) -> Vec<(&'static str, &OsStr)> {
        let trust = |variable| root.map(|root| (variable, root.as_os_str()));
        let verbose = ("TR_CURL_VERBOSE", OsStr::new("1"));
        match self {
            ClientProgram::Transmission => {
                trust("CURL_CA_BUNDLE").into_iter().chain([verbose]).collect()
            }
            ClientProgram::Libtorrent => trust("SSL_CERT_FILE").into_iter().collect(),
            ClientProgram::Aria2 | ClientProgram::Rtorrent | ClientProgram::Ctorrent => Vec::new(),
        }
    }

    /// Whether it announces the completion at once. rTorrent delays `completed` until its next
    /// regular announce if the download was quick; ctorrent keeps to the interval too.
    pub(crate) fn reports_completion_at_once(self) -> bool {
        !matches!(self, ClientProgram::Rtorrent | ClientProgram::Ctorrent)
    }

    /// The piece size of a torrent that this client leeches. aria2 reports several new pieces by
    /// another `bitfield` message in the middle of a connection, on which rTorrent and ctorrent
    /// disconnect: with a single piece this does not happen.
    pub(crate) fn piece_bytes(self, file_bytes: usize) -> usize {
        if self == ClientProgram::Aria2 { file_bytes.next_power_of_two() } else { 64 * 1024 }
    }
}

fn aria2(network: &Network, host: u8, share: &Share<'_>) -> Command {
    let mut command = network.in_host(host, "aria2c");
    command
        // UDP trackers need the socket of its DHT, which finds nobody: hosts send each other no
        // UDP.
        .args(["--no-conf", "--enable-dht=true", "--enable-dht6=false"])
        .arg(format!("--dht-listen-port={PORT}"))
        .arg("--dht-file-path")
        .arg(share.state.join("dht.dat"))
        .args(["--bt-enable-lpd=false", "--enable-peer-exchange=false"])
        .args(["--file-allocation=none", "--check-integrity=true", "--summary-interval=0"])
        // A ratio of 0 means: seed without end.
        .args(["--seed-ratio=0.0", "--console-log-level=info", "--enable-color=false"])
        .arg(format!("--listen-port={PORT}"))
        .arg("--dir")
        .arg(&share.content);
    if let Some(root) = share.trusted {
        command.arg("--ca-certificate").arg(root);
    }
    command.arg(share.torrent);
    command
}

fn transmission(network: &Network, host: u8, share: &Share<'_>) -> Command {
    let watched = share.state.join("watched");
    fs::create_dir_all(&watched).expect("a watched directory");
    fs::copy(share.torrent, watched.join("it.torrent")).expect("a torrent to be found");
    let settings = format!(
        "{{\"download-dir\": {:?}, \"watch-dir\": {watched:?}, \"watch-dir-enabled\": true, \
          \"incomplete-dir-enabled\": false, \"rename-partial-files\": false, \
          \"preallocation\": 0, \"peer-port\": {PORT}, \"rpc-enabled\": false, \
          \"dht-enabled\": false, \"lpd-enabled\": false, \"pex-enabled\": false, \
          \"utp-enabled\": false, \"port-forwarding-enabled\": false}}",
        share.content
    );
    fs::write(share.state.join("settings.json"), settings).expect("Transmission's settings");
    let mut command = network.in_host(host, "transmission-daemon");
    command.args(["--foreground", "--log-info", "--config-dir"]).arg(&share.state);
    command
}

fn rtorrent(network: &Network, host: u8, share: &Share<'_>) -> Command {
    let session = share.state.join("session");
    fs::create_dir_all(&session).expect("rTorrent's session directory");
    let trust = share
        .trusted
        .map_or(String::new(), |root| format!("network.http.cacert.set = {}\n", root.display()));
    let settings = format!(
        "system.daemon.set = true\n\
         {trust}\
         session.path.set = {}\n\
         directory.default.set = {}\n\
         network.port_range.set = {PORT}-{PORT}\n\
         dht.mode.set = disable\n\
         protocol.pex.set = no\n\
         trackers.use_udp.set = yes\n\
         log.open_file = \"file\", {}\n\
         log.add_output = \"info\", \"file\"\n\
         log.add_output = \"tracker_debug\", \"file\"\n\
         schedule2 = start, 0, 0, ((load.start, {}))\n",
        session.display(),
        share.content.display(),
        share.state.join("log").display(),
        share.torrent.display()
    );
    let file = share.state.join("rtorrent.rc");
    fs::write(&file, settings).expect("rTorrent's settings");
    let mut command = network.in_host(host, "rtorrent");
    command.args(["-n", "-o"]).arg(format!("import={}", file.display()));
    command
}

fn libtorrent(network: &Network, host: u8, share: &Share<'_>) -> Command {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transfers/libtorrent_peer.py");
    let mut command = network.in_host(host, PYTHON);
    command.arg("-B").arg(script).arg(share.torrent).arg(&share.content);
    command.arg(format!("0.0.0.0:{PORT},[::]:{PORT}"));
    command
}

fn ctorrent(network: &Network, host: u8, share: &Share<'_>) -> Command {
    let mut command = network.in_host(host, "ctorrent");
    // -e: hours to seed.
    command.args(["-e", "1", "-p", PORT, "-s"]).arg(share.content.join(share.file));
    command.arg(share.torrent);
    command
}

/// A running client; it is killed when the value is dropped.
pub(crate) struct Peer {
    child: Child,
    log: PathBuf,
}

impl Peer {
    /// The end of its output, and its exit status if it has exited.
    pub(crate) fn last_words(&mut self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(2000)..]).into_owned();
        match self.child.try_wait() {
            Ok(Some(status)) => format!("{tail}\n[ended with {status}]"),
            _ => tail,
        }
    }

    /// Whether its output contains this.
    pub(crate) fn has_said(&self, part: &str) -> bool {
        let log = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log).contains(part)
    }

    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if recorder::is_asked_for() {
            // Clients say that they stop, and then end.
            let pid = self.child.id().to_string();
            let _ = Command::new("kill").args(["-INT", &pid]).status();
            super::wait_until(LEAVE_MAX, || !self.is_running());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
