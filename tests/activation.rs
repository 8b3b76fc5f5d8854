//! Started by a service manager: sockets are passed in, and it is told how the program is. The
//! manager is played by the tests.

mod manager;
mod notified;
mod passed;
mod restart;
mod traced;
