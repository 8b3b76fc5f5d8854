//! Files are transferred between real clients that can find each other only through the tracker:
//! over IPv4 and IPv6, with both engines, by HTTP, HTTPS and UDP. Every client seeds and leeches at
//! least twice over each address family that it supports, and once more by HTTPS and by UDP. Two
//! clients also leech from a magnet link, with nothing but seeders in the swarm. Clients of
//! different transports, and of different nodes of a cluster, find each other too.

mod clients;
mod mixed;
mod nodes;
mod recorder;
mod trust;

use std::env;
use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::network::{Family, Network};
use crate::support::requirements::{
    TempDir, can_run, missing_programs, missing_root, print_uncaptured,
};
use crate::support::tracker::{ANNULUS, Tracker};
use clients::{ClientProgram, PROGRAMS, PYTHON, Peer, Share};
use recorder::Recorder;
use trust::Trust;

/// Not a multiple of 16 KiB, the size of a block.
const FILE_BYTES: usize = 1_500_007;

/// Parallel transfers, each with two hosts.
const LANES: u8 = 2;

/// How long a seeder may take to announce. Clients hash the file first.
const SEEDER_MAX: Duration = Duration::from_secs(20);

/// How long a transfer may take; most take one to five seconds.
const TRANSFER_MAX: Duration = Duration::from_secs(60);

/// How long after the transfer a leecher may still be counted as one.
const COMPLETION_MAX: Duration = Duration::from_secs(15);

const POLL: Duration = Duration::from_millis(250);

/// How peers connect to the tracker.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
    Udp,
}

/// What a leecher starts from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LeechFrom {
    Torrent,
    Magnet,
}

/// Pairs of each client as seeder with each of the next `leechers` clients.
fn circle(clients: &[ClientProgram], leechers: usize) -> Vec<(ClientProgram, ClientProgram)> {
    let steps = 1..=leechers;
    let pairs = steps.flat_map(|step| {
        let next = clients.iter().cycle().skip(step);
        clients.iter().copied().zip(next.copied())
    });
    pairs.collect()
}

#[test]
fn files_travel_over_ipv4() {
    let clients = [
        ClientProgram::Aria2,
        ClientProgram::Transmission,
        ClientProgram::Ctorrent,
        ClientProgram::Libtorrent,
        ClientProgram::Rtorrent,
    ];
    transfers("ipv4", &[Family::V4], &circle(&clients, 2), Scheme::Http, LeechFrom::Torrent);
}

#[test]
fn files_travel_over_ipv6() {
    let clients = [
        ClientProgram::Aria2,
        ClientProgram::Transmission,
        ClientProgram::Libtorrent,
        ClientProgram::Rtorrent,
    ];
    transfers("ipv6", &[Family::V6], &circle(&clients, 2), Scheme::Http, LeechFrom::Torrent);
}

#[test]
fn files_travel_with_https_over_ipv4() {
    let pairs = circle(&ClientProgram::WITH_TLS, 1);
    transfers("https4", &[Family::V4], &pairs, Scheme::Https, LeechFrom::Torrent);
}

#[test]
fn files_travel_with_https_over_ipv6() {
    let pairs = circle(&ClientProgram::WITH_TLS, 1);
    transfers("https6", &[Family::V6], &pairs, Scheme::Https, LeechFrom::Torrent);
}

#[test]
fn files_travel_with_udp_over_ipv4() {
    let pairs = circle(&ClientProgram::WITH_UDP, 1);
    transfers("udp4", &[Family::V4], &pairs, Scheme::Udp, LeechFrom::Torrent);
}

#[test]
fn files_travel_with_udp_over_ipv6() {
    let pairs = ClientProgram::WITH_UDP_OVER_IPV6;
    transfers("udp6", &[Family::V6], &pairs, Scheme::Udp, LeechFrom::Torrent);
}

/// Without metadata libtorrent reports itself as a leecher, and aria2 as a seeder.
#[test]
fn files_travel_from_magnets() {
    let clients = [ClientProgram::Aria2, ClientProgram::Libtorrent];
    transfers("magnet", &[Family::V4], &circle(&clients, 2), Scheme::Http, LeechFrom::Magnet);
}

