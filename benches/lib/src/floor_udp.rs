//! The floor by UDP: a bare io_uring loop with constant responses (BEP 15): one thread, one socket,
//! no state.
//!
//! It receives by one multishot operation and sends each response by SEND with an address. A
//! request to connect gets a constant connection id, and everything else the response to an
//! announce, with the transaction id of the request.

use std::convert::Infallible;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::ptr;

use io_uring::types::Fd;
use io_uring::{SubmissionQueue, Submitter, cqueue, opcode, squeue};
use socket2::{Domain, Protocol, Socket, Type};

use crate::floor::{BUFFER_GROUP, BUFFERS, FloorBuffers, build_ring};

/// Bytes of received datagrams that the socket is to hold: as this tracker asks for.
const QUEUE_BYTES: libc::c_int = 4 * 1024 * 1024;

/// Bytes of `struct io_uring_recvmsg_out`, which a received buffer begins with.
const HEADER_BYTES: usize = 16;
/// Bytes of the sender's address: a `sockaddr_in`.
const NAME_BYTES: usize = 16;
const PAYLOAD_AT: usize = HEADER_BYTES + NAME_BYTES;

/// Bytes of the shortest request, to connect: connection id, action, transaction id.
const CONNECT_BYTES: usize = 16;
const CONNECT: [u8; 4] = 0_u32.to_be_bytes();
const ANNOUNCE: [u8; 4] = 1_u32.to_be_bytes();

/// Peers of a response, as many as this tracker gives on average in the benchmark.
const PEERS: usize = 46;
const RESPONSE_BYTES: usize = 20 + PEERS * 6;

/// One response, and where it goes. The kernel reads both during the `enter` that submits it.
struct Reply {
    name: [u8; NAME_BYTES],
    announced: [u8; RESPONSE_BYTES],
    connected: [u8; CONNECT_BYTES],
}

/// Serves until the process is killed.
pub(crate) fn serve(address: SocketAddr) -> io::Result<Infallible> {
    if !address.is_ipv4() || address.ip().is_unspecified() {
        return Err(io::Error::other("one IPv4 address is wanted: a SEND cannot name its source"));
    }
    let socket = bind(address)?;
    let mut ring = build_ring()?;
    let (mut submitter, queue, mut completed) = ring.split();
    // An older kernel refuses; then each enter looks the descriptor up.
    let _ = submitter.register_ring_fd();
    let buffers = FloorBuffers::register(&submitter)?;
    // SAFETY: plain numbers and pointers, for which zero is valid.
    let mut layout: libc::msghdr = unsafe { mem::zeroed() };
    layout.msg_namelen = NAME_BYTES as u32;
    let replies = (0..BUFFERS).map(|_| reply()).collect::<Vec<_>>().leak();
    let mut server = DatagramFloor {
        socket: socket.as_raw_fd(),
        layout: Box::leak(Box::new(layout)),
        buffers,
        replies,
        replied: 0,
        submitter,
        queue,
    };
    server.receive()?;

    loop {
        server.queue.sync();
        match server.submitter.submit_and_wait(1) {
            Ok(_) => {}
            // EBUSY: the completions have to be taken first.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINTR | libc::EBUSY)) => {}
            Err(e) => return Err(e),
        }
        server.queue.sync();
        if server.queue.is_empty() {
            server.replied = 0;
        }
        completed.sync();
        for completion in &mut completed {
            server.handle(&completion)?;
        }
        // Without this the next enter would take the handled completions for new ones.
        completed.sync();
        server.buffers.publish();
    }
}

/// What an operation was: its user data.
const RECEIVE: u64 = 0;
const SEND: u64 = 1;

struct DatagramFloor<'ring> {
    socket: i32,
    layout: &'static libc::msghdr,
    buffers: FloorBuffers,
    /// As many as there are buffers: no more requests arrive before the responses are submitted.
    replies: &'static mut [Reply],
    /// How many of them wait to be submitted.
    replied: usize,
    submitter: Submitter<'ring>,
    queue: SubmissionQueue<'ring>,
}

