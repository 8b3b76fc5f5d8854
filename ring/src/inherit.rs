//! Listening sockets that the program was started with, as systemd and its like pass them
//! (sd_listen_fds(3)).
#![allow(unsafe_code)]

use std::env;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process;

use socket2::{Domain, Socket, Type};

use crate::address::ListenAddress;
use crate::listener::Listener;
use crate::sys;

/// The first descriptor that is passed; the others follow.
const FIRST: i32 = 3;

/// A listening socket that somebody else has bound, and keeps when this program ends.
#[derive(Debug)]
pub struct Inherited {
    /// The address it listens on.
    pub address: ListenAddress,
    /// What it is called by whom it is from: under systemd the unit's name or its
    /// `FileDescriptorName=`. Empty if it has no name.
    pub name: String,
    socket: Socket,
}

impl Inherited {
    /// Takes the sockets that were passed to this process, if any. To be called once, before
    /// anything is opened: `LISTEN_FDS` says which descriptors are theirs, and nothing else may
    /// have taken one of the numbers.
    ///
    /// # Errors
    /// What cannot be served of what was passed, and what would help.
    pub fn take() -> Result<Vec<Inherited>, String> {
        let number = |name: &str| env::var(name).ok()?.parse::<i32>().ok();
        // Meant for another process, whose environment this one has inherited, it is not ours.
        if number("LISTEN_PID") != i32::try_from(process::id()).ok() {
            return Ok(Vec::new());
        }
        let count = number("LISTEN_FDS").unwrap_or(0).max(0);
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut taken = Vec::new();
        for fd in FIRST..FIRST.saturating_add(count) {
            let name = names.next().unwrap_or_default();
            // First of all, for a number that is not open must not become an owner.
            sys::close_on_exec(fd)
                .map_err(|_| format!("LISTEN_FDS={count}, but descriptor {fd} is not open"))?;
            // SAFETY: open, and by the protocol of the environment variables passed to this
            // process to own; the caller promises that this is the first to take it.
            let socket = unsafe { OwnedFd::from_raw_fd(fd) };
            let inherited = Inherited::new(socket, name)
                .map_err(|what| format!("the descriptor {fd} that was passed ({name:?}) {what}"))?;
            taken.push(inherited);
        }
        Ok(taken)
    }

    /// One such socket.
    ///
    /// # Errors
    /// Why it cannot be served, and what would help; to follow the socket's name.
    pub fn new(socket: OwnedFd, name: &str) -> Result<Inherited, &'static str> {
        let socket = Socket::from(socket);
        let address = address_of(&socket)?;
        Ok(Inherited { address, name: name.to_owned(), socket })
    }

    /// Makes listeners of the sockets, all of one address, one for each of `workers`: where
    /// there are fewer sockets, they are shared.
    ///
    /// # Errors
    /// When no descriptor is left.
    ///
    /// # Panics
    /// When there are no sockets.
    pub fn spread(sockets: &[Inherited], workers: usize) -> io::Result<Vec<Listener>> {
        let shared = sockets.len() < workers;
        let sockets = sockets.iter().cycle().take(workers);
        sockets.map(|it| Listener::inherited(it.socket.try_clone()?, shared)).collect()
    }
}

/// Where a socket listens, or why it is of no use.
fn address_of(socket: &Socket) -> Result<ListenAddress, &'static str> {
    let address = socket.local_addr().ok().and_then(|address| {
        let path = address.as_pathname().map(|path| ListenAddress::Unix(path.to_owned()));
        address.as_socket().map(ListenAddress::Tcp).or(path)
    });
    let (Some(address), Ok(Type::STREAM)) = (address, socket.r#type()) else {
        return Err(
            "is not a TCP socket, nor a Unix stream socket with a path: ListenStream= with \
                    an address and a port, or a path, makes one",
        );
    };
    if !socket.is_listener().unwrap_or(false) {
        return Err("does not listen: with Accept=no in its .socket unit it does");
    }
    let any = address.tcp().is_some_and(|address| address.ip().is_unspecified());
    let is_v6 = socket.domain().is_ok_and(|domain| domain == Domain::IPV6);
    if any && is_v6 && !socket.only_v6().unwrap_or(false) {
        return Err("listens for IPv4 as well as IPv6, which are apart here: set \
                    BindIPv6Only=ipv6-only in its .socket unit, and a ListenStream= for each");
    }
    Ok(address)
}
