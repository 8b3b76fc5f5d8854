//! What people, robots and load balancers get from the tracker's port.

use crate::support::admin::{AdminClient, OPERATIONS};
use crate::support::client::{HttpClient, fetch, get_request, request};
use crate::support::torrent::{TestTorrent, parse_announce};
use crate::support::tracker::{Engine, Tracker, test_both_engines};

test_both_engines!(
    a_visitor_gets_a_page,
    a_visitor_is_redirected,
    robots_are_disallowed,
    options_list_the_methods,
);

fn a_visitor_gets_a_page(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    for target in ["/", "/?from=a+link", "http://tracker.example/"] {
        let response = fetch(tracker.v4, get_request(target));
        assert_eq!((response.status, response.has_connection_close()), (200, true), "{target}");
        let text = String::from_utf8(response.body).unwrap();
        assert!(text.contains("BitTorrent tracker"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

fn a_visitor_is_redirected(engine: Engine) {
    let url = format!("https://example.org/{}", "x".repeat(1000));
    let tracker = Tracker::start(engine, &format!("[protocol]\nredirect = \"{url}\""));
    for method in ["GET", "HEAD"] {
        let response = fetch(tracker.v4, request(method, "/", "HTTP/1.1", ""));
        assert_eq!((response.status, response.has_connection_close()), (302, true), "{method}");
        assert_eq!(response.header("location"), Some(&*url), "{method}");
        assert!(response.body.is_empty());
    }
    assert_eq!(fetch(tracker.v4, get_request("/favicon.ico")).status, 404);
}

fn robots_are_disallowed(engine: Engine) {
    let tracker = Tracker::start(engine, "[protocol]\nredirect = \"http://example.org\"");
    for target in ["/robots.txt", "http://tracker.example:3000/robots.txt"] {
        let response = fetch(tracker.v4, get_request(target));
        assert_eq!(response.status, 200, "{target}");
        assert_eq!(response.header("content-type"), Some("text/plain"));
        assert_eq!(String::from_utf8(response.body).unwrap(), "User-agent: *\nDisallow: /\n");
    }
}

/// For any path, and whether the connection stays open or not.
fn options_list_the_methods(engine: Engine) {
    let tables = format!("[protocol]\nredirect = \"http://example.org\"\n{OPERATIONS}");
    let tracker = Tracker::start(engine, &tables);
    let torrent = TestTorrent::new(&tracker, 1);
    let announce = torrent.target(1, "");
    let mut count = 0;
    for target in ["*", "/", "/nothing", "/robots.txt", "/announce", &announce, "/scrape", "?x"] {
        for (version, headers, kept) in [
            ("HTTP/1.1", "", true),
            ("HTTP/1.1", "Connection: close\r\n", false),
            ("HTTP/1.1", "Content-Length: 0\r\n", true),
            // As HAProxy sends it.
            ("HTTP/1.0", "", false),
            ("HTTP/1.0", "Connection: keep-alive\r\n", true),
        ] {
            let mut client = HttpClient::connect(tracker.v4);
            let options = request("OPTIONS", target, version, headers);
            client.send([&options[..], &get_request(&announce)].concat());
            let response = client.read_response_head();
            assert_eq!(response.status, 204, "{target} {version} {headers}");
            assert_eq!(response.header("allow"), Some("GET, HEAD, OPTIONS"), "{target}");
            assert_eq!(response.header("content-length"), None, "{target}");
            assert_eq!(response.has_connection_close(), !kept, "{target} {version} {headers}");
            if kept {
                parse_announce(&client.read_response());
                client.shutdown_write();
            }
            client.expect_close();
            count += 1;
        }
    }
    assert_eq!(
        AdminClient::of(&tracker).labelled_samples("annulus_requests_total"),
        [
            format!("kind=announce,transport=http,family=ipv4,outcome=answered {}", count / 5 * 3),
            format!("kind=page,transport=http,family=ipv4,outcome=answered {count}"),
        ]
    );
    let body = request("OPTIONS", "/", "HTTP/1.1", "Content-Length: 2\r\n");
    assert_eq!(fetch(tracker.v4, body).status, 400);

    let limits = "[limits]\nrequests_per_second = 1\nrequest_burst = 1\n";
    let tracker = Tracker::start(engine, limits);
    let mut client = HttpClient::connect(tracker.v4);
    client.send(request("OPTIONS", &announce, "HTTP/1.1", "").repeat(2));
    assert_eq!(client.read_response_head().status, 204);
    assert_eq!(client.read_response().status, 429);
}
