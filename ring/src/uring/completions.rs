//! From completions to events.

use io_uring::cqueue;
use rustix::io::Errno;

use super::Uring;
use crate::datagram::DatagramIndex;
use crate::event::{Event, RecvEnd, Socket};
use crate::sys;
use crate::token::{Key, Operation, Token};

impl Uring {
    pub(super) fn on_completion(&mut self, user_data: u64, result: i32, flags: u32) {
        let Some(token) = Token::unpack(user_data) else {
            debug_assert!(false, "a completion of nobody: {user_data:#x}");
            return;
        };
        match token.operation {
            Operation::Recv => {
                self.datagrams.on_connection();
                self.on_recv(token.key, result, flags);
            }
            Operation::Accept => {
                self.datagrams.on_connection();
                self.on_listener_polled(token.key.slot(), result);
            }
            Operation::SendOwned => self.on_owned_send(token.key, result),
            Operation::Connect => self.on_connect(token.key, result),
            Operation::Tick => {
                self.ready.push(Event::Tick);
                self.arm_tick();
                self.accept_from_shared_queues();
                self.datagrams.on_tick();
            }
            Operation::Wake => {
                self.ready.push(Event::Wake);
                self.arm_wake();
            }
            Operation::RecvDatagrams => self.on_datagram(token.key.slot(), result, flags),
            Operation::PollDatagrams => self.on_datagrams_polled(token.key.slot(), result),
            Operation::SendDatagram if result < 0 => {
                let errno = Errno::from_raw_os_error(-result);
                let socket = token.key.slot() as DatagramIndex;
                self.ready.push(Event::DatagramUnsent { socket, errno });
            }
            Operation::SendDatagram
            | Operation::SendArena
            | Operation::Close
            | Operation::CancelAccept
            | Operation::CancelRecv
            | Operation::CancelConnect
            | Operation::CancelDatagrams => {}
        }
    }

    pub(super) fn on_recv(&mut self, key: Key, result: i32, flags: u32) {
        // The buffer first, whatever else this completion says: it must not be lost.
        // SAFETY: this completion is from a receive that names the group of these buffers.
        let buffer = unsafe { self.buffers.take_back(result, flags) };
        let more = cqueue::more(flags);
        match (buffer, result) {
            (Some(buffer), 1..) => self.ready.push(Event::Received { key, buffer, more }),
            _ if more => {}
            (_, 0) => self.ready.push(Event::RecvEnded { key, end: RecvEnd::Eof }),
            (_, error) => {
                let end = match Errno::from_raw_os_error(-error) {
                    Errno::NOBUFS => {
                        self.buffers.grow();
                        RecvEnd::NoBuffers
                    }
                    Errno::CANCELED => RecvEnd::Cancelled,
                    error => RecvEnd::Error(error),
                };
                self.ready.push(Event::RecvEnded { key, end });
            }
        }
    }

    pub(super) fn on_arena_send(&mut self, index: usize, result: i32) {
        let Some(send) = self.sends.get(index) else {
            debug_assert!(false, "a send of no turn");
            return;
        };
        let sent = match result {
            0.. => result as usize,
            _ if -result == libc::EAGAIN => 0,
            _ => {
                let errno = Errno::from_raw_os_error(-result);
                self.short_sends.push(Event::SendIncomplete { key: send.key, rest: Err(errno) });
                return;
            }
        };
        if sent < send.len {
            let (key, from) = (send.key, send.from + sent);
            let rest = self.arena.slice_mut(from)[..send.len - sent].into();
            self.short_sends.push(Event::SendIncomplete { key, rest: Ok(rest) });
        }
    }

    fn on_owned_send(&mut self, key: Key, result: i32) {
        let Some((_, send)) = self.owned.get_mut(&key) else {
            debug_assert!(false, "an owned send of nobody");
            return;
        };
        let result = match result {
            1.. => {
                if !send.advance(result as usize) {
                    return self.push_owned(key);
                }
                Ok(())
            }
            0 if send.rest().is_empty() => Ok(()),
            0 => Err(Errno::PIPE),
            // The kernel gives up after 128 fruitless polls; this engine does not.
            _ if matches!(-result, libc::EAGAIN | libc::EINTR) => return self.push_owned(key),
            _ => Err(Errno::from_raw_os_error(-result)),
        };
        self.owned.remove(&key);
        self.ready.push(Event::Sent { key, result });
    }

    fn on_connect(&mut self, key: Key, result: i32) {
        let Some(fd) = self.connecting.remove(&key) else {
            debug_assert!(false, "a connection that nobody asked for");
            return;
        };
        let result = match result {
            0.. if self.limit.acquire() => Ok(Socket::from_raw(fd)),
            _ => {
                sys::close(fd);
                Err(if result < 0 { Errno::from_raw_os_error(-result) } else { Errno::MFILE })
            }
        };
        self.ready.push(Event::Connected { key, result });
    }
}
