//! What the page shows when the tracker does not respond, drains or has stopped.

use super::helpers::{OPERATIONS, STATE, card, has_browser, watch};
use crate::support::client::HttpClient;
use crate::support::tracker::{Engine, Tracker, test_both_engines};

const AGE: &str = "document.getElementById('age').textContent";

test_both_engines!(a_lost_or_stopping_tracker_is_shown);

fn a_lost_or_stopping_tracker_is_shown(engine: Engine) {
    if !has_browser("the page without its tracker") {
        return;
    }
    let mut tracker = Tracker::start(engine, OPERATIONS);
    let mut browser = watch(&format!("trouble-{}", engine.name()), &tracker);
    let lost = format!("{STATE} === 'The tracker cannot be reached'");
    let old = format!("/^These numbers are [1-9][0-9]* s old$/.test({AGE})");

    // While it is stopped, the kernel accepts connections and nothing responds.
    tracker.signal("STOP");
    browser.until(&lost);
    browser.until(&old);
    tracker.signal("CONT");
    browser.until(&format!("{STATE} === 'Serving'"));
    browser.until(&format!("{AGE}.includes(' UTC, up ')"));

    // It drains for as long as a request is not complete.
    let mut client = HttpClient::connect(tracker.v4);
    client.send("GET /announce");
    browser.until(&format!("{} === '1'", card("Connections open")));
    tracker.signal("TERM");
    browser.until(&format!("{STATE}.startsWith('Draining: ')"));
    drop(client);
    assert!(tracker.wait_exit().0.success());
    browser.until(&lost);
    browser.until(&old);
}
