//! The largest torrents.

use std::net::{IpAddr, Ipv6Addr};
use std::thread;

use serde_json::Value;

use crate::support::access_list::AccessListTracker;
use crate::support::admin::{AdminClient, OPERATIONS};
use crate::support::client::{HttpClient, fetch, get_request, request};
use crate::support::torrent::TestTorrent;
use crate::support::tracker::{Engine, Tracker, has_v6, test_both_engines};

test_both_engines!(
    torrents_are_ranked,
    the_list_follows_the_swarms,
    the_list_has_the_requested_length,
    torrents_outside_the_access_list_are_left_out,
    wrong_queries_get_an_error,
    concurrent_requests_are_served,
);

/// One torrent of a list: the number of its info hash, seeders, leechers and downloads.
type TopRow = (u8, u64, u64, u64);

/// The list for this query.
#[track_caller]
fn top(admin: &AdminClient, query: &str) -> Vec<TopRow> {
    let reply = admin.get(&format!("/top.json{query}"));
    assert_eq!(reply.status, 200, "{query}: {reply:?}");
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let list: Value = serde_json::from_slice(&reply.body).unwrap();
    let row = |torrent: &Value| {
        let torrent = torrent.as_object().unwrap();
        assert_eq!(torrent.len(), 4, "{torrent:?}");
        let info_hash = torrent["info_hash"].as_str().unwrap();
        let number = u8::from_str_radix(&info_hash[..2], 16).unwrap();
        assert_eq!(info_hash, format!("{number:02x}").repeat(20));
        let [complete, incomplete, downloaded] =
            ["complete", "incomplete", "downloaded"].map(|name| torrent[name].as_u64().unwrap());
        (number, complete, incomplete, downloaded)
    };
    list.as_array().unwrap().iter().map(row).collect()
}

fn torrents_are_ranked(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    let admin = AdminClient::of(&tracker);
    assert_eq!(top(&admin, ""), []);
    // For each torrent the number of seeders, of leechers, and of seeders that have completed it.
    for (number, seeders, leechers, completed) in
        [(0x10, 3, 0, 1), (0xfe, 0, 5, 0), (0x07, 1, 2, 1), (0x70, 3, 2, 3)]
    {
        let torrent = TestTorrent::new(&tracker, number);
        torrent.announce_ports(tracker.v4, 1..=leechers, "left=1");
        torrent.announce_ports(tracker.v4, 101..=100 + seeders, "left=0");
        for port in 101..=100 + completed {
            torrent.announce(port, "left=1");
            torrent.announce(port, "left=0&event=completed");
        }
    }
    let [one, two, three, four] =
        [(0x10, 3, 0, 1), (0xfe, 0, 5, 0), (0x07, 1, 2, 1), (0x70, 3, 2, 3)];
    // Equal torrents are in the order of their info hashes.
    assert_eq!(top(&admin, "?by=leechers"), [two, three, four, one]);
    assert_eq!(top(&admin, "?by=seeders"), [one, four, three, two]);
    assert_eq!(top(&admin, "?by=downloads"), [four, three, one, two]);
    assert_eq!(top(&admin, "?n=2&by=downloads"), [four, three]);
    assert_eq!(top(&admin, "?n=1"), [two]);
    assert_eq!(top(&admin, "?_=1&by=seeders&n=1000"), [one, four, three, two]);
    assert_eq!(top(&admin, "?&&by=seeders&n=0002&"), [one, four]);
    for query in ["", "?", "?by=leechers", "?by=leechers&n=100"] {
        assert_eq!(top(&admin, query), [two, three, four, one], "{query}");
    }
}

fn the_list_follows_the_swarms(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    let admin = AdminClient::of(&tracker);
    let [one, other] = [1, 2].map(|number| TestTorrent::new(&tracker, number));
    one.announce(1, "left=1");
    assert_eq!(top(&admin, ""), [(1, 0, 1, 0)]);
    other.announce_ports(tracker.v4, 1..=2, "left=1");
    assert_eq!(top(&admin, ""), [(2, 0, 2, 0), (1, 0, 1, 0)]);
    other.announce(1, "left=0&event=completed");
    other.announce(2, "left=1&event=stopped");
    assert_eq!(top(&admin, ""), [(1, 0, 1, 0), (2, 1, 0, 1)]);
    if has_v6() {
        // Both families count.
        other.announce_from(IpAddr::V6(Ipv6Addr::LOCALHOST), 1, "left=0");
        assert_eq!(top(&admin, "?by=seeders"), [(2, 2, 0, 1), (1, 0, 1, 0)]);
    }
}

