//! A bare io_uring loop with a constant answer: one thread, one listener, no state.
//!
//! It does everything that is known to save CPU and nothing that a tracker needs. A request
//! is whatever arrives at once and ends with a blank line; anything else is hung up on. So a
//! client must neither split nor pipeline its requests, and the load of the wire benchmark
//! does neither.
//!
//! There is no table of connections. That is sound because at most one receive per
//! descriptor is in the kernel, and its descriptor is closed only after that receive ended:
//! no completion can name a descriptor that has been reused.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::mem::size_of;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, Fd};
use io_uring::{IoUring, SubmissionQueue, Submitter, cqueue, opcode, squeue};
use socket2::{Domain, Protocol, Socket, Type};

/// Submission entries; a turn that queues more submits in between. Few, so that they stay in
/// cache.
const SUBMISSIONS: u32 = 256;

/// Completion entries. An overflow would end every multishot operation.
const COMPLETIONS: u32 = 4096;

/// Receive buffers; a power of two, as the kernel demands. Few, so that they stay in cache.
const BUFFERS: u16 = 256;

/// Bytes of a receive buffer: the longest request.
const BUFFER_BYTES: usize = 2048;

/// The only group of receive buffers.
const BUFFER_GROUP: u16 = 0;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// Seconds for which the kernel holds back a connection that sends nothing.
const DEFER_ACCEPT_SECONDS: libc::c_int = 5;

/// Bytes of the answer's body unless another length is asked for: ten peers.
pub(crate) const SHORT_BODY_BYTES: usize = 153;

/// What stands before the peers in the answer's body.
const BODY_START: &str =
    "d8:completei6e10:downloadedi4e10:incompletei6e8:intervali1800e12:min intervali900e5:peers";

/// The answer's body: `bytes` bytes, or one fewer where the number before the peers gets longer
/// just there; never less than a list without peers. The addresses are different ones, and
/// printable so that any other server can be configured to give the same answer.
pub(crate) fn body(bytes: usize) -> String {
    let length_of = |peers: usize| format!("{BODY_START}{peers}:e").len() + peers;
    let fitting = |peers: &usize| length_of(*peers) <= bytes;
    let peers = (0..bytes).rev().find(fitting).unwrap_or(0);
    let addresses: String = (0..=peers / 6).map(|peer| format!("Ab{peer:04}")).collect();
    format!("{BODY_START}{peers}:{}e", &addresses[..peers])
}

/// What to serve, and where.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    /// Where to listen.
    pub(crate) address: SocketAddr,
    /// Whether a connection carries one request or many.
    pub(crate) connections: Connections,
    /// Bytes of the answers' bodies, as for [`body`]: at least one length, given in turn.
    pub(crate) body_bytes: Vec<usize>,
}

impl Service {
    /// Reads `ADDRESS keep|close [--body-bytes N[,N...]]`.
    pub(crate) fn parse(arguments: &[String]) -> Option<Service> {
        let (address, connections, body_bytes) = match arguments {
            [address, connections] => (address, connections, vec![SHORT_BODY_BYTES]),
            [address, connections, option, lengths] if option == "--body-bytes" => {
                let lengths = lengths.split(',').map(|bytes| bytes.parse().ok());
                (address, connections, lengths.collect::<Option<Vec<usize>>>()?)
            }
            _ => return None,
        };
        let (address, connections) = (address.parse().ok()?, Connections::parse(connections)?);
        Some(Service { address, connections, body_bytes })
    }
}

/// Whether a connection carries one request or many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connections {
    /// Until the client closes.
    Keep,
    /// One request each; the server closes.
    Close,
}

impl Connections {
    /// Reads `keep` or `close`.
    pub(crate) fn parse(word: &str) -> Option<Connections> {
        match word {
            "keep" => Some(Connections::Keep),
            "close" => Some(Connections::Close),
            _ => None,
        }
    }
}

impl fmt::Display for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Connections::Keep => "keep",
            Connections::Close => "close",
        })
    }
}

