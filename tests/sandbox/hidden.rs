//! What Landlock takes from a tracker that opens its files itself.

use std::fs;
use std::os::unix::fs::symlink;

use super::place::{Place, TestSymlink, is_root};
use crate::support::requirements::{TempDir, print_uncaptured};
use crate::support::tracker::{Engine, test_both_engines};

test_both_engines!(what_was_elsewhere_at_the_start, nothing_where_it_is_off);

/// Has the list be in another directory from now on.
fn move_list(place: &Place, elsewhere: &TempDir) {
    place.files.list(&[2]);
    let (list, moved) = (place.files.path("list.txt"), elsewhere.path().join("list.txt"));
    fs::rename(&list, &moved).unwrap();
    symlink(&moved, &list).unwrap();
}

fn what_was_elsewhere_at_the_start(engine: Engine) {
    if !is_root() {
        return;
    }
    let place = Place::start(engine, "");
    place.tracker.assert_logged("Landlock");
    if place.tracker.log().contains("no Landlock") {
        return print_uncaptured("SKIPPED what Landlock hides: this kernel has none");
    }
    place.tracker.assert_logged("Landlock ABI ");
    let elsewhere = TempDir::new(&format!("elsewhere-{}", place.tracker.pid()));
    move_list(&place, &elsewhere);
    let verdict = place.reload();
    for part in [
        "access list kept: ",
        "list.txt: cannot be read: Permission denied (os error 13): it is outside",
        "Landlock",
        "restart annulus",
    ] {
        assert!(verdict.contains(part), "no {part:?} in {verdict}");
    }
    place.serves(&place.first(), &[1]);
    // Back where it was, it can be read again.
    let renewed = place.files.renew(TestSymlink::Relative);
    place.files.list(&[3]);
    place.reload();
    place.serves(&renewed, &[3]);
}

fn nothing_where_it_is_off(engine: Engine) {
    if !is_root() {
        return;
    }
    let place = Place::start(engine, "landlock = false");
    assert!(!place.tracker.log().contains("Landlock"), "{}", place.tracker.log());
    let elsewhere = TempDir::new(&format!("elsewhere-{}", place.tracker.pid()));
    move_list(&place, &elsewhere);
    let verdict = place.reload();
    assert!(verdict.contains("access list reloaded"), "{verdict}");
    place.serves(&place.first(), &[2]);
}
