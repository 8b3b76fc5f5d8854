//! What people and robots find who come to the tracker's port.

use crate::client::{ask, get, request};
use crate::tracker::{Engine, Tracker, on_both_engines};

on_both_engines!(a_visitor_is_told_what_this_is, a_visitor_is_sent_elsewhere, robots_are_sent_away);

fn a_visitor_is_told_what_this_is(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    for target in ["/", "/?from=a+link", "http://tracker.example/"] {
        let reply = ask(tracker.v4, get(target));
        assert_eq!((reply.status, reply.closes()), (200, true), "{target}");
        let text = String::from_utf8(reply.body).unwrap();
        assert!(text.contains("BitTorrent tracker"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

fn a_visitor_is_sent_elsewhere(engine: Engine) {
    let url = format!("https://example.org/{}", "x".repeat(1000));
    let tracker = Tracker::start(engine, &format!("[protocol]\nredirect = \"{url}\""));
    for method in ["GET", "HEAD"] {
        let reply = ask(tracker.v4, request(method, "/", "HTTP/1.1", ""));
        assert_eq!((reply.status, reply.closes()), (302, true), "{method}");
        assert_eq!(reply.header("location"), Some(&*url), "{method}");
        assert!(reply.body.is_empty());
    }
    assert_eq!(ask(tracker.v4, get("/favicon.ico")).status, 404);
}

fn robots_are_sent_away(engine: Engine) {
    let tracker = Tracker::start(engine, "[protocol]\nredirect = \"http://example.org\"");
    for target in ["/robots.txt", "http://tracker.example:3000/robots.txt"] {
        let reply = ask(tracker.v4, get(target));
        assert_eq!(reply.status, 200, "{target}");
        assert_eq!(reply.header("content-type"), Some("text/plain"));
        assert_eq!(String::from_utf8(reply.body).unwrap(), "User-agent: *\nDisallow: /\n");
    }
}
