//! The program that reads the log may be stopped, slow or gone: the tracker still serves, and stops
//! on a signal.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};

use crate::support::authority::{Authority, KeyKind};
use crate::support::client::{fetch, get_request};
use crate::support::tracker::{Engine, TIMEOUT, test_both_engines, wait_for};

test_both_engines!(
    a_full_pipe_does_not_block,
    lines_longer_than_the_pipe_s_room_do_not_block,
    lines_without_room_are_counted,
    a_closed_pipe_does_not_stop_the_tracker,
);

/// What a pipe holds (pipe(7)).
const PIPE_BYTES: usize = 1 << 16;

/// Host names of the certificate, which make a log line of some 8 KB: the kernel promises that a
/// pipe with room takes 4096 bytes at once.
const NAMES: usize = 200;

/// More lines of that length than pipe and queue have room for.
const RELOADS: usize = 100;

/// A tracker whose standard error is a pipe, with the test as its service manager.
struct Unread {
    child: Child,
    log: Box<dyn Read + Send>,
    manager: UnixDatagram,
    address: SocketAddr,
    /// Keeps the directory with the configuration.
    _authority: Authority,
}

impl Unread {
    /// Starts it with `full` bytes in its pipe, and waits until it serves.
    fn start(engine: Engine, full: usize) -> Unread {
        let (log, mut writer) = io::pipe().unwrap();
        writer.write_all(&vec![b'.'; full]).unwrap();
        Unread::start_on(engine, writer.into(), Box::new(log))
    }

    /// The same with `stderr` as its standard error, which is read from `log`.
    fn start_on(engine: Engine, stderr: Stdio, log: Box<dyn Read + Send>) -> Unread {
        let authority = Authority::new(&[Ipv4Addr::LOCALHOST.into()]);
        let host = |number| format!("a-host-with-a-rather-long-name-{number:03}.test");
        let hosts: Vec<String> = (0..NAMES).map(host).collect();
        authority.issue_as("tracker", &hosts.join(", DNS:"), KeyKind::P256);
        let text = format!(
            "listen = [\"127.0.0.1:0\"]\nengine = \"{}\"\nworkers = 2\n\
             [tls]\nlisten = [\"127.0.0.2:0\"]\n\
             certificates = [{{ chain = \"tracker.pem\", key = \"tracker.key\" }}]\n",
            engine.name()
        );
        let config = authority.path("annulus.toml");
        fs::write(&config, text).unwrap();
        let socket = authority.path("notify");
        let manager = UnixDatagram::bind(&socket).unwrap();
        manager.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_annulus"));
        command.arg("-c").arg(&config).env("NOTIFY_SOCKET", &socket);
        command.env("WATCHDOG_USEC", "1000000");
        let child = command.stdin(Stdio::null()).stderr(stderr).spawn().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut unread = Unread { child, log, manager, address, _authority: authority };
        let status = unread.expect_notification("READY=1");
        let (_, addresses) = status.split_once("listening on ").unwrap();
        unread.address = addresses.split(',').next().unwrap().parse().unwrap();
        unread
    }

