//! Lists are changed while clients are served.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::access_list::{AccessListTracker, REFUSAL, list_line, refusal_reason};
use crate::support::bencode::decode;
use crate::support::client::{HttpClient, fetch, get_request};
use crate::support::torrent::parse_announce;
use crate::support::tracker::{Engine, test_both_engines, wait_for};

test_both_engines!(
    under_load,
    either_signal_reloads,
    torrents_that_are_not_served_any_more_are_removed,
    unusable_lists_are_not_used,
    an_allow_list_that_has_become_empty_is_not_used,
    a_list_that_loses_most_is_used_with_a_warning,
    an_empty_list_is_used_where_it_always_was,
    special_files_are_refused,
    nothing_to_reload,
    a_replaced_list_is_freed,
    memory_of_removed_torrents_goes_back,
);

/// Every announce is answered by the old list or the new one, and after the log line by the new
/// one.
fn under_load(engine: Engine) {
    const THREADS: usize = 4;
    /// If it is not told to end before.
    const LOAD_MAX: Duration = Duration::from_secs(120);
    let began = Instant::now();
    let listed = AccessListTracker::start(engine, "allow", list_line(1) + &list_line(2), "");
    let [always, at_times] =
        [1, 2].map(|number| get_request(&listed.torrent(number).target(1, "")));
    let (answered, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let ask_and_ask = || {
        let mut client = HttpClient::connect(listed.tracker.v4);
        while !done.load(Ordering::Relaxed) && began.elapsed() < LOAD_MAX {
            client.send(&always);
            parse_announce(&client.read_response());
            client.send(&at_times);
            let response = client.read_response();
            if decode(&response.body).get("failure reason").is_some() {
                assert_eq!(refusal_reason(&response), REFUSAL);
            } else {
                parse_announce(&response);
            }
            answered.fetch_add(2, Ordering::Relaxed);
        }
    };
    let some_more = || {
        let enough = answered.load(Ordering::Relaxed) + 200;
        wait_for("answers under load", || {
            (answered.load(Ordering::Relaxed) >= enough).then_some(())
        });
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(ask_and_ask)).collect();
        for round in 0..6 {
            some_more();
            let serves = round % 2 == 1;
            listed.relist(if serves { list_line(1) + &list_line(2) } else { list_line(1) });
            // By every worker.
            for _ in 0..8 {
                let response = fetch(listed.tracker.v4, &at_times);
                if serves {
                    parse_announce(&response);
                } else {
                    assert_eq!(refusal_reason(&response), REFUSAL);
                }
            }
        }
        some_more();
        assert!(threads.iter().all(|thread| !thread.is_finished()), "the load ended before");
        done.store(true, Ordering::Relaxed);
    });
}

fn either_signal_reloads(engine: Engine) {
    let listed = AccessListTracker::start(engine, "deny", list_line(1), "");
    for (signal, number) in [("HUP", 2), ("USR1", 3)] {
        listed.write(list_line(number));
        let verdict = listed.reload(signal);
        assert!(verdict.ends_with("access list reloaded: 1 info hash denied"), "{verdict}");
        let torrent = listed.torrent(number);
        let response = fetch(listed.tracker.v4, get_request(&torrent.target(1, "")));
        assert_eq!(refusal_reason(&response), REFUSAL);
        listed.torrent(1).announce(1, "");
    }
}

/// Hidden at once, and soon removed, so that it starts empty when it is served again.
fn torrents_that_are_not_served_any_more_are_removed(engine: Engine) {
    let listed = AccessListTracker::start(engine, "deny", "", "[swarms]\nmax_torrents = 2\n");
    let (torrent, other) = (listed.torrent(1), listed.torrent(2));
    // So many that a sweep needs several slices.
    torrent.announce_ports(listed.tracker.v4, 1..=1000, "left=0&event=completed&numwant=0");
    torrent.announce(1001, "left=1");
    other.announce(1, "left=0");
    other.announce(1, "left=0");
    // The tables are full: both torrents were announced more than once.
    assert_eq!(listed.torrent(3).announce(1, "").incomplete, 0);
    let before = torrent.scrape();
    assert_eq!((before.complete, before.downloaded, before.incomplete), (1000, 1000, 1));
    listed.relist(list_line(1));
    assert_eq!(torrent.scrape(), Default::default());
    // There is room when the first is removed.
    wait_for("room for another torrent", || {
        (listed.torrent(3).announce(1, "").incomplete == 1).then_some(())
    });
    listed.relist("");
    assert_eq!(torrent.scrape(), Default::default());
    assert_eq!(other.scrape().complete, 1);
}

