//! The floor: a bare io_uring loop with a constant response: one thread, one listener, no state.
//!
//! It does everything that is known to save CPU and nothing that a tracker needs. A request is
//! whatever arrives at once and ends with a blank line; anything else is hung up on. So a client
//! must neither split nor pipeline its requests, and the load of the benchmarks does neither.
//!
//! There is no table of connections. That is sound because at most one receive per descriptor is in
//! the kernel, and its descriptor is closed only after that receive ended: no completion can name a
//! descriptor that has been reused.

use std::convert::Infallible;
use std::io;
use std::mem::size_of;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};
use io_uring::types::{BufRingEntry, Fd};
use io_uring::{IoUring, SubmissionQueue, Submitter, cqueue, opcode, squeue};
use socket2::{Domain, Protocol, Socket, Type};

use crate::Helper;
use crate::floor_udp;
use crate::net::KeepAlive;
use crate::swarms::NUMWANT;

/// Serves until it is killed.
pub const HELPER: Helper = ("serve-floor", |arguments| {
    if let [address, word] = arguments
        && word == "udp"
    {
        match floor_udp::serve(address.parse()?)? {}
    }
    let (address, keep_alive, body_bytes) = match arguments {
        [address, word] => (address, word, vec![SHORT_BODY_BYTES]),
        [address, word, option, lengths] if option == "--body-bytes" => {
            let lengths: Result<_, _> = lengths.split(',').map(str::parse).collect();
            (address, word, lengths?)
        }
        _ => bail!("not ADDRESS keep|close [--body-bytes N[,N...]], nor ADDRESS udp"),
    };
    let keep_alive = match keep_alive.as_str() {
        "keep" => KeepAlive::Keep,
        "close" => KeepAlive::Close,
        word => bail!("not keep or close: {word}"),
    };
    match serve(address.parse()?, keep_alive, &body_bytes)? {}
});

/// Submission entries and receive buffers: few, so that they stay in cache. The kernel demands a
/// power of two for the buffers.
const SUBMISSIONS: u32 = 256;
pub(crate) const BUFFERS: u16 = 256;

/// Completion entries. An overflow would end every multishot operation.
const COMPLETIONS: u32 = 4096;

/// Length of a receive buffer: the longest request.
const BUFFER_BYTES: usize = 2048;
pub(crate) const BUFFER_GROUP: u16 = 0;
const BACKLOG: i32 = 4096;
const DEFER_ACCEPT_SECONDS: libc::c_int = 5;

/// Length of the response's body unless another is asked for: ten peers.
pub const SHORT_BODY_BYTES: usize = 153;

const BODY_START: &str =
    "d8:completei6e10:downloadedi4e10:incompletei6e8:intervali1800e12:min intervali900e5:peers";

/// The longest body of at most `bytes` bytes; never less than a list without peers. The addresses
/// differ, and are printable so that any other server can be configured to give the same response.
pub fn body(bytes: usize) -> String {
    let body = |peers: usize| {
        let addresses: String = (0..peers).map(|peer| format!("Ab{peer:04}")).collect();
        format!("{BODY_START}{}:{addresses}e", addresses.len())
    };
    // The load takes more peers than it wants for a fault.
    let peers_max = (bytes / 6).min(NUMWANT as usize);
    let fitting = (0..=peers_max).rev().map(body).find(|body| body.len() <= bytes);
    fitting.unwrap_or_else(|| body(0))
}

/// Serves until the process is killed. `body_bytes` are the lengths of the bodies, as for [`body`]:
/// at least one, given in turn.
fn serve(
    address: SocketAddr,
    keep_alive: KeepAlive,
    body_bytes: &[usize],
) -> io::Result<Infallible> {
    let listener = listen(address)?;
    let mut ring = build_ring()?;
    let (mut submitter, queue, mut completed) = ring.split();
    // An older kernel refuses; then each enter looks the descriptor up.
    let _ = submitter.register_ring_fd();
    let buffers = FloorBuffers::register(&submitter)?;
    let responses = body_bytes.iter().map(|&bytes| response(keep_alive, bytes)).collect();
    let listener = listener.as_raw_fd();
    let mut server =
        FloorServer { listener, responses, next: 0, keep_alive, buffers, submitter, queue };
    server.accept()?;

    loop {
        server.queue.sync();
        match server.submitter.submit_and_wait(1) {
            Ok(_) => {}
            // EBUSY: the completions have to be taken first.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINTR | libc::EBUSY)) => {}
            Err(e) => return Err(e),
        }
        server.queue.sync();
        completed.sync();
        for completion in &mut completed {
            server.handle(&completion)?;
        }
        // Without this the next enter would take the handled completions for new ones.
        completed.sync();
        server.buffers.publish();
    }
}

/// What an operation was: the upper half of its user data. The descriptor is in the lower half.
const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1 << 32;
const SEND: u64 = 2 << 32;
const CLOSE: u64 = 3 << 32;

