//! HTTPS over real sockets, on either engine, with clients that verify certificates. The HTTP
//! inside is tested by `http`.
//!
//! `addresses` tests certificates for addresses, `agreement` the versions and keys negotiated with
//! other clients, `resumption` session tickets, `conversation` the HTTP inside, `delivery` how
//! responses arrive, `life` how connections begin and end, `segments` the TCP segments of the end,
//! `garbage` invalid records, and `reload` the renewal of certificates.

mod addresses;
mod agreement;
mod conversation;
mod delivery;
mod garbage;
mod life;
mod reload;
mod resumption;
mod segments;
