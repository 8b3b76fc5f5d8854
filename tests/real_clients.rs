//! The test program of the transfers between real clients. It is apart from the other tests because
//! it needs the machine for itself.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests may wait")]

#[allow(dead_code, unused_imports, unused_macros, reason = "the other tests need more of it")]
mod support {
    pub(crate) mod authority;
    pub(crate) mod network;
    pub(crate) mod redis;
    pub(crate) mod requirements;
    pub(crate) mod tracker;
}
mod transfers;
