//! Clients that announce at all nodes, and what swarms must come of it.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::nodes::{Cluster, NODES};
use crate::support::bencode::decode;
use crate::support::client::get_request;
use crate::support::network::{Family, Network};
use crate::support::torrent::percent_encoded;
use crate::support::tracker::wait_for;

/// Torrents, and clients that take part in each. A response has room for all peers of a torrent.
pub(crate) const TORRENTS: u8 = 24;
const CLIENTS: u8 = 60;

/// Between two announces, if the machine keeps up.
const PACE: Duration = Duration::from_millis(3);

/// What a node was told within this time before it was killed may not have become known to others.
const IN_FLIGHT: Duration = Duration::from_secs(1);

/// A client does not move from one node to another before this: two ticks of the nodes' swarms, of
/// six seconds each, and a bit.
const MOVE_MIN: Duration = Duration::from_secs(15);

/// What a client is after its last announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Leecher,
    Seeder,
    /// It does not come back.
    Stopped,
}

/// The last announce of a client.
#[derive(Clone, Copy, Debug)]
struct LastAnnounce {
    role: Role,
    /// What it was before.
    before: Option<Role>,
    node: usize,
    at: Instant,
}

/// What is known of all swarms: the last announce of each client in each torrent.
#[derive(Default)]
pub(crate) struct Model {
    clients: BTreeMap<(u8, u8), LastAnnounce>,
    /// Clients whose last announce a killed node may have kept to itself.
    uncertain: BTreeMap<(u8, u8), [Option<Role>; 2]>,
    /// Announces that were answered.
    pub(crate) answered: usize,
}

/// The address that a client announces: of both families, and some share an address.
pub(crate) fn address(torrent: u8, client: u8) -> SocketAddr {
    let port = 10_000 + u16::from(client);
    match client % 4 {
        0 => SocketAddr::from(([20, torrent, 1, client], port)),
        1 => SocketAddr::from(([20, torrent, 2, client / 16], port)),
        2 => SocketAddr::from(([0x2a00, torrent.into(), client.into(), 0, 0, 0, 0, 1], port)),
        _ => SocketAddr::from(([0x2a00, torrent.into(), 0x200, 0, 0, 0, 0, client.into()], port)),
    }
}

pub(crate) fn info_hash(torrent: u8) -> [u8; 20] {
    let mut hash = [torrent; 20];
    hash[0] = torrent.wrapping_mul(151);
    hash
}

impl Model {
    /// The peers that a torrent must have, and whether each is a seeder; and those that may be one
    /// or another thing.
    pub(crate) fn swarm(&self, torrent: u8) -> BTreeMap<SocketAddr, Vec<Option<bool>>> {
        let clients = self.clients.range((torrent, 0)..=(torrent, u8::MAX));
        clients
            .map(|(&(_, client), last)| {
                let key = (torrent, client);
                let may_be = match self.uncertain.get(&key) {
                    Some(roles) => roles.iter().copied().map(seeds).collect(),
                    None => vec![seeds(Some(last.role))],
                };
                (address(torrent, client), may_be)
            })
            .collect()
    }

    /// Marks the clients that announced last at this node, which is being killed, and just now.
    pub(crate) fn forget_in_flight(&mut self, node: usize) {
        for (&key, last) in &self.clients {
            if last.node == node && last.at.elapsed() < IN_FLIGHT {
                self.uncertain.insert(key, [last.before, Some(last.role)]);
            }
        }
    }

    /// Notes an announce at a node, which has answered it or not.
    fn announced(&mut self, key: (u8, u8), role: Role, node: usize, is_answered: bool) {
        let before = self.role(key);
        if is_answered {
            self.answered += 1;
            self.uncertain.remove(&key);
        } else {
            self.uncertain.insert(key, [before, Some(role)]);
        }
        self.clients.insert(key, LastAnnounce { role, before, node, at: Instant::now() });
    }

    fn role(&self, key: (u8, u8)) -> Option<Role> {
        self.clients.get(&key).map(|last| last.role)
    }
}

/// Whether a peer in this role is stored as a seeder; `None` if it is not stored.
fn seeds(role: Option<Role>) -> Option<bool> {
    match role? {
        Role::Leecher => Some(false),
        Role::Seeder => Some(true),
        Role::Stopped => None,
    }
}

/// Clients that announce until [`Load::end`], one after another in a thread.
pub(crate) struct Load {
    shared: Arc<SharedLoad>,
    thread: JoinHandle<()>,
}

struct SharedLoad {
    network: Arc<Network>,
    addresses: [SocketAddr; NODES],
    /// The nodes that clients go to.
    directed: Mutex<Vec<usize>>,
    is_over: AtomicBool,
    model: Mutex<Model>,
}

impl Load {
    pub(crate) fn start(cluster: &Cluster) -> Load {
        let addresses = [0, 1, 2].map(|node| cluster.address(node, Family::V4));
        let shared = Arc::new(SharedLoad {
            network: Arc::clone(&cluster.network),
            addresses,
            directed: Mutex::new((0..NODES).collect()),
            is_over: AtomicBool::new(false),
            model: Mutex::default(),
        });
        let clients = Arc::clone(&shared);
        Load { shared, thread: thread::spawn(move || clients.announce_all()) }
    }

