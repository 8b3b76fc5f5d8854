//! What the browser allows the page to do, and how it looks on a phone.

use std::io::Write;
use std::process::{Command, Stdio};

use super::helpers::{OPERATIONS, address, has_browser, watch};
use crate::support::client::{fetch, get_request};
use crate::support::tracker::{Engine, Tracker, wait_for};

/// When the page changes, the message of this test has the hashes for the policy.
#[test]
fn the_policy_names_the_page_s_own_style_and_script() {
    let tracker = Tracker::start(Engine::Epoll, OPERATIONS);
    let address = address(&tracker);
    let authority = address.trim_start_matches("http://").trim_end_matches('/');
    let reply = fetch(authority.parse().unwrap(), get_request("/"));
    assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    let policy = reply.header("content-security-policy").unwrap();
    let page = str::from_utf8(&reply.body).unwrap();
    for name in ["style", "script"] {
        let (_, rest) = page.split_once(&format!("<{name}>")).unwrap();
        let (content, _) = rest.split_once(&format!("</{name}>")).unwrap();
        let source = format!("{name}-src 'sha256-{}';", sha256(content));
        assert!(policy.contains(&source), "not {source} but {policy}");
    }
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
}

/// In base64.
fn sha256(text: &str) -> String {
    let mut command = Command::new("sh");
    command.args(["-c", "openssl dgst -sha256 -binary | openssl base64"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn it_fetches_from_the_tracker_only() {
    if !has_browser("the page's manners") {
        return;
    }
    let tracker = Tracker::start(Engine::Epoll, OPERATIONS);
    let address = address(&tracker);
    let mut browser = watch("manners", &tracker);
    let stats = format!("{address}stats.json");
    wait_for("the numbers to be fetched again and again", || {
        // The browser sends its events along with the result of a command.
        browser.ask("1");
        (browser.requested().iter().filter(|url| **url == stats).count() >= 3).then_some(())
    });
    let own = [&address, &stats, "data:,"];
    let requested = browser.requested();
    assert!(requested.iter().all(|url| own.contains(&url.as_str())), "{requested:?}");
    assert_eq!(requested.iter().filter(|url| **url == address).count(), 1, "{requested:?}");
    assert_eq!(browser.complaints(), [""; 0]);

    // The policy blocks other addresses, scripts and styles, and the browser reports it.
    let elsewhere = format!("http://{}/", tracker.v4);
    browser.ask(&format!("fetch('{elsewhere}').catch(() => document.title = 'refused') && 1"));
    browser.until("document.title === 'refused'");
    for (number, tag) in ["script", "style"].into_iter().enumerate() {
        let before = browser.complaints().len();
        browser.ask(&format!(
            "document.body.append(Object.assign(document.createElement('{tag}'), \
             {{ textContent: 'window.run = {number}' }})) ?? 1"
        ));
        let complaints = wait_for(format!("a report of a {tag}"), || {
            browser.ask("1");
            Some(browser.complaints()).filter(|complaints| complaints.len() > before)
        });
        let complaint = complaints.last().unwrap();
        assert!(complaint.contains("Content Security Policy"), "{complaint}");
    }
    assert_eq!(browser.ask("window.run"), "undefined");
    assert!(browser.requested().iter().all(|url| !url.starts_with(&elsewhere)));
}

#[test]
fn it_fits_a_phone() {
    if !has_browser("the page on a phone") {
        return;
    }
    let tracker = Tracker::start(Engine::Epoll, OPERATIONS);
    let mut browser = watch("phone", &tracker);
    let page = "document.documentElement.scrollWidth";
    // By how much the content of a section is wider than the section.
    let overflow = "Math.max(...[...document.querySelectorAll('section')]\
        .map(it => it.scrollWidth - it.clientWidth))";
    for width in [360, 320] {
        browser.narrow(width);
        assert_eq!(browser.ask(page), width.to_string());
        // Long numbers and names do not overflow, until the next update replaces them.
        let fill = |cells: &str| {
            format!(
                "document.querySelectorAll('td, .number, .faint, dd, tbody th').forEach(it => \
                 it.textContent = it.matches('th') ? 'x'.repeat(99) : \
                 it.matches('td') ? '{cells}' : '999,999,999')"
            )
        };
        for usual in ["99,999", "≤ 512 µs", "103 KiB"] {
            let shown = browser.ask(&format!("({}, [{page}, {overflow}])", fill(usual)));
            assert_eq!(shown, format!("{width},0"), "{usual}");
        }
        // With the largest numbers a table may scroll, but not the page.
        let largest = browser.ask(&format!("({}, {page})", fill("999,999,999")));
        assert_eq!(largest, width.to_string());
    }
    // The smallest letters are not tiny.
    let smallest = "Math.min(...[...document.querySelectorAll('main *')]\
        .map(it => Number.parseFloat(getComputedStyle(it).fontSize)))";
    assert!(browser.ask(smallest).parse::<f64>().unwrap() >= 12.0);
    // Nothing is expressed by colour alone: there are heads, captions and a live state.
    let landmarks =
        "document.querySelectorAll('h1, h2, caption, th[scope], [role=status]').length > 20";
    assert_eq!(browser.ask(landmarks), "true");
}
