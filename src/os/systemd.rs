//! The protocols of service managers: sockets that they pass (sd_listen_fds(3)) and what they are
//! told (sd_notify(3)).
#![expect(clippy::disallowed_types, reason = "sd_notify sends a datagram at start and stop")]

use std::env::{self, VarError};
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::net::SocketAddr as InetAddress;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::process;
use std::time::Duration;

use annulus_ring::{ListenAddress, take_inherited};
use anyhow::{Context, anyhow, ensure};
use rustix::io::retry_on_intr;
use rustix::net::sockopt::{ipv6_v6only, socket_acceptconn, socket_type};
use rustix::net::{SendFlags, SocketAddrUnix, SocketType, getsockname, send};

use crate::clock::Clock;

/// The first descriptor that is passed; the others follow.
const LISTEN_FDS_START: i32 = 3;

/// What a passed socket receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketKind {
    Connections,
    Datagrams,
}

impl SocketKind {
    /// The key of a .socket unit that makes one.
    pub(crate) fn unit_key(self) -> &'static str {
        match self {
            SocketKind::Connections => "ListenStream=",
            SocketKind::Datagrams => "ListenDatagram=",
        }
    }

    /// What messages add to its address.
    pub(crate) fn mark(self) -> &'static str {
        match self {
            SocketKind::Connections => "",
            SocketKind::Datagrams => " (udp)",
        }
    }
}

/// A socket that another program has bound, and keeps when this one ends.
#[derive(Debug)]
pub(crate) struct InheritedSocket {
    pub(crate) kind: SocketKind,
    pub(crate) address: ListenAddress,
    /// Under systemd the name of the unit or its `FileDescriptorName=`. May be empty.
    pub(crate) name: String,
    pub(crate) socket: OwnedFd,
}

impl InheritedSocket {
    /// Takes the sockets that were passed to this process, if any. To be called once, before a
    /// program is executed.
    ///
    /// # Errors
    /// A socket that was passed cannot be served, with the cure.
    pub(crate) fn take_all() -> anyhow::Result<Vec<InheritedSocket>> {
        let number = |name: &str| env::var(name).ok()?.parse::<i32>().ok();
        // The variables of another process may have been inherited.
        if number("LISTEN_PID") != i32::try_from(process::id()).ok() {
            return Ok(Vec::new());
        }
        let count = number("LISTEN_FDS").unwrap_or(0).max(0);
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut taken = Vec::new();
        for fd in LISTEN_FDS_START..LISTEN_FDS_START.saturating_add(count) {
            let name = names.next().unwrap_or_default().to_owned();
            let socket = take_inherited(fd)
                .map_err(|_| anyhow!("LISTEN_FDS={count}, but descriptor {fd} is not open"))?;
            let (kind, address) = identify(&socket)
                .map_err(|what| anyhow!("the descriptor {fd} that was passed ({name:?}) {what}"))?;
            taken.push(InheritedSocket { kind, address, name, socket });
        }
        Ok(taken)
    }
}

/// What a socket receives, and at which address, or why it cannot be served.
fn identify(socket: &OwnedFd) -> Result<(SocketKind, ListenAddress), &'static str> {
    let address = getsockname(socket).ok().and_then(|address| {
        let path = || {
            let address = SocketAddrUnix::try_from(address.clone()).ok()?;
            let path = address.path_bytes()?;
            Some(ListenAddress::Unix(PathBuf::from(OsStr::from_bytes(path))))
        };
        InetAddress::try_from(address.clone()).ok().map(ListenAddress::Tcp).or_else(path)
    });
    let (kind, address) = match (socket_type(socket), address) {
        (Ok(SocketType::STREAM), Some(address)) => (SocketKind::Connections, address),
        (Ok(SocketType::DGRAM), Some(address)) if !address.is_unix() => {
            (SocketKind::Datagrams, address)
        }
        _ => {
            return Err("is not a TCP or UDP socket, nor a Unix stream socket with a path: \
                        ListenStream= with an address and a port, or a path, makes one, and \
                        ListenDatagram= with an address and a port");
        }
    };
    if kind == SocketKind::Connections && !socket_acceptconn(socket).unwrap_or(false) {
        return Err("does not listen: with Accept=no in its .socket unit it does");
    }
    let any_v6 = address.tcp().is_some_and(|it| it.is_ipv6() && it.ip().is_unspecified());
    if any_v6 && !ipv6_v6only(socket).unwrap_or(false) {
        return Err("listens for IPv4 as well as IPv6, which are apart here: set \
                    BindIPv6Only=ipv6-only in its .socket unit, and a ListenStream= or \
                    ListenDatagram= for each");
    }
    Ok((kind, address))
}

