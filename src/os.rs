//! What the tracker asks of Linux apart from its sockets: users and privileges, the sandbox, and
//! the files of the configuration.

mod accounts;
mod file_broker;
mod files;
mod landlock;
mod sandbox;

pub use file_broker::Keeper;
pub(crate) use files::not_utf8;
pub use files::{Files, Obstacles};
pub use sandbox::Confinement;
