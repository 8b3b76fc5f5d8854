//! A network of a test's own: a hub and hosts around it, each a network namespace with one address
//! of each family. It has no connection to the machine's network, and UDP passes between a host and
//! the hub only, so that peers can find each other only through a tracker.
//!
//! The loopback network is not enough: Transmission does not connect to 127.0.0.0/8.

use std::fmt::Display;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{self, Command};
use std::{io, thread};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, Socket, Type};

use super::tracker::TIMEOUT;

/// The address family of a network.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    fn address(self, host: u8) -> IpAddr {
        match self {
            Family::V4 => Ipv4Addr::new(10, 66, 66, host).into(),
            Family::V6 => Ipv6Addr::new(0xfd66, 0, 0, 0, 0, 0, 0, host.into()).into(),
        }
    }

    fn prefix_length(self) -> u8 {
        match self {
            Family::V4 => 24,
            Family::V6 => 64,
        }
    }
}

/// The prefix of all namespaces' names; the process id follows.
const PREFIX: &str = "annulus-test-";

/// The network; dropping it kills its processes and removes it.
pub(crate) struct Network {
    name: &'static str,
    families: &'static [Family],
    namespaces: Vec<Namespace>,
}

impl Network {
    /// Creates a hub and `hosts` hosts. The name must be unique in this process.
    ///
    /// # Panics
    /// If `ip` or `nft` fails, with its output.
    pub(crate) fn new(name: &'static str, families: &'static [Family], hosts: u8) -> Network {
        remove_leftovers();
        let mut network = Network { name, families, namespaces: Vec::new() };
        let hub = network.add_namespace("hub");
        network.ip(&hub, "link add bridge type bridge mcast_snooping 0");
        network.ip(&hub, "link set bridge up");
        network.add_addresses(&hub, "bridge", 1);
        for index in 0..hosts {
            let host = network.add_namespace(index);
            let wire = format!("link add host{index} type veth peer name wire netns {host}");
            network.ip(&hub, &wire);
            network.ip(&hub, &format!("link set host{index} master bridge up"));
            network.ip(&host, "link set wire up");
            network.add_addresses(&host, "wire", index + 2);
            // Some clients do not announce without a default route.
            for family in families {
                network.ip(&host, &format!("route add default via {}", family.address(1)));
            }
            let mut nft = command_in(&host, "nft");
            nft.arg(
                "add table inet tracker_only; \
                 add chain inet tracker_only out { type filter hook output priority 0; }; \
                 add rule inet tracker_only out meta l4proto udp \
                     ip daddr { 10.66.66.2-10.66.66.255, 224.0.0.0/3 } drop; \
                 add rule inet tracker_only out meta l4proto udp \
                     ip6 daddr { fd66::2-fd66::ffff, ff00::/8 } drop",
            );
            run(nft);
        }
        network
    }

    /// The hub's address of the first family.
    pub(crate) fn hub_address(&self) -> IpAddr {
        self.families[0].address(1)
    }

    /// The address of a host in a family that the network has.
    pub(crate) fn host_address(&self, host: u8, family: Family) -> IpAddr {
        family.address(host + 2)
    }

