//! Swarms of one tracker whose peers announce by UDP, HTTP and HTTPS.

use std::env;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Stdio;

use super::clients::{ClientProgram, Peer};
use super::recorder::Recorder;
use super::trust::Trust;
use super::{
    COMPLETION_MAX, LeechFrom, SEEDER_MAX, Scheme, TRANSFER_MAX, Transfer, announce_url, missing,
    sha256, wait_until, write_random_file,
};
use crate::support::network::{Family, Network};
use crate::support::requirements::{TempDir, can_run};
use crate::support::tracker::{ANNULUS, Tracker};

/// A client, and how it reaches the tracker.
type Member = (ClientProgram, Scheme);

#[test]
fn a_seeder_by_udp_and_leechers_by_all() {
    swarm(
        "mixed-udp",
        Family::V4,
        "auto",
        (ClientProgram::Aria2, Scheme::Udp),
        &[
            (ClientProgram::Transmission, Scheme::Http),
            (ClientProgram::Libtorrent, Scheme::Https),
            (ClientProgram::Rtorrent, Scheme::Udp),
        ],
    );
}

#[test]
fn a_seeder_by_https_and_leechers_by_udp() {
    swarm(
        "mixed-https",
        Family::V4,
        "epoll",
        (ClientProgram::Transmission, Scheme::Https),
        &[(ClientProgram::Libtorrent, Scheme::Udp), (ClientProgram::Aria2, Scheme::Http)],
    );
}

#[test]
fn a_seeder_by_udp_over_ipv6_and_leechers_by_all() {
    swarm(
        "mixed-udp6",
        Family::V6,
        "epoll",
        (ClientProgram::Libtorrent, Scheme::Udp),
        &[
            (ClientProgram::Aria2, Scheme::Https),
            (ClientProgram::Transmission, Scheme::Http),
            (ClientProgram::Libtorrent, Scheme::Udp),
        ],
    );
}

/// All leechers start when the tracker knows the seeder.
fn swarm(name: &'static str, family: Family, engine: &str, seeder: Member, leechers: &[Member]) {
    if !can_run("the transfers across transports", &missing()) {
        return;
    }
    let scratch = TempDir::new(name);
    let families = if family == Family::V4 { &[Family::V4] } else { &[Family::V6] };
    let network = Network::new(name, families, 1 + leechers.len() as u8);
    let hub = network.hub_address();
    let trust = Trust::new(hub);
    let tracker = start_tracker(&network, engine, hub, &trust);
    let _recorder = Recorder::start(&network);
    let swarm = Swarm { network: &network, tracker: &tracker, trust, directory: scratch.path() };

    let content = scratch.path().join("0/file.bin");
    fs::create_dir_all(content.parent().expect("a directory")).expect("a directory");
    write_random_file(&content).expect("a file");
    let wanted = sha256(&content).expect("a checksum");

    let (info_hash, _seeding) = swarm.start(0, seeder, &content);
    let by_http = swarm.at(Scheme::Http);
    let seeders = || by_http.scrape(&info_hash).map_or(0, |counts| counts.complete);
    assert!(wait_until(SEEDER_MAX, || seeders() == 1), "no seeder:\n{}", tracker.log());
    let mut leeching: Vec<(u8, Peer)> = (1..)
        .zip(leechers)
        .map(|(host, leecher)| (host, swarm.start(host, *leecher, &content).1))
        .collect();
    for ((host, peer), (program, _)) in leeching.iter_mut().zip(leechers) {
        let file = scratch.path().join(host.to_string()).join("file.bin");
        let has_it = || sha256(&file).is_ok_and(|found| found == wanted);
        let arrived = wait_until(TRANSFER_MAX, || has_it() || !peer.is_running()) && has_it();
        assert!(arrived, "{program:?} does not have the file:\n{}", peer.last_words());
    }
    let prompt = leechers.iter().filter(|(program, _)| program.reports_completion_at_once());
    let expected = 1 + prompt.count() as u64;
    let all_report = wait_until(COMPLETION_MAX, || seeders() >= expected);
    assert!(all_report, "{:?}, not {expected} seeders", by_http.scrape(&info_hash));
}

/// HTTP and UDP on one address, HTTPS on another.
fn start_tracker(network: &Network, engine: &str, hub: IpAddr, trust: &Trust) -> Tracker {
    let address = SocketAddr::new(hub, 0);
    let config = format!(
        "workers = 2\nengine = \"{engine}\"\nlisten = [\"{address}\"]\n{}",
        trust.tls_table(address)
    );
    let mut command = network.in_hub(ANNULUS);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let tracker = Tracker::spawn(command, &env::temp_dir(), &config);
    tracker.assert_logged("listening on ");
    tracker
}

struct Swarm<'a> {
    network: &'a Network,
    tracker: &'a Tracker,
    trust: Trust,
    directory: &'a Path,
}

impl Swarm<'_> {
    /// How clients reach the tracker.
    fn at(&self, scheme: Scheme) -> Transfer<'_> {
        Transfer {
            network: self.network,
            announce: announce_url(self.tracker, scheme),
            trusted: (scheme == Scheme::Https).then(|| self.trust.root()),
            hosts: (0, 0),
            directory: self.directory,
            start: LeechFrom::Torrent,
        }
    }

    /// Starts a peer; returns the torrent's info hash too.
    fn start(&self, host: u8, (program, scheme): Member, content: &Path) -> (String, Peer) {
        let transfer = self.at(scheme);
        let torrent = self.directory.join(format!("{host}.torrent"));
        let info_hash = transfer.make_torrent(content, &torrent, 64 * 1024).expect("a torrent");
        let share = transfer.share(&host.to_string(), &torrent);
        (info_hash, program.start(self.network, host, &share))
    }
}
