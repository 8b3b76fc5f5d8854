//! One address that takes all it can get, as a process of its own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, io};

use annulus_bench::Helper;
use annulus_bench::net::{KeepAlive, Transport, connect};
use annulus_bench::process::{LOAD_CPU, pinned, stop};
use annulus_bench::servers::RunningServer;
use annulus_bench::tls::client_config;
use annulus_bench::torrents::{CHECK_TORRENT, info_hash};
use anyhow::{Context, Result, bail};
use rustls::ClientConnection;

use crate::request;

/// Attacks as the arguments say (kind, address, seconds), and prints attempts and answered ones.
pub(crate) const HELPER: Helper = ("attack-from-one-address", |arguments| {
    let [name, to, seconds] = arguments else { bail!("three arguments are needed") };
    let attack = Attack::ALL.into_iter().find(|attack| attack.name() == name);
    let [made, answered] = attack.context("no such attack")?.run(to.parse()?, seconds.parse()?)?;
    println!("{made} {answered}");
    Ok(())
});

const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 4, 0, 1);

/// Threads with a connection each, and announces that are pipelined on one.
const THREADS: usize = 32;
const PIPELINED: usize = 50;

const RESPONSE_WAIT: Duration = Duration::from_secs(2);

/// What an attacker does, as fast as it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attack {
    /// Connects, announces once, and again.
    Connections,
    /// Pipelines announces, over connections that stay open if they may.
    Requests,
    /// Lets the tracker answer the first flight of a TLS handshake, and leaves.
    Handshakes,
    /// Announces by UDP without waiting for replies.
    Datagrams,
}

/// Requests or handshakes begun, and those of them that got more than a refusal.
pub(crate) type Attempts = [u64; 2];

/// A running attacker; dropping it stops it.
pub(crate) struct Attacker(Child);

impl Attacker {
    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Result<Attempts> {
        let printed = io::read_to_string(self.0.stdout.take().context("stdout is piped")?)?;
        let mut numbers = printed.split_whitespace().map_while(|number| number.parse().ok());
        let (made, answered) = numbers.next().zip(numbers.next()).context("the attacker failed")?;
        Ok([made, answered])
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        stop(&mut self.0);
    }
}

impl Attack {
    pub(crate) const ALL: [Attack; 4] =
        [Attack::Connections, Attack::Requests, Attack::Handshakes, Attack::Datagrams];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Attack::Connections => "connections",
            Attack::Requests => "requests",
            Attack::Handshakes => "handshakes",
            Attack::Datagrams => "datagrams",
        }
    }

    /// Starts an attacker for so many seconds.
    pub(crate) fn begin(self, tracker: &RunningServer, seconds: u64) -> Result<Attacker> {
        let is_tls = self == Attack::Handshakes;
        let transport = if is_tls { Transport::Tls } else { Transport::Plain };
        let to = tracker.endpoint(transport)?.address;
        let mut command = pinned(LOAD_CPU, "nice");
        command.args(["-n", "19"]).arg(env::current_exe()?);
        command.args([HELPER.0, self.name(), &to.to_string(), &seconds.to_string()]);
        Ok(Attacker(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?))
    }

    fn run(self, to: SocketAddr, seconds: u64) -> Result<Attempts> {
        let until = Instant::now() + Duration::from_secs(seconds);
        let (bytes, made) = match self {
            Attack::Datagrams => return Ok(flood(to, until)?),
            Attack::Connections => (request(KeepAlive::Close), 1),
            Attack::Requests => (request(KeepAlive::Keep).repeat(PIPELINED), PIPELINED as u64),
            Attack::Handshakes => (client_hello(to)?, 1),
        };
        let (all_made, all_answered) = (AtomicU64::new(0), AtomicU64::new(0));
        let work = || {
            let mut kept = None;
            while Instant::now() < until {
                // Resets are expected.
                let answered = self.attempt(to, &bytes, &mut kept).unwrap_or(0);
                all_made.fetch_add(made, Ordering::Relaxed);
                all_answered.fetch_add(answered, Ordering::Relaxed);
            }
        };
        thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(work))));
        Ok([all_made.into_inner(), all_answered.into_inner()])
    }

    /// Sends `bytes`, on `kept` if there is a connection, and leaves the connection there if it
    /// goes on. Returns how many requests were answered.
    fn attempt(
        self,
        to: SocketAddr,
        bytes: &[u8],
        kept: &mut Option<TcpStream>,
    ) -> io::Result<u64> {
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => {
                let socket = connect(SOURCE, to, RESPONSE_WAIT)?;
                // The end is a reset and leaves nothing behind on this side.
                socket.set_linger(Some(Duration::ZERO))?;
                socket.into()
            }
        };
        stream.write_all(bytes)?;
        let wanted = match self {
            Attack::Handshakes => return Ok(u64::from(stream.read(&mut [0; 4096])? > 0)),
            Attack::Requests => PIPELINED,
            Attack::Connections | Attack::Datagrams => 1,
        };
        let mut received = Vec::new();
        while count(&received, b"5:peers") < wanted {
            let mut space = [0; 16 * 1024];
            let got = stream.read(&mut space)?;
            received.extend_from_slice(&space[..got]);
            if got == 0 || count(&received, b"14:failure reason") > 0 {
                return Ok(count(&received, b"5:peers") as u64);
            }
        }
        if self == Attack::Requests {
            *kept = Some(stream);
        }
        Ok(wanted as u64)
    }
}

/// Announces by UDP (BEP 15) as fast as one thread can, whatever becomes of the replies.
fn flood(to: SocketAddr, until: Instant) -> io::Result<Attempts> {
    const BATCH: u64 = 32;
    let socket = UdpSocket::bind((SOURCE, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(RESPONSE_WAIT))?;
    socket.send(b"\x00\x00\x04\x17\x27\x10\x19\x80\x00\x00\x00\x00id? ")?;
    let mut reply = [0; 2048];
    socket.recv(&mut reply)?;
    socket.set_nonblocking(true)?;
    let mut request = [0; 98];
    request[..8].copy_from_slice(&reply[8..16]);
    // An announce of CHECK_TORRENT with 50 peers wanted, at port 6881.
    request[11] = 1;
    request[16..36].copy_from_slice(&info_hash(CHECK_TORRENT));
    request[71] = 1;
    request[95] = 50;
    request[96..].copy_from_slice(&6881_u16.to_be_bytes());
    let [mut made, mut answered] = [0, 0];
    while Instant::now() < until {
        for _ in 0..BATCH {
            made += u64::from(socket.send(&request).is_ok());
        }
        while socket.recv(&mut reply).is_ok() {
            answered += 1;
        }
    }
    Ok([made, answered])
}

pub(crate) fn client_hello(to: SocketAddr) -> Result<Vec<u8>> {
    let mut client = ClientConnection::new(client_config()?, to.ip().into())?;
    let mut hello = Vec::new();
    client.write_tls(&mut hello)?;
    Ok(hello)
}

fn count(haystack: &[u8], needle: &[u8]) -> usize {
    haystack.windows(needle.len()).filter(|window| *window == needle).count()
}