    /// What comes before a command that is to run in the hub.
    pub(crate) fn hub_runner(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.namespaces[0].0].map(str::to_owned).into()
    }

    /// Connects from the hub to a host.
    pub(crate) fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let namespace = File::open(Path::new("/run/netns").join(&self.namespaces[0].0))?;
        // A socket stays in the namespace of the thread that created it.
        let connecting = thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            TcpStream::connect_timeout(&to, TIMEOUT)
        });
        let stream = connecting.join().expect("a thread that does not panic")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(stream)
    }

    /// A UDP socket of the hub that is connected to this address.
    pub(crate) fn udp_from_hub(&self, to: SocketAddr) -> UdpSocket {
        self.connected_udp(0, to)
    }

    /// The same of a host.
    pub(crate) fn udp_from_host(&self, host: u8, to: SocketAddr) -> UdpSocket {
        self.connected_udp(usize::from(host) + 1, to)
    }

    fn connected_udp(&self, namespace: usize, to: SocketAddr) -> UdpSocket {
        let namespace = self.namespace(namespace);
        let any = match to {
            SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        // A socket stays in the namespace of the thread that created it.
        let connecting = thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect(to).map(|()| socket)
        });
        connecting.join().expect("a thread that does not panic").expect("a connected socket")
    }

    /// A raw socket that receives a copy of what comes to the hub by UDP (raw(7)).
    #[allow(dead_code, reason = "only the transfers record")]
    pub(crate) fn raw_udp_of_hub(&self, family: Family) -> Socket {
        let namespace = self.namespace(0);
        let domain = if family == Family::V4 { Domain::IPV4 } else { Domain::IPV6 };
        let opening = thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            Socket::new(domain, Type::RAW, Some(Protocol::UDP))
        });
        opening.join().expect("a thread that does not panic").expect("a raw socket")
    }

    fn namespace(&self, index: usize) -> File {
        let path = Path::new("/run/netns").join(&self.namespaces[index].0);
        File::open(path).expect("the namespace")
    }

    /// Gives the hub another address, as `ip address` writes it.
    pub(crate) fn add_hub_address(&self, address: &str, device: &str) {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        self.ip(&self.namespaces[0].0, &format!("addr add {address} dev {device}{nodad}"));
    }

    /// The index of the interface by which a host reaches the hub.
    pub(crate) fn host_interface(&self, host: u8) -> u32 {
        let mut command = self.in_host(host, "ip");
        command.args(["-o", "link", "show", "wire"]);
        let output = command.output().expect("ip runs");
        let line = String::from_utf8_lossy(&output.stdout).into_owned();
        let (index, _) = line.split_once(": ").expect("an index");
        index.parse().expect("an index")
    }

    /// Drops all packets between a host and a TCP port of the hub, until [`Self::join`].
    pub(crate) fn part(&self, host: u8, port: u16) {
        let mut nft = self.in_host(host, "nft");
        nft.arg(format!(
            "add table inet cut; \
             add chain inet cut out {{ type filter hook output priority 0; }}; \
             add chain inet cut in {{ type filter hook input priority 0; }}; \
             add rule inet cut out tcp dport {port} drop; \
             add rule inet cut in tcp sport {port} drop"
        ));
        run(nft);
    }

    /// Lets packets pass again that [`Self::part`] drops.
    pub(crate) fn join(&self, host: u8) {
        let mut nft = self.in_host(host, "nft");
        nft.arg("delete table inet cut");
        run(nft);
    }

    /// A command that runs `program` in the hub.
    #[allow(dead_code, reason = "only the transfers run something there")]
    pub(crate) fn in_hub(&self, program: &str) -> Command {
        command_in(&self.namespaces[0].0, program)
    }

    /// A command that runs `program` in a host.
    pub(crate) fn in_host(&self, host: u8, program: &str) -> Command {
        command_in(&self.namespaces[usize::from(host) + 1].0, program)
    }

    fn add_namespace(&mut self, role: impl Display) -> String {
        let name = format!("{PREFIX}{}-{}-{role}", process::id(), self.name);
        run_ip(&["netns", "add", &name]);
        self.namespaces.push(Namespace(name.clone()));
        self.ip(&name, "link set lo up");
        name
    }

    fn add_addresses(&self, namespace: &str, device: &str, host: u8) {
        for family in self.families {
            let (address, length) = (family.address(host), family.prefix_length());
            // Without "nodad" an IPv6 address cannot be used for its first second or two.
            let nodad = if *family == Family::V6 { " nodad" } else { "" };
            self.ip(namespace, &format!("addr add {address}/{length} dev {device}{nodad}"));
        }
    }

    /// Runs `ip` on a namespace with the words of `arguments`.
    fn ip(&self, namespace: &str, arguments: &str) {
        let words = ["-n", namespace].into_iter().chain(arguments.split(' '));
        run_ip(&words.collect::<Vec<_>>());
    }
}

/// A network namespace; dropping the value kills its processes and removes it.
struct Namespace(String);

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Ok(output) = Command::new("ip").args(["netns", "pids", &self.0]).output() {
            let pids = String::from_utf8_lossy(&output.stdout).into_owned();
            for pid in pids.split_whitespace() {
                let _ = Command::new("kill").args(["-KILL", pid]).output();
            }
        }
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

/// Removes the namespaces of test runs that were killed.
fn remove_leftovers() {
    let Ok(output) = Command::new("ip").args(["netns", "list"]).output() else { return };
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let Some((pid, _)) = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')) else {
            continue;
        };
        if !Path::new("/proc").join(pid).exists() {
            drop(Namespace(String::from(name)));
        }
    }
}

/// `ip netns exec` executes the program, so the child process is the program.
fn command_in(namespace: &str, program: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, program]);
    command
}

fn run_ip(arguments: &[&str]) {
    let mut command = Command::new("ip");
    command.args(arguments);
    run(command);
}

fn run(mut command: Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {} {said}", output.status);
}
