//! What the page shows, and that it updates.

use std::net::{IpAddr, Ipv6Addr};

use serde_json::{Value, json};

use super::browser::Browser;
use super::helpers::{OPERATIONS, STATE, address, card, has_browser, item, row, watch};
use crate::support::admin::AdminClient;
use crate::support::authority::KeyKind;
use crate::support::client::{fetch, get_request};
use crate::support::redis::{RedisServer, has_redis};
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
fn assert_shows_announces(browser: &mut Browser) {
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
    // What has not failed is not shown.
    assert_eq!(browser.ask(&row("Failures, since the start", "port missing")), "");
    assert!(browser.ask(&row("Time taken, since the start", "Requests")).starts_with("≤ "));
    assert_eq!(browser.ask(&item("Program", "Workers")), "2");
    assert_eq!(browser.ask(&item("Program", "Version")), env!("CARGO_PKG_VERSION"));
    assert!(browser.ask(&item("Program", "Engine")).starts_with("epoll"));
    assert!(browser.ask(&item("Program", "Memory")).ends_with(" MiB"));
    let descriptors = browser.ask(&item("Program", "Descriptors open"));
    assert!(descriptors.contains(" of "), "{descriptors}");
    // Nothing is configured that these would show.
    assert_eq!(browser.ask(&item("Access list", "Serves")), "");
    assert!(!browser.ask("document.querySelector('main').textContent").contains("Certificates"));
}

#[test]
fn announces_are_shown_and_updated() {
    if !has_browser("the page's numbers") {
        return;
    }
    let tracker = Tracker::start(Engine::Epoll, OPERATIONS);
    fill(&tracker);
    let mut browser = watch("numbers", &tracker);
    assert_shows_announces(&mut browser);
    // An update of the numbers keeps these elements; loading the page again would not.
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
    // Rates come from samples some seconds apart.
    browser.until(&format!("Number.parseFloat({}) > 0", card("Requests/s")));
    // The charts grow, each with its caption.
    let points = "document.querySelector('#connections polyline').getAttribute('points')";
    browser.until(&format!("{points}.split(' ').length > 5"));
    let words = "document.querySelector('#requests + figcaption').textContent";
    browser.until(&format!("{words}.includes(' now, at most ')"));
}

