//! Connected UDP sockets for a client that sends and receives in batches: `sendmmsg(2)` and
//! `recvmmsg(2)`, without an engine. A load that polls such sockets costs the server no wake-up.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use crate::datagram_socket::grow_queue;

/// Datagrams of a batch at most: beyond it, a system call is a small part of the cost.
pub const UDP_BATCH_MAX: usize = 64;

/// A UDP socket that sends to one address and receives from it alone.
#[derive(Debug)]
pub struct ConnectedUdp(OwnedFd);

impl ConnectedUdp {
    /// A socket between a port of `from`, or of an address of the kernel's choice, and `to`. It
    /// asks for the receive queue of a server's socket, [`crate::DATAGRAM_QUEUE_BYTES`].
    ///
    /// # Errors
    /// `from` is not an address of this machine or has no free port, or `to` has no route.
    pub fn connect(from: Option<IpAddr>, to: SocketAddr) -> io::Result<ConnectedUdp> {
        let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?;
        if let Some(ip) = from {
            socket.bind(&SockAddr::from(SocketAddr::new(ip, 0)))?;
        }
        grow_queue(&socket);
        socket.connect(&SockAddr::from(to))?;
        Ok(ConnectedUdp(socket.into()))
    }

    /// # Errors
    /// None on Linux.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        let address = SockRef::from(&self.0).local_addr()?.as_socket();
        address.ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// Sends a batch and empties it. It waits for room in the send queue, which loopback never
    /// fills.
    ///
    /// # Errors
    /// The kernel refuses a datagram, or an ICMP error arrived for an earlier one. What was not
    /// sent stays in the batch.
    pub fn send(&self, batch: &mut UdpSendBatch) -> io::Result<()> {
        while batch.from < batch.to {
            batch.from += batch.send(self.0.as_raw_fd())?;
        }
        batch.clear();
        Ok(())
    }

    /// Receives what has arrived, up to [`UDP_BATCH_MAX`] datagrams, in place of what the batch
    /// had. Does not wait. Returns how many there are.
    ///
    /// # Errors
    /// An ICMP error arrived for a datagram that was sent. The batch is empty then.
    pub fn receive(&self, batch: &mut UdpReceiveBatch) -> io::Result<usize> {
        batch.count = 0;
        match batch.receive(self.0.as_raw_fd()) {
            Ok(count) => batch.count = count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(batch.count)
    }
}

/// Headers of a batch. Their pointers are set before every call, so that none is kept.
struct Headers {
    messages: Vec<libc::mmsghdr>,
    slices: Vec<libc::iovec>,
}

impl Headers {
    fn new() -> Headers {
        let slice = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        // SAFETY: numbers and pointers, of which null is one.
        let message: libc::mmsghdr = unsafe { mem::zeroed() };
        let messages = (0..UDP_BATCH_MAX).map(|_| message).collect();
        Headers { messages, slices: vec![slice; UDP_BATCH_MAX] }
    }

    /// Points header `at` to its slice, and that to `bytes`.
    fn point(&mut self, at: usize, bytes: &mut [u8]) {
        let slice = &mut self.slices[at];
        *slice = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        let header = &mut self.messages[at].msg_hdr;
        (header.msg_iov, header.msg_iovlen) = (slice, 1);
    }
}

/// Datagrams to send by one socket.
pub struct UdpSendBatch {
    headers: Headers,
    bytes: Vec<u8>,
    /// Bytes from one datagram to the next.
    stride: usize,
    lengths: [usize; UDP_BATCH_MAX],
    /// Datagrams that are not sent: from the first to before the second.
    from: usize,
    to: usize,
}

impl UdpSendBatch {
    /// For datagrams of at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> UdpSendBatch {
        UdpSendBatch {
            headers: Headers::new(),
            bytes: vec![0; UDP_BATCH_MAX * bytes_max],
            stride: bytes_max,
            lengths: [0; UDP_BATCH_MAX],
            from: 0,
            to: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.to == 0
    }

    pub fn is_full(&self) -> bool {
        self.to == UDP_BATCH_MAX
    }

    /// Adds the datagram that `write` writes and whose length it returns, unless the batch is full.
    pub fn push(&mut self, write: impl FnOnce(&mut [u8]) -> usize) {
        if !self.is_full() {
            let at = self.to;
            let length = write(&mut self.bytes[at * self.stride..(at + 1) * self.stride]);
            self.lengths[at] = length.min(self.stride);
            self.to += 1;
        }
    }

