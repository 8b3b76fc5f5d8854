//! The process that opens the files: which privileges it has, how it starts and how it ends.

use std::fs::{self, File};
use std::io::{ErrorKind, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};
use std::process::{Command, Stdio};

use rustix::cmsg_space;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags,
    SocketType, recvmsg, send, socketpair,
};

use super::place::{Layout, NOBODY, Place, TestSymlink, is_root};
use super::status::{NONE, Process, READS_ALL};
use crate::support::client::{fetch, get_request};
use crate::support::tracker::{ANNULUS, Engine, TIMEOUT, test_both_engines, wait_for};

test_both_engines!(
    has_one_capability,
    is_started_from_a_file_that_is_gone,
    ends_with_the_tracker,
    holds_nothing_of_it,
    is_not_stopped_by_signals_to_both,
    is_missed_when_it_is_gone,
    delays_nothing_when_it_hangs,
);

fn has_one_capability(engine: Engine) {
    if !is_root() {
        return;
    }
    let place = Place::start(engine, NOBODY);
    let broker = Process::broker_of(&place.tracker);
    for (key, value) in [
        ("Uid", "65534 65534 65534 65534"),
        ("Gid", "65534 65534 65534 65534"),
        ("Groups", ""),
        ("CapInh", NONE),
        ("CapPrm", READS_ALL),
        ("CapEff", READS_ALL),
        ("CapBnd", NONE),
        ("CapAmb", NONE),
        ("NoNewPrivs", "1"),
        ("Threads", "1"),
    ] {
        assert_eq!(broker.value(key), value, "{key}");
    }
    assert_has_only_its_channel(broker);
}

#[track_caller]
fn assert_has_only_its_channel(broker: Process) {
    let mut descriptors = broker.descriptors();
    descriptors.sort();
    let [standard @ .., channel] = &descriptors[..] else { panic!("none") };
    assert_eq!(standard, ["/dev/null"; 2]);
    assert!(channel.starts_with("socket:"), "{channel}");
}

/// After an update the program's file is another one, or none. And the tracker may have inherited
/// descriptors of its parent.
fn is_started_from_a_file_that_is_gone(engine: Engine) {
    if !is_root() {
        return;
    }
    let runner = "directory=$(mktemp -d); cp \"$1\" $directory/gone; exec 8<$directory/gone; \
                  rm -r $directory; shift; exec /proc/self/fd/8 \"$@\" 9</etc/passwd";
    let place = Place::start_as(engine, NOBODY, &["sh", "-c", runner, "sh"]);
    let tracker = Process::of(&place.tracker);
    assert!(tracker.link("exe").display().to_string().ends_with("gone (deleted)"));
    assert!(tracker.descriptors().contains(&"/etc/passwd".to_owned()));
    let broker = Process::broker_of(&place.tracker);
    assert_has_only_its_channel(broker);
    assert!(broker.command_line().starts_with("annulus --file-broker 65534 65534 true "));
    let renewed = place.files.renew(TestSymlink::Relative);
    place.reload();
    place.serves(&renewed, &[1]);
}

fn ends_with_the_tracker(engine: Engine) {
    if !is_root() {
        return;
    }
    for signal in ["TERM", "KILL"] {
        let mut place = Place::start(engine, NOBODY);
        let broker = Process::broker_of(&place.tracker);
        place.tracker.signal(signal);
        place.tracker.wait_exit();
        broker.is_gone();
    }
}

/// One that does not run, and so does not see the end of its channel, keeps no port.
fn holds_nothing_of_it(engine: Engine) {
    if !is_root() {
        return;
    }
    let mut place = Place::start(engine, NOBODY);
    let broker = Process::broker_of(&place.tracker);
    broker.signal("STOP");
    place.tracker.signal("TERM");
    wait_for("the end of the tracker", || (!place.tracker.is_running()).then_some(()));
    let bound = TcpListener::bind(place.tracker.v4);
    broker.signal("CONT");
    bound.expect("the port is free");
    place.tracker.wait_exit();
    broker.is_gone();
}