    /// Lets clients go to these nodes only from now on.
    pub(crate) fn direct(&self, nodes: &[usize]) {
        *self.shared.directed.lock().unwrap() = nodes.to_vec();
        // An announce that has begun is over when the model can be had.
        drop(self.shared.model.lock().unwrap());
    }

    /// Kills a node in the middle of its work.
    pub(crate) fn kill_node(&self, cluster: &mut Cluster, node: usize) {
        cluster.kill_node(node);
        self.shared.model.lock().unwrap().forget_in_flight(node);
        let left: Vec<usize> = (0..NODES).filter(|&it| it != node).collect();
        self.direct(&left);
    }

    /// Waits until so many more announces are answered.
    #[track_caller]
    pub(crate) fn wait_answers(&self, count: usize) {
        let answered = || self.shared.model.lock().unwrap().answered;
        let enough = answered() + count;
        wait_for(format!("{count} announces"), || (answered() >= enough).then_some(()));
    }

    /// Waits for as many announces as there are clients: each has announced about once more.
    #[track_caller]
    pub(crate) fn wait_round(&self) {
        self.wait_answers(usize::from(TORRENTS) * usize::from(CLIENTS));
    }

    /// Ends it; returns what must have come of it.
    pub(crate) fn end(self) -> Model {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        std::mem::take(&mut *self.shared.model.lock().unwrap())
    }
}

impl SharedLoad {
    fn announce_all(&self) {
        let mut connections = [const { None }; NODES];
        // A step that has no common divisor with the number of clients visits all of them.
        let all = usize::from(TORRENTS) * usize::from(CLIENTS);
        for number in (0..).step_by(389) {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let (torrent, client) =
                (number % all / usize::from(CLIENTS), number % usize::from(CLIENTS));
            let key = (torrent as u8, client as u8);
            let mut model = self.model.lock().unwrap();
            let Some((role, event)) = next_role(model.role(key), number) else { continue };
            let node = self.node_for(torrent + client, model.clients.get(&key), number);
            let request = announce(key, role, event);
            let answer = self.ask(&mut connections[node], node, &request);
            model.announced(key, role, node, answer.is_ok());
            drop(model);
            thread::sleep(PACE);
        }
    }

    /// Clients keep to one node, as DNS would have it, while that serves. Now and then one moves,
    /// but not at once: of two announces within a tick at two nodes nobody can tell the later.
    fn node_for(&self, client: usize, last: Option<&LastAnnounce>, number: usize) -> usize {
        let directed = self.directed.lock().unwrap();
        let may_move = last.is_some_and(|last| last.at.elapsed() > MOVE_MIN);
        let node = match last {
            Some(_) if may_move && number.is_multiple_of(4) => number / 4 % NODES,
            Some(last) => last.node,
            None => client % NODES,
        };
        if directed.contains(&node) { node } else { directed[number % directed.len()] }
    }

    fn ask(
        &self,
        connection: &mut Option<TcpStream>,
        node: usize,
        request: &[u8],
    ) -> io::Result<()> {
        let stream = match connection.take() {
            Some(stream) => stream,
            None => self.network.connect(self.addresses[node])?,
        };
        let (stream, body) = exchange(stream, request)?;
        *connection = Some(stream);
        assert_eq!(decode(&body).get("failure reason"), None);
        Ok(())
    }
}

/// What a client does next, with the event that it sends: it begins to leech or seed, announces
/// again, completes, and at last stops. All of that happens at any time of a test.
fn next_role(role: Option<Role>, number: usize) -> Option<(Role, &'static str)> {
    let chance = number / 389 % 89;
    match role {
        None if chance < 10 => Some((Role::Seeder, "&event=started")),
        None if chance < 35 => Some((Role::Leecher, "&event=started")),
        Some(Role::Leecher) if chance < 10 => Some((Role::Seeder, "&event=completed")),
        None | Some(Role::Stopped) => None,
        Some(_) if (10..12).contains(&chance) => Some((Role::Stopped, "&event=stopped")),
        Some(role) => Some((role, "")),
    }
}

/// The request of a client: a seeder has nothing left.
fn announce((torrent, client): (u8, u8), role: Role, event: &str) -> Vec<u8> {
    let (left, address) = (u8::from(role != Role::Seeder), address(torrent, client));
    get_request(&announce_target(torrent, address, &format!("left={left}{event}")))
}

/// The target of an announce of a peer at another address than the client's.
pub(crate) fn announce_target(torrent: u8, peer: SocketAddr, rest: &str) -> String {
    let (hash, port, ip) = (percent_encoded(&info_hash(torrent)), peer.port(), peer.ip());
    format!("/announce?info_hash={hash}&ip={ip}&port={port}&{rest}")
}

/// Sends a request and reads the body of its response; the connection stays open.
pub(crate) fn exchange(mut stream: TcpStream, request: &[u8]) -> io::Result<(TcpStream, Vec<u8>)> {
    stream.write_all(request)?;
    let mut reader = BufReader::new(&stream);
    let mut length = None;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_ascii_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().ok();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length.ok_or(ErrorKind::InvalidData)?];
    reader.read_exact(&mut body)?;
    Ok((stream, body))
}
