//! What an idle connection keeps of the server's own memory, plain and over TLS. The kernel's part
//! of a connection is not in it.

use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::net::{BenchClient, KeepAlive, Transport, check};
use crate::servers::{RunningServer, ServerKind, Setup};
use crate::stats;
use crate::torrents::{CHECK_TORRENT, announce};

/// Connections, all open at the same time. Each has made one announce.
const CONNECTIONS: u32 = 10_000;

/// Source addresses, all of the loopback network: a tracker may bound what one opens.
const SOURCES: u32 = 200;

/// Time in which a server's memory has to stop changing, and between two looks at it.
const SETTLE_WAIT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// What a connection of a server keeps resident, bytes, plain and over TLS.
pub struct Idle {
    pub server: String,
    pub bytes: [Result<f64>; 2],
}

pub fn measure_all(servers: &[ServerKind]) -> Vec<Idle> {
    let servers = servers.iter().filter(|it| it.serves(KeepAlive::Keep, Transport::Tls));
    let measure = |server: &ServerKind| {
        eprintln!("idle, {}", server.name());
        let bytes = Transport::ALL.map(|transport| measure(*server, transport));
        Idle { server: server.name().to_owned(), bytes }
    };
    servers.map(measure).collect()
}

pub fn table(all: &[Idle]) -> String {
    let lines = all.iter().map(|idle| {
        let cells = idle.bytes.iter().map(|bytes| match bytes {
            Ok(bytes) => format!("{bytes:.0}"),
            Err(error) => format!("{error:#}"),
        });
        [idle.server.clone()].into_iter().chain(cells).collect()
    });
    let titles = ["bytes/plain connection", "bytes/TLS connection"];
    stats::table(&[&format!("server, {CONNECTIONS} open"), titles[0], titles[1]], lines)
}

fn measure(server: ServerKind, transport: Transport) -> Result<f64> {
    let setup = Setup { tls: true, ..Setup::plain(KeepAlive::Keep, 0) };
    let running = server.start(&setup)?;
    let at = running.endpoint(transport)?;
    // The code that a first connection needs is resident then.
    check(server, at, KeepAlive::Keep)?;
    let before = settled_bytes(&running)?;
    // Always of the same peer of a source, so that the swarm does not grow with the connections.
    let request = announce(CHECK_TORRENT, 0, "port=6881&left=201000&numwant=1", "");
    let mut sockets = Vec::with_capacity(CONNECTIONS as usize);
    for number in 0..CONNECTIONS {
        let source = Ipv4Addr::new(127, 2, 0, 1 + (number % SOURCES) as u8);
        let mut client = BenchClient::connect(source, at)?;
        client.send(request.as_bytes())?;
        client.receive_peers()?;
        sockets.push(client.into_socket());
    }
    let after = settled_bytes(&running)?;
    sockets.iter().try_for_each(check_open)?;
    Ok(after.saturating_sub(before) as f64 / f64::from(CONNECTIONS))
}

/// The server's resident bytes as soon as they are the same twice.
fn settled_bytes(running: &RunningServer) -> Result<u64> {
    let started = Instant::now();
    let mut bytes = running.resident_bytes()?;
    while started.elapsed() < SETTLE_WAIT {
        sleep(POLL_INTERVAL);
        let now = running.resident_bytes()?;
        if now == bytes {
            return Ok(bytes);
        }
        bytes = now;
    }
    bail!("its memory keeps changing")
}

fn check_open(socket: &TcpStream) -> Result<()> {
    socket.set_nonblocking(true)?;
    match socket.peek(&mut [0]) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => bail!("an idle connection was ended"),
    }
}
