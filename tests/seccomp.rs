//! Containers refuse io_uring: the default seccomp profiles of Docker and containerd return EPERM
//! for its three system calls, sandboxes such as gVisor ENOSYS. The tracker must then use epoll and
//! log the reason, or refuse to start if io_uring is configured.

use std::env::temp_dir;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::tracker::{ANNULUS, Tracker};

const LISTEN: &str = "listen = [\"127.0.0.1:0\"]\nworkers = 1\n";

/// The tracker's command, run under a filter that fails every io_uring system call with `errno`.
fn refused(errno: i32) -> Command {
    let mut command = Command::new(ANNULUS);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    // SAFETY: between fork and exec only async-signal-safe calls may be made.
    // `install_filter` makes two system calls and allocates nothing.
    unsafe {
        command.pre_exec(move || install_filter(errno));
    }
    command
}

/// Installs the filter for this thread and the program that it executes.
fn install_filter(errno: i32) -> std::io::Result<()> {
    let statement = |code: u32, k: u32| instruction(code, 0, 0, k);
    // `offset` skips the comparisons between this one and the last instruction.
    let refuse = |call: libc::c_long, offset: u8| {
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, offset, 0, call as u32)
    };
    let mut filter = [
        // The first field of `struct seccomp_data` is the number of the system call. The
        // architecture is not checked: the numbers of io_uring are the same on all.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        refuse(libc::SYS_io_uring_setup, 3),
        refuse(libc::SYS_io_uring_enter, 2),
        refuse(libc::SYS_io_uring_register, 1),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
    // SAFETY: `program` points to `filter`, both live until the calls return, and the
    // kernel copies them. Without "no new privileges" only root could install a filter.
    let failed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program, 0, 0) != 0
    };
    if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// Announces a peer at `port` and returns the whole answer, head and body.
fn announce(tracker: SocketAddr, port: u16) -> Vec<u8> {
    let mut stream = TcpStream::connect(tracker).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let request = format!(
        "GET /announce?info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=-XX0000-aaaaaaaaaaaa&port={port}\
         &uploaded=0&downloaded=0&left=1&compact=1&event=started HTTP/1.1\r\n\
         Host: {tracker}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("the request goes out");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer and an end");
    answer
}

/// Starts the tracker under the filter, and asserts that it uses epoll and logs one of `reasons`.
fn serves_by_epoll(errno: i32, reasons: &[&str]) {
    let mut tracker = Tracker::spawn(refused(errno), &temp_dir(), LISTEN);
    tracker.wait_ready(1).expect("the tracker starts");
    tracker.assert_logged("engine epoll");
    let line = tracker.log_line("engine epoll").to_lowercase();
    assert!(reasons.iter().any(|reason| line.contains(reason)), "no reason in {line:?}");

    let address = tracker.v4;
    announce(address, 51_001);
    let answer = announce(address, 51_002);
    let text = answer.escape_ascii();
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{text}");
    // 51001 is 0xc739: the peer of the first announce, in BEP 23's form.
    let peers = b"5:peers6:\x7f\x00\x00\x01\xc7\x39";
    assert!(answer.windows(peers.len()).any(|window| window == peers), "{text}");
}

#[test]
fn serves_by_epoll_where_io_uring_is_forbidden() {
    serves_by_epoll(libc::EPERM, &["seccomp", "eperm", "not permitted"]);
}

#[test]
fn serves_by_epoll_where_io_uring_does_not_exist() {
    serves_by_epoll(libc::ENOSYS, &["enosys", "not implemented", "no io_uring"]);
}

#[test]
fn does_not_start_where_io_uring_is_demanded_and_forbidden() {
    let config = format!("{LISTEN}engine = \"io_uring\"\n");
    let mut tracker = Tracker::spawn(refused(libc::EPERM), &temp_dir(), &config);
    let (status, log) = tracker.wait_exit();
    assert_eq!(status.code(), Some(1), "{log}");
    let report = log.to_lowercase();
    let reasons = ["seccomp", "eperm", "not permitted"];
    assert!(reasons.iter().any(|reason| report.contains(reason)), "no reason: {report}");
}
