//! Messages between a process and one that it has split off, each with an open file if need
//! be: a pair of sockets that keep messages apart (SOCK_SEQPACKET).
#![allow(unsafe_code)]

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use socket2::SockRef;

/// One end. What is sent into it comes out of the other, message by message.
#[derive(Debug)]
pub struct Channel {
    fd: OwnedFd,
    deadline: Cell<Option<Instant>>,
}

/// The shortest wait that is one: to the kernel, no time at all is without end.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// Room for the header of one descriptor, aligned as headers are: 24 bytes.
type Control = [u64; 3];

// SAFETY: takes no pointers.
const _: () = assert!(
    mem::size_of::<Control>()
        >= unsafe { libc::CMSG_SPACE(mem::size_of::<RawFd>() as u32) } as usize
);

impl Channel {
    /// Two ends of one channel.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn pair() -> io::Result<(Channel, Channel)> {
        let mut ends: [RawFd; 2] = [-1; 2];
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
        // SAFETY: `ends` is valid for both descriptors.
        if unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just made these descriptors for us, nothing else owns them.
        let [one, other] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        let [one, other] = [one, other].map(|fd| Channel { fd, deadline: Cell::default() });
        Ok((one, other))
    }

    /// Has all that is sent and received from now on fail when so much time is over.
    pub fn set_patience(&self, patience: Duration) {
        self.deadline.set(Some(Instant::now() + patience));
    }

    /// How long may be waited from now on, if there is a bound.
    fn patience(&self) -> io::Result<Option<Duration>> {
        let Some(deadline) = self.deadline.get() else { return Ok(None) };
        match deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(ErrorKind::WouldBlock.into()),
            left => Ok(Some(left.max(WAIT_MIN))),
        }
    }

    /// Sends a message, which must not be empty, and a duplicate of an open file with it.
    ///
    /// # Errors
    /// The other end is gone, or there is no room for the message: `WouldBlock` if there was none
    /// while patience lasted.
    pub fn send(&self, message: &[u8], file: Option<BorrowedFd<'_>>) -> io::Result<()> {
        SockRef::from(&self.fd).set_write_timeout(self.patience()?)?;
        let mut control: Control = [0; 3];
        let mut part =
            libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
        let mut header = header(&mut part);
        if let Some(file) = file {
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = mem::size_of::<Control>() as _;
            let bytes = mem::size_of::<RawFd>() as u32;
            // SAFETY: the control buffer holds one header and a descriptor, which is what is
            // written; CMSG_FIRSTHDR is not null, for the buffer is long enough.
            unsafe {
                let first = libc::CMSG_FIRSTHDR(&raw const header);
                (*first).cmsg_level = libc::SOL_SOCKET;
                (*first).cmsg_type = libc::SCM_RIGHTS;
                (*first).cmsg_len = libc::CMSG_LEN(bytes) as _;
                libc::CMSG_DATA(first).cast::<RawFd>().write_unaligned(file.as_raw_fd());
            }
        }
        // SAFETY: the header describes `message` and `control`, which the kernel only reads.
        let sent =
            || unsafe { libc::sendmsg(self.fd.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) };
        uninterrupted(sent).map(drop)
    }

    /// Waits for a message: how many bytes it has, 0 if the other end is gone, and the file that
    /// came with it. What does not fit into `into` is lost.
    ///
    /// # Errors
    /// `WouldBlock` when patience is at its end, or whatever `recvmsg` fails with.
    pub fn receive(&self, into: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
        SockRef::from(&self.fd).set_read_timeout(self.patience()?)?;
        let mut control: Control = [0; 3];
        let mut part = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
        let mut header = header(&mut part);
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = mem::size_of::<Control>() as _;
        // SAFETY: the header describes `into` and `control`, both writable for the call.
        let got = uninterrupted(|| unsafe {
            let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_TRUNC;
            libc::recvmsg(self.fd.as_raw_fd(), &raw mut header, flags)
        })?;
        // SAFETY: the kernel has filled in the header and its control buffer. A descriptor in
        // it was made for us just now, nothing else owns it.
        let file = unsafe {
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            let passed = !first.is_null()
                && (*first).cmsg_level == libc::SOL_SOCKET
                && (*first).cmsg_type == libc::SCM_RIGHTS;
            passed.then(|| {
                let fd = libc::CMSG_DATA(first).cast::<RawFd>().read_unaligned();
                OwnedFd::from_raw_fd(fd)
            })
        };
        Ok((got, file))
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

fn header(part: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: all of its fields may be zero.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = part;
    header.msg_iovlen = 1;
    header
}

/// The result of a call that signals may interrupt.
fn uninterrupted(mut call: impl FnMut() -> libc::ssize_t) -> io::Result<usize> {
    loop {
        if let Ok(bytes) = usize::try_from(call()) {
            return Ok(bytes);
        }
        let error = io::Error::last_os_error();
        if error.kind() != ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{ErrorKind, Read, Seek, Write};
    use std::os::fd::AsFd;
    use std::time::Duration;

    use super::Channel;

    #[test]
    fn messages_stay_apart_and_in_order() {
        let (one, other) = Channel::pair().unwrap();
        one.send(b"first", None).unwrap();
        one.send(b"second", None).unwrap();
        let mut into = [0; 16];
        for message in ["first", "second"] {
            let (bytes, file) = other.receive(&mut into).unwrap();
            assert_eq!((&into[..bytes], file.is_none()), (message.as_bytes(), true));
        }
        one.send(b"one that is too long for the room", None).unwrap();
        assert_eq!(other.receive(&mut into).unwrap().0, 33);
        drop(one);
        assert_eq!(other.receive(&mut into).unwrap().0, 0);
        assert!(other.send(b"third", None).is_err());
    }

    #[test]
    fn a_file_goes_with_its_message() {
        let (one, other) = Channel::pair().unwrap();
        let path = std::env::temp_dir().join(format!("channel-{}", std::process::id()));
        let options = || File::options().read(true).write(true).create(true).clone();
        let mut file = options().truncate(true).open(&path).unwrap();
        file.write_all(b"what is in it").unwrap();
        file.rewind().unwrap();
        one.send(b"here", Some(file.as_fd())).unwrap();
        drop((one, file));
        std::fs::remove_file(path).unwrap();
        let (_, passed) = other.receive(&mut [0; 4]).unwrap();
        let mut text = String::new();
        File::from(passed.unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "what is in it");
    }

    #[test]
    fn patience_ends() {
        let (one, _other) = Channel::pair().unwrap();
        one.set_patience(Duration::from_millis(1));
        let error = one.receive(&mut [0; 4]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        // For all that comes after, too, which is not waited for at all.
        let error = one.send(b"late", None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        one.set_patience(Duration::from_secs(60));
        one.send(b"in time", None).unwrap();
    }

    #[test]
    fn nobody_waits_for_room_for_ever() {
        let (one, _other) = Channel::pair().unwrap();
        one.set_patience(Duration::from_millis(100));
        let full = (0..1 << 20).find_map(|_| one.send(&[0; 1024], None).err());
        assert_eq!(full.unwrap().kind(), ErrorKind::WouldBlock);
    }
}
