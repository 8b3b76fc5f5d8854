//! The operators' page in a real browser: Debian's Chromium, which is told what to do through a
//! pipe and says all that it requests and complains of.
//!
//! `browser` drives it, `numbers` is what the page shows and how it keeps up, `manners` what it
//! may do and how it looks on a phone, `trouble` what it says when the tracker leaves.

mod browser;
mod manners;
mod numbers;
mod trouble;
mod watched;