/// How long to wait for a manager that does not read, where a wait is allowed.
const SEND_MAX: Duration = Duration::from_secs(5);

/// The shortest time between two messages to the watchdog.
const WATCHDOG_PERIOD_MIN: Duration = Duration::from_millis(10);

/// The manager's socket, if there is one. Once connected, it needs no file system and no privilege.
#[derive(Debug, Default)]
pub(crate) struct Notifier(Option<UnixDatagram>);

impl Notifier {
    /// Connects to the socket named by `NOTIFY_SOCKET`, a path or an abstract name after `@`.
    /// Without that variable, all messages are dropped.
    pub(crate) fn connect() -> io::Result<Notifier> {
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

    /// Half of the time after which the manager's watchdog restarts the program, if it watches this
    /// process (sd_watchdog_enabled(3)).
    ///
    /// # Errors
    /// `WATCHDOG_USEC` or `WATCHDOG_PID` is malformed.
    pub(crate) fn watchdog_period(&self) -> anyhow::Result<Option<Duration>> {
        let number = |name: &str| match env::var(name) {
            Ok(text) => text
                .parse::<u64>()
                .map(Some)
                .with_context(|| format!("{name}={text:?} is no number")),
            Err(VarError::NotPresent) => Ok(None),
            Err(VarError::NotUnicode(_)) => Err(anyhow!("{name} is no number")),
        };
        let Some(usec) = number("WATCHDOG_USEC")? else { return Ok(None) };
        let is_other = number("WATCHDOG_PID")?.is_some_and(|pid| pid != u64::from(process::id()));
        if is_other || self.0.is_none() {
            return Ok(None);
        }
        ensure!(![0, u64::MAX].contains(&usec), "WATCHDOG_USEC={usec} is no time");
        Ok(Some(Duration::from_micros(usec / 2).max(WATCHDOG_PERIOD_MIN)))
    }

    /// The program serves, at the start or after a reload.
    pub(crate) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"), SendFlags::empty());
    }

    /// The same, without waiting: the message is dropped if the manager does not read.
    pub(crate) fn try_ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"), SendFlags::DONTWAIT);
    }

    /// A reload begins, which [`Notifier::ready`] ends.
    pub(crate) fn reloading(&self) {
        let now_us = Clock::monotonic_us();
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={now_us}"), SendFlags::empty());
    }

    /// The program is about to end. Does not wait.
    pub(crate) fn stopping(&self, status: &str) {
        self.send(&format!("STOPPING=1\nSTATUS={status}"), SendFlags::DONTWAIT);
    }

    /// The start or the stop takes longer: the manager is to wait for this time from now on. Does
    /// not wait.
    pub(crate) fn extend(&self, time: Duration, status: &str) {
        let usec = time.as_micros();
        self.send(&format!("EXTEND_TIMEOUT_USEC={usec}\nSTATUS={status}"), SendFlags::DONTWAIT);
    }

    /// Resets the watchdog. Does not wait.
    pub(crate) fn alive(&self) {
        self.send("WATCHDOG=1", SendFlags::DONTWAIT);
    }

    /// A failure is ignored: the tracker serves without a manager, too.
    fn send(&self, text: &str, flags: SendFlags) {
        if let Some(socket) = &self.0 {
            // A wait with a time limit also ends when the process is stopped and continued
            // (signal(7)).
            let _ = retry_on_intr(|| send(socket, text.as_bytes(), flags));
        }
    }
}