fn the_list_has_the_requested_length(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    let admin = AdminClient::of(&tracker);
    // Each group of seven torrents has one peer more than the group before.
    for number in 0..150 {
        let torrent = TestTorrent::new(&tracker, number);
        torrent.announce_ports(tracker.v4, 1..=u16::from(number / 7) + 1, "left=1");
    }
    let mut all: Vec<TopRow> =
        (0..150).map(|number| (number, 0, u64::from(number / 7) + 1, 0)).collect();
    all.sort_by_key(|&(number, _, leechers, _)| (u64::MAX - leechers, number));
    assert_eq!(top(&admin, ""), all[..100]);
    for n in [1, 2, 99, 101, 150, 151, 1000] {
        assert_eq!(top(&admin, &format!("?n={n}")), all[..n.min(150)], "{n}");
    }
}

fn torrents_outside_the_access_list_are_left_out(engine: Engine) {
    let list = |numbers: &[u8]| -> String {
        numbers.iter().map(|number| format!("{number:02x}").repeat(20) + "\n").collect()
    };
    for (mode, before, after) in
        [("allow", list(&[1, 2, 3]), list(&[1, 3])), ("deny", list(&[9]), list(&[2]))]
    {
        let listed = AccessListTracker::start(engine, mode, before, OPERATIONS);
        let admin = AdminClient::of(&listed.tracker);
        for (number, peers) in [(1, 1), (2, 3), (3, 2)] {
            listed.torrent(number).announce_ports(listed.tracker.v4, 1..=peers, "left=1");
        }
        assert_eq!(top(&admin, ""), [(2, 0, 3, 0), (3, 0, 2, 0), (1, 0, 1, 0)]);
        listed.relist(after);
        assert_eq!(top(&admin, ""), [(3, 0, 2, 0), (1, 0, 1, 0)], "{mode}");
        assert_eq!(top(&admin, "?n=1"), [(3, 0, 2, 0)], "{mode}");
    }
}

fn wrong_queries_get_an_error(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    let admin = AdminClient::of(&tracker);
    for (query, part) in [
        ("by=peers", "leechers, seeders or downloads"),
        ("by=", "leechers, seeders or downloads"),
        ("by=LEECHERS", "leechers, seeders or downloads"),
        ("n=0", "1 to 1000"),
        ("n=1001", "1 to 1000"),
        ("n=", "1 to 1000"),
        ("n=ten", "1 to 1000"),
        ("n=-1", "1 to 1000"),
        ("n=99999999999999999999999", "1 to 1000"),
        ("by=seeders&n=x", "1 to 1000"),
        ("n=5&by=seeders%20", "leechers, seeders or downloads"),
        ("by=seeders&by=x", "leechers, seeders or downloads"),
        ("n=+1", "1 to 1000"),
        ("n=%31", "1 to 1000"),
        ("n=1e2", "1 to 1000"),
    ] {
        let reply = admin.get(&format!("/top.json?{query}"));
        assert_eq!(reply.status, 400, "{query}");
        assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"));
        let text = String::from_utf8(reply.body).unwrap();
        assert!(text.contains(part), "{query}: {text}");
    }
    assert_eq!(admin.get("/top.json/").status, 404);
    assert_eq!(fetch(admin.0, request("POST", "/top.json", "HTTP/1.1", "")).status, 405);
    let mut client = HttpClient::connect(admin.0);
    client.send(request("HEAD", "/top.json?by=seeders", "HTTP/1.1", ""));
    assert_eq!(client.read_response_head().status, 200);
    client.expect_close();
    let page = String::from_utf8(admin.get("/").body).unwrap();
    assert!(page.contains("<a href=\"top.json\">"), "{page}");
    // The tracker's own listener does not serve it.
    assert_eq!(fetch(tracker.v4, get_request("/top.json?by=seeders")).status, 404);
}

/// Announces continue meanwhile, and change the swarms.
fn concurrent_requests_are_served(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    let admin = AdminClient::of(&tracker);
    for number in 1..=20 {
        // So many that the order stays the same while one peer is stopped.
        TestTorrent::new(&tracker, number).announce_ports(
            tracker.v4,
            1..=2 * u16::from(number),
            "left=1",
        );
    }
    let ask = || {
        let numbers: Vec<u8> = top(&admin, "?n=5").iter().map(|row| row.0).collect();
        assert_eq!(numbers, [20, 19, 18, 17, 16]);
    };
    // In rounds: a new connection closes the oldest, which is of an earlier round.
    let ask_in_rounds = || {
        for _ in 0..5 {
            thread::scope(|scope| (0..12).for_each(|_| drop(scope.spawn(ask))));
        }
    };
    thread::scope(|scope| {
        let asking = scope.spawn(ask_in_rounds);
        while !asking.is_finished() {
            for number in 1..=20 {
                TestTorrent::new(&tracker, number).announce(1, "left=1&event=stopped");
                TestTorrent::new(&tracker, number).announce(1, "left=1");
            }
        }
    });
}