struct FloorServer<'ring> {
    listener: i32,
    responses: Vec<&'static [u8]>,
    /// Index of the response that is given next.
    next: usize,
    keep_alive: KeepAlive,
    buffers: FloorBuffers,
    submitter: Submitter<'ring>,
    queue: SubmissionQueue<'ring>,
}

impl FloorServer<'_> {
    fn handle(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        let fd = completion.user_data() as u32 as i32;
        let (result, flags) = (completion.result(), completion.flags());
        match completion.user_data() & !u64::from(u32::MAX) {
            ACCEPT => self.on_accept(result, flags),
            RECEIVE => self.on_receive(fd, result, flags),
            // The descriptor may be closed or even reused by now, so it is left alone: if the peer
            // is gone, the receive fails too.
            SEND if result >= 0 => Err(io::Error::other("a socket did not take a whole response")),
            _ => Ok(()),
        }
    }

    fn on_accept(&mut self, result: i32, flags: u32) -> io::Result<()> {
        if !cqueue::more(flags) {
            self.accept()?;
        }
        match result {
            fd if fd >= 0 => match peer_name(fd) {
                Ok(_) => self.receive_once(fd),
                // Some kernels report a descriptor that never existed: nothing to close.
                Err(e) if e.raw_os_error() == Some(libc::EBADF) => Ok(()),
                Err(_) => self.close(fd),
            },
            e if e == -libc::ECONNABORTED => Ok(()),
            // After any other error, such as no descriptors left, there is nothing to measure.
            e => Err(io::Error::from_raw_os_error(-e)),
        }
    }

    fn on_receive(&mut self, fd: i32, result: i32, flags: u32) -> io::Result<()> {
        let whole = cqueue::buffer_select(flags)
            .is_some_and(|buffer| self.buffers.take(buffer, result).ends_with(b"\r\n\r\n"));
        let armed = cqueue::more(flags);
        match result {
            1.. if whole && self.keep_alive == KeepAlive::Close => {
                // The FIN travels in the segment of the response: MSG_MORE holds the response back
                // for the close, which is executed in the same submission.
                self.send(fd, libc::MSG_MORE)?;
                self.close(fd)
            }
            1.. => {
                if whole {
                    self.send(fd, 0)?;
                } else {
                    // Then the receive in the kernel ends, and the descriptor is closed.
                    // SAFETY: no memory is involved.
                    unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
                }
                if armed { Ok(()) } else { self.receive_many(fd) }
            }
            e if e == -libc::ENOBUFS => self.receive_many(fd),
            // The peer is gone, and with it the receive.
            _ if !armed => self.close(fd),
            _ => Ok(()),
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        let accept = opcode::AcceptMulti::new(Fd(self.listener)).flags(libc::SOCK_CLOEXEC).build();
        self.push(accept.user_data(ACCEPT | self.listener as u32 as u64))
    }

    /// Receives the first request, which is there already: TCP_DEFER_ACCEPT.
    fn receive_once(&mut self, fd: i32) -> io::Result<()> {
        let receive = opcode::Recv::new(Fd(fd), ptr::null_mut(), 0).buf_group(BUFFER_GROUP).build();
        let receive = receive.flags(squeue::Flags::BUFFER_SELECT);
        self.push(receive.user_data(RECEIVE | fd as u32 as u64))
    }

    fn receive_many(&mut self, fd: i32) -> io::Result<()> {
        let receive = opcode::RecvMulti::new(Fd(fd), BUFFER_GROUP).build();
        self.push(receive.user_data(RECEIVE | fd as u32 as u64))
    }

    /// Sends the next response. It completes only if the socket did not take all of it.
    fn send(&mut self, fd: i32, more: libc::c_int) -> io::Result<()> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL | more;
        let response = self.responses[self.next];
        self.next = (self.next + 1) % self.responses.len();
        let send = opcode::Send::new(Fd(fd), response.as_ptr(), response.len() as u32);
        let send = send.flags(flags).build().flags(squeue::Flags::SKIP_SUCCESS);
        self.push(send.user_data(SEND | fd as u32 as u64))
    }

    /// Closes a descriptor of which no receive is in the kernel.
    fn close(&mut self, fd: i32) -> io::Result<()> {
        let close = opcode::Close::new(Fd(fd)).build().flags(squeue::Flags::SKIP_SUCCESS);
        self.push(close.user_data(CLOSE | fd as u32 as u64))
    }

    fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        if self.queue.is_full() {
            self.queue.sync();
            self.submitter.submit()?;
            self.queue.sync();
        }
        // SAFETY: no entry built in this file points at memory that can go away. Sends point at
        // a response, which is leaked; receives take their buffers from `FloorBuffers`, leaked too;
        // accepts and closes point at nothing.
        unsafe { self.queue.push(&entry) }.map_err(io::Error::other)
    }
}