/// Serves until the process is killed.
///
/// # Errors
///
/// What the kernel said when it refused the listener, the ring or a connection.
pub(crate) fn serve(service: Service) -> io::Result<Infallible> {
    let listener = listen(service.address)?;
    let mut ring = build_ring()?;
    let (mut submitter, queue, mut completed) = ring.split();
    // An older kernel refuses; then each enter looks the descriptor up.
    let _ = submitter.register_ring_fd();
    let buffers = Buffers::register(&submitter)?;
    let mut server = Server {
        listener: listener.as_raw_fd(),
        answers: service
            .body_bytes
            .iter()
            .map(|&bytes| answer(service.connections, bytes))
            .collect(),
        next: 0,
        connections: service.connections,
        buffers,
        submitter,
        queue,
    };
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

/// What an operation was, kept in the upper half of its user data; the descriptor is in the
/// lower half.
#[derive(Clone, Copy)]
#[repr(u64)]
enum Operation {
    Accept,
    Receive,
    Send,
    Close,
}

impl Operation {
    const fn on(self, fd: i32) -> u64 {
        (self as u64) << 32 | fd as u32 as u64
    }

    fn of(user_data: u64) -> Operation {
        match user_data >> 32 {
            0 => Operation::Accept,
            1 => Operation::Receive,
            2 => Operation::Send,
            _ => Operation::Close,
        }
    }
}

struct Server<'ring> {
    listener: i32,
    answers: Vec<&'static [u8]>,
    /// The answer that is given next.
    next: usize,
    connections: Connections,
    buffers: Buffers,
    submitter: Submitter<'ring>,
    queue: SubmissionQueue<'ring>,
}

impl Server<'_> {
    fn handle(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        let fd = completion.user_data() as u32 as i32;
        let (result, flags) = (completion.result(), completion.flags());
        match Operation::of(completion.user_data()) {
            Operation::Accept => self.on_accept(result, flags),
            Operation::Receive => self.on_receive(fd, result, flags),
            // Success is silent. The descriptor may be closed or even reused by now, so it is
            // left alone: if the peer is gone, the receive says so too.
            Operation::Send if result < 0 => Ok(()),
            Operation::Send => Err(io::Error::other("a socket did not take the whole answer")),
            Operation::Close => Ok(()),
        }
    }

    fn on_accept(&mut self, result: i32, flags: u32) -> io::Result<()> {
        if !cqueue::more(flags) {
            self.accept()?;
        }
        match result {
            fd if fd >= 0 => match peer_name(fd) {
                Ok(_) => self.receive_once(fd),
                // Some kernels report a descriptor that never was; it is not ours to close.
                Err(e) if e.raw_os_error() == Some(libc::EBADF) => Ok(()),
                Err(_) => self.close(fd),
            },
            e if e == -libc::ECONNABORTED => Ok(()),
            // Whatever else goes wrong (no descriptors left), there is nothing to measure.
            e => Err(io::Error::from_raw_os_error(-e)),
        }
    }

    fn on_receive(&mut self, fd: i32, result: i32, flags: u32) -> io::Result<()> {
        let whole = cqueue::buffer_select(flags)
            .is_some_and(|buffer| self.buffers.take(buffer, result).ends_with(b"\r\n\r\n"));
        let armed = cqueue::more(flags);
        match result {
            1.. if whole && self.connections == Connections::Close => {
                // The end of the connection rides on the segment of the answer: MSG_MORE holds
                // the answer back for the close, which is executed in the same submission.
                self.send(fd, libc::MSG_MORE)?;
                self.close(fd)
            }
            1.. => {
                if whole {
                    self.send(fd, 0)?;
                } else {
                    hang_up(fd);
                }
                if armed { Ok(()) } else { self.receive_many(fd) }
            }
            e if e == -libc::ENOBUFS => self.receive_many(fd),
            // The peer is gone, and with it the receive.
            _ if !armed => self.close(fd),
            _ => Ok(()),
        }
    }

    /// Accepts until the kernel says otherwise.
    fn accept(&mut self) -> io::Result<()> {
        let accept = opcode::AcceptMulti::new(Fd(self.listener)).flags(libc::SOCK_CLOEXEC).build();
        self.push(accept.user_data(Operation::Accept.on(self.listener)))
    }

    /// Receives the first request. It is there: the listener defers accepting until then.
    fn receive_once(&mut self, fd: i32) -> io::Result<()> {
        let receive = opcode::Recv::new(Fd(fd), ptr::null_mut(), 0).buf_group(BUFFER_GROUP).build();
        let receive = receive.flags(squeue::Flags::BUFFER_SELECT);
        self.push(receive.user_data(Operation::Receive.on(fd)))
    }

    /// Receives all further requests.
    fn receive_many(&mut self, fd: i32) -> io::Result<()> {
        let receive = opcode::RecvMulti::new(Fd(fd), BUFFER_GROUP).build();
        self.push(receive.user_data(Operation::Receive.on(fd)))
    }

    /// Sends the answer. Completes only if the socket did not take it whole.
    fn send(&mut self, fd: i32, more: libc::c_int) -> io::Result<()> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL | more;
        let answer = self.answers[self.next];
        self.next = (self.next + 1) % self.answers.len();
        let send = opcode::Send::new(Fd(fd), answer.as_ptr(), answer.len() as u32);
        let send = send.flags(flags).build().flags(squeue::Flags::SKIP_SUCCESS);
        self.push(send.user_data(Operation::Send.on(fd)))
    }

    /// Closes a descriptor of which no receive is in the kernel.
    fn close(&mut self, fd: i32) -> io::Result<()> {
        let close = opcode::Close::new(Fd(fd)).build().flags(squeue::Flags::SKIP_SUCCESS);
        self.push(close.user_data(Operation::Close.on(fd)))
    }

    fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        if self.queue.is_full() {
            self.queue.sync();
            self.submitter.submit()?;
            self.queue.sync();
        }
        // SAFETY: no entry built in this file points at memory that can go away. Sends point at
        // the answer, which is leaked; receives take their buffers from `Buffers`, leaked too;
        // accepts and closes point at nothing.
        unsafe { self.queue.push(&entry) }.map_err(io::Error::other)
    }
}

