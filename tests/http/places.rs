//! The paths of announces and scrapes, as users' announce URLs have them, and the paths of the
//! page.

use crate::support::admin::{AdminClient, OPERATIONS};
use crate::support::client::{HttpClient, fetch, get_request, request};
use crate::support::torrent::{
    TestTorrent, failure_reason, parse_announce, parse_scrape, percent_encoded,
};
use crate::support::tracker::{Engine, Tracker, test_both_engines};

test_both_engines!(
    an_announce_is_one_anywhere,
    a_path_with_scrape_is_a_scrape,
    a_failure_is_bencoded_anywhere,
    padding_after_values_is_ignored,
    without_an_info_hash_it_is_a_page,
    rate_limited_clients_get_a_bencoded_failure,
);

const REQUESTS: &str = "annulus_requests_total";

/// With a redirect for the page, which clients of announces must not get.
fn start(engine: Engine) -> (Tracker, AdminClient) {
    let tables = format!("[protocol]\nredirect = \"https://example.org\"\n{OPERATIONS}");
    let tracker = Tracker::start(engine, &tables);
    let admin = AdminClient::of(&tracker);
    (tracker, admin)
}

fn an_announce_is_one_anywhere(engine: Engine) {
    let (tracker, admin) = start(engine);
    let hash = percent_encoded(&[1; 20]);
    let places = [
        "/?",
        "?",
        "http://tracker.example?",
        "http://tracker.example/?",
        "HTTPS://user@[::1]:443?",
        "/a?",
        "/ann?magnet&",
        "/x.php?",
        "/tracker.php/KEY/announce?",
        "/a/b/c/d/announce?",
        "/a/b/c/announce.php/?",
        "/announce/a/b/c?",
        "/announce%0D?",
        "/announce%0d%0A?",
        "/announce%20?",
        "/announce%09/?",
        "/announce//?",
        "//?",
        "/Announce?",
        "/ANNOUNCE.PHP?",
        "/%61nnounce?",
        "/index.html?",
        "/favicon.ico?",
        "/robots.txt?",
        "/descrape?",
        "/scraper/x?",
        "/announce?passkey&",
        "/announce?passkey%0D&",
        "/?&&=&key&%zz&",
        "/?passkey=a/b?",
        "announce?",
        "*?",
        "udp://tracker.example:80/announce?",
        "/announce&",
        "/tracker&",
        "http:///announce?",
    ];
    for (place, port) in places.iter().zip(1..) {
        for key in ["info_hash", "%69nfo%5fhash"] {
            let target = format!("{place}{key}={hash}&port={port}");
            let response = fetch(tracker.v4, get_request(&target));
            assert_eq!(parse_announce(&response).incomplete, port, "{target}");
            assert!(!response.has_connection_close(), "{target}");
        }
        // At any position of the info hash in the query.
        let target = format!("{place}port={port}&left=0&info_hash={hash}&compact=1");
        assert_eq!(
            parse_announce(&fetch(tracker.v4, get_request(&target))).complete,
            1,
            "{target}"
        );
        let mut client = HttpClient::connect(tracker.v4);
        client.send(request("HEAD", &target, "HTTP/1.0", ""));
        assert_eq!(client.read_response_head().status, 200, "{target}");
        parse_announce(&fetch(tracker.v4, get_request(&target.replace("left=0", "left=1"))));
    }
    let count = 5 * places.len();
    let all = format!("kind=announce,transport=http,family=ipv4,outcome=answered {count}");
    assert_eq!(admin.labelled_samples(REQUESTS), [all]);
}

fn a_path_with_scrape_is_a_scrape(engine: Engine) {
    let (tracker, admin) = start(engine);
    TestTorrent::new(&tracker, 1).announce(1, "");
    let hash = percent_encoded(&[1; 20]);
    let paths = [
        "/scrape.php",
        "/scrape_x",
        "/scraper",
        "/scrape%0D",
        "/scrape%20/",
        "/%73crape",
        "/a/b/c/scrape",
        "/a/b/c/scrape.php/",
        "/announce/scrape-it",
        "/scrape/a/b/c",
        "/scrape/%0D",
        "scrape",
        "http://tracker.example/a/b/scrape?passkey",
    ];
    for path in paths {
        let start = if path.contains('?') { "&" } else { "?" };
        let target = format!("{path}{start}port=1&info_hash={hash}");
        let files = parse_scrape(&fetch(tracker.v4, get_request(&target)));
        assert_eq!(files[0].1.incomplete, 1, "{target}");
    }
    let all = format!("kind=scrape,transport=http,family=ipv4,outcome=answered {}", paths.len());
    assert_eq!(
        admin.labelled_samples(REQUESTS),
        ["kind=announce,transport=http,family=ipv4,outcome=answered 1", &all]
    );
}