#[test]
fn without_javascript_it_points_to_the_numbers() {
    if !has_browser("the page without JavaScript") {
        return;
    }
    let tracker = Tracker::start(Engine::Epoll, OPERATIONS);
    let mut browser = Browser::start("scriptless");
    browser.call("Emulation.setScriptExecutionDisabled", json!({ "value": true }));
    browser.open(&address(&tracker));
    assert!(browser.ask("document.body.innerText").contains("This page needs JavaScript."));
    let links = "[...document.querySelectorAll('noscript a')].map(it => it.href).join(' ')";
    let links = browser.ask(links);
    assert!(links.contains("/metrics") && links.contains("/stats.json"), "{links}");
    for link in links.split(' ') {
        browser.open(link);
    }
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn access_list_and_certificates_are_shown() {
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

/// The page of a tracker with these numbers, which it does not update any more.
fn show(name: &str, change: impl Fn(&mut Value)) -> Browser {
    let tracker = Tracker::start(Engine::Epoll, OPERATIONS);
    let mut browser = watch(name, &tracker);
    let stats = "fetch('stats.json').then(it => it.json()).then(it => document.title = \
                 JSON.stringify(it)) && 1";
    browser.ask(stats);
    browser.until("document.title.startsWith('{')");
    browser.ask("window.fetch = () => new Promise(() => 0)");
    let mut stats = serde_json::from_str(&browser.ask("document.title")).unwrap();
    change(&mut stats);
    browser.ask(&format!("show({stats})"));
    browser
}

#[test]
fn faults_are_marked() {
    if !has_browser("the page of a tracker with faults") {
        return;
    }
    let day_s = 86_400;
    let mut browser = show("faults", |stats| {
        stats["health"] = "stuck".into();
        stats["stuck"] = json!({ "worker": 1, "seconds": 61 });
        stats["reload_obstacle"] = "restart annulus".into();
        stats["state"] = json!({ "file": "/a/<b>", "interval_seconds": 300,
            "written": 100 * day_s - 3600, "bytes": 2048, "write_seconds": 1.26, "writes": 3,
            "failures": 2, "problem": "No space left" });
        stats["time"] = (100 * day_s).into();
        let certificate = |names: &str, days_left: i64, notice_s: i64| {
            let not_after = (100 + days_left) * day_s;
            json!({ "names": names, "not_after": not_after, "not_before": 0,
                    "expiry_notice": 100 * day_s + notice_s })
        };
        stats["tls"]["certificates"] = json!([
            certificate("<b>\"good\"&", 30, 0),
            certificate("soon", 2, -1),
            certificate("over", -1, -2),
        ]);
    });
    assert_eq!(browser.ask(STATE), "Worker 1 is stuck for 1 min 1 s");
    assert_eq!(browser.ask("document.querySelector('#state > *').className"), "state bad");
    assert_eq!(browser.ask(&item("Program", "Reload not possible")), "restart annulus");
    for (name, value) in [
        ("File", "/a/<b>"),
        ("Written", "1 h ago"),
        ("Size", "2.0 KiB"),
        ("Last write took", "1.3 s"),
        ("Failed writes", "2"),
        ("Problem", "No space left"),
    ] {
        assert_eq!(browser.ask(&item("Swarms on disk", name)), value);
    }
    assert_eq!(browser.ask(&row("Certificates", "<b>\"good\"&")), "1970-05-11 in 30 d");
    assert_eq!(browser.ask(&row("Certificates", "soon")), "1970-04-13 in 2 d");
    assert_eq!(browser.ask(&row("Certificates", "over")), "1970-04-10 1 d ago");
    let bad = "[...document.querySelectorAll('tr.bad')].map(it => it.cells[0].textContent)";
    assert_eq!(browser.ask(bad), "soon,over");
    assert_eq!(browser.ask("document.querySelectorAll('main b').length"), "0");
    let color =
        |class: &str| format!("getComputedStyle(document.querySelector('{class} td')).color");
    assert_ne!(browser.ask(&color("tr.bad")), browser.ask(&color("tr:not(.bad)")));
}

#[test]
fn udp_is_told_apart() {
    if !has_browser("the page's numbers of UDP") {
        return;
    }
    let mut browser = show("udp", |stats| {
        stats["udp"]["connects"] = 1234.into();
        stats["udp"]["dropped"]["connection_id"] = 7.into();
        stats["udp"]["dropped"]["malformed"] = 8.into();
        for span in ["60s", "300s"] {
            stats["per_second"][span]["udp_connects"] = 20.5.into();
            stats["per_second"][span]["udp_announces"] = 4.5.into();
        }
        stats["udp"]["announces"] = 56.into();
        stats["udp"]["scrapes"] = 9.into();
    });
    assert_eq!(browser.ask(&row("By UDP", "Connects")), "20.5 20.5 1,234");
    assert_eq!(browser.ask(&row("By UDP", "Announces")), "4.5 4.5 56");
    assert_eq!(browser.ask(&row("By UDP", "Scrapes")), "0.0 0.0 9");
    assert_eq!(browser.ask(&row("By UDP", "Dropped")), "0.0 0.0 15");
    let failures = "Failures, since the start";
    assert_eq!(browser.ask(&row(failures, "datagram dropped: connection id")), "7");
    assert_eq!(browser.ask(&row(failures, "datagram dropped: unsent")), "");

    let tracker = Tracker::start(Engine::Epoll, &format!("[udp]\nlisten = []\n{OPERATIONS}"));
    let mut browser = watch("without-udp", &tracker);
    assert_eq!(browser.ask(&row("By UDP", "Connects")), "");
    assert_eq!(browser.ask(STATE), "Serving");
}

#[test]
fn numbers_are_grouped_and_have_units() {
    if !has_browser("the page's units") {
        return;
    }
    let mut browser = show("units", |_| {});
    for (expression, expected) in [
        ("[0, 7, 999, 1000, 12345, 999999999].map(grouped)", "0 7 999 1,000 12,345 999,999,999"),
        ("[12345678901].map(grouped)", "12,345 M"),
        ("[0, 9.96, 99.94, 99.95, 12345.6].map(rate)", "0.0 10.0 99.9 100 12,346"),
        ("[0, 5, 999, 1000, 1536, 20480].map(bytes)", "0 B 5 B 999 B 1.0 KiB 1.5 KiB 20 KiB"),
        ("[1023.9 * 1024, 5000 * 2 ** 30].map(bytes)", "1.0 MiB 4.9 TiB"),
        ("[5000 * 2 ** 40].map(bytes)", "5,000 TiB"),
        ("[0, 59, 60, 61, 3600].map(duration)", "0 s 59 s 1 min 1 min 1 s 1 h"),
        ("[3660, 86399, 90000].map(duration)", "1 h 1 min 23 h 59 min 1 d 1 h"),
        ("[7 * 86400 - 1, 7 * 90000].map(duration)", "6 d 23 h 7 d"),
        ("[86400 * 2000].map(duration)", "2,000 d"),
        ("[512, 1024, 1048576, null].map(quantile)", "≤ 512 µs ≤ 1 ms ≤ 1 s > 1 s"),
        ("utc(951782399)", "2000-02-28 23:59:59 000Z"),
        ("utc(2 ** 63)", "out of range "),
    ] {
        assert_eq!(browser.ask(&format!("{expression}.join(' ')")), expected, "{expression}");
    }
}

#[test]
fn the_other_nodes_are_shown() {
    if !has_browser("the page's nodes") || !has_redis("the page's nodes") {
        return;
    }
    let server = RedisServer::start("");
    let tables = format!("{OPERATIONS}[cluster]\nserver = \"{}\"\n", server.url());
    let trackers = [(); 2].map(|()| Tracker::start(Engine::Epoll, &tables));
    let stats = |tracker| AdminClient::of(tracker).stats();
    let other = stats(&trackers[1])["cluster"]["node"].as_str().unwrap().to_owned();
    let mut browser = watch("nodes", &trackers[0]);
    browser.until(&format!("{} === 'Serving'", STATE));
    browser.until(&format!("{} === '{}'", item("Cluster", "Server"), server.url()));
    let node = row("Other nodes", &other);
    browser.until(&format!("{node}.startsWith('now 0 ')"));
    TestTorrent::new(&trackers[1], 1).announce_ports(trackers[1].v4, 1..=23, "left=0");
    browser.until(&format!("{node}.startsWith('now 23 ')"));
    browser.until(&format!("{} === '23'", card("Peers")));
    let received = item("Cluster", "Records received/s");
    TestTorrent::new(&trackers[1], 2).announce_ports(trackers[1].v4, 1..=100, "left=0");
    browser.until(&format!("Number.parseFloat({received}) > 0"));
    drop(server);
    let alone = "not connected: this node serves alone";
    browser.until(&format!("{} === '{alone}'", item("Cluster", "Server")));
    browser.until(&format!("{node}.includes(' ago ')"));
}
