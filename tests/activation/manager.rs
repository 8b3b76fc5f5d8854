//! What systemd does to start a service.

use std::env::temp_dir;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use crate::support::tracker::{Engine, TIMEOUT, Tracker};

/// Passes its standard input and output as descriptors 3 and 4. The shell executes the program, so
/// its process id is that in LISTEN_PID.
const PASS: &str = "exec 3<&0 4>&1 </dev/null >/dev/null; export LISTEN_PID=$$; \
                    [ \"$WATCHDOG_PID\" != own ] || export WATCHDOG_PID=$$; exec \"$@\"";

/// Other tests may have the ports of passed sockets for UDP.
pub(crate) const WITHOUT_UDP: &str = "udp.listen = []\n";

/// A service and its sockets.
pub(crate) struct Service {
    pub(crate) config: String,
    /// At most two.
    pub(crate) sockets: Vec<OwnedFd>,
    /// Further environment: `NAME=value`.
    pub(crate) environment: Vec<String>,
}

impl Service {
    /// A service of two workers that listen on these addresses, without UDP, with these sockets.
    pub(crate) fn new(engine: Engine, listen: &[SocketAddr], sockets: Vec<OwnedFd>) -> Service {
        let listen: Vec<String> = listen.iter().map(|address| format!("\"{address}\"")).collect();
        let (listen, engine) = (listen.join(", "), engine.name());
        let config =
            format!("listen = [{listen}]\nengine = \"{engine}\"\nworkers = 2\n{WITHOUT_UDP}");
        Service { config, sockets, environment: Vec::new() }
    }

    /// Starts the program without waiting for it: it may fail.
    pub(crate) fn launch(&self) -> Tracker {
        let socket = |at: usize| {
            let socket = self.sockets.get(at).map(|socket| socket.try_clone().unwrap());
            socket.map_or(Stdio::null(), Stdio::from)
        };
        let mut command = Command::new("env");
        command.args([
            format!("LISTEN_FDS={}", self.sockets.len()),
            "LISTEN_FDNAMES=first.socket:second.socket".to_owned(),
        ]);
        command.args(&self.environment).args(["sh", "-c", PASS, "sh"]);
        command.arg(env!("CARGO_BIN_EXE_annulus")).stdin(socket(0)).stdout(socket(1));
        Tracker::spawn(command, &temp_dir(), &self.config)
    }

    /// Starts it, and waits until it listens on this number of addresses.
    #[track_caller]
    pub(crate) fn start(&self, addresses: usize) -> Tracker {
        let tracker = self.launch();
        if let Err(log) = tracker.wait_listening("", addresses) {
            panic!("it did not start:\n{log}");
        }
        tracker
    }

    /// Asserts that it does not start, and logs a line with all of `parts`.
    #[track_caller]
    pub(crate) fn refused(&self, parts: &[&str]) {
        let (status, log) = self.launch().wait_exit();
        assert_eq!(status.code(), Some(1), "{log}");
        let line = log.lines().last().unwrap_or_default();
        assert!(parts.iter().all(|part| line.contains(part)), "not all of {parts:?}:\n{log}");
    }
}

/// A listening socket, and its address.
pub(crate) fn socket() -> (OwnedFd, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener.into(), address)
}

/// Announces on a new connection; returns the error if there is no response.
pub(crate) fn announce(to: SocketAddr) -> Result<(), String> {
    announce_as(to, "aaaaaaaaaaaaaaaaaaaa", 51001)
}

/// The same, for the torrent of this info hash, which is percent-encoded, and with this port.
pub(crate) fn announce_as(to: SocketAddr, info_hash: &str, port: u16) -> Result<(), String> {
    let mut stream =
        TcpStream::connect_timeout(&to, TIMEOUT).map_err(|error| format!("connecting: {error}"))?;
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let request = format!(
        "GET /announce?info_hash={info_hash}&peer_id=-XX0000-aaaaaaaaaaaa&port={port}&left=1 \
         HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).map_err(|error| format!("writing: {error}"))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|error| format!("reading: {error}"))?;
    let whole = answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(b"e");
    if whole { Ok(()) } else { Err(format!("answered \"{}\"", answer.escape_ascii())) }
}
