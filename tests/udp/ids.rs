//! Connection ids: valid for one address, on every worker, for a while.

use std::net::{IpAddr, Ipv4Addr};

use crate::support::admin::{AdminClient, OPERATIONS};
use crate::support::tracker::{Engine, Tracker, test_both_engines};
use crate::support::udp_client::{PROTOCOL_ID, UdpAnnounce, UdpClient};

test_both_engines!(
    ids_of_one_worker_are_valid_at_all,
    foreign_and_changed_ids_get_no_reply,
    ids_of_another_process_get_no_reply,
    a_connect_gets_the_same_id_as_long_as_it_is_young,
);

fn ids_of_one_worker_are_valid_at_all(engine: Engine) {
    let tracker = Tracker::start_with(engine, 3, OPERATIONS, &[]);
    for (to, torrent) in tracker.udp_addresses().into_iter().zip(1..) {
        let first = UdpClient::connected(to);
        // The chance that all 64 ports land at the same one of three workers is 1 in 10^30.
        for port in 1..=64 {
            let mut other = UdpClient::new(to);
            other.id = first.id;
            let told = other.announce(&UdpAnnounce::new(torrent, port));
            assert_eq!(told.leechers, u32::from(port));
        }
    }
}

fn foreign_and_changed_ids_get_no_reply(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    let admin = AdminClient::of(&tracker);
    let mut mine = UdpClient::connected(tracker.udp_v4());
    let own = mine.id;
    let elsewhere =
        UdpClient::connected_from(Ipv4Addr::new(127, 0, 0, 2).into(), tracker.udp_v4()).id;
    assert_ne!(own, elsewhere);
    let changed = (0..64).map(|bit| own ^ (1 << bit));
    let wrong: Vec<u64> =
        [elsewhere, 0, u64::MAX, PROTOCOL_ID].into_iter().chain(changed).collect();
    for id in &wrong {
        mine.id = *id;
        mine.send_announce(&UdpAnnounce::new(1, 1));
        mine.expect_silence();
    }
    mine.id = own;
    assert_eq!(mine.announce(&UdpAnnounce::new(1, 2)).leechers, 1);
    let dropped = "annulus_datagrams_dropped_total{reason=\"connection_id\"}";
    admin.wait_sample(dropped, wrong.len() as f64);
}

fn ids_of_another_process_get_no_reply(engine: Engine) {
    let [one, other] = [(); 2].map(|()| Tracker::start(engine, ""));
    let id = UdpClient::connected(one.udp_v4()).id;
    let mut client = UdpClient::new(other.udp_v4());
    client.id = id;
    client.send_announce(&UdpAnnounce::new(1, 1));
    client.expect_silence();
}

/// For the address alone: a client behind a NAT may come from other ports.
fn a_connect_gets_the_same_id_as_long_as_it_is_young(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    for to in tracker.udp_addresses() {
        let ids = (0..8).map(|_| UdpClient::connected(to).id);
        let mut ids: Vec<u64> = ids.collect();
        ids.dedup();
        // A window may end in between.
        assert!(ids.len() <= 2, "{ids:x?}");
    }
    let sources = (1..=20).map(|last| IpAddr::from(Ipv4Addr::new(127, 0, 3, last)));
    let mut ids: Vec<u64> =
        sources.map(|source| UdpClient::connected_from(source, tracker.udp_v4()).id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 20, "addresses share an id");
}
