//! UDP (BEP 15 and 41), by the real program.
//!
//! `announce` and `scrape`: the requests. `swarms`: what peers by UDP and by HTTP have in common.
//! `garbage`: what gets no reply. `ids`: connection ids. `limits`: limits and lists. `addresses`:
//! replies leave from the address that was asked. `counters`: what is counted. `starting`: which
//! addresses are received at, and what prevents it. `stopping`: what a stop and a restart keep.
//! `source_port`: datagrams that nobody can answer. `whole`: replies are never fragments.

mod addresses;
mod announce;
mod counters;
mod garbage;
mod ids;
mod limits;
mod scrape;
mod source_port;
mod starting;
mod stopping;
mod swarms;
mod whole;
