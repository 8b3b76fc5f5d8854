//! Certificates, read and checked by what rustls and x509-parser know of them.

mod certificates;
mod names;

pub use certificates::{Certificates, Loaded};