impl DatagramFloor<'_> {
    fn handle(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        // A response that cannot be sent, for want of a port or space, is lost.
        if completion.user_data() == SEND {
            return Ok(());
        }
        let (result, flags) = (completion.result(), completion.flags());
        if let Some(buffer) = cqueue::buffer_select(flags) {
            let reply = &mut self.replies[self.replied];
            let received = self.buffers.take(buffer, result);
            if let Some(response) = reply.fill(received) {
                self.replied += 1;
                self.send(response)?;
            }
        }
        match result {
            // An empty datagram or a lack of buffers ends the receive.
            _ if cqueue::more(flags) => Ok(()),
            0.. => self.receive(),
            e if e == -libc::ENOBUFS => self.receive(),
            e => Err(io::Error::from_raw_os_error(-e)),
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        let receive = opcode::RecvMsgMulti::new(Fd(self.socket), self.layout, BUFFER_GROUP);
        self.push(receive.build().user_data(RECEIVE))
    }

    /// Sends a response to the address of the last reply. It completes only if that fails.
    fn send(&mut self, (start, len): (*const u8, usize)) -> io::Result<()> {
        let name = &self.replies[self.replied - 1].name;
        let send = opcode::Send::new(Fd(self.socket), start, len as u32)
            .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
            .dest_addr(name.as_ptr().cast())
            .dest_addr_len(NAME_BYTES as u32);
        self.push(send.build().flags(squeue::Flags::SKIP_SUCCESS).user_data(SEND))
    }

    fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        if self.queue.is_full() {
            self.queue.sync();
            self.submitter.submit()?;
            self.queue.sync();
        }
        // SAFETY: no entry built in this file points at memory that can go away. Sends point at
        // a reply and receives at the layout, which are leaked; receives take their buffers from
        // `FloorBuffers`, leaked too.
        unsafe { self.queue.push(&entry) }.map_err(io::Error::other)
    }
}

impl Reply {
    /// Takes a request; returns the start and the length of the response. `None` if it is too short
    /// for one.
    fn fill(&mut self, received: &[u8]) -> Option<(*const u8, usize)> {
        let request = received.get(PAYLOAD_AT..)?;
        let action: [u8; 4] = request.get(8..12)?.try_into().ok()?;
        let transaction: [u8; 4] = request.get(12..16)?.try_into().ok()?;
        self.name.copy_from_slice(&received[HEADER_BYTES..PAYLOAD_AT]);
        let response: &mut [u8] =
            if action == CONNECT { &mut self.connected } else { &mut self.announced };
        response[4..8].copy_from_slice(&transaction);
        Some((response.as_ptr(), response.len()))
    }
}

fn reply() -> Reply {
    let mut announced = [0; RESPONSE_BYTES];
    // Action, transaction id, interval, leechers, seeders.
    let head = [ANNOUNCE, [0; 4], 1800_u32.to_be_bytes(), 30_u32.to_be_bytes(), [0, 0, 0, 20]];
    announced[..20].copy_from_slice(head.as_flattened());
    for (peer, bytes) in announced[20..].chunks_exact_mut(6).enumerate() {
        bytes.copy_from_slice(format!("Ab{peer:04}").as_bytes());
    }
    let mut connected = [0x5a; CONNECT_BYTES];
    connected[..4].copy_from_slice(&CONNECT);
    Reply { name: [0; NAME_BYTES], announced, connected }
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    let bytes = ptr::from_ref(&QUEUE_BYTES);
    // SAFETY: the option is an int, and the pointer and the size are those of one.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            bytes.cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if set != 0 {
        // Beyond the machine's limit it takes CAP_NET_ADMIN.
        socket.set_recv_buffer_size(QUEUE_BYTES as usize)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}