    /// Waits for a message to the manager that begins with this, and returns it whole.
    #[track_caller]
    fn expect_notification(&self, what: &str) -> String {
        loop {
            let mut message = [0; 4096];
            let length = match self.manager.recv(&mut message) {
                // A wait with a timeout ends so when the process was stopped (signal(7)).
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                received => received.expect("a message to the manager"),
            };
            let message = String::from_utf8_lossy(&message[..length]).into_owned();
            if message.starts_with(what) {
                return message;
            }
        }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success(), "kill -s {name}");
    }

    #[track_caller]
    fn reload(&self) {
        self.signal("HUP");
        self.expect_notification("READY=1");
    }

    #[track_caller]
    fn serves(&self) {
        let target = "/announce?info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=-XX0000-aaaaaaaaaaaa\
                      &port=51001&left=1";
        assert_eq!(fetch(self.address, get_request(target)).status, 200);
    }

    /// Stops it and returns its exit status.
    #[track_caller]
    fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        wait_for("the end of the tracker", || self.child.try_wait().unwrap())
    }

    /// Reads the log in the background, to its end.
    fn read_on(&mut self) -> JoinHandle<String> {
        let mut log = mem::replace(&mut self.log, Box::new(io::empty()));
        thread::spawn(move || {
            let mut text = String::new();
            log.read_to_string(&mut text).unwrap();
            text
        })
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The pipe has no room at all. Lines logged meanwhile are there when it is read.
fn a_full_pipe_does_not_block(engine: Engine) {
    let mut tracker = Unread::start(engine, PIPE_BYTES);
    tracker.serves();
    tracker.reload();
    tracker.serves();
    for _ in 0..3 {
        tracker.expect_notification("WATCHDOG=1");
    }
    tracker.log.read_exact(&mut [0; PIPE_BYTES]).unwrap();
    assert!(tracker.stop().success());
    let log = tracker.read_on().join().unwrap();
    let order = ["engine ", "listening on ", "certificates reloaded: ", "stopping: ", "stopped\n"];
    let mut at = 0;
    for part in order {
        at += log[at..].find(part).unwrap_or_else(|| panic!("no {part:?}:\n{log}"));
    }
    assert!(log.lines().all(|line| line.contains("Z annulus: ")), "{log}");
    assert!(!log.contains("dropped") && log.ends_with("stopped\n"), "{log}");
}

/// The pipe has room for a line of 4096 bytes, and none for a longer one.
fn lines_longer_than_the_pipe_s_room_do_not_block(engine: Engine) {
    let mut tracker = Unread::start(engine, PIPE_BYTES - 4096);
    for _ in 0..3 {
        tracker.reload();
        tracker.serves();
    }
    assert!(tracker.stop().success());
}

fn lines_without_room_are_counted(engine: Engine) {
    let mut tracker = Unread::start(engine, 0);
    for _ in 0..RELOADS {
        tracker.reload();
    }
    tracker.serves();
    let reader = tracker.read_on();
    // The log's thread writes this line only when the queued ones have been read.
    tracker.reload();
    assert!(tracker.stop().success());
    let log = reader.join().unwrap();
    let is_reload = |line: &&str| line.contains("certificates reloaded: certificate for ");
    let reloads = log.lines().filter(is_reload).count();
    let mut dropped = 0;
    for (_, rest) in log.lines().filter_map(|line| line.split_once(" annulus: warning: ")) {
        let (count, what) = rest.split_once(' ').unwrap();
        assert!(what.contains("dropped here"), "{rest}");
        dropped += count.parse::<usize>().unwrap();
    }
    assert!(dropped > 0, "{reloads} lines of {RELOADS} reloads");
    // The lines of the stop may be among those that were dropped.
    let all = (RELOADS + 1)..=(RELOADS + 3);
    assert!(all.contains(&(reloads + dropped)), "{reloads} lines, {dropped} dropped");
    assert!(log.lines().filter(is_reload).all(|line| line.contains("name-199.test until ")));
}

/// The pipe is closed: writing to it fails at a reload and at the stop.
fn a_closed_pipe_does_not_stop_the_tracker(engine: Engine) {
    let mut tracker = Unread::start(engine, 0);
    tracker.log = Box::new(io::empty());
    tracker.reload();
    tracker.serves();
    assert!(tracker.stop().success());
}

/// The journal is a socket, and the parent process may have made it non-blocking.
#[test]
fn a_socket_works_like_a_pipe() {
    for nonblocking in [false, true] {
        let (log, mut stderr) = UnixStream::pair().unwrap();
        stderr.set_nonblocking(true).unwrap();
        let full = (1..).find(|_| stderr.write(b".").is_err()).unwrap();
        stderr.set_nonblocking(nonblocking).unwrap();
        let stderr = Stdio::from(OwnedFd::from(stderr));
        let mut tracker = Unread::start_on(Engine::Epoll, stderr, Box::new(log));
        for _ in 0..3 {
            tracker.reload();
            tracker.serves();
        }
        let reader = tracker.read_on();
        assert!(tracker.stop().success());
        let log = reader.join().unwrap();
        let said = log.trim_start_matches('.');
        assert_eq!(log.len() - said.len(), full - 1);
        assert_eq!(said.matches("certificates reloaded: ").count(), 3, "{said}");
        assert!(said.lines().all(|line| line.contains("Z annulus: ")), "{said}");
        assert!(said.ends_with("stopped\n"), "{said}");
    }
}

/// The reason is written if it is read in time, and the process ends if not.
#[test]
fn a_failure_to_start_does_not_wait_for_a_reader() {
    let authority = Authority::new(&[Ipv4Addr::LOCALHOST.into()]);
    for text in ["listen = [\"192.0.2.1:1\"]\n", "listen = 1\n"] {
        let config = authority.path("annulus.toml");
        fs::write(&config, text).unwrap();
        let (mut log, mut writer) = io::pipe().unwrap();
        writer.write_all(&[b'.'; PIPE_BYTES]).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_annulus"));
        command.arg("-c").arg(&config).stdin(Stdio::null());
        let mut child = command.stderr(writer.try_clone().unwrap()).spawn().unwrap();
        let status = wait_for("the end of the tracker", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(1), "{text}");

        // Read in time.
        log.read_exact(&mut [0; PIPE_BYTES]).unwrap();
        let mut child = command.stderr(writer).spawn().unwrap();
        drop(command);
        let mut said = String::new();
        log.read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1));
        assert!(said.contains("listen"), "{said}");
    }
}