    /// Forgets what was not sent.
    pub fn clear(&mut self) {
        (self.from, self.to) = (0, 0);
    }

    /// Sends the first of the datagrams that are left. Returns how many.
    fn send(&mut self, fd: i32) -> io::Result<usize> {
        let buffers = self.bytes.chunks_exact_mut(self.stride).enumerate();
        for (at, buffer) in buffers.take(self.to).skip(self.from) {
            self.headers.point(at, &mut buffer[..self.lengths[at]]);
        }
        let messages = &mut self.headers.messages[self.from..self.to];
        let count = messages.len() as u32;
        // SAFETY: `count` headers, which point to slices and bytes of `self`; these are borrowed
        // until the call returns.
        let sent = unsafe { libc::sendmmsg(fd, messages.as_mut_ptr(), count, libc::MSG_NOSIGNAL) };
        counted(sent)
    }
}

/// Received datagrams of one socket.
pub struct UdpReceiveBatch {
    headers: Headers,
    bytes: Vec<u8>,
    stride: usize,
    count: usize,
}

/// A received datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedUdp<'a> {
    pub bytes: &'a [u8],
    /// Whether the datagram is longer than the buffers of its batch.
    pub is_truncated: bool,
}

impl UdpReceiveBatch {
    /// For datagrams of at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> UdpReceiveBatch {
        // An odd number of cache lines: with a power of two, the beginnings of all datagrams would
        // compete for the same lines of the cache.
        let stride = (bytes_max.div_ceil(64) | 1) * 64;
        let bytes = vec![0; UDP_BATCH_MAX * stride];
        UdpReceiveBatch { headers: Headers::new(), bytes, stride, count: 0 }
    }

    pub fn datagrams(&self) -> impl Iterator<Item = ReceivedUdp<'_>> {
        let received = self.bytes.chunks_exact(self.stride).zip(&self.headers.messages);
        received.take(self.count).map(|(bytes, message)| ReceivedUdp {
            bytes: &bytes[..bytes.len().min(message.msg_len as usize)],
            is_truncated: message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        })
    }

    fn receive(&mut self, fd: i32) -> io::Result<usize> {
        for (at, buffer) in self.bytes.chunks_exact_mut(self.stride).enumerate() {
            self.headers.point(at, buffer);
        }
        let messages = &mut self.headers.messages;
        let count = messages.len() as u32;
        // SAFETY: `count` headers, which point to slices and bytes of `self`; these are borrowed
        // until the call returns. No timeout is given.
        counted(unsafe {
            libc::recvmmsg(fd, messages.as_mut_ptr(), count, libc::MSG_DONTWAIT, ptr::null_mut())
        })
    }
}

/// Waits for sockets of which any receives. It keeps its memory from one wait to the next.
#[derive(Default)]
pub struct UdpPoll(Vec<libc::pollfd>);