/// The control: if peers could find each other without the tracker, the transfers would prove
/// nothing.
#[test]
fn peers_of_different_trackers_do_not_meet() {
    const PATIENCE: Duration = Duration::from_secs(12);
    if !can_run("the control of the transfers", &missing()) {
        return;
    }
    let scratch = TempDir::new("control");
    let network = Network::new("control", &[Family::V4], 2);
    let trackers = ["auto", "epoll"].map(|engine| start_tracker(&network, engine, None));
    let [transfer, elsewhere] = trackers.each_ref().map(|tracker| Transfer {
        network: &network,
        announce: announce_url(tracker, Scheme::Http),
        trusted: None,
        hosts: (0, 1),
        directory: scratch.path(),
        start: LeechFrom::Torrent,
    });
    let seeded = scratch.path().join("seeder/file.bin");
    fs::create_dir_all(seeded.parent().expect("a directory")).expect("a directory");
    write_random_file(&seeded).expect("a file");
    let torrents = ["here.torrent", "there.torrent"].map(|name| scratch.path().join(name));
    let here = transfer.make_torrent(&seeded, &torrents[0], 64 * 1024).expect("a torrent");
    let there = elsewhere.make_torrent(&seeded, &torrents[1], 64 * 1024).expect("a torrent");
    assert_eq!(here, there, "the same torrent at both trackers");

    // libtorrent has the most ways to find peers.
    let _seeder =
        ClientProgram::Libtorrent.start(&network, 0, &transfer.share("seeder", &torrents[0]));
    let _leecher =
        ClientProgram::Libtorrent.start(&network, 1, &transfer.share("leecher", &torrents[1]));
    let is_known = |to: &Transfer<'_>| to.scrape(&here).is_some_and(|it| it.all() == 1);
    assert!(wait_until(SEEDER_MAX, || is_known(&transfer) && is_known(&elsewhere)));
    let leeched = scratch.path().join("leecher/file.bin");
    assert!(!wait_until(PATIENCE, || leeched.exists()), "they met without the tracker's help");
}

