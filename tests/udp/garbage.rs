//! Datagrams that are no requests. None gets a reply, and the next request does.

use crate::support::admin::{AdminClient, OPERATIONS};
use crate::support::tracker::{Engine, Tracker, test_both_engines};
use crate::support::udp_client::{PROTOCOL_ID, UdpAnnounce, UdpClient};

test_both_engines!(
    short_and_empty_datagrams_get_no_reply,
    overlong_datagrams_get_no_reply,
    other_protocols_get_no_reply,
    random_bytes_get_no_reply,
    a_flood_of_empty_datagrams_stops_nothing,
    a_reply_to_an_unproven_address_is_no_longer_than_its_request,
);

/// The reasons of drops that were counted, without their numbers.
fn reasons(admin: &AdminClient) -> Vec<String> {
    let counted = admin.labelled_samples("annulus_datagrams_dropped_total");
    counted.iter().map(|it| it.rsplit_once(' ').unwrap().0.replace("reason=", "")).collect()
}

fn short_and_empty_datagrams_get_no_reply(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    let admin = AdminClient::of(&tracker);
    for to in tracker.udp_addresses() {
        let mut client = UdpClient::connected(to);
        let connect = [&PROTOCOL_ID.to_be_bytes()[..], &[0; 8]].concat();
        for len in 0..connect.len() {
            client.expect_no_reply(&connect[..len]);
        }
        client.announce(&UdpAnnounce::new(1, 1));
    }
    assert_eq!(reasons(&admin), ["malformed"]);
}

/// Both what fits the tracker's buffers, and what the kernel cuts off.
fn overlong_datagrams_get_no_reply(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    let admin = AdminClient::of(&tracker);
    let mut client = UdpClient::connected(tracker.udp_v4());
    let announce = UdpAnnounce::new(1, 1);
    for options in [2000, 4000, 30_000, 65_000] {
        client.send_announce(&UdpAnnounce { options: vec![1; options], ..announce.clone() });
        client.expect_silence();
    }
    let connect = [&PROTOCOL_ID.to_be_bytes()[..], &[0; 8], &[0; 60_000]].concat();
    client.expect_no_reply(&connect);
    assert_eq!(client.announce(&announce).leechers, 1);
    assert_eq!(reasons(&admin), ["truncated"]);
}

fn other_protocols_get_no_reply(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let mut client = UdpClient::connected(tracker.udp_v4());
    let cases: [&[u8]; 8] = [
        b"GET /announce HTTP/1.1\r\nHost: a\r\n\r\n",
        b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe",
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03org\x00\x00\x01\x00\x01",
        b"\xff\xff\xff\xffTSource Engine Query\x00",
        b"M-SEARCH * HTTP/1.1\r\n\r\n",
        &[0xc0; 1200],
        // The magic, and actions that are none of a client's.
        b"\x00\x00\x04\x17\x27\x10\x19\x80\x00\x00\x00\x03\x00\x00\x00\x01",
        b"\x00\x00\x04\x17\x27\x10\x19\x80\xff\xff\xff\xff\x00\x00\x00\x01",
    ];
    for bytes in cases {
        client.expect_no_reply(bytes);
    }
    client.announce(&UdpAnnounce::new(1, 1));
}

fn random_bytes_get_no_reply(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    for to in tracker.udp_addresses() {
        let mut client = UdpClient::connected(to);
        // SplitMix64, for bytes that are the same in every run.
        let mut state = 14_u64;
        let mut next = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed ^ (mixed >> 27)
        };
        for _ in 0..20 {
            for _ in 0..50 {
                let len = next() as usize % 300;
                let bytes: Vec<u8> = (0..len).map(|_| next() as u8).collect();
                client.send(&bytes);
            }
            client.expect_silence();
        }
        client.announce(&UdpAnnounce::new(1, 1));
    }
}

/// An empty datagram ends a multishot receive.
fn a_flood_of_empty_datagrams_stops_nothing(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    for (to, torrent) in tracker.udp_addresses().into_iter().zip(1..) {
        let flood: Vec<UdpClient> = (0..8).map(|_| UdpClient::new(to)).collect();
        let mut clients: Vec<UdpClient> = (0..8).map(|_| UdpClient::connected(to)).collect();
        for round in 1..=20 {
            for (client, port) in clients.iter_mut().zip(1..) {
                for other in &flood {
                    other.send(&[]);
                }
                client.send(&[]);
                let told = client.announce(&UdpAnnounce::new(torrent, port).wanting(0));
                assert_eq!(told.leechers, if round == 1 { u32::from(port) } else { 8 });
            }
        }
    }
}

fn a_reply_to_an_unproven_address_is_no_longer_than_its_request(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let mut client = UdpClient::connected(tracker.udp_v4());
    for port in 1..100 {
        client.announce(&UdpAnnounce::new(1, port).wanting(0));
    }
    let to = tracker.udp_v4();
    let mut unproven = UdpClient::new(to);
    for wrong in [0, 1, PROTOCOL_ID, u64::MAX] {
        unproven.id = wrong;
        unproven.send_announce(&UdpAnnounce::new(1, 200));
        unproven.send_scrape(&[[1; 20]; 3]);
        unproven.expect_silence();
    }
    assert_eq!(client.scrape(&[1])[0].incomplete, 99);
}
