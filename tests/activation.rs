//! Started by a service manager: sockets are passed in, and it is told how the program is. The
//! manager is played by the tests.

#![allow(dead_code, reason = "the harness is shared, and each half of it is used by somebody")]

#[path = "https/certificates.rs"]
mod certificates;
#[path = "activation/manager.rs"]
mod manager;
#[path = "activation/notified.rs"]
mod notified;
#[path = "activation/passed.rs"]
mod passed;
#[path = "system/requirements.rs"]
mod requirements;
#[path = "activation/restart.rs"]
mod restart;
#[path = "activation/traced.rs"]
mod traced;
#[path = "http/tracker.rs"]
mod tracker;
