//! Listeners: what they are asked to do, and the connections that come of it.

use std::mem;

use io_uring::cqueue;

use super::Uring;
use super::entries::cancel;
use crate::event::{AcceptEnd, Event, ListenerIndex, Socket};
use crate::listener::{Listener, drain};
use crate::sys;
use crate::token::Operation;

/// What a listener is being asked to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepting {
    Idle,
    Armed,
    Stopping,
    Finishing,
}

pub(super) struct Listening {
    pub(super) listener: Option<Listener>,
    pub(super) accepting: Accepting,
}

impl Uring {
    /// Takes listeners beside those it was built with, counted on from them.
    pub fn adopt(&mut self, listeners: Vec<Listener>) {
        let idle = |listener| Listening { listener: Some(listener), accepting: Accepting::Idle };
        self.listening.extend(listeners.into_iter().map(idle));
    }

    pub(super) fn on_accept(&mut self, index: u32, result: i32, flags: u32) {
        let listener = index as ListenerIndex;
        if result >= 0 {
            match sys::peer_address(result) {
                Ok(peer) => {
                    let socket = Socket::from_raw(result);
                    self.ready.push(Event::Accepted { listener, socket, peer });
                }
                // Reset before it was accepted.
                Err(libc::ENOTCONN | libc::EINVAL) => sys::close(result),
                // Not a socket of ours: Linux 6.6.1 to 6.8-rc could report descriptors
                // that were never opened. Closing it might close another's.
                Err(_) => {}
            }
        }
        if cqueue::more(flags) {
            return;
        }
        let accepting = &mut self.listening[index as usize].accepting;
        let before = mem::replace(accepting, Accepting::Idle);
        let cause = match before {
            Accepting::Finishing => return self.drain_listener(listener),
            Accepting::Stopping => AcceptEnd::Stopped,
            Accepting::Idle | Accepting::Armed => AcceptEnd::from_result(result),
        };
        self.ready.push(Event::AcceptEnded { listener, cause });
    }

    /// Has accepts on sockets that others wait at too start anew, and so look into the queue. The
    /// kernel wakes one of those that wait there; that one may be about to stop, or be what is
    /// left of a killed process whose ring the kernel takes apart in its own time, and then nobody
    /// hears of the connection until the next one comes.
    pub(super) fn accept_unheard(&mut self) {
        self.accept_anew(Listener::has_company);
    }

    /// Ends the accepts on some listeners; the user, who is told that they are retired, starts
    /// them again.
    pub(super) fn accept_anew(&mut self, is_meant: impl Fn(&Listener) -> bool) {
        for index in 0..self.listening.len() {
            let Listening { listener, accepting } = &self.listening[index];
            let meant = listener.as_ref().is_some_and(&is_meant);
            if meant && *accepting == Accepting::Armed {
                let listener = index as ListenerIndex;
                self.push(cancel(Operation::Accept, listener, Operation::CancelAccept));
            }
        }
    }

    /// Accepts what had completed its handshake before the listener goes: closing it would
    /// reset those clients.
    pub(super) fn drain_listener(&mut self, index: ListenerIndex) {
        let entry = &mut self.listening[usize::from(index)];
        entry.accepting = Accepting::Idle;
        if let Some(listener) = entry.listener.take() {
            drain(listener, index, false, &mut self.ready);
        }
        let cause = AcceptEnd::Finished;
        self.ready.push(Event::AcceptEnded { listener: index, cause });
    }
}
