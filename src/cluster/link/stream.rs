//! A connection to a server: TCP, TLS or a Unix socket, with timeouts for everything.
#![expect(clippy::disallowed_types, reason = "the threads of the cluster may block, and no other")]

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::servers::{PubSubServer, ServerAddress};
use crate::tls::TlsClientStream;

#[derive(Debug)]
pub(super) enum ServerStream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsClientStream<TcpStream>>),
}

impl ServerStream {
    /// Connects, each step within `timeout`, which is also that of each write from then on. The
    /// handshake of TLS happens with the first bytes.
    pub(super) fn open(
        server: &PubSubServer,
        address: &ServerAddress,
        timeout: Duration,
    ) -> io::Result<ServerStream> {
        let stream = match address {
            ServerAddress::Unix(path) => ServerStream::Unix(open_unix(path, timeout)?),
            ServerAddress::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, timeout)?;
                // Messages are batches already.
                stream.set_nodelay(true)?;
                stream.set_write_timeout(Some(timeout))?;
                match &server.tls {
                    None => ServerStream::Tcp(stream),
                    Some((settings, host)) => {
                        ServerStream::Tls(Box::new(settings.connect(host, stream)?))
                    }
                }
            }
        };
        stream.set_read_timeout(timeout)?;
        Ok(stream)
    }

    /// A read that takes longer fails, and may be repeated.
    pub(super) fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            ServerStream::Tcp(stream) => stream.set_read_timeout(Some(timeout)),
            ServerStream::Unix(stream) => stream.set_read_timeout(Some(timeout)),
            ServerStream::Tls(stream) => stream.inner().set_read_timeout(Some(timeout)),
        }
    }
}

/// The standard library would wait without end for a server that does not accept.
fn open_unix(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(timeout))?;
    connect(&socket, &address)?;
    Ok(UnixStream::from(socket))
}

impl Read for ServerStream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            ServerStream::Tcp(stream) => stream.read(out),
            ServerStream::Unix(stream) => stream.read(out),
            ServerStream::Tls(stream) => stream.read(out),
        }
    }
}

impl Write for ServerStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            ServerStream::Tcp(stream) => stream.write(bytes),
            ServerStream::Unix(stream) => stream.write(bytes),
            ServerStream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            ServerStream::Tcp(stream) => stream.flush(),
            ServerStream::Unix(stream) => stream.flush(),
            ServerStream::Tls(stream) => stream.flush(),
        }
    }
}
