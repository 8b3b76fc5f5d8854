//! Sockets that connect to others, and the addresses they connect to.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, IntoRawFd};

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::sys;

/// A TCP socket that is to connect to `to`, bound to `from` if given.
///
/// # Errors
/// The errno of what was refused: a descriptor, memory, the address.
pub(crate) fn new_socket(
    from: Option<IpAddr>,
    to: SocketAddr,
    nonblocking: bool,
) -> Result<i32, Errno> {
    let kind = if nonblocking { Type::STREAM.nonblocking() } else { Type::STREAM };
    let socket =
        Socket::new(Domain::for_address(to), kind, Some(Protocol::TCP)).map_err(|e| errno(&e))?;
    // Pipelined requests must not wait for acknowledgements.
    let _ = socket.set_tcp_nodelay(true);
    if let Some(from) = from {
        // `connect` chooses the port: with the destination known, one port can serve several
        // connections. A kernel without this option chooses it in `bind`.
        let fd = socket.as_raw_fd();
        let _ = sys::set_option(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1);
        socket.bind(&SockAddr::from(SocketAddr::new(from, 0))).map_err(|e| errno(&e))?;
    }
    Ok(socket.into_raw_fd())
}

/// The addresses that an engine connects to. Each stays in one place for the engine's lifetime,
/// because the kernel reads it when it starts the operation, some time after it was queued.
#[derive(Default)]
pub(crate) struct ConnectAddresses {
    addresses: Vec<(SocketAddr, Box<SockAddr>)>,
}

impl ConnectAddresses {
    /// `to` in the kernel's form.
    pub(crate) fn get_or_add(&mut self, to: SocketAddr) -> &SockAddr {
        let at = self.addresses.iter().position(|(known, _)| *known == to).unwrap_or_else(|| {
            self.addresses.push((to, Box::new(SockAddr::from(to))));
            self.addresses.len() - 1
        });
        &self.addresses[at].1
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
