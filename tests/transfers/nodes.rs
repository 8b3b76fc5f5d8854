//! Transfers between clients of different nodes, which share their swarms through a Redis server.

use std::env;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::clients::{ClientProgram, Peer};
use super::trust::Trust;
use super::{
    COMPLETION_MAX, LeechFrom, SEEDER_MAX, Scheme, TRANSFER_MAX, Transfer, announce_url, missing,
    sha256, wait_until, write_random_file,
};
use crate::support::network::{Family, Network};
use crate::support::redis::{REDIS, RedisServer};
use crate::support::requirements::{TempDir, can_run, missing_programs};
use crate::support::tracker::{ANNULUS, Tracker};

/// The hosts of nodes A, B and C come first, those of peers after them.
const NODES: u8 = 3;
const PEERS: u8 = 4;

/// A seeder announces at A by HTTP, leechers at B by HTTPS and at C over IPv6. When all have the
/// file and A is killed, another leecher at C finds everybody.
#[test]
fn files_travel_between_clients_of_different_nodes() {
    let mut lacking = missing();
    lacking.extend(missing_programs(&[REDIS]));
    if !can_run("the transfers between nodes", &lacking) {
        return;
    }
    let scratch = TempDir::new("nodes");
    let network = Network::new("nodes", &[Family::V4, Family::V6], NODES + PEERS);
    let IpAddr::V4(hub) = network.hub_address() else { unreachable!("the first is IPv4") };
    let redis = RedisServer::start_at(hub, &network.hub_runner(), "");
    let b = network.host_address(1, Family::V4);
    let trust = Trust::new(b);

    let plain = |node, family| {
        let address = SocketAddr::new(network.host_address(node, family), 0);
        format!("listen = [\"{address}\"]\n")
    };
    let at_b = format!("listen = []\n{}", trust.tls_table(SocketAddr::new(b, 0)));
    let a = start_node(&network, &redis, 0, &plain(0, Family::V4));
    let b = start_node(&network, &redis, 1, &at_b);
    let c = start_node(&network, &redis, 2, &plain(2, Family::V6));

    let site = Site { network: &network, trusted: trust.root(), directory: scratch.path() };
    let [at_a, at_b, at_c] =
        [(&a, Scheme::Http), (&b, Scheme::Https), (&c, Scheme::Http)].map(|it| site.at(it));
    let content = scratch.path().join("seeder/file.bin");
    fs::create_dir_all(content.parent().expect("a directory")).expect("a directory");
    write_random_file(&content).expect("a file");
    let wanted = sha256(&content).expect("a checksum");

    let (info_hash, _seeder) = site.start(&at_a, ClientProgram::Aria2, "seeder", &content);
    for transfer in [&at_a, &at_b, &at_c] {
        let known = wait_until(SEEDER_MAX, || seeders(transfer, &info_hash) == 1);
        assert!(known, "the seeder is not known at {}", transfer.announce);
    }
    let leechers = [(&at_b, ClientProgram::Transmission), (&at_c, ClientProgram::Libtorrent)];
    let mut leeching = Vec::new();
    for (transfer, program) in leechers {
        let role = format!("{program:?}");
        leeching.push((role.clone(), site.start(transfer, program, &role, &content).1));
    }
    for (role, peer) in &mut leeching {
        assert_arrival(&site, role, &wanted, peer);
    }
    let all_seed = |transfer: &Transfer<'_>, count| {
        wait_until(COMPLETION_MAX, || seeders(transfer, &info_hash) == count)
    };
    assert!(all_seed(&at_c, 3), "{:?}", at_c.scrape(&info_hash));

    // Killed when it is dropped.
    drop(a);
    let (_, mut late) = site.start(&at_c, ClientProgram::Transmission, "late", &content);
    assert_arrival(&site, "late", &wanted, &mut late);
    for transfer in [&at_b, &at_c] {
        assert!(all_seed(transfer, 4), "{:?}", transfer.scrape(&info_hash));
    }
}

fn start_node(network: &Network, redis: &RedisServer, host: u8, listen: &str) -> Tracker {
    let engine = ["auto", "epoll", "auto"][usize::from(host)];
    let config = format!(
        "workers = 2\nengine = \"{engine}\"\n{listen}[cluster]\nserver = \"{}\"\n",
        redis.url()
    );
    let mut command = network.in_host(host, ANNULUS);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let tracker = Tracker::spawn(command, &env::temp_dir(), &config);
    tracker.assert_logged("listening on ");
    tracker
}

fn seeders(transfer: &Transfer<'_>, info_hash: &str) -> u64 {
    transfer.scrape(info_hash).map_or(0, |counts| counts.complete)
}

#[track_caller]
fn assert_arrival(site: &Site<'_>, role: &str, wanted: &str, peer: &mut Peer) {
    let file = site.directory.join(role).join("file.bin");
    let has_it = || sha256(&file).is_ok_and(|found| found == wanted);
    let arrived = wait_until(TRANSFER_MAX, || has_it() || !peer.is_running()) && has_it();
    assert!(arrived, "{role} does not have the file:\n{}", peer.last_words());
}

/// What the peers have in common.
struct Site<'a> {
    network: &'a Network,
    trusted: PathBuf,
    directory: &'a Path,
}

impl<'a> Site<'a> {
    /// How clients reach a node.
    fn at(&'a self, (tracker, scheme): (&Tracker, Scheme)) -> Transfer<'a> {
        Transfer {
            network: self.network,
            announce: announce_url(tracker, scheme),
            trusted: (scheme == Scheme::Https).then(|| self.trusted.clone()),
            hosts: (0, 0),
            directory: self.directory,
            start: LeechFrom::Torrent,
        }
    }

    /// Starts a peer that knows only this node; returns the torrent's info hash too. The content of
    /// the role's directory is there or not.
    fn start(
        &self,
        transfer: &Transfer<'_>,
        program: ClientProgram,
        role: &str,
        content: &Path,
    ) -> (String, Peer) {
        let torrent = self.directory.join(format!("{role}.torrent"));
        let info_hash = transfer.make_torrent(content, &torrent, 64 * 1024).expect("a torrent");
        let host = match role {
            "seeder" => NODES,
            "late" => NODES + 1,
            _ if program == ClientProgram::Transmission => NODES + 2,
            _ => NODES + 3,
        };
        let share = transfer.share(role, &torrent);
        (info_hash, program.start(self.network, host, &share))
    }
}