const RING_BYTES: usize = BUFFERS as usize * size_of::<BufRingEntry>();

/// The kernel demands page alignment of a buffer ring.
#[repr(align(4096))]
struct RingPage(#[expect(dead_code, reason = "the kernel reads it")] [u8; RING_BYTES]);

/// The receive buffers and the ring that provides them to the kernel. Both are leaked: they have to
/// outlive every receive, and the server never ends.
pub(crate) struct FloorBuffers {
    ring: *mut BufRingEntry,
    bytes: *mut u8,
    tail: u16,
}

impl FloorBuffers {
    pub(crate) fn register(submitter: &Submitter) -> io::Result<FloorBuffers> {
        let ring = Box::leak(Box::new(RingPage([0; RING_BYTES]))) as *mut RingPage;
        let ring: *mut BufRingEntry = ring.cast();
        let bytes = vec![0; usize::from(BUFFERS) * BUFFER_BYTES].leak().as_mut_ptr();
        // SAFETY: `ring` is page-aligned, zeroed, holds BUFFERS entries and is never freed.
        unsafe {
            submitter.register_buf_ring_with_flags(ring as u64, BUFFERS, BUFFER_GROUP, 0)?;
        }
        let mut buffers = FloorBuffers { ring, bytes, tail: 0 };
        (0..BUFFERS).for_each(|buffer| buffers.give(buffer));
        buffers.publish();
        Ok(buffers)
    }

    /// The bytes received in `buffer`. The buffer goes back to the kernel with the next
    /// [`publish`](Self::publish), which the borrow of `self` keeps from happening too early.
    pub(crate) fn take(&mut self, buffer: u16, received: i32) -> &[u8] {
        self.give(buffer);
        let received = usize::try_from(received).unwrap_or(0);
        assert!(buffer < BUFFERS && received <= BUFFER_BYTES);
        // SAFETY: within the allocation by the assertion. The kernel filled the buffer and does
        // not write to it again before the tail that contains it is published.
        unsafe {
            let start = self.bytes.add(usize::from(buffer) * BUFFER_BYTES);
            std::slice::from_raw_parts(start, received)
        }
    }

    fn give(&mut self, buffer: u16) {
        // SAFETY: the masked index is within the ring, and the kernel does not read an entry
        // beyond the published tail. There are as many buffers as entries, so this entry's
        // former buffer has been consumed.
        unsafe {
            let entry = &mut *self.ring.add(usize::from(self.tail & (BUFFERS - 1)));
            entry.set_addr(self.bytes.add(usize::from(buffer) * BUFFER_BYTES) as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    pub(crate) fn publish(&mut self) {
        // SAFETY: the tail lies in the first entry of the ring, which is never freed, is aligned,
        // and is otherwise only read, by the kernel.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.ring).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

pub(crate) fn build_ring() -> io::Result<IoUring> {
    let build = |flags: fn(&mut io_uring::Builder)| {
        let mut builder = IoUring::builder();
        builder.setup_clamp().setup_cqsize(COMPLETIONS).setup_submit_all();
        flags(&mut builder);
        builder.build(SUBMISSIONS)
    };
    build(|it| _ = it.setup_single_issuer().setup_defer_taskrun().setup_no_sqarray())
        .or_else(|_| build(|it| _ = it.setup_single_issuer().setup_defer_taskrun()))
        .or_else(|_| build(|it| _ = it.setup_coop_taskrun()))
}

fn listen(address: SocketAddr) -> io::Result<Socket> {
    let listener = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    listener.set_reuse_address(true)?;
    listener.set_tcp_nodelay(true)?;
    let seconds = ptr::from_ref(&DEFER_ACCEPT_SECONDS);
    // SAFETY: the option is an int, and the pointer and the size are those of one.
    let set = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            seconds.cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if set != 0 {
        return Err(io::Error::last_os_error());
    }
    listener.bind(&address.into())?;
    listener.listen(BACKLOG)?;
    // No bare acknowledgement of the request: the response carries it. Connections inherit this,
    // but only from a listener that listens already.
    listener.set_tcp_quickack(false)?;
    Ok(listener)
}

/// The peer's address. A tracker needs it, so the floor makes the same system call.
fn peer_name(fd: i32) -> io::Result<libc::sockaddr_storage> {
    let mut name = std::mem::MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut bytes = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: `name` has room for `bytes` bytes.
    let result = unsafe { libc::getpeername(fd, name.as_mut_ptr().cast(), &raw mut bytes) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all zeroes are a valid address, and the kernel wrote the peer's over them.
    Ok(unsafe { name.assume_init() })
}

fn response(keep_alive: KeepAlive, body_bytes: usize) -> &'static [u8] {
    let body = body(body_bytes);
    let (connection, length) = (keep_alive.headers(), body.len());
    let response = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\
         {connection}Content-Length: {length}\r\n\r\n{body}"
    );
    response.leak().as_bytes()
}
