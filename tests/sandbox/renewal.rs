//! Files that are read again by a tracker that may not read them itself.

use std::fs;

use super::place::{NOBODY, Place, TestSymlink, is_root};
use crate::support::tracker::{Engine, test_both_engines};

test_both_engines!(
    of_a_key_for_root_alone,
    of_a_list_by_rename,
    what_cannot_be_used_is_not,
    by_root_itself,
    where_only_another_capability_reads,
);

fn of_a_key_for_root_alone(engine: Engine) {
    if is_root() {
        renews_certificates(&Place::start(engine, NOBODY));
    }
}

#[track_caller]
fn renews_certificates(place: &Place) {
    place.serves(&place.first(), &[1]);
    for link in [TestSymlink::Relative, TestSymlink::Absolute, TestSymlink::Relative] {
        let renewed = place.files.renew(link);
        let verdict = place.reload();
        assert!(verdict.contains("certificates reloaded"), "{link:?}: {verdict}");
        place.serves(&renewed, &[1]);
    }
}

fn of_a_list_by_rename(engine: Engine) {
    if !is_root() {
        return;
    }
    let place = Place::start(engine, NOBODY);
    let certificate = place.first();
    for torrents in [&[1, 2][..], &[2], &[3, 4], &[9]] {
        place.files.list(torrents);
        let verdict = place.reload();
        assert!(verdict.contains("access list reloaded"), "{verdict}");
        place.serves(&certificate, torrents);
    }
}

fn what_cannot_be_used_is_not(engine: Engine) {
    if !is_root() {
        return;
    }
    let place = Place::start(engine, NOBODY);
    let first = place.first();
    place.files.write("archive/key1.pem", "what?");
    place.files.write("list.txt", "what?");
    let verdict = place.reload();
    for part in ["certificates kept: ", "live/key.pem: no private key", "list.txt:1: \"what?\""] {
        assert!(verdict.contains(part), "no {part:?} in {verdict}");
    }
    place.serves(&first, &[1]);
    fs::remove_file(place.files.path("live/chain.pem")).unwrap();
    fs::remove_file(place.files.path("list.txt")).unwrap();
    fs::create_dir(place.files.path("list.txt")).unwrap();
    let verdict = place.reload();
    for part in [
        "live/chain.pem: cannot be read: No such file or directory (os error 2)",
        ".toml:9: access.file: ",
        "list.txt: cannot be read: it is not a file",
    ] {
        assert!(verdict.contains(part), "no {part:?} in {verdict}");
    }
    place.serves(&first, &[1]);
    fs::remove_dir(place.files.path("list.txt")).unwrap();
    place.files.list(&[3]);
    let renewed = place.files.renew(TestSymlink::Relative);
    place.reload();
    place.serves(&renewed, &[3]);
}

/// Without a user there is no broker. Landlock lets it read where the links led at the start.
fn by_root_itself(engine: Engine) {
    if is_root() {
        renews_certificates(&Place::start(engine, ""));
    }
}

/// In containers root has no CAP_DAC_READ_SEARCH, but CAP_DAC_OVERRIDE.
fn where_only_another_capability_reads(engine: Engine) {
    if is_root() {
        let runner = ["setpriv", "--bounding-set=-dac_read_search"];
        renews_certificates(&Place::start_as(engine, NOBODY, &runner));
    }
}
