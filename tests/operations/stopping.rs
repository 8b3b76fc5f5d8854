//! What is told of a tracker that leaves.

use crate::support::client::{Client, get};
use crate::support::observed::{OPERATIONS, Observed};
use crate::support::torrent::{Torrent, announced};
use crate::support::tracker::{Engine, Tracker, on_both_engines, within};

on_both_engines!(it_says_that_it_drains_until_it_has_gone);

fn it_says_that_it_drains_until_it_has_gone(engine: Engine) {
    let mut tracker = Tracker::start(engine, OPERATIONS);
    let observed = Observed::of(&tracker);
    let request = get(&Torrent::new(&tracker, 1).target(1, ""));
    let (first, rest) = request.split_at(request.len() / 2);
    let mut client = Client::connect(tracker.v4);
    client.send(first);
    // Held, and so waited for.
    observed.reaches("annulus_connections_open", 1.0);
    assert_eq!(observed.get("/health").status, 200);
    tracker.signal("TERM");
    let health = within("the word of the end", || {
        let health = observed.get("/health");
        (health.status != 200).then_some(health)
    });
    assert_eq!((health.status, &health.body[..]), (503, &b"draining\n"[..]));
    let samples = observed.samples();
    assert_eq!((samples["annulus_healthy"], samples["annulus_connections_open"]), (0.0, 1.0));
    let stats = String::from_utf8(observed.get("/stats.json").body).unwrap();
    assert!(stats.contains("\"health\":\"draining\""), "{stats}");
    client.send(rest);
    announced(&client.reply());
    client.ends();
    let (status, log) = tracker.ended();
    assert_eq!(status.code(), Some(0), "{log}");
}
