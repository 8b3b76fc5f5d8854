//! The page of the admin listener in Debian's Chromium, which the tests control through a pipe.
//!
//! `browser` controls it, `helpers` reads the page; `numbers` is what the page shows and how it
//! updates, `policy` its security policy and its layout on a phone, `lost` what it shows when the
//! tracker does not respond or stops.

mod browser;
mod helpers;
mod lost;
mod numbers;
mod policy;