fn unusable_lists_are_not_used(engine: Engine) {
    let listed = AccessListTracker::start(engine, "allow", list_line(1), "");
    listed.write(list_line(2) + "what?");
    let verdict = listed.reload("HUP");
    assert!(
        verdict.contains("access list kept: ") && verdict.contains("list.txt:2: "),
        "{verdict}"
    );
    listed.assert_serves(&[1]);
    listed.remove_list();
    let verdict = listed.reload("HUP");
    // Line 6 of the configuration.
    for part in ["access list kept: ", ".toml:6: access.file: ", "list.txt: cannot be read"] {
        assert!(verdict.contains(part), "no {part:?} in {verdict}");
    }
    listed.assert_serves(&[1]);
    listed.relist(list_line(2));
    listed.assert_serves(&[2]);
}

/// For any way to become empty. A restart accepts it.
fn an_allow_list_that_has_become_empty_is_not_used(engine: Engine) {
    let listed = AccessListTracker::start(
        engine,
        "allow",
        list_line(1) + &list_line(2),
        "bad_lines = \"skip\"",
    );
    for text in ["", "\n \n\n", "# nothing\r\n", "what?\n", "\u{feff}"] {
        listed.write(text);
        let verdict = listed.reload("HUP");
        let parts =
            ["warning: access list kept: ", ".toml:6: access.file: ", "list.txt: ", "of 2,"];
        for part in parts {
            assert!(verdict.contains(part), "no {part:?} in {verdict} after {text:?}");
        }
        listed.assert_serves(&[1, 2]);
    }
    listed.relist(list_line(3));
    listed.assert_serves(&[3]);
    // The comparison is with the list in use.
    listed.write("");
    assert!(listed.reload("USR1").contains("of 1,"));
    listed.assert_serves(&[3]);
}

