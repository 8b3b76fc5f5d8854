//! A reply leaves from the address that was asked. Otherwise a connected client would never receive
//! it, and these clients are connected.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use crate::support::network::{Family, Network};
use crate::support::requirements::{can_run, missing_programs, missing_root};
use crate::support::tracker::{Engine, Tracker, has_v6, test_both_engines, wait_for};
use crate::support::udp_client::{UdpAnnounce, UdpClient};

test_both_engines!(
    of_a_wildcard_address_each_loopback_address_answers,
    of_a_wildcard_address_each_address_of_a_router_answers,
    several_addresses_may_be_listened_on,
);

/// Starts a tracker that listens on these addresses.
fn start(engine: Engine, listen: &[&str], runner: &[&str]) -> (Tracker, Vec<SocketAddr>) {
    let engine = engine.name();
    let text = format!("listen = {listen:?}\nengine = \"{engine}\"\nworkers = 2\n");
    let tracker = Tracker::launch(&text, runner);
    let listening = tracker.wait_listening("", listen.len());
    let listening = listening.unwrap_or_else(|log| panic!("it did not start:\n{log}"));
    (tracker, listening)
}

/// Connects, announces and scrapes.
#[track_caller]
fn assert_serves(mut client: UdpClient) {
    client.connect();
    let to = client.socket.peer_addr().unwrap();
    let port = client.socket.local_addr().unwrap().port();
    let told = client.announce(&UdpAnnounce::new(1, port));
    assert!(told.leechers >= 1, "{to}: {told:?}");
    assert!(client.scrape(&[1])[0].incomplete >= 1);
}

fn of_a_wildcard_address_each_loopback_address_answers(engine: Engine) {
    let all = ["0.0.0.0:0", "[::]:0"];
    let (_tracker, listening) = start(engine, &all[..1 + usize::from(has_v6())], &[]);
    for address in listening {
        let asked: Vec<IpAddr> = match address {
            SocketAddr::V4(_) => {
                ["127.0.0.1", "127.0.0.2", "127.1.2.3"].map(|ip| ip.parse().unwrap()).into()
            }
            SocketAddr::V6(_) => vec![Ipv6Addr::LOCALHOST.into()],
        };
        for ip in asked {
            let to = SocketAddr::new(ip, address.port());
            assert_serves(UdpClient::new(to));
            if ip.is_ipv4() {
                assert_serves(UdpClient::from_address(Ipv4Addr::new(127, 0, 0, 77).into(), to));
            }
        }
    }
}

/// Addresses on loopback besides those of the link, and one of the link alone, which needs its
/// interface.
fn of_a_wildcard_address_each_address_of_a_router_answers(engine: Engine) {
    let mut missing = missing_programs(&["ip", "nft"]);
    missing.extend(missing_root("for network namespaces"));
    if !can_run("replies from several addresses", &missing) {
        return;
    }
    let name = if engine == Engine::Epoll { "addresses-epoll" } else { "addresses-uring" };
    let network = Network::new(name, &[Family::V4, Family::V6], 1);
    let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x66);
    let more = ["10.66.67.1/32", "10.66.67.2/32", "fd67::1/128", "fd67::2/128"];
    for address in more {
        network.add_hub_address(address, "lo");
    }
    network.add_hub_address(&format!("{link_local}/64"), "bridge");
    let runner = network.hub_runner();
    let runner: Vec<&str> = runner.iter().map(String::as_str).collect();
    let (_tracker, listening) = start(engine, &["0.0.0.0:0", "[::]:0"], &runner);
    let port_of = |ip: IpAddr| {
        let same_family = listening.iter().find(|it| it.is_ipv4() == ip.is_ipv4());
        same_family.unwrap().port()
    };
    let link = ["10.66.66.1", "fd66::1"];
    let ips = more.map(|it| it.split_once('/').unwrap().0).into_iter().chain(link);
    for ip in ips.map(|ip| ip.parse::<IpAddr>().unwrap()) {
        let to = SocketAddr::new(ip, port_of(ip));
        // Packets are lost as long as a link comes up.
        let probe = UdpClient::of(network.udp_from_host(0, to));
        probe.socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        wait_for("the link", || {
            probe.send(b"\x00\x00\x04\x17\x27\x10\x19\x80\x00\x00\x00\x00\x00\x00\x00\x00");
            probe.socket.recv(&mut [0; 100]).ok()
        });
        // From another machine, and from the tracker's own.
        assert_serves(UdpClient::of(network.udp_from_host(0, to)));
        assert_serves(UdpClient::of(network.udp_from_hub(to)));
    }
    let port = port_of(link_local.into());
    let to = SocketAddrV6::new(link_local, port, 0, network.host_interface(0));
    // Whoever asks from an address of the link may not announce it, but is answered.
    let mut client = UdpClient::of(network.udp_from_host(0, to.into()));
    client.connect();
    assert!(client.scrape(&[1])[0].incomplete >= 1);
}

fn several_addresses_may_be_listened_on(engine: Engine) {
    let (_tracker, listening) = start(engine, &["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"], &[]);
    for address in listening {
        assert_serves(UdpClient::new(address));
    }
}
