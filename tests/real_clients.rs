//! The program of the transfers between real clients, apart from the other tests because they
//! need the machine for themselves.

#[allow(dead_code, reason = "the other tests ask more of it")]
mod support {
    pub(crate) mod authority;
    pub(crate) mod logged_tracker;
    pub(crate) mod requirements;
}
mod transfers;
