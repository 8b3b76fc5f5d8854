//! Access lists from outside: the real binary on real sockets, on either engine, before and
//! after an operator changes the list.

mod hanging;
mod lease;
mod operation;
mod parsing;
mod reload;
mod set;
