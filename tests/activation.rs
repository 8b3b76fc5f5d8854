//! Service activation and notification: the tests act as the service manager, pass sockets and
//! receive messages.

mod datagrams;
pub(crate) mod manager;
mod notified;
mod passed;
mod restart;
pub(crate) mod traced;
