//! The effect of a list, and the errors that prevent a start.

use crate::support::access_list::{AccessListTracker, REFUSAL, list_line, refusal_reason};
use crate::support::client::{HttpClient, fetch, get_request};
use crate::support::torrent::parse_announce;
use crate::support::tracker::{Engine, Tracker, config, test_both_engines};

test_both_engines!(
    only_what_is_allowed_is_served,
    all_but_what_is_denied_is_served,
    a_list_may_look_like_any_text,
    whatever_is_announced_is_refused,
    a_full_scrape_shows_what_is_served,
    bad_lines_keep_it_from_starting,
    bad_lines_may_be_skipped,
    a_missing_list_keeps_it_from_starting,
);

fn only_what_is_allowed_is_served(engine: Engine) {
    let listed = AccessListTracker::start(engine, "allow", list_line(1) + &list_line(5), "");
    listed.tracker.assert_logged("access list: 2 info hashes allowed");
    listed.assert_serves(&[1, 5]);
    let listed = AccessListTracker::start(engine, "allow", "# nobody yet\n", "");
    listed.tracker.assert_logged("access list: 0 info hashes allowed");
    listed.assert_serves(&[]);
}

fn all_but_what_is_denied_is_served(engine: Engine) {
    let listed =
        AccessListTracker::start(engine, "deny", list_line(1) + &list_line(5) + &list_line(1), "");
    listed.tracker.assert_logged("access list: 2 info hashes denied");
    listed.assert_serves(&[0, 2, 3, 4, 6, 7, 8, 9]);
    let listed = AccessListTracker::start(engine, "off", "nonsense", "");
    listed.assert_serves(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

fn a_list_may_look_like_any_text(engine: Engine) {
    // Hashes with letters, whose case must not matter.
    let list = format!(
        "\u{feff}{}\r\n\r\n# a comment\r\n  {} the name of it\r\n{}# another\r\n{}{}\r\n{}",
        "aB".repeat(20),
        "cd".repeat(20),
        "EF".repeat(20),
        "fa".repeat(20),
        "99".repeat(12),
        "0c".repeat(20),
    );
    let listed = AccessListTracker::start(engine, "allow", list, "");
    listed.tracker.assert_logged("access list: 5 info hashes allowed");
    for number in [0xab, 0xcd, 0xef, 0xfa, 0x0c] {
        listed.torrent(number).announce(1, "");
    }
    // A full v2 hash: truncated, like that of the list.
    let whole = format!("{}{}", "%FA".repeat(20), "%99".repeat(12));
    let target = format!("/announce?info_hash={whole}&port=1");
    assert_eq!(parse_announce(&fetch(listed.tracker.v4, get_request(&target))).incomplete, 1);
    listed.assert_serves(&[]);
}

fn whatever_is_announced_is_refused(engine: Engine) {
    let listed = AccessListTracker::start(engine, "deny", list_line(1), "");
    let (torrent, other) = (listed.torrent(1), listed.torrent(2));
    let mut client = HttpClient::connect(listed.tracker.v4);
    for event in ["started", "completed", "stopped", "", "numwant=0"] {
        client.send(get_request(&torrent.target(1, &format!("left=0&event={event}"))));
        assert_eq!(refusal_reason(&client.read_response()), REFUSAL, "{event}");
        // The connection stays open.
        client.send(get_request(&other.target(1, "")));
        parse_announce(&client.read_response());
    }
    assert_eq!(torrent.scrape(), Default::default());
    assert_eq!(other.scrape().incomplete, 1);
}

fn a_full_scrape_shows_what_is_served(engine: Engine) {
    let listed = AccessListTracker::start(
        engine,
        "deny",
        "# nothing yet",
        "[protocol]\nfull_scrape = true\n",
    );
    for number in 1..=4 {
        listed.torrent(number).announce(1, "");
    }
    let shown = || {
        let mut client = HttpClient::connect(listed.tracker.v4);
        client.send(get_request("/scrape"));
        let body = client.read_response_to_end().body;
        let is_shown = |number: &u8| body.windows(20).any(|part| part == [*number; 20]);
        (0..10).filter(is_shown).collect::<Vec<u8>>()
    };
    assert_eq!(shown(), [1, 2, 3, 4]);
    listed.relist(list_line(1) + &list_line(3));
    assert_eq!(shown(), [2, 4]);
}

fn bad_lines_keep_it_from_starting(engine: Engine) {
    let list = format!("{}\n{}what is this?\n{}0", list_line(1), list_line(2), list_line(3).trim());
    let mut listed = AccessListTracker::launch(engine, "allow", list, "");
    let (status, log) = listed.tracker.wait_exit();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("list.txt:4: \"what\" is no info hash"), "{log}");
    assert!(log.contains("list.txt:5: \"0303"), "{log}");
    assert!(!log.contains("listening on"), "{log}");
}

fn bad_lines_may_be_skipped(engine: Engine) {
    let list = list_line(1) + &"what is this?\n".repeat(30) + &list_line(2);
    let listed = AccessListTracker::start(engine, "allow", list, "bad_lines = \"skip\"\n");
    let log = listed.tracker.log();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("skipped")).collect();
    assert_eq!(warnings.len(), 21, "{log}");
    for (line, number) in warnings[..20].iter().zip(2..) {
        assert!(line.contains("warning: ") && line.contains(&format!("list.txt:{number}: ")));
    }
    assert!(warnings[20].contains("list.txt: 10 more bad lines: skipped"), "{log}");
    listed.assert_serves(&[1, 2]);
}

fn a_missing_list_keeps_it_from_starting(engine: Engine) {
    // Whether bad lines are skipped or not.
    let tables = "[access]\nmode = \"allow\"\nfile = \"none.txt\"\nbad_lines = \"skip\"\n";
    let mut tracker = Tracker::launch(&config(engine, 1, tables), &[]);
    let (status, log) = tracker.wait_exit();
    assert_eq!(status.code(), Some(1), "{log}");
    // Line 6 of the configuration.
    assert!(log.contains(".toml:6: access.file: ") && log.contains("cannot be read"), "{log}");
    assert!(!log.contains("listening on"), "{log}");
}
