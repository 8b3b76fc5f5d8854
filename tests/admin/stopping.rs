//! A tracker that stops.

use crate::support::admin::{AdminClient, OPERATIONS};
use crate::support::client::{HttpClient, get_request};
use crate::support::torrent::{TestTorrent, parse_announce};
use crate::support::tracker::{Engine, Tracker, test_both_engines, wait_for};

test_both_engines!(it_reports_that_it_drains);

fn it_reports_that_it_drains(engine: Engine) {
    let mut tracker = Tracker::start(engine, OPERATIONS);
    let admin = AdminClient::of(&tracker);
    let request = get_request(&TestTorrent::new(&tracker, 1).target(1, ""));
    let (first, rest) = request.split_at(request.len() / 2);
    let mut client = HttpClient::connect(tracker.v4);
    client.send(first);
    // The connection is open, so the tracker waits for it.
    admin.wait_sample("annulus_connections_open", 1.0);
    assert_eq!(admin.get("/health").status, 200);
    tracker.signal("TERM");
    let health = wait_for("the health of a tracker that stops", || {
        let health = admin.get("/health");
        (health.status != 200).then_some(health)
    });
    assert_eq!((health.status, &health.body[..]), (503, &b"draining\n"[..]));
    let samples = admin.samples();
    assert_eq!((samples["annulus_healthy"], samples["annulus_connections_open"]), (0.0, 1.0));
    assert_eq!(admin.stats()["health"], "draining");
    client.send(rest);
    parse_announce(&client.read_response());
    client.expect_close();
    let (status, log) = tracker.wait_exit();
    assert_eq!(status.code(), Some(0), "{log}");
}
