//! What is counted: requests by transport, and drops by reason.

use crate::support::admin::{AdminClient, OPERATIONS};
use crate::support::torrent::TestTorrent;
use crate::support::tracker::{Engine, Tracker, has_v6, test_both_engines};
use crate::support::udp_client::{UdpAnnounce, UdpClient};

test_both_engines!(requests_are_counted_by_transport, bytes_are_counted);

const REQUESTS: &str = "annulus_requests_total";

/// The counts of requests by UDP, without their transport.
fn requests_by_udp(admin: &AdminClient) -> Vec<String> {
    let counted = admin.labelled_samples(REQUESTS);
    let by_udp = counted.iter().filter(|it| it.contains("transport=udp"));
    by_udp.map(|it| it.replace("transport=udp,", "").replace(",transport=udp", "")).collect()
}

fn requests_are_counted_by_transport(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    let admin = AdminClient::of(&tracker);
    assert_eq!(admin.labelled_samples(REQUESTS), [""; 0]);
    let mut client = UdpClient::connected(tracker.udp_v4());
    for port in 1..=3 {
        client.announce(&UdpAnnounce::new(1, port));
    }
    client.scrape(&[1, 2]);
    client.send_announce(&UdpAnnounce::new(1, 0));
    client.error();
    TestTorrent::new(&tracker, 1).announce(4, "");
    let mut expected = vec![
        "kind=announce,family=ipv4,outcome=answered 3",
        "kind=announce,family=ipv4,outcome=failed 1",
        "kind=connect,family=ipv4,outcome=answered 1",
        "kind=scrape,family=ipv4,outcome=answered 1",
    ];
    if has_v6() {
        let mut client = UdpClient::connected(tracker.udp_v6().unwrap());
        client.announce(&UdpAnnounce::new(1, 5));
        expected.insert(2, "kind=announce,family=ipv6,outcome=answered 1");
        expected.insert(4, "kind=connect,family=ipv6,outcome=answered 1");
    }
    assert_eq!(requests_by_udp(&admin), expected);
    let all = admin.labelled_samples(REQUESTS);
    let others: Vec<_> = all.iter().filter(|it| !it.contains("transport=udp")).collect();
    assert_eq!(others.len(), 1, "{others:?}");
    assert!(others[0].contains("transport=http,"), "{others:?}");
    assert_eq!(
        admin.labelled_samples("annulus_failures_total"),
        ["reason=port_invalid 1"],
        "the reason is that of HTTP"
    );
}

fn bytes_are_counted(engine: Engine) {
    const BYTES: [&str; 2] = ["annulus_received_bytes_total", "annulus_sent_bytes_total"];
    let tracker = Tracker::start(engine, OPERATIONS);
    let admin = AdminClient::of(&tracker);
    let before = BYTES.map(|name| admin.sample(name));
    let mut client = UdpClient::connected(tracker.udp_v4());
    let told = client.announce(&UdpAnnounce::new(1, 1));
    client.send(&[1; 50]);
    client.expect_silence();
    let after = BYTES.map(|name| admin.sample(name));
    // Two connects, an announce, and garbage.
    assert_eq!(after[0] - before[0], f64::from(16 + 98 + 50 + 16));
    assert_eq!(after[1] - before[1], (16 + told.bytes + 16) as f64);
}