/// Transfers from the first to the second client of each pair.
fn transfers(
    name: &'static str,
    families: &'static [Family],
    pairs: &[(ClientProgram, ClientProgram)],
    scheme: Scheme,
    start: LeechFrom,
) {
    if !can_run("the transfers between clients", &missing()) {
        return;
    }
    // Dropped in the opposite order of their declaration.
    let scratch = TempDir::new(name);
    let network = Network::new(name, families, 2 * LANES);
    let trust = (scheme == Scheme::Https).then(|| Trust::new(network.hub_address()));
    let trackers = ["auto", "epoll"].map(|engine| start_tracker(&network, engine, trust.as_ref()));
    let trusted = trust.as_ref().map(Trust::root);

    let _recorder = Recorder::start(&network);
    let (taken, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for lane in 0..LANES {
            let (trackers, failures) = (&trackers, &failures);
            let (network, scratch, taken, trusted) = (&network, &scratch, &taken, &trusted);
            scope.spawn(move || {
                loop {
                    let index = taken.fetch_add(1, Ordering::Relaxed);
                    let Some(&(seeder, leecher)) = pairs.get(index) else { break };
                    let tracker = &trackers[index % trackers.len()];
                    let transfer = Transfer {
                        network,
                        announce: announce_url(tracker, scheme),
                        trusted: trusted.clone(),
                        hosts: (2 * lane, 2 * lane + 1),
                        directory: &scratch.path().join(index.to_string()),
                        start,
                    };
                    let started = Instant::now();
                    let result = transfer.run(seeder, leecher);
                    let seconds = started.elapsed().as_secs_f32();
                    let what = format!("{seeder:?} to {leecher:?} by {}", transfer.announce);
                    match result {
                        Ok(note) => print_uncaptured(&format!("{what}: {seconds:.1} s{note}")),
                        Err(why) => {
                            let log = tracker.log();
                            let report = format!("{what}: {why}\n--- tracker:\n{log}");
                            failures.lock().expect("the failures").push(report);
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("the failures");
    let count = failures.len();
    assert!(failures.is_empty(), "{count} of {} failed\n{}", pairs.len(), failures.join("\n\n"));
}

/// What this machine lacks for the transfers.
fn missing() -> Vec<String> {
    let mut missing = missing_programs(&["ip", "nft", "curl", "sha256sum", "kill", "openssl"]);
    missing.extend(missing_programs(&PROGRAMS));
    let mut import = Command::new(PYTHON);
    import.args(["-c", "import libtorrent"]);
    if !import.output().is_ok_and(|output| output.status.success()) {
        missing.push(format!("libtorrent for {PYTHON} (package python3-libtorrent)"));
    }
    missing.extend(missing_root("for network namespaces"));
    missing
}

/// A tracker in the hub: HTTPS only with certificates, HTTP only without.
fn start_tracker(network: &Network, engine: &str, trust: Option<&Trust>) -> Tracker {
    let address = SocketAddr::new(network.hub_address(), 0);
    let own = format!("workers = 2\nengine = \"{engine}\"\n");
    let config = match trust {
        None => format!("{own}listen = [\"{address}\"]\n"),
        Some(trust) => format!("{own}listen = []\n{}", trust.tls_table(address)),
    };
    let mut command = network.in_hub(ANNULUS);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let tracker = Tracker::spawn(command, &env::temp_dir(), &config);
    tracker.assert_logged("listening on ");
    print_uncaptured(&format!("engine = {engine}: {}", tracker.log_line("engine ")));
    tracker
}

fn announce_url(tracker: &Tracker, scheme: Scheme) -> String {
    let (scheme, mark) = match scheme {
        Scheme::Http => ("http", ""),
        Scheme::Https => ("https", " (https)"),
        // On the address of HTTP.
        Scheme::Udp => ("udp", ""),
    };
    let addresses = tracker.wait_listening(mark, 1).expect("an address");
    format!("{scheme}://{}/announce", addresses[0])
}

/// The conditions of one transfer.
struct Transfer<'a> {
    network: &'a Network,
    announce: String,
    /// The root certificate that peers trust, if the tracker uses TLS.
    trusted: Option<PathBuf>,
    hosts: (u8, u8),
    directory: &'a Path,
    start: LeechFrom,
}

impl Transfer<'_> {
    /// Runs the transfer. `Ok` holds a remark or nothing.
    fn run(&self, seeder: ClientProgram, leecher: ClientProgram) -> Result<&'static str, String> {
        let seeded = self.directory.join("seeder/file.bin");
        let leeched = self.directory.join("leecher/file.bin");
        fs::create_dir_all(seeded.parent().expect("a directory")).map_err(text)?;
        write_random_file(&seeded).map_err(text)?;
        let torrent = self.directory.join("file.torrent");
        let info_hash = self.make_torrent(&seeded, &torrent, leecher.piece_bytes(FILE_BYTES))?;
        let wanted = sha256(&seeded)?;

        let mut seeding = seeder.start(self.network, self.hosts.0, &self.share("seeder", &torrent));
        // A leecher that announces before the seeder would not announce again for minutes. (A
        // ctorrent that has yet to check its file announces itself as a leecher.)
        if !wait_until(SEEDER_MAX, || self.scrape(&info_hash).is_some_and(|it| it.all() > 0)) {
            return Err(format!("no seeder at the tracker\n{}", seeding.last_words()));
        }
        let magnet = self.magnet(&info_hash);
        let mut share = self.share("leecher", &torrent);
        if self.start == LeechFrom::Magnet {
            share.torrent = Path::new(&magnet);
        }
        let mut leeching = leecher.start(self.network, self.hosts.1, &share);
        let has_it = || sha256(&leeched).is_ok_and(|found| found == wanted);
        let mut running = || seeding.is_running() && leeching.is_running();
        let arrived = wait_until(TRANSFER_MAX, || has_it() || !running()) && has_it();
        if !arrived {
            return Err(self.report("the file did not arrive", &info_hash, seeding, leeching));
        }
        let both_complete = || self.scrape(&info_hash).is_some_and(|it| it.complete == 2);
        if both_complete() {
            Ok("")
        } else if !leecher.reports_completion_at_once() || seeder == ClientProgram::Ctorrent {
            Ok(" (not waiting for the second seeder to be reported)")
        } else if wait_until(COMPLETION_MAX, both_complete) {
            Ok("")
        } else {
            Err(self.report("there are not two seeders", &info_hash, seeding, leeching))
        }
    }

    /// The files of a peer in the role of seeder or leecher.
    fn share<'a>(&'a self, role: &str, torrent: &'a Path) -> Share<'a> {
        Share {
            torrent,
            trusted: self.trusted.as_deref(),
            content: self.directory.join(role),
            file: "file.bin",
            state: self.directory.join(format!("{role}-state")),
        }
    }

    fn report(&self, what: &str, info_hash: &str, mut seeder: Peer, mut leecher: Peer) -> String {
        format!(
            "{what}; scrape: {:?}\n--- seeder:\n{}\n--- leecher:\n{}",
            self.scrape(info_hash),
            seeder.last_words(),
            leecher.last_words()
        )
    }

    /// The torrent as a magnet link (BEP 9).
    fn magnet(&self, info_hash: &str) -> String {
        let tracker = self.announce.replace(':', "%3A").replace('/', "%2F");
        format!("magnet:?xt=urn:btih:{info_hash}&tr={tracker}")
    }

    /// Creates the torrent and returns its info hash in hexadecimal. It is private unless it is
    /// leeched from a magnet link: peers do not exchange the metadata of private torrents.
    fn make_torrent(&self, file: &Path, torrent: &Path, piece: usize) -> Result<String, String> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transfers/make_torrent.py");
        let mut command = Command::new(PYTHON);
        command.args(["-B", script]).args([file, torrent]);
        command.arg(&self.announce).arg(piece.to_string());
        command.arg(if self.start == LeechFrom::Magnet { "0" } else { "1" });
        Ok(output(command)?.trim().to_owned())
    }

    /// The tracker's counts of a torrent; `None` if there is no valid scrape response.
    fn scrape(&self, info_hash: &str) -> Option<SeederCounts> {
        let hash: String = info_hash.as_bytes().chunks(2).fold(String::new(), |mut hash, byte| {
            hash.push('%');
            hash.extend(byte.iter().map(|digit| char::from(*digit)));
            hash
        });
        // Where UDP is served, HTTP is too.
        let announce = self.announce.replace("udp://", "http://");
        let url = announce.replace("/announce", &format!("/scrape?info_hash={hash}"));
        let mut curl = self.network.in_hub("curl");
        curl.args(["--silent", "--globoff", "--noproxy", "*", "--max-time", "5", &url]);
        if let Some(root) = &self.trusted {
            curl.arg("--cacert").arg(root);
        }
        let body = curl.output().ok()?.stdout;
        Some(SeederCounts {
            complete: integer_after(&body, b"8:completei")?,
            incomplete: integer_after(&body, b"10:incompletei")?,
        })
    }
}

/// The counts of a scrape response.
#[derive(Debug)]
struct SeederCounts {
    complete: u64,
    incomplete: u64,
}

impl SeederCounts {
    fn all(&self) -> u64 {
        self.complete + self.incomplete
    }
}

/// Waits for `holds`; returns whether it became true within `longest`.
fn wait_until(longest: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + longest;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(POLL);
    }
}

/// The decimal number that follows `key` in `body`.
fn integer_after(body: &[u8], key: &[u8]) -> Option<u64> {
    let start = body.windows(key.len()).position(|window| window == key)? + key.len();
    let digits = body[start..].iter().take_while(|byte| byte.is_ascii_digit());
    String::from_utf8(digits.copied().collect()).ok()?.parse().ok()
}

fn write_random_file(path: &Path) -> std::io::Result<()> {
    let mut content = vec![0; FILE_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut content)?;
    fs::write(path, content)
}

fn sha256(path: &Path) -> Result<String, String> {
    let mut command = Command::new("sha256sum");
    command.arg(path);
    let line = output(command)?;
    Ok(line.split(' ').next().unwrap_or_default().to_owned())
}

/// The standard output of `command`, if it succeeds.
fn output(mut command: Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    String::from_utf8(output.stdout).map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
