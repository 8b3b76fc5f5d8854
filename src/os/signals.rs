//! Signals as something to wait for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::libc::{SIGINT, SIGTERM};
use nix::sys::signal::{SigSet, Signal as SignalNumber};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP or SIGUSR1.
    Reload,
}

/// More signals than can be pending at a time: each is pending once at most.
const PENDING_MAX: usize = 8;

/// The signals of [`Signal`]. They are blocked in every thread that starts later and in every
/// program that this one executes, so none of them interrupts or ends any. So is SIGXFSZ, which
/// would end a process that writes beyond the limit of file sizes: the write fails instead.
#[derive(Debug)]
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// Blocks the signals in the calling thread, which must be the only one.
    pub(crate) fn block() -> io::Result<Signals> {
        let numbers = [
            SignalNumber::SIGTERM,
            SignalNumber::SIGINT,
            SignalNumber::SIGHUP,
            SignalNumber::SIGUSR1,
        ];
        let signals = SigSet::from_iter(numbers);
        signals.thread_block()?;
        SigSet::from(SignalNumber::SIGXFSZ).thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Signals(SignalFd::with_flags(&signals, flags)?))
    }

    /// Waits until a signal arrives, `other` becomes readable, or `timeout` is over. Of several
    /// signals, one to stop is returned.
    pub(crate) fn wait(
        &self,
        other: Option<BorrowedFd<'_>>,
        timeout: Option<Duration>,
    ) -> Option<Signal> {
        let signals = self.0.as_fd();
        let descriptors = [signals, other.unwrap_or(signals)];
        let mut descriptors = descriptors.map(|it| PollFd::from_borrowed_fd(it, PollFlags::IN));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        // A failure is an interruption, as by a debugger: the caller waits again.
        let _ = poll(&mut descriptors, timeout.as_ref());
        let mut found = None;
        for _ in 0..PENDING_MAX {
            match self.0.read_signal() {
                Ok(Some(info)) if [SIGTERM, SIGINT].contains(&(info.ssi_signo as i32)) => {
                    return Some(Signal::Stop);
                }
                Ok(Some(_)) => found = Some(Signal::Reload),
                _ => break,
            }
        }
        found
    }
}
