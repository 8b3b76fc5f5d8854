//! Waking a worker from another thread: an eventfd that its engine waits for.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

/// Wakes one engine out of its wait; clones wake the same engine.
#[derive(Clone, Debug)]
pub struct Waker(Arc<File>);

impl Waker {
    /// A waker that is not yet rung.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn new() -> io::Result<Waker> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Waker(Arc::new(File::from(fd))))
    }

    /// Makes the engine report [`crate::Event::Wake`], once for any number of calls that
    /// come before it does.
    pub fn wake(&self) {
        // Fails only where the counter is at its maximum: the engine is rung already.
        let _ = (&*self.0).write(&1u64.to_ne_bytes());
    }

    pub(crate) fn raw(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Resets the counter.
    pub(crate) fn clear(&self) {
        let _ = (&*self.0).read(&mut [0; 8]);
    }

    /// Whether a wake is still to be reported.
    #[cfg(test)]
    pub(crate) fn is_pending(&self) -> bool {
        let mut count = [0; 8];
        let rung = (&*self.0).read(&mut count).is_ok();
        if rung {
            self.wake();
        }
        rung
    }
}

impl PartialEq for Waker {
    /// Whether both wake the same engine.
    fn eq(&self, other: &Waker) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