/// The number is that of removed hashes, not of remaining ones.
fn a_list_that_loses_most_is_used_with_a_warning(engine: Engine) {
    for mode in ["allow", "deny"] {
        let listed =
            AccessListTracker::start(engine, mode, (1..=8).map(list_line).collect::<String>(), "");
        let warnings = || listed.tracker.log().matches(" warning: ").count();
        let quiet = warnings();
        for some in [&[1, 2, 3, 4][..], &[1, 2, 3], &[1, 2, 3, 4, 5, 6], &[4, 5, 6, 7]] {
            listed.relist(some.iter().map(|number| list_line(*number)).collect::<String>());
            assert_eq!(warnings(), quiet, "{mode} {some:?}: {}", listed.tracker.log());
        }
        listed.relist(list_line(5));
        listed
            .tracker
            .assert_logged("list.txt: from 4 info hashes to 1: 3 of the 4 are not listed");
        if mode == "allow" {
            listed.assert_serves(&[5]);
            listed.relist(list_line(6) + &list_line(7));
            listed.tracker.assert_logged("from 1 info hashes to 2: 1 of the 1 are not listed");
        } else {
            listed.relist("");
            listed.tracker.assert_logged("from 1 info hashes to 0: 1 of the 1 are not listed");
            listed.assert_serves(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        }
    }
}

fn an_empty_list_is_used_where_it_always_was(engine: Engine) {
    let listed = AccessListTracker::start(engine, "allow", "# as yet\n", "");
    let warning = "list.txt: no info hashes: no torrent is served";
    listed.tracker.assert_logged(warning);
    listed.assert_serves(&[]);
    listed.relist("");
    assert_eq!(listed.tracker.log().matches(warning).count(), 2);
    listed.relist(list_line(1));
    listed.assert_serves(&[1]);
    let listed = AccessListTracker::start(engine, "deny", "", "");
    listed.relist("# still\n");
    assert!(!listed.tracker.log().contains(" warning: "), "{}", listed.tracker.log());
}

/// Opening a pipe without a writer would block, and a device may have no end.
fn special_files_are_refused(engine: Engine) {
    let listed = AccessListTracker::start(engine, "deny", list_line(1), "");
    for command in [&["mkfifo"][..], &["ln", "-s", "/dev/zero"]] {
        listed.remove_list();
        let made = Command::new(command[0]).args(&command[1..]).arg(listed.list()).status();
        assert!(made.unwrap().success());
        let verdict = listed.reload("HUP");
        assert!(verdict.contains("list.txt: cannot be read: it is not a file"), "{verdict}");
        listed.assert_serves(&[0, 2, 3, 4, 5, 6, 7, 8, 9]);
    }
    listed.relist(list_line(2));
}

fn nothing_to_reload(engine: Engine) {
    let listed = AccessListTracker::start(engine, "off", list_line(1), "");
    listed.tracker.signal("HUP");
    listed.tracker.assert_logged("nothing to reload");
    listed.assert_serves(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

/// Its memory is freed too: two large lists exist only while the next one is read.
fn a_replaced_list_is_freed(engine: Engine) {
    const ENTRIES: u32 = 300_000;
    // Half the size of a list.
    const SLACK_BYTES: u64 = ENTRIES as u64 * 18 / 2;
    let list: String = (0..ENTRIES).map(|n| format!("{:08x}{n:032x}\n", n << 12)).collect();
    let listed = AccessListTracker::start(engine, "deny", &list, "");
    let before = listed.tracker.resident_bytes();
    for round in 0..10 {
        listed.tracker.signal("HUP");
        let is_reload = |line: &&String| line.contains("list reloaded: ");
        assert!(listed.tracker.wait_log(|log| log.iter().filter(is_reload).count() > round));
    }
    // The allocator keeps freed memory for some seconds.
    wait_for("the memory of replaced lists to go back", || {
        let grown = listed.tracker.resident_bytes().saturating_sub(before);
        (grown < SLACK_BYTES).then_some(())
    });
}

/// Of the list that named them, too. What serving itself takes is there from the first torrents on.
fn memory_of_removed_torrents_goes_back(engine: Engine) {
    let listed = AccessListTracker::start(engine, "allow", list_line(1), "");
    announce_and_remove(&listed, 2_000);
    let most = listed.tracker.resident_bytes() * 12 / 10;
    announce_and_remove(&listed, 60_000);
    let what = format!("no more than {most} bytes to be resident");
    wait_for(what, || (listed.tracker.resident_bytes() <= most).then_some(()));
}

/// Panics if the torrents take no memory that could go back.
fn announce_and_remove(listed: &AccessListTracker, torrents: u32) {
    const PIPELINED: usize = 100;
    let before = listed.tracker.resident_bytes();
    // Twenty digits, and their codes in hexadecimal.
    let info_hashes: Vec<String> = (0..torrents).map(|n| format!("{n:020}")).collect();
    let mut list = list_line(1);
    for info_hash in &info_hashes {
        list.extend(info_hash.chars().flat_map(|digit| ['3', digit]));
        list.push('\n');
    }
    listed.relist(list);
    let mut client = HttpClient::connect(listed.tracker.v4);
    for batch in info_hashes.chunks(PIPELINED) {
        let request = |info_hash| {
            get_request(&format!(
                "/announce?info_hash={info_hash}&peer_id=-XX0000-aaaaaaaaaaaa&port=1&left=1"
            ))
        };
        client.send(batch.iter().flat_map(request).collect::<Vec<u8>>());
        batch.iter().for_each(|_| drop(parse_announce(&client.read_response())));
    }
    let grown = listed.tracker.resident_bytes().saturating_sub(before);
    assert!(grown > u64::from(torrents) * 40, "{grown} bytes for {torrents} torrents");
    listed.relist(list_line(1));
}
