//! What an idle connection keeps of the server's own memory, plain and over TLS. The kernel's
//! part of a connection is not in it.

use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::check::check;
use crate::client::Client;
use crate::endpoint::{Endpoint, Transport};
use crate::floor::Connections;
use crate::servers::{Running, Server, Setup};
use crate::torrents::{CHECK_TORRENT, escaped, info_hash};

/// Connections, all open at the same time. Each has made one announce.
const CONNECTIONS: u32 = 10_000;

/// Source addresses, all of them of the loopback network: a tracker may bound what one opens.
const SOURCES: u32 = 200;

/// Threads that open connections: they overlap their waiting.
const THREADS: u32 = 32;

/// Time after which opening them is given up.
const OPEN_WAIT: Duration = Duration::from_secs(60);

/// Time between two looks at a server's memory.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Time in which a server's memory has to stop changing.
const SETTLE_WAIT: Duration = Duration::from_secs(5);

const _: () = assert!(SOURCES < 255);

/// What one connection keeps resident, bytes, plain and over TLS; or why it is not known.
#[derive(Debug)]
pub(crate) struct Idle {
    plain: Result<f64, String>,
    tls: Result<f64, String>,
}

impl Idle {
    /// Opens the connections to a server just started, first plain ones, then, after another
    /// start, those over TLS.
    pub(crate) fn measure(server: Server) -> Idle {
        let [plain, tls] = Transport::ALL
            .map(|transport| grow(server, transport).map_err(|error| error.to_string()));
        Idle { plain, tls }
    }

    /// Whether both are known.
    pub(crate) fn is_known(&self) -> bool {
        self.plain.is_ok() && self.tls.is_ok()
    }
}

/// Prints all servers' memory.
pub(crate) fn print(all: &[(Server, Idle)]) {
    println!("\n### memory of an idle connection: {CONNECTIONS} open\n");
    println!("| server | bytes/plain connection | bytes/TLS connection |");
    println!("|---|---|---|");
    for (server, idle) in all {
        let [plain, tls] = [&idle.plain, &idle.tls].map(|bytes| match bytes {
            Ok(bytes) => format!("{bytes:.0}"),
            Err(why) => why.clone(),
        });
        println!("| {} | {plain} | {tls} |", server.name());
    }
    println!(
        "\nResident memory of the server's processes only: the kernel's part of each connection \
         comes on top."
    );
}

/// Starts the server and returns by how many bytes it grows for each connection.
fn grow(server: Server, transport: Transport) -> io::Result<f64> {
    let connections = Connections::Keep;
    let running = server.start(Setup::both(connections, 0))?;
    let at = running.endpoint(transport)?;
    // So that the code of a first connection is resident before.
    check(server, at, connections)?;
    let before = settled_bytes(&running)?;
    let started = Instant::now();
    let openers: Vec<_> =
        (0..THREADS).map(|first| thread::spawn(move || open_some(at, first, started))).collect();
    let mut sockets = Vec::with_capacity(CONNECTIONS as usize);
    for opener in openers {
        sockets.extend(opener.join().map_err(|_| io::Error::other("the load panicked"))??);
    }
    let after = settled_bytes(&running)?;
    sockets.iter().try_for_each(is_still_open)?;
    Ok(after.saturating_sub(before) as f64 / f64::from(CONNECTIONS))
}

/// Opens one thread's share of the connections.
fn open_some(at: Endpoint, first: u32, started: Instant) -> io::Result<Vec<TcpStream>> {
    let mut sockets = Vec::new();
    for number in (first..CONNECTIONS).step_by(THREADS as usize) {
        if started.elapsed() > OPEN_WAIT {
            return Err(io::ErrorKind::TimedOut.into());
        }
        sockets.push(open(at, Ipv4Addr::new(127, 2, 0, 1 + (number % SOURCES) as u8))?);
    }
    Ok(sockets)
}

/// Opens one connection and makes its announce: always of the same peer of a source, so that
/// the swarm does not grow with the connections.
fn open(at: Endpoint, source: Ipv4Addr) -> io::Result<TcpStream> {
    let mut client = Client::connect(source, at)?;
    let info_hash = escaped(&info_hash(CHECK_TORRENT));
    client.send(
        format!(
            "GET /announce?info_hash={info_hash}&peer_id=-LT2080-wSbE0(NH6881&port=6881\
             &uploaded=0&downloaded=0&left=201000&numwant=1&compact=1 HTTP/1.1\r\n\
             Host: {}\r\n\r\n",
            at.address
        )
        .as_bytes(),
    )?;
    if client.receive()?.is_peer_list() {
        return Ok(client.into_socket());
    }
    Err(io::Error::other("not a peer list"))
}

/// The server's resident bytes as soon as they are the same twice.
fn settled_bytes(running: &Running) -> io::Result<u64> {
    let started = Instant::now();
    let mut bytes = running.resident_bytes()?;
    while started.elapsed() < SETTLE_WAIT {
        sleep(LOOK_INTERVAL);
        let now = running.resident_bytes()?;
        if now == bytes {
            return Ok(bytes);
        }
        bytes = now;
    }
    Err(io::Error::other("its memory keeps changing"))
}

fn is_still_open(socket: &TcpStream) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    match socket.peek(&mut [0]) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::other("an idle connection was ended")),
    }
}
