//! Datagrams that nobody can answer: from port 0, and from addresses of no single host.

use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

use crate::support::admin::{AdminClient, OPERATIONS};
use crate::support::requirements::{can_run, missing_root};
use crate::support::tracker::{Engine, Tracker, test_both_engines};
use crate::support::udp_client::{PROTOCOL_ID, UdpAnnounce, UdpClient};

test_both_engines!(requests_from_port_0_disturb_nobody, forged_broadcasts_disturb_nobody);

const DROPPED: &str = "annulus_datagrams_dropped_total{reason=\"source\"}";

/// A connect request with the UDP header in front of it. A checksum of 0 means none (RFC 768).
fn connect_from(source_port: u16, to: SocketAddr) -> Vec<u8> {
    let body = [&PROTOCOL_ID.to_be_bytes()[..], &[0; 8]].concat();
    let len = 8 + body.len() as u16;
    let header = [source_port, to.port(), len, 0];
    [header.map(u16::to_be_bytes).as_flattened(), &body[..]].concat()
}

fn raw_socket(test: &str) -> Option<Socket> {
    let missing: Vec<String> = missing_root("for raw sockets").into_iter().collect();
    can_run(test, &missing)
        .then(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)).unwrap())
}

fn requests_from_port_0_disturb_nobody(engine: Engine) {
    let Some(raw) = raw_socket("requests from port 0") else { return };
    let tracker = Tracker::start(engine, OPERATIONS);
    let admin = AdminClient::of(&tracker);
    let mut client = UdpClient::connected(tracker.udp_v4());
    for round in 1..=50 {
        raw.send_to(&connect_from(0, tracker.udp_v4()), &tracker.udp_v4().into()).unwrap();
        let told = client.announce(&UdpAnnounce::new(1, round));
        assert_eq!(told.leechers, u32::from(round));
    }
    admin.wait_sample(DROPPED, 50.0);
}

/// With the IP header too, so that the source is a forged one. The kernel may drop some of them
/// itself; whatever comes through gets no reply.
fn forged_broadcasts_disturb_nobody(engine: Engine) {
    let Some(raw) = raw_socket("forged sources") else { return };
    raw.set_header_included_v4(true).unwrap();
    let tracker = Tracker::start(engine, "");
    let mut client = UdpClient::connected(tracker.udp_v4());
    for (source, port) in ["0.0.0.0", "127.255.255.255", "240.0.0.1", "127.0.0.1"].iter().zip(1..) {
        let source: Ipv4Addr = source.parse().unwrap();
        let udp = connect_from(if port == 4 { 0 } else { 7 }, tracker.udp_v4());
        let mut packet = vec![0x45, 0];
        packet.extend((20 + udp.len() as u16).to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
        packet.extend(source.octets());
        packet.extend([127, 0, 0, 1]);
        packet.extend(udp);
        let _ = raw.send_to(&packet, &tracker.udp_v4().into());
        let told = client.announce(&UdpAnnounce::new(1, port));
        assert_eq!(told.leechers, u32::from(port));
    }
}