impl UdpPoll {
    /// Waits until one of `sockets` has something to receive or `timeout` is over. A signal ends
    /// it early.
    ///
    /// # Errors
    /// More sockets than the limit of descriptors, or no memory.
    pub fn wait<'a>(
        &mut self,
        sockets: impl Iterator<Item = &'a ConnectedUdp>,
        timeout: Duration,
    ) -> io::Result<()> {
        self.0.clear();
        let fd = |socket: &ConnectedUdp| socket.0.as_raw_fd();
        self.0.extend(sockets.map(|socket| libc::pollfd {
            fd: fd(socket),
            events: libc::POLLIN,
            revents: 0,
        }));
        let timeout = libc::timespec {
            tv_sec: timeout.as_secs().min(i32::MAX as u64) as libc::time_t,
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let count = self.0.len() as libc::nfds_t;
        // SAFETY: `count` entries, a timeout of this frame, and no signal mask.
        let ready =
            unsafe { libc::ppoll(self.0.as_mut_ptr(), count, &raw const timeout, ptr::null()) };
        match counted(ready) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether the socket at this place of the last wait has something to receive, or an error.
    pub fn is_ready(&self, at: usize) -> bool {
        self.0.get(at).is_some_and(|entry| entry.revents != 0)
    }
}

/// The number that a call returned, or why it failed.
fn counted(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, UdpSocket};
    use std::time::Duration;

    use super::{ConnectedUdp, UDP_BATCH_MAX, UdpPoll, UdpReceiveBatch, UdpSendBatch};

    fn server(ip: &str) -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    fn send(client: &ConnectedUdp, datagrams: &[&[u8]]) -> UdpSendBatch {
        let mut batch = UdpSendBatch::new(100);
        for datagram in datagrams {
            batch.push(|out| {
                out[..datagram.len()].copy_from_slice(datagram);
                datagram.len()
            });
        }
        client.send(&mut batch).unwrap();
        batch
    }

    #[test]
    fn batches_arrive_whole_and_in_order() {
        for ip in ["127.0.0.1", "::1"] {
            let (server, address) = server(ip);
            let client = ConnectedUdp::connect(None, address).unwrap();
            assert!(send(&client, &[b"one", b"", b"three"]).is_empty());
            let mut bytes = [0; 10];
            for expected in [&b"one"[..], b"", b"three"] {
                let (length, from) = server.recv_from(&mut bytes).unwrap();
                assert_eq!(&bytes[..length], expected);
                assert_eq!(from, client.local_address().unwrap());
                server.send_to(&bytes[..length], from).unwrap();
            }
            let mut batch = UdpReceiveBatch::new(4);
            assert_eq!(client.receive(&mut batch).unwrap(), 3);
            let lengths: Vec<_> = batch.datagrams().map(|it| it.bytes.len()).collect();
            assert_eq!(lengths, [3, 0, 5]);
            assert_eq!(client.receive(&mut batch).unwrap(), 0);
            assert_eq!(batch.datagrams().count(), 0);
        }
    }

    #[test]
    fn longer_datagrams_are_marked() {
        let (server, address) = server("127.0.0.1");
        let client = ConnectedUdp::connect(None, address).unwrap();
        for length in [64, 65] {
            server.send_to(&[7; 65][..length], client.local_address().unwrap()).unwrap();
        }
        let mut batch = UdpReceiveBatch::new(64);
        assert_eq!(client.receive(&mut batch).unwrap(), 2);
        let received: Vec<_> =
            batch.datagrams().map(|it| (it.bytes.len(), it.is_truncated)).collect();
        assert_eq!(received, [(64, false), (64, true)]);
    }

    #[test]
    fn a_full_batch_takes_no_more() {
        let (server, address) = server("127.0.0.1");
        let client = ConnectedUdp::connect(None, address).unwrap();
        let mut batch = UdpSendBatch::new(1);
        for _ in 0..UDP_BATCH_MAX + 1 {
            batch.push(|out| {
                out[0] = b'x';
                1
            });
        }
        assert!(batch.is_full());
        client.send(&mut batch).unwrap();
        let mut bytes = [0; 2];
        (0..UDP_BATCH_MAX).for_each(|_| assert_eq!(server.recv(&mut bytes).unwrap(), 1));
        server.set_nonblocking(true).unwrap();
        assert!(server.recv(&mut bytes).is_err());
    }

    #[test]
    fn sources_are_kept_and_refusals_are_errors() {
        let (server, address) = server("127.0.0.1");
        let source = "127.4.5.6".parse().unwrap();
        let client = ConnectedUdp::connect(Some(source), address).unwrap();
        assert_eq!(client.local_address().unwrap().ip(), source);
        drop(server);
        send(&client, &[b"x"]);
        let error = client.receive(&mut UdpReceiveBatch::new(10)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        assert!(ConnectedUdp::connect(Some("192.0.2.1".parse().unwrap()), address).is_err());
    }

    #[test]
    fn a_wait_names_the_sockets_that_receive() {
        let (server, address) = server("127.0.0.1");
        let clients = [(); 2].map(|()| ConnectedUdp::connect(None, address).unwrap());
        let mut poll = UdpPoll::default();
        poll.wait(clients.iter(), Duration::from_millis(1)).unwrap();
        assert!(!poll.is_ready(0) && !poll.is_ready(1));
        server.send_to(b"x", clients[1].local_address().unwrap()).unwrap();
        poll.wait(clients.iter(), Duration::from_secs(60)).unwrap();
        assert!(!poll.is_ready(0) && poll.is_ready(1) && !poll.is_ready(2));
    }
}