/// The receive buffers and the ring through which they are given to the kernel. Both are
/// leaked: they have to outlive every receive, and the server never ends.
struct Buffers {
    ring: *mut BufRingEntry,
    bytes: *mut u8,
    tail: u16,
}

impl Buffers {
    fn register(submitter: &Submitter) -> io::Result<Buffers> {
        let ring = leak_pages(usize::from(BUFFERS) * size_of::<BufRingEntry>()).cast();
        let bytes = leak_pages(usize::from(BUFFERS) * BUFFER_BYTES);
        // SAFETY: `ring` is page-aligned, zeroed, holds BUFFERS entries and is never freed.
        unsafe {
            submitter.register_buf_ring_with_flags(ring as u64, BUFFERS, BUFFER_GROUP, 0)?;
        }
        let mut buffers = Buffers { ring, bytes, tail: 0 };
        (0..BUFFERS).for_each(|buffer| buffers.give(buffer));
        buffers.publish();
        Ok(buffers)
    }

    /// The bytes received in `buffer`. The buffer goes back to the kernel with the next
    /// [`publish`](Self::publish), which the borrow of `self` keeps from happening too early.
    fn take(&mut self, buffer: u16, received: i32) -> &[u8] {
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

    fn publish(&mut self) {
        // SAFETY: the tail lies in the first entry of the ring, which is never freed, is aligned,
        // and is otherwise only read, by the kernel.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.ring).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

/// Zeroed memory that starts on a page and is never freed.
fn leak_pages(bytes: usize) -> *mut u8 {
    let layout = Layout::from_size_align(bytes, 4096).expect("a few pages");
    // SAFETY: the layout's size is not zero.
    let memory = unsafe { alloc_zeroed(layout) };
    if memory.is_null() {
        handle_alloc_error(layout);
    }
    memory
}

/// The ring with the best flags that this kernel takes.
fn build_ring() -> io::Result<IoUring> {
    let base = || {
        let mut builder = IoUring::builder();
        builder.setup_clamp().setup_cqsize(COMPLETIONS);
        builder
    };
    let (mut best, mut second, mut third) = (base(), base(), base());
    best.setup_submit_all().setup_single_issuer().setup_defer_taskrun().setup_no_sqarray();
    second.setup_submit_all().setup_single_issuer().setup_defer_taskrun();
    third.setup_submit_all().setup_coop_taskrun();
    best.build(SUBMISSIONS)
        .or_else(|_| second.build(SUBMISSIONS))
        .or_else(|_| third.build(SUBMISSIONS))
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
    // No bare acknowledgement of the request: the answer carries it. Connections inherit this,
    // but only from a listener that listens already.
    listener.set_tcp_quickack(false)?;
    Ok(listener)
}

/// The peer's address. A tracker cannot do without it, so the floor pays for it too.
fn peer_name(fd: i32) -> io::Result<libc::sockaddr_storage> {
    let mut name = std::mem::MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut bytes = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: `name` has room for `bytes` bytes.
    let result = unsafe { libc::getpeername(fd, name.as_mut_ptr().cast(), &raw mut bytes) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all zeroes are a valid address, and the kernel wrote over them what it knew.
    Ok(unsafe { name.assume_init() })
}

/// Ends both directions, so that the receive in the kernel ends and the descriptor is closed.
fn hang_up(fd: i32) {
    // SAFETY: no memory is involved.
    unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
}

fn answer(connections: Connections, body_bytes: usize) -> &'static [u8] {
    let connection = match connections {
        Connections::Keep => "",
        Connections::Close => "Connection: close\r\n",
    };
    let body = body(body_bytes);
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\
         {connection}Content-Length: {length}\r\n\r\n{body}"
    );
    answer.leak().as_bytes()
}
