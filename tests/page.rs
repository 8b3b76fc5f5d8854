//! The operators' page in a real browser: Debian's Chromium, which is told what to do through a
//! pipe and says all that it requests and complains of.
//!
//! `browser` drives it, `numbers` is what the page shows and how it keeps up, `manners` what it
//! may do and how it looks on a phone, `trouble` what it says when the tracker leaves.

#![allow(dead_code, reason = "the harness is shared, and each half of it is used by somebody")]

#[path = "http/bencode.rs"]
mod bencode;
#[path = "page/browser.rs"]
mod browser;
#[path = "https/certificates.rs"]
mod certificates;
#[path = "http/client.rs"]
mod client;
#[path = "page/manners.rs"]
mod manners;
#[path = "page/numbers.rs"]
mod numbers;
#[path = "system/requirements.rs"]
mod requirements;
#[path = "https/site.rs"]
mod site;
#[path = "http/torrent.rs"]
mod torrent;
#[path = "http/tracker.rs"]
mod tracker;
#[path = "page/trouble.rs"]
mod trouble;
#[path = "page/watched.rs"]
mod watched;
