//! Thousands of connections in one moment, and how long a client waits meanwhile that was there
//! before.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::attacker::{announce, hello};
use crate::client::Client;
use crate::endpoint::{Endpoint, Transport};
use crate::process::stop;
use crate::{Tracker, raise_descriptors};

/// The argument with which only this is measured.
pub(crate) const BURST: &str = "burst";

/// Connections that come at once: less than the kernel lets wait (`net.core.somaxconn`).
const CONNECTIONS: usize = 4000;
const ROUNDS: usize = 5;

/// Time for which the client goes on to ask after the burst, one request after the other.
const ASKING: Duration = Duration::from_millis(700);

/// Where they come from.
const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 5, 0, 1);

/// Measures every engine, with TLS and without, and prints a table.
///
/// # Errors
///
/// If a tracker cannot be started, or somebody was not answered.
pub(crate) fn measure_bursts() -> io::Result<()> {
    raise_descriptors(3 * CONNECTIONS as u32)?;
    println!(
        "- {CONNECTIONS} connections at once, {ROUNDS} rounds; a kept client asks meanwhile\n"
    );
    println!("| engine | transport | kept client's longest wait, ms: each round | worst |");
    println!("|---|---|---|---|");
    for engine in ["io_uring", "epoll"] {
        for transport in Transport::ALL {
            let mut waits = Vec::new();
            for _ in 0..ROUNDS {
                waits.push(measure(engine, transport)?);
            }
            let ms = |wait: &Duration| format!("{:.1}", wait.as_secs_f64() * 1000.0);
            let each: Vec<String> = waits.iter().map(ms).collect();
            let worst = waits.iter().max().map(ms).unwrap_or_default();
            println!("| {engine} | {transport} | {} | {worst} |", each.join(" "));
        }
    }
    Ok(())
}

/// One burst; how long the client that was there before waited at most.
fn measure(engine: &str, transport: Transport) -> io::Result<Duration> {
    let mut tracker = Tracker::start_on(engine, "")?;
    let address = match transport {
        Transport::Plain => tracker.plain,
        Transport::Tls => tracker.secured,
    };
    let mut kept = Client::connect(Ipv4Addr::LOCALHOST, Endpoint { address, transport })?;
    let request = announce(address, "");
    let mut ask = |after: &mut dyn FnMut() -> io::Result<()>| {
        let begun = Instant::now();
        kept.send(&request)?;
        after()?;
        if !kept.receive()?.is_peer_list() {
            return Err(io::Error::other("the kept client was not served"));
        }
        Ok(begun.elapsed())
    };
    ask(&mut || Ok(()))?;
    let first = match transport {
        Transport::Plain => announce(address, "Connection: close\r\n"),
        Transport::Tls => hello(address)?,
    };
    // Until they have spoken, the kernel keeps them from the tracker (TCP_DEFER_ACCEPT).
    let burst: io::Result<Vec<TcpStream>> = (0..CONNECTIONS)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            socket.bind(&SocketAddrV4::new(SOURCE, 0).into())?;
            socket.set_linger(Some(Duration::ZERO))?;
            socket.set_read_timeout(Some(Duration::from_secs(20)))?;
            socket.connect(&address.into())?;
            Ok(socket.into())
        })
        .collect();
    let mut burst = burst?;
    signal(&tracker, "-STOP")?;
    for stream in &mut burst {
        stream.write_all(&first)?;
    }
    // The signal's own time counts as waiting.
    let mut longest = ask(&mut || signal(&tracker, "-CONT"))?;
    let begun = Instant::now();
    while begun.elapsed() < ASKING {
        longest = longest.max(ask(&mut || Ok(()))?);
    }
    for stream in &mut burst {
        if stream.read(&mut [0; 1])? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    stop(&mut tracker.child);
    Ok(longest)
}

fn signal(tracker: &Tracker, signal: &str) -> io::Result<()> {
    let pid = tracker.child.id().to_string();
    let sent = Command::new("kill").args([signal, &pid]).status()?;
    if sent.success() { Ok(()) } else { Err(io::Error::other("kill")) }
}