/// An announce with an error gets a bencoded failure, and the connection stays open.
fn a_failure_is_bencoded_anywhere(engine: Engine) {
    let (tracker, admin) = start(engine);
    let hash = percent_encoded(&[1; 20]);
    let mut client = HttpClient::connect(tracker.v4);
    for place in ["/?", "?", "http://tracker?", "/a?", "/a/b/c?", "/announce%20?"] {
        for (query, word) in [
            (format!("info_hash={hash}"), "port is missing"),
            ("info_hash=&port=1".to_owned(), "20 bytes"),
            ("port=1&info_hash=%zz".to_owned(), "percent"),
        ] {
            client.send(get_request(&format!("{place}{query}")));
            let reason = failure_reason(&client.read_response());
            assert!(reason.contains(word), "{place}{query}: {reason}");
        }
    }
    assert_eq!(
        admin.labelled_samples(REQUESTS),
        ["kind=announce,transport=http,family=ipv4,outcome=failed 18"]
    );
}

fn padding_after_values_is_ignored(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let hash = percent_encoded(&[1; 20]);
    for (padding, port) in ["%0D", "%0d%0A", "%20", "+", "%09", "/", "%20/%0D"].iter().zip(1..) {
        for query in [
            format!("info_hash={hash}&left=1&port={port}{padding}"),
            format!("port={port}&left=1&info_hash={hash}{padding}"),
            format!("port={port}&left=1{padding}&info_hash={hash}"),
            format!("port={port}&info_hash={hash}&left=1{padding}"),
            format!("port={port}&info_hash={hash}&left=1&passkey{padding}"),
        ] {
            let answer =
                parse_announce(&fetch(tracker.v4, get_request(&format!("/announce?{query}"))));
            assert_eq!(answer.incomplete, port, "{query}");
        }
        let target = format!("/announce?info_hash={hash}&port={port}&event=stopped{padding}");
        let answer = parse_announce(&fetch(tracker.v4, get_request(&target)));
        assert_eq!((answer.incomplete, answer.peers.len()), (port - 1, 0), "{target}");
        let target = format!("/announce?info_hash={hash}&port={port}&compact=0{padding}");
        let list =
            parse_announce(&fetch(tracker.v4, get_request(&target))).body.get("peers").cloned();
        assert!(format!("{list:?}").contains('['), "{target}: {list:?}");
        let files = parse_scrape(&fetch(
            tracker.v4,
            get_request(&format!("/scrape?info_hash={hash}{padding}")),
        ));
        assert_eq!(files[0].1.incomplete, port, "{padding}");
    }
    // An info hash that ends in such bytes is complete.
    let hash = percent_encoded(b"aaaaaaaaaaaaaaaaa/ \r");
    assert_eq!(
        parse_scrape(&fetch(tracker.v4, get_request(&format!("/scrape?info_hash={hash}"))))[0].0,
        b"aaaaaaaaaaaaaaaaa/ \r"
    );
}

fn without_an_info_hash_it_is_a_page(engine: Engine) {
    let (tracker, admin) = start(engine);
    for (target, status) in [
        ("/", 302),
        ("/?port=1&left=0", 302),
        ("/?info_has=aaaaaaaaaaaaaaaaaaaa", 302),
        ("/?Info_hash=aaaaaaaaaaaaaaaaaaaa", 302),
        ("/?x=info_hash=aaaaaaaaaaaaaaaaaaaa", 302),
        ("http://tracker.example/?a=1", 302),
        ("/robots.txt", 200),
        ("/favicon.ico", 404),
        ("/info_hash=aaaaaaaaaaaaaaaaaaaa", 404),
        ("/a/b/announce?port=1", 404),
        ("/announce%0D", 404),
        ("/scrape_x", 404),
        ("/img/scrape.png", 404),
        ("?port=1", 404),
        ("*", 404),
    ] {
        let response = fetch(tracker.v4, get_request(target));
        assert_eq!((response.status, response.has_connection_close()), (status, true), "{target}");
    }
    assert_eq!(
        admin.labelled_samples(REQUESTS),
        [
            "kind=page,transport=http,family=ipv4,outcome=answered 7",
            "kind=page,transport=http,family=ipv4,outcome=failed 8",
        ]
    );
    // The path of these two decides what they are.
    assert!(
        failure_reason(&fetch(tracker.v4, get_request("/announce")))
            .contains("info_hash is missing")
    );
    assert!(
        failure_reason(&fetch(tracker.v4, get_request("/scrape"))).contains("info_hash is missing")
    );
}

fn rate_limited_clients_get_a_bencoded_failure(engine: Engine) {
    let limits = "[limits]\nrequests_per_second = 1\nrequest_burst = 1\n";
    let tracker = Tracker::start(engine, limits);
    let target = format!("/?info_hash={}&port=1", percent_encoded(&[1; 20]));
    let mut client = HttpClient::connect(tracker.v4);
    client.send([get_request(&target), get_request(&target)].concat());
    parse_announce(&client.read_response());
    assert!(failure_reason(&client.read_response()).contains("too many requests"));
}
