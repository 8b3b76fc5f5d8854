//! Wakes a worker from another thread, by an eventfd that its engine polls.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

/// Ends the wait of one engine; clones wake the same engine.
#[derive(Clone, Debug)]
pub struct Waker(Arc<File>);

impl Waker {
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> io::Result<Waker> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Waker(Arc::new(File::from(fd))))
    }

    /// Makes the engine report [`crate::Event::Wake`]: once for all calls before it does.
    pub fn wake(&self) {
        // Fails only if the counter is at its maximum: then a wake is pending already.
        let _ = (&*self.0).write(&1u64.to_ne_bytes());
    }

    pub(crate) fn raw(&self) -> i32 {
        self.0.as_raw_fd()
    }

    pub(crate) fn clear(&self) {
        let _ = (&*self.0).read(&mut [0; 8]);
    }

    /// Whether a wake has not been reported yet.
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
