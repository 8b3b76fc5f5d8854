//! What the page shows, and that it keeps up.

use std::net::{IpAddr, Ipv6Addr};

use super::browser::Browser;
use super::watched::{OPERATIONS, STATE, address, card, has_browser, item, row, watch};
use crate::support::authority::KeyKind;
use crate::support::client::{fetch, get_request};
use crate::support::requirements::TempDir;
use crate::support::tls_tracker::TlsTracker;
use crate::support::torrent::TestTorrent;
use crate::support::tracker::{Engine, Tracker, has_v6};

/// Two torrents: of 1,200 seeders and 5 leechers, and of 3 seeders by IPv6. And a failure.
fn fill(tracker: &Tracker) {
    let torrent = TestTorrent::new(tracker, 1);
    torrent.announce_ports(tracker.v4, 1..=1200, "left=0");
    torrent.announce_ports(tracker.v4, 2001..=2005, "left=1");
    assert_eq!(torrent.scrape().complete, 1200);
    if has_v6() {
        let source = IpAddr::V6(Ipv6Addr::LOCALHOST);
        for port in 1..=3 {
            TestTorrent::new(tracker, 2).announce_from(source, port, "left=0");
        }
    }
    assert_eq!(fetch(tracker.v4, get_request("/announce?port=1")).status, 200);
}

#[track_caller]
fn shows_what_was_filled(browser: &mut Browser) {
    let v6 = if has_v6() { 3 } else { 0 };
    assert_eq!(browser.ask(STATE), "Serving");
    assert_eq!(browser.ask(&row("Peers", "Seeders")), format!("1,200 {v6} 1,20{v6}"));
    assert_eq!(browser.ask(&row("Peers", "Leechers")), "5 0 5");
    assert_eq!(browser.ask(&card("Peers")), format!("1,20{}", 5 + v6));
    assert_eq!(browser.ask(&card("Torrents")), if has_v6() { "2" } else { "1" });
    let announces = browser.ask(&row("Traffic", "Announces"));
    assert!(announces.ends_with(&format!(" 1,20{}", 6 + v6)), "{announces}");
    let scrapes = browser.ask(&row("Traffic", "Scrapes"));
    assert!(scrapes.ends_with(" 1"), "{scrapes}");
    assert_eq!(browser.ask(&row("Failures, since the start", "info hash missing")), "1");
    // What has not failed is not told of.
    assert_eq!(browser.ask(&row("Failures, since the start", "port missing")), "");
    assert!(browser.ask(&row("Time taken, since the start", "Requests")).starts_with("≤ "));
    assert_eq!(browser.ask(&item("Program", "Workers")), "2");
    assert_eq!(browser.ask(&item("Program", "Version")), env!("CARGO_PKG_VERSION"));
    assert!(browser.ask(&item("Program", "Engine")).starts_with("epoll"));
    assert!(browser.ask(&item("Program", "Memory")).ends_with(" MiB"));
    let descriptors = browser.ask(&item("Program", "Descriptors open"));
    assert!(descriptors.contains(" of "), "{descriptors}");
    // Nothing is configured that these would tell of.
    assert_eq!(browser.ask(&item("Access list", "Serves")), "");
    assert!(!browser.ask("document.body.textContent").contains("Certificates"));
}

#[test]
fn what_was_announced_is_shown_and_what_is_announced_later_too() {
    if !has_browser("the page's numbers") {
        return;
    }
    let tracker = Tracker::start(Engine::Epoll, OPERATIONS);
    fill(&tracker);
    let mut browser = watch("numbers", &tracker);
    shows_what_was_filled(&mut browser);
    // What is kept as it is when the numbers change, and not when the page is loaded again.
    let title = "document.querySelector('h1')";
    browser.ask(&format!("{title}.mark = 'kept'"));
    browser.ask("document.querySelector('caption').mark = 'kept'");
    TestTorrent::new(&tracker, 1).announce(3000, "left=7");
    browser.until(&format!("{} === '6 0 6'", row("Peers", "Leechers")));
    assert_eq!(
        fetch(tracker.v4, get_request("/announce?info_hash=aaaaaaaaaaaaaaaaaaaa")).status,
        200
    );
    browser.until(&format!("{} === '1'", row("Failures, since the start", "port missing")));
    assert_eq!(browser.ask(&format!("{title}.mark")), "kept");
    assert_eq!(browser.ask("document.querySelector('caption').mark"), "kept");
    // Rates are of samples some seconds apart.
    browser.until(&format!("Number.parseFloat({}) > 0", card("Requests/s")));
    // And the courses are drawn as time goes by, each with its words.
    let points = "document.querySelector('#connections polyline').getAttribute('points')";
    browser.until(&format!("{points}.split(' ').length > 5"));
    let words = "document.querySelector('#requests + figcaption').textContent";
    browser.until(&format!("{words}.includes(' now, at most ')"));
}

#[test]
fn without_scripts_the_numbers_are_there_and_come_again() {
    if !has_browser("the page without scripts") {
        return;
    }
    let tracker = Tracker::start(Engine::Epoll, OPERATIONS);
    fill(&tracker);
    let mut browser = Browser::start("scriptless");
    browser.call("Emulation.setScriptExecutionDisabled", "{\"value\":true}");
    browser.open(&address(&tracker));
    shows_what_was_filled(&mut browser);
    assert!(browser.ask("document.body.innerText").contains("Without scripts, the page loads"));
    TestTorrent::new(&tracker, 1).announce(3000, "left=7");
    browser.until(&format!("{} === '6 0 6'", row("Peers", "Leechers")));
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn what_is_configured_is_shown() {
    if !has_browser("the page of a site") {
        return;
    }
    let scratch = TempDir::new("page-list");
    let list = scratch.path().join("list");
    std::fs::write(&list, "01".repeat(20) + "\n" + &"02".repeat(20) + "\n").unwrap();
    let access = format!("[access]\nmode = \"allow\"\nfile = \"{}\"\n", list.display());
    let hosts = [("tracker.test", KeyKind::P256), ("other.test", KeyKind::P256)];
    let site = TlsTracker::start_with(Engine::Epoll, &hosts, &format!("{access}{OPERATIONS}"));
    let mut browser = watch("site", &site.tracker);
    assert_eq!(browser.ask(&item("Access list", "Serves")), "its torrents only");
    assert_eq!(browser.ask(&item("Access list", "Torrents listed")), "2");
    for (host, _) in hosts {
        let end = browser.ask(&row("Certificates", host));
        assert!(end.starts_with("20") && end.contains(" in "), "{end}");
    }
}
