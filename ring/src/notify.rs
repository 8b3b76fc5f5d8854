//! Telling a service manager how the program is (sd_notify(3)).

use std::env::{self, VarError};
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

use socket2::SockRef;

use crate::sys;

/// How long a manager that does not read is waited for, where somebody may wait.
const SEND_MAX: Duration = Duration::from_secs(5);

/// The shortest pause between two signs of life.
const PAUSE_MIN: Duration = Duration::from_millis(10);

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

    /// Whether there is one.
    pub fn is_connected(&self) -> bool {
        self.0.is_some()
    }

    /// How often the manager is to be told that the program is [`Notifier::alive`], if it waits for
    /// that: in half of the time after which it would restart the program, `WATCHDOG_USEC`, unless
    /// `WATCHDOG_PID` says that it waits for another process (sd_watchdog_enabled(3)).
    ///
    /// # Errors
    /// What of these is no number.
    pub fn watchdog() -> Result<Option<Duration>, String> {
        let number = |name: &str| match env::var(name) {
            Ok(text) => match text.parse::<u64>() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(format!("{name}={text:?} is no number")),
            },
            Err(VarError::NotPresent) => Ok(None),
            Err(VarError::NotUnicode(_)) => Err(format!("{name} is no number")),
        };
        let Some(usec) = number("WATCHDOG_USEC")? else { return Ok(None) };
        if number("WATCHDOG_PID")?.is_some_and(|pid| pid != u64::from(process::id())) {
            return Ok(None);
        }
        match usec {
            0 | u64::MAX => Err(format!("WATCHDOG_USEC={usec} is no time")),
            usec => Ok(Some(Duration::from_micros(usec / 2).max(PAUSE_MIN))),
        }
    }

    /// The program serves, at the start or after a reload.
    pub fn ready(&self, status: &str) {
        self.tell(&ready(status), 0);
    }

    /// The same, if that can be told without waiting.
    pub fn ready_at_once(&self, status: &str) {
        self.tell(&ready(status), libc::MSG_DONTWAIT);
    }

    /// The program reads its files again, until it is [`Notifier::ready`].
    pub fn reloading(&self) {
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", sys::monotonic_us()), 0);
    }

    /// The program is about to end; if that can be told without waiting.
    pub fn stopping(&self, status: &str) {
        self.tell(&format!("STOPPING=1\nSTATUS={status}"), libc::MSG_DONTWAIT);
    }

    /// The program does what it is for; if that can be told without waiting.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1", libc::MSG_DONTWAIT);
    }

    /// A manager that cannot be told is no reason to serve nobody.
    fn tell(&self, text: &str, flags: libc::c_int) {
        let Some(socket) = &self.0 else { return };
        let send = || SockRef::from(socket).send_with_flags(text.as_bytes(), flags);
        // A wait with a time limit ends also when the process was stopped meanwhile (signal(7)).
        while send().is_err_and(|error| error.kind() == ErrorKind::Interrupted) {}
    }
}

fn ready(status: &str) -> String {
    format!("READY=1\nSTATUS={status}")
}