/// As a terminal and systemd send them.
fn is_not_stopped_by_signals_to_both(engine: Engine) {
    if !is_root() {
        return;
    }
    let place = Place::start(engine, NOBODY);
    let broker = Process::broker_of(&place.tracker);
    for signal in ["HUP", "USR1", "TERM", "INT", "PIPE"] {
        broker.signal(signal);
    }
    let renewed = place.files.renew(TestSymlink::Relative);
    place.reload();
    place.serves(&renewed, &[1]);
    assert_eq!(Process::broker_of(&place.tracker), broker);
}

fn is_missed_when_it_is_gone(engine: Engine) {
    if !is_root() {
        return;
    }
    let operations = format!("{NOBODY}[operations]\nlisten = [\"127.0.0.1:0\"]\n");
    let place = Place::start(engine, &operations);
    let first = place.first();
    place.tracker.assert_logged("operations on ");
    let get = |path: &str| {
        let log = place.tracker.log();
        let (_, address) = log.split_once("operations on ").unwrap();
        let address = address.lines().next().unwrap().parse().unwrap();
        String::from_utf8(fetch(address, get_request(path)).body).unwrap()
    };
    assert_eq!(get("/health"), "ok\n");
    assert!(get("/metrics").contains("\nannulus_reload_possible 1\n"));
    assert!(get("/stats.json").contains("\"reload_possible\":true"));
    let broker = Process::broker_of(&place.tracker);
    broker.signal("KILL");
    // Without being asked for anything; and the kernel keeps nothing of it.
    place.tracker.assert_logged("error: the file broker has ended (signal: 9 (SIGKILL))");
    assert!(!broker.exists());
    let health = get("/health");
    assert!(health.starts_with("ok\n") && health.contains("cannot be reloaded"), "{health}");
    assert!(get("/metrics").contains("\nannulus_reload_possible 0\n"));
    assert!(get("/stats.json").contains("\"reload_possible\":false"));
    assert!(get("/stats.json").contains("the file broker has ended: restart annulus"));
    place.serves(&first, &[1]);
    place.files.renew(TestSymlink::Relative);
    place.files.list(&[2]);
    let verdict = place.reload();
    for part in [
        "certificates kept: ",
        "live/key.pem: cannot be read: the file broker has ended",
        "(signal: 9 (SIGKILL)): restart annulus",
        "access list kept: ",
        "list.txt: cannot be read: the file broker has ended",
    ] {
        assert!(verdict.contains(part), "no {part:?} in {verdict}");
    }
    place.serves(&first, &[1]);
}

/// Some programs start others so: the kernel reports no end of a child then.
#[test]
fn is_missed_where_sigchld_is_ignored() {
    if !is_root() {
        return;
    }
    let place = Place::start_as(Engine::Epoll, NOBODY, &["env", "--ignore-signal=CHLD"]);
    Process::broker_of(&place.tracker).signal("KILL");
    let ended = "error: the file broker has ended (its exit status is unknown)";
    place.tracker.assert_logged(ended);
    place.serves(&place.first(), &[1]);
}

