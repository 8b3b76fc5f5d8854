//! One address that wants it all, as a process of its own.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::ClientConnection;
use socket2::{Domain, Protocol, Socket, Type};

use crate::process::{LOAD_CPU, pinned, stop};
use crate::tls::client_configuration;

/// The argument with which this executable attacks.
pub(crate) const ATTACK: &str = "attack-from-one-address";

/// The address.
const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 4, 0, 1);

/// Connections that it works with at a time.
const THREADS: usize = 32;

/// Announces that are sent at once where they are not sent singly.
const PIPELINE: usize = 50;

/// Time to wait for an answer.
const WAIT: Duration = Duration::from_secs(2);

/// What an attacker does, as fast as it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attack {
    /// Connects, announces once, and again.
    Connections,
    /// Announces by the dozen, over connections that stay open if they may.
    Requests,
    /// Has the tracker answer the first step of a TLS handshake, and leaves.
    Handshakes,
}

/// What an attacker got.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spoils {
    /// Requests or handshakes begun.
    pub(crate) attempts: u64,
    /// Those of them that got more than a refusal.
    pub(crate) answered: u64,
}

impl Spoils {
    pub(crate) fn add(&mut self, other: Spoils) {
        self.attempts += other.attempts;
        self.answered += other.answered;
    }
}

/// A running attacker.
pub(crate) struct Attacker(Child);

impl Attacker {
    /// Waits for its end; what it got.
    ///
    /// # Errors
    ///
    /// If it failed.
    pub(crate) fn spoils(mut self) -> io::Result<Spoils> {
        let mut said = String::new();
        if let Some(stdout) = &mut self.0.stdout {
            stdout.read_to_string(&mut said)?;
        }
        let mut numbers = said.split_whitespace().map_while(|number| number.parse().ok());
        match (numbers.next(), numbers.next()) {
            (Some(attempts), Some(answered)) => Ok(Spoils { attempts, answered }),
            _ => Err(io::Error::other("the attacker failed")),
        }
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        stop(&mut self.0);
    }
}

impl Attack {
    pub(crate) const ALL: [Attack; 3] = [Attack::Connections, Attack::Requests, Attack::Handshakes];

    /// As the table has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Attack::Connections => "connections",
            Attack::Requests => "requests",
            Attack::Handshakes => "handshakes",
        }
    }

    /// Starts an attacker for so many seconds.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub(crate) fn begin(
        self,
        plain: SocketAddr,
        secured: SocketAddr,
        seconds: u64,
    ) -> io::Result<Attacker> {
        let to = if self == Attack::Handshakes { secured } else { plain };
        let mut command: Command = pinned(LOAD_CPU, "nice");
        command.args(["-n", "19"]).arg(std::env::current_exe()?);
        command.args([ATTACK, self.name(), &to.to_string(), &seconds.to_string()]);
        Ok(Attacker(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?))
    }

    /// One attempt, or a dozen, on `connection` if there is one, which is left there if it goes
    /// on.
    fn attempt(
        self,
        to: SocketAddr,
        bytes: &[u8],
        connection: &mut Option<TcpStream>,
    ) -> io::Result<Spoils> {
        let mut stream = match connection.take() {
            Some(stream) => stream,
            None => connect(to)?,
        };
        stream.write_all(bytes)?;
        if self == Attack::Handshakes {
            let got = stream.read(&mut [0; 4096])?;
            return Ok(Spoils { attempts: 0, answered: u64::from(got > 0) });
        }
        let wanted = if self == Attack::Requests { PIPELINE } else { 1 };
        let mut received = Vec::new();
        while count(&received, b"5:peers") < wanted {
            let mut space = [0; 16 * 1024];
            let got = stream.read(&mut space)?;
            received.extend_from_slice(&space[..got]);
            if got == 0 || count(&received, b"14:failure reason") > 0 {
                let answered = count(&received, b"5:peers") as u64;
                return Ok(Spoils { attempts: 0, answered });
            }
        }
        if self == Attack::Requests {
            *connection = Some(stream);
        }
        Ok(Spoils { attempts: 0, answered: wanted as u64 })
    }
}

/// Attacks as the arguments say, and prints what it got.
///
/// # Errors
///
/// If the arguments are wrong or there is no certificate.
pub(crate) fn attack(arguments: &[String]) -> io::Result<()> {
    let [name, to, seconds] = arguments else { return Err(ErrorKind::InvalidInput.into()) };
    let attack = Attack::ALL.into_iter().find(|attack| attack.name() == name);
    let attack = attack.ok_or(ErrorKind::InvalidInput)?;
    let to: SocketAddr = to.parse().map_err(io::Error::other)?;
    let seconds = seconds.parse().map_err(io::Error::other)?;
    let until = Instant::now() + Duration::from_secs(seconds);
    let (bytes, attempts) = match attack {
        Attack::Connections => (announce(to, "Connection: close\r\n"), 1),
        Attack::Requests => (announce(to, "").repeat(PIPELINE), PIPELINE as u64),
        Attack::Handshakes => (hello(to)?, 1),
    };
    let bytes = Arc::new(bytes);
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let bytes = Arc::clone(&bytes);
            thread::spawn(move || {
                let mut spoils = Spoils::default();
                let mut connection = None;
                while Instant::now() < until {
                    spoils.attempts += attempts;
                    // A reset is what it expects.
                    spoils.add(attack.attempt(to, &bytes, &mut connection).unwrap_or_default());
                }
                spoils
            })
        })
        .collect();
    let mut all = Spoils::default();
    for thread in threads {
        all.add(thread.join().map_err(|_| io::Error::other("a thread panicked"))?);
    }
    println!("{} {}", all.attempts, all.answered);
    Ok(())
}

/// An announce, always of the same torrent.
pub(crate) fn announce(to: SocketAddr, lines: &str) -> Vec<u8> {
    format!(
        "GET /announce?info_hash=%124Vx%9A%BC%DE%F1%23Eg%89%AB%CD%EF%124Vx%9A\
         &peer_id=-LT2080-wSbE0(NH6881&port=6881&uploaded=0&downloaded=0&left=201000&numwant=50\
         &compact=1 HTTP/1.1\r\nHost: {to}\r\nUser-Agent: attack\r\n{lines}\r\n"
    )
    .into_bytes()
}

/// The first record of a client.
pub(crate) fn hello(to: SocketAddr) -> io::Result<Vec<u8>> {
    let client = ClientConnection::new(client_configuration()?, to.ip().into());
    let mut hello = Vec::new();
    client.map_err(io::Error::other)?.write_tls(&mut hello)?;
    Ok(hello)
}

/// Connects, so that the end is a reset and leaves nothing behind on this side.
fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddrV4::new(SOURCE, 0).into())?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_read_timeout(Some(WAIT))?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

fn count(haystack: &[u8], needle: &[u8]) -> usize {
    haystack.windows(needle.len()).filter(|window| *window == needle).count()
}
