//! A tracker, its page in a browser, and JavaScript expressions for what the page shows.

use super::browser::Browser;
use crate::support::requirements::{can_run, missing_programs};
use crate::support::tracker::Tracker;

/// The configuration that makes a tracker serve the page.
pub(crate) const OPERATIONS: &str = "[operations]\nlisten = [\"127.0.0.1:0\"]\n";

/// Whether the browser is installed.
pub(crate) fn has_browser(test: &str) -> bool {
    can_run(test, &missing_programs(&["chromium"]))
}

/// The page's address, of a tracker with [`OPERATIONS`].
#[track_caller]
pub(crate) fn address(tracker: &Tracker) -> String {
    let mark = ": operations on ";
    tracker.assert_logged(mark);
    let log = tracker.log();
    let address = log.lines().find_map(|line| line.split_once(mark)).unwrap().1;
    format!("http://{address}/")
}

/// The cells of the table of this caption in the row of this name, joined by spaces.
pub(crate) fn row(caption: &str, name: &str) -> String {
    format!(
        "[...document.querySelectorAll('table')]\
         .filter(it => it.caption.textContent === '{caption}')\
         .flatMap(it => [...it.rows]).filter(it => it.cells[0].textContent === '{name}')\
         .map(it => [...it.cells].slice(1).map(it => it.textContent).join(' ')).join('; ')"
    )
}

/// The value of this name in the list of this title.
pub(crate) fn item(title: &str, name: &str) -> String {
    format!(
        "[...document.querySelectorAll('section')]\
         .filter(it => it.querySelector('h2')?.textContent === '{title}')\
         .flatMap(it => [...it.querySelectorAll('dt')]).filter(it => it.textContent === '{name}')\
         .map(it => it.nextElementSibling.textContent).join('; ')"
    )
}

/// The number of the card of this title.
pub(crate) fn card(title: &str) -> String {
    format!(
        "[...document.querySelectorAll('section')]\
         .filter(it => it.querySelector('h2')?.textContent === '{title}')\
         .map(it => it.querySelector('.number').textContent).join('; ')"
    )
}

/// The state of the tracker.
pub(crate) const STATE: &str = "document.getElementById('state').textContent";

/// A browser that has the page open, with the first numbers on it.
pub(crate) fn watch(name: &str, tracker: &Tracker) -> Browser {
    let mut browser = Browser::start(name);
    browser.open(&address(tracker));
    browser.until("document.querySelectorAll('main section').length > 5");
    browser
}
