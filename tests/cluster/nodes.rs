//! Three trackers, each in a network namespace of its own, around a Redis server.

use std::fs;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::agreement::{Snapshot, differences};
use super::load::Model;
use crate::support::client::{HttpClient, HttpResponse, get_request};
use crate::support::network::{Family, Network};
use crate::support::redis::{REDIS, RedisServer};
use crate::support::requirements::{TempDir, can_run, missing_programs, missing_root};
use crate::support::tracker::{ANNULUS, Tracker, wait_for};

pub(crate) const NODES: usize = 3;

/// The shortest interval that there is, and the longest that a client is given then, in seconds.
pub(crate) const INTERVAL_S: u64 = 60;
pub(crate) const INTERVAL_S_MAX: u64 = 66;

/// Both engines take part.
const ENGINES: [&str; NODES] = ["auto", "epoll", "auto"];

/// How long nodes may take to agree after a fault: several attempts to ask each other.
const AGREEMENT_MAX: Duration = Duration::from_secs(60);

const PORT: u16 = 3000;
const ADMIN_PORT: u16 = 3001;

/// How to set up the nodes; the default is three equal ones without a state file.
#[derive(Default)]
pub(crate) struct ClusterSetup {
    /// Whether each has a state file.
    pub(crate) state: bool,
    /// More keys of each node's `[cluster]`.
    pub(crate) keys: [&'static str; NODES],
    /// Lines of the server's configuration file.
    pub(crate) redis: &'static str,
    /// Whether each node has a server of its own instead of one that all share.
    pub(crate) apart: bool,
}

/// The nodes and their servers. Fields are dropped in this order.
pub(crate) struct Cluster {
    nodes: Vec<Option<Tracker>>,
    /// One for all nodes, or one for each.
    pub(crate) servers: Vec<RedisServer>,
    pub(crate) network: Arc<Network>,
    scratch: TempDir,
    setup: ClusterSetup,
}

/// Whether this machine can run a test of this name.
pub(crate) fn can_run_cluster(test: &str) -> bool {
    let mut missing = missing_programs(&[REDIS, "ip", "nft", "kill"]);
    missing.extend(missing_root("for network namespaces"));
    can_run(test, &missing)
}

impl Cluster {
    /// Starts servers and nodes, and waits until all nodes are whole. The name must be unique among
    /// the networks of this process.
    #[track_caller]
    pub(crate) fn start(name: &'static str, setup: ClusterSetup) -> Cluster {
        let network = Network::new(name, &[Family::V4, Family::V6], NODES as u8);
        let count = if setup.apart { NODES } else { 1 };
        let IpAddr::V4(hub) = network.hub_address() else { unreachable!("the first is IPv4") };
        let (runner, lines) = (network.hub_runner(), setup.redis);
        let servers = (0..count).map(|index| {
            let at = SocketAddrV4::new(hub, server_port(index));
            RedisServer::start_on(at, &runner, lines)
        });
        let servers = servers.collect();
        let scratch = TempDir::new(name);
        let nodes = (0..NODES).map(|_| None).collect();
        let network = Arc::new(network);
        let mut cluster = Cluster { nodes, servers, network, scratch, setup };
        for node in 0..NODES {
            cluster.start_node(node);
        }
        for node in 0..NODES {
            cluster.wait_whole(node);
        }
        cluster
    }

    /// Starts a node and waits until it serves, which may be before it is whole.
    #[track_caller]
    pub(crate) fn start_node(&mut self, node: usize) {
        let mut command = self.network.in_host(node as u8, ANNULUS);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let tracker = Tracker::spawn(command, self.scratch.path(), &self.config(node));
        let ready = tracker.wait_listening("", 2);
        assert!(ready.is_ok(), "node {node} does not start:\n{}", tracker.log());
        self.nodes[node] = Some(tracker);
    }

