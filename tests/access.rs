//! Access lists, on either engine: their effect, their reload, and their errors.

mod hanging;
mod lease;
mod operation;
mod parsing;
mod reload;
mod set;
