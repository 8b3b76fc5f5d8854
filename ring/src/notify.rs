//! Telling a service manager how the program is (sd_notify(3)).

use std::env;
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::sys;

/// How long a manager that does not read is waited for.
const SEND_MAX: Duration = Duration::from_secs(5);

/// The manager's socket, if there is one that wants to know. Once connected, it needs no file
/// system and no privilege.
#[derive(Debug, Default)]
pub struct Notifier(Option<UnixDatagram>);

impl Notifier {
    /// Connects to the socket named by `NOTIFY_SOCKET`, a path or an abstract name after `@`;
    /// without that variable, nobody is told anything.
    ///
    /// # Errors
    /// The socket is named, but cannot be connected to.
    pub fn connect() -> io::Result<Notifier> {
        let Some(name) = env::var_os("NOTIFY_SOCKET") else { return Ok(Notifier(None)) };
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(&name)?,
            _ => return Err(io::Error::new(ErrorKind::Unsupported, "neither a path nor @name")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_write_timeout(Some(SEND_MAX))?;
        Ok(Notifier(Some(socket)))
    }

    /// The program serves, at the start or after a reload.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// The program reads its files again, until it is [`Notifier::ready`].
    pub fn reloading(&self) {
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", sys::monotonic_us()));
    }

    /// The program is about to end.
    pub fn stopping(&self, status: &str) {
        self.tell(&format!("STOPPING=1\nSTATUS={status}"));
    }

    /// A manager that cannot be told is no reason to serve nobody.
    fn tell(&self, text: &str) {
        if let Some(socket) = &self.0 {
            let _ = socket.send(text.as_bytes());
        }
    }
}