    fn config(&self, node: usize) -> String {
        let [v4, v6] = [Family::V4, Family::V6].map(|family| self.address(node, family));
        let admin = SocketAddr::new(v4.ip(), ADMIN_PORT);
        let server = &self.servers[if self.setup.apart { node } else { 0 }];
        let state = if self.setup.state {
            format!("[state]\nfile = {:?}\n", self.state_file(node))
        } else {
            String::new()
        };
        format!(
            "listen = [\"{v4}\", \"{v6}\"]\nengine = \"{}\"\nworkers = 2\n\
             [protocol]\ninterval = {INTERVAL_S}\nmin_interval = 30\npeer_timeout = 126\n\
             max_numwant = 1068\ntrust_ip_parameters = true\nfull_scrape = true\n\
             [operations]\nlisten = [\"{admin}\"]\n\
             [cluster]\nserver = \"{}\"\n{}\n{state}",
            ENGINES[node],
            server.url(),
            self.setup.keys[node],
        )
    }

    /// The state file of a node, which is not there unless the setup asks for one.
    pub(crate) fn state_file(&self, node: usize) -> PathBuf {
        let directory = self.scratch.path().join(format!("state-{node}"));
        fs::create_dir_all(&directory).unwrap();
        directory.join("swarms")
    }

    /// Kills a node by SIGKILL.
    pub(crate) fn kill_node(&mut self, node: usize) {
        // Its drop kills it.
        self.nodes[node] = None;
    }

    /// Stops a node in an orderly way.
    #[track_caller]
    pub(crate) fn stop_node(&mut self, node: usize) {
        let mut tracker = self.nodes[node].take().unwrap();
        tracker.signal("TERM");
        let (status, log) = tracker.wait_exit();
        assert!(status.success(), "node {node} ended with {status}:\n{log}");
    }

    pub(crate) fn node(&self, node: usize) -> &Tracker {
        self.nodes[node].as_ref().expect("a running node")
    }

    /// The address that clients announce to.
    pub(crate) fn address(&self, node: usize, family: Family) -> SocketAddr {
        SocketAddr::new(self.network.host_address(node as u8, family), PORT)
    }

    /// The response to a GET of the admin listener.
    #[track_caller]
    pub(crate) fn admin(&self, node: usize, path: &str) -> HttpResponse {
        let at = SocketAddr::new(self.address(node, Family::V4).ip(), ADMIN_PORT);
        let mut client = HttpClient::new(self.network.connect(at).unwrap());
        client.send(get_request(path));
        client.read_response()
    }

    /// The sum of a metric's samples in a node's `/metrics`.
    #[track_caller]
    pub(crate) fn metric(&self, node: usize, name: &str) -> f64 {
        let text = String::from_utf8(self.admin(node, "/metrics").body).unwrap();
        let samples = text.lines().filter_map(|line| {
            let (labels, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
            (labels.is_empty() || labels.starts_with('{')).then(|| value.parse::<f64>().unwrap())
        });
        let samples: Vec<f64> = samples.collect();
        assert!(!samples.is_empty(), "no {name} in\n{text}");
        samples.iter().sum()
    }

    /// Waits until the node's health check succeeds: it is whole.
    #[track_caller]
    pub(crate) fn wait_whole(&self, node: usize) {
        wait_for(format!("node {node} to be whole"), || {
            (self.admin(node, "/health").status == 200).then_some(())
        });
    }

    /// The `downloaded` counts of all torrents, by node.
    #[track_caller]
    pub(crate) fn downloaded(&self) -> [Vec<i64>; NODES] {
        [0, 1, 2].map(|node| Snapshot::of(self, node).downloaded())
    }

    /// Waits until all nodes have exactly the swarms of `model`, peer by peer.
    #[track_caller]
    pub(crate) fn assert_agreement(&self, model: &Model) {
        self.assert_agreement_of(&[0, 1, 2], model);
    }

    /// The same for some nodes.
    #[track_caller]
    pub(crate) fn assert_agreement_of(&self, nodes: &[usize], model: &Model) {
        let mut last = Vec::new();
        let start = Instant::now();
        while start.elapsed() < AGREEMENT_MAX {
            let found: Vec<_> =
                nodes.iter().map(|&node| (node, Snapshot::of(self, node))).collect();
            last = differences(model, &found);
            if last.is_empty() {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        let count = last.len();
        last.truncate(20);
        panic!("the nodes differ in {count} ways:\n{}", last.join("\n"));
    }
}

/// The port of a server in the hub.
fn server_port(index: usize) -> u16 {
    6390 + 10 * index as u16
}
