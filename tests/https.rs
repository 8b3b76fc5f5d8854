//! HTTPS from outside: the real binary on real sockets, on either engine, before clients that
//! verify its certificates. What is said inside is `tests/http`'s affair; here it is what TLS
//! adds to it.
//!
//! `addresses` is who gets which certificate without a name, `agreement` what other people's
//! clients and the tracker agree on, `resumption` how they save themselves the half of it,
//! `conversation` the HTTP inside, `delivery` how its answers arrive, `life` how connections begin
//! and end, `segments` what TCP carries of that end, `garbage` those that mean no good, and
//! `reload` what happens to all of them when the certificates are renewed.

mod addresses;
mod agreement;
mod conversation;
mod delivery;
mod garbage;
mod life;
mod reload;
mod resumption;
mod segments;