/// The tracker serves and ends during a reload.
fn delays_nothing_when_it_hangs(engine: Engine) {
    if !is_root() {
        return;
    }
    let name = format!("annulus-broker-{}-{}", engine.name(), std::process::id());
    let manager =
        UnixDatagram::bind_addr(&UnixAddress::from_abstract_name(&name).unwrap()).unwrap();
    manager.set_read_timeout(Some(TIMEOUT)).unwrap();
    let next_message = || {
        let mut message = [0; 1024];
        let length = loop {
            match manager.recv(&mut message) {
                // The wait has a time limit, and the process was stopped meanwhile (signal(7)).
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => break received.expect("a message"),
            }
        };
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let socket = format!("NOTIFY_SOCKET=@{name}");
    let mut place = Place::start_as(engine, NOBODY, &["env", &socket]);
    assert!(next_message().starts_with("READY=1"));
    let first = place.first();
    let broker = Process::broker_of(&place.tracker);
    broker.signal("STOP");
    place.tracker.signal("HUP");
    assert!(next_message().starts_with("RELOADING=1"));
    place.serves(&first, &[1]);
    place.tracker.signal("TERM");
    let (status, log) = place.tracker.wait_exit();
    assert!(status.success() && log.ends_with("stopped"), "{log}");
    // The broker's timeout was not over.
    assert!(!log.contains("was not opened within"), "{log}");
    assert!(next_message().starts_with("STOPPING=1"));
    broker.signal("CONT");
    broker.is_gone();
}

/// The timeout is for all files together, and a late response is not taken for that to the next
/// request.
#[test]
fn a_late_response_is_dropped() {
    if !is_root() {
        return;
    }
    let place = Place::start(Engine::Epoll, NOBODY);
    let first = place.first();
    let broker = Process::broker_of(&place.tracker);
    broker.signal("STOP");
    let verdict = place.reload();
    for part in ["certificates kept: ", "live/chain.pem: ", "live/key.pem: ", "access list kept: "]
    {
        let is_late = |line: &str| line.contains(part) && line.contains("it was not opened within");
        assert!(verdict.lines().any(is_late), "{part}: {verdict}");
    }
    place.serves(&first, &[1]);
    broker.signal("CONT");
    let renewed = place.files.renew(TestSymlink::Relative);
    place.files.list(&[2]);
    let verdict = place.reload();
    assert!(verdict.contains("certificates reloaded"), "{verdict}");
    place.serves(&renewed, &[2]);
}

/// A message from a broker: its bytes, and what is in the file that came with it.
fn receive(channel: &OwnedFd) -> (Vec<u8>, Option<String>) {
    let mut bytes = [0; 1024];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(channel, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let file = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    let text = file.map(|file| {
        let mut text = String::new();
        File::from(file).read_to_string(&mut text).unwrap();
        text
    });
    (bytes[..received.bytes].to_vec(), text)
}

/// Asked by a tracker that an attacker has taken over.
#[test]
fn opens_only_files_of_its_list() {
    if !is_root() {
        return;
    }
    let files = Layout::new();
    let (list, missing) = (files.path("list.txt"), files.path("none"));
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let mut broker = Command::new(ANNULUS)
        .args(["--file-broker", "65534", "65534", "true"])
        .args([&list, &missing, files.directory()])
        .stdin(theirs)
        .spawn()
        .unwrap();
    assert_eq!(receive(&ours), (b"ready".to_vec(), None));
    let message = |number: u32, other: u32| [number.to_ne_bytes(), other.to_ne_bytes()].concat();
    let content = || Some(fs::read_to_string(&list).unwrap());
    let (not_a_file, einval) = (0, 22);
    for (number, index, errno, text) in [
        (7, 0, 0, content()),
        (8, 1, 2, None),
        (9, 2, not_a_file, None),
        (10, 3, einval, None),
        (11, u32::MAX, einval, None),
        (u32::MAX, 0, 0, content()),
    ] {
        send(&ours, &message(number, index), SendFlags::empty()).unwrap();
        assert_eq!(receive(&ours), (message(number, errno), text), "{number}");
    }
    // A malformed request ends it.
    send(&ours, b"/etc/passwd", SendFlags::empty()).unwrap();
    assert_eq!(receive(&ours), (Vec::new(), None));
    assert!(broker.wait().unwrap().success());
}

#[test]
fn is_not_for_the_command_line() {
    for arguments in [&["--file-broker"][..], &["--file-broker", "1", "1", "true", "/etc/passwd"]] {
        let output = Command::new(ANNULUS).args(arguments).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(said, "annulus: --file-broker is how annulus starts itself to read files\n");
    }
}
