//! What stands in the IPv4 header of a reply.

use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

use crate::support::requirements::{can_run, missing_root};
use crate::support::tracker::{Engine, TIMEOUT, Tracker, test_both_engines};
use crate::support::udp_client::{UdpAnnounce, UdpClient};

test_both_engines!(no_router_may_fragment_a_reply);

/// The flag DF alone (RFC 791 section 3.1).
const DONT_FRAGMENT: u16 = 0x4000;

fn no_router_may_fragment_a_reply(engine: Engine) {
    let missing: Vec<String> = missing_root("for raw sockets").into_iter().collect();
    if !can_run("the header of replies", &missing) {
        return;
    }
    let tracker = Tracker::start(engine, "");
    let to = tracker.udp_v4();
    // It receives a copy of every packet of UDP to its address, with the header.
    let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)).unwrap();
    let client_ip = Ipv4Addr::new(127, 0, 0, 99);
    raw.bind(&SocketAddr::from((client_ip, 0)).into()).unwrap();
    raw.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut client = UdpClient::from_address(client_ip.into(), to);
    client.connect();
    let told = client.announce(&UdpAnnounce::new(1, 7));
    for reply_bytes in [16, told.bytes] {
        let mut packet = [0; 2048];
        let len = std::io::Read::read(&mut &raw, &mut packet).unwrap();
        assert_eq!(len, 20 + 8 + reply_bytes, "another packet");
        assert_eq!(u16::from_be_bytes([packet[6], packet[7]]), DONT_FRAGMENT, "{packet:?}");
    }
}
