//! Service activation and notification: the tests act as the service manager, pass sockets and
//! receive messages.

mod manager;
mod notified;
mod passed;
mod restart;
mod traced;
