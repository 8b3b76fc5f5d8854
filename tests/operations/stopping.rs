//! What is told of a tracker that leaves.

use crate::support::admin::{AdminClient, OPERATIONS};
use crate::support::client::{HttpClient, get_request};
use crate::support::torrent::{TestTorrent, parse_announce};
use crate::support::tracker::{Engine, Tracker, test_both_engines, wait_for};

test_both_engines!(it_says_that_it_drains_until_it_has_gone);

fn it_says_that_it_drains_until_it_has_gone(engine: Engine) {
    let mut tracker = Tracker::start(engine, OPERATIONS);
    let observed = AdminClient::of(&tracker);
    let request = get_request(&TestTorrent::new(&tracker, 1).target(1, ""));
    let (first, rest) = request.split_at(request.len() / 2);
    let mut client = HttpClient::connect(tracker.v4);
    client.send(first);
    // Held, and so waited for.
    observed.wait_sample("annulus_connections_open", 1.0);
    assert_eq!(observed.get("/health").status, 200);
    tracker.signal("TERM");
    let health = wait_for("the word of the end", || {
        let health = observed.get("/health");
        (health.status != 200).then_some(health)
    });
    assert_eq!((health.status, &health.body[..]), (503, &b"draining\n"[..]));
    let samples = observed.samples();
    assert_eq!((samples["annulus_healthy"], samples["annulus_connections_open"]), (0.0, 1.0));
    assert_eq!(observed.stats()["health"], "draining");
    client.send(rest);
    parse_announce(&client.read_response());
    client.expect_close();
    let (status, log) = tracker.wait_exit();
    assert_eq!(status.code(), Some(0), "{log}");
}
