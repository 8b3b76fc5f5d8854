//! A Redis server of a test's own, on an address or in a network namespace of its own, and a client
//! that speaks its protocol (RESP 2).

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use super::authority::{Authority, KeyKind};
use super::requirements::{TempDir, can_run, missing_programs};
use super::tracker::{TIMEOUT, wait_for};

/// The program, as an item for [`super::requirements::missing_programs`].
pub(crate) const REDIS: &str = "redis-server";

/// Whether a test of this name can start it.
pub(crate) fn has_redis(test: &str) -> bool {
    can_run(test, &missing_programs(&[REDIS]))
}

/// Its ports, below the kernel's ephemeral ones and not those of a Redis of the machine's own.
const PORT: u16 = 6390;
const TLS_PORT: u16 = 6391;

/// A running server; it is killed when the value is dropped. It keeps nothing on disk.
pub(crate) struct RedisServer {
    child: Option<Child>,
    runner: Vec<String>,
    scratch: TempDir,
    ip: Ipv4Addr,
    port: u16,
}

impl RedisServer {
    /// Starts a server on an address of its own; `lines` are added to its configuration file.
    #[track_caller]
    pub(crate) fn start(lines: &str) -> RedisServer {
        RedisServer::start_at(RedisServer::own_ip(), &[], lines)
    }

    /// An address of this machine that no other process uses, so that its ports are free.
    pub(crate) fn own_ip() -> Ipv4Addr {
        static COUNT: AtomicU8 = AtomicU8::new(1);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let [.., high, low] = process::id().to_be_bytes();
        Ipv4Addr::new(127, 1 + high % 250, low, count)
    }

    /// Starts a server on this address, run by the program `runner` unless that is empty.
    #[track_caller]
    pub(crate) fn start_at(ip: Ipv4Addr, runner: &[String], lines: &str) -> RedisServer {
        RedisServer::start_on(SocketAddrV4::new(ip, PORT), runner, lines)
    }

    /// The same with a port other than the usual one.
    #[track_caller]
    pub(crate) fn start_on(at: SocketAddrV4, runner: &[String], lines: &str) -> RedisServer {
        let (ip, port) = (at.ip(), at.port());
        let lines = format!(
            "bind {ip}\nport {port}\nsave \"\"\nappendonly no\nprotected-mode no\n{lines}\n"
        );
        RedisServer::start_configured(at, runner, &lines)
    }

    /// Starts a server with this configuration file, to which only a directory and a Unix socket
    /// are added. It must listen on the address.
    #[track_caller]
    pub(crate) fn start_configured(
        at: SocketAddrV4,
        runner: &[String],
        config: &str,
    ) -> RedisServer {
        let scratch = TempDir::new("redis");
        let directory = scratch.path().display();
        let config = format!(
            "{config}\nunixsocket {directory}/socket\nunixsocketperm 777\ndir {directory}\n"
        );
        fs::write(scratch.path().join("redis.conf"), config).unwrap();
        let (ip, port) = (*at.ip(), at.port());
        let mut server = RedisServer { child: None, runner: runner.to_vec(), scratch, ip, port };
        server.start_again();
        server
    }

    /// The lines that make a server listen with TLS too, by a certificate for this name and the
    /// authority's addresses.
    pub(crate) fn tls_lines(authority: &Authority, name: &str) -> String {
        authority.issue(name, KeyKind::P256);
        let [chain, key] = ["pem", "key"].map(|end| authority.path(&format!("{name}.{end}")));
        let root = authority.root();
        format!(
            "tls-port {TLS_PORT}\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\n\
             tls-auth-clients no\n",
            chain.display(),
            key.display(),
            root.display()
        )
    }

    /// Starts it again, on the same addresses, after [`Self::stop`] or [`Self::kill`].
    #[track_caller]
    pub(crate) fn start_again(&mut self) {
        assert!(self.child.is_none(), "it is running");
        let _ = fs::remove_file(self.socket());
        let config = self.scratch.path().join("redis.conf");
        let log = self.scratch.path().join("log");
        let log = File::options().create(true).append(true).open(log).unwrap();
        let words: Vec<&str> = self.runner.iter().map(String::as_str).chain([REDIS]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(config).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        wait_for("the Redis server", || {
            let exit = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(exit.is_none(), "redis-server has ended:\n{}", self.log());
            UnixStream::connect(self.socket()).ok()
        });
    }

    /// Stops it by SIGTERM and waits for its end.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        self.signal("TERM");
        let mut child = self.child.take().unwrap();
        wait_for("the end of the Redis server", || child.try_wait().unwrap());
    }

    /// Kills it by SIGKILL.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("it is running");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends the signal of this name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(sent.success(), "kill -s {name}");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it is running").id()
    }

    /// Its address without TLS.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip.into(), self.port)
    }

    /// Its address with TLS, with [`Self::tls_lines`].
    pub(crate) fn tls_address(&self) -> SocketAddr {
        SocketAddr::new(self.ip.into(), TLS_PORT)
    }

    /// Its Unix socket, which anybody may use.
    pub(crate) fn socket(&self) -> PathBuf {
        self.scratch.path().join("socket")
    }

    /// What `server` of `[cluster]` is for it.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// A client, connected through the Unix socket.
    #[track_caller]
    pub(crate) fn client(&self) -> RedisClient {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TIMEOUT)).unwrap();
        RedisClient { stream: BufReader::new(stream) }
    }

    /// The integer reply to a command.
    #[track_caller]
    pub(crate) fn integer(&self, command: &[&str]) -> i64 {
        let words: Vec<&[u8]> = command.iter().map(|word| word.as_bytes()).collect();
        match self.client().command(&words) {
            RedisReply::Integer(number) => number,
            other => panic!("{command:?}: {other:?}"),
        }
    }

    /// A line of INFO, such as `pubsub_channels`.
    #[track_caller]
    pub(crate) fn info(&self, name: &str) -> Option<String> {
        let RedisReply::Bytes(text) = self.client().command(&[b"INFO"]) else {
            panic!("no INFO");
        };
        let text = String::from_utf8(text).unwrap();
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(':').map(str::to_owned);
        text.lines().find_map(value)
    }

    fn log(&self) -> String {
        let log = fs::read(self.scratch.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            eprintln!("the Redis server's log:\n{}", self.log());
        }
    }
}

/// A reply of a Redis server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RedisReply {
    Status(String),
    Error(String),
    Integer(i64),
    Bytes(Vec<u8>),
    Nil,
    List(Vec<RedisReply>),
}

/// A connection to a Redis server.
pub(crate) struct RedisClient {
    stream: BufReader<UnixStream>,
}

impl RedisClient {
    /// Sends a command and returns the reply.
    #[track_caller]
    pub(crate) fn command(&mut self, words: &[&[u8]]) -> RedisReply {
        self.send(words);
        self.reply()
    }

    #[track_caller]
    pub(crate) fn send(&mut self, words: &[&[u8]]) {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend(b"\r\n");
        }
        self.stream.get_mut().write_all(&bytes).unwrap();
    }

    /// The next reply.
    #[track_caller]
    pub(crate) fn reply(&mut self) -> RedisReply {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let line = line.strip_suffix("\r\n").unwrap_or_else(|| panic!("the end after {line:?}"));
        let (kind, rest) = line.split_at(1);
        let number = || rest.parse::<i64>().unwrap_or_else(|_| panic!("{line:?}"));
        match kind {
            "+" => RedisReply::Status(rest.to_owned()),
            "-" => RedisReply::Error(rest.to_owned()),
            ":" => RedisReply::Integer(number()),
            "$" | "*" if number() < 0 => RedisReply::Nil,
            "$" => {
                let mut bytes = vec![0; number() as usize + 2];
                self.stream.read_exact(&mut bytes).unwrap();
                bytes.truncate(bytes.len() - 2);
                RedisReply::Bytes(bytes)
            }
            "*" => RedisReply::List((0..number()).map(|_| self.reply()).collect()),
            _ => panic!("{line:?}"),
        }
    }

    /// Publishes a message; returns the number of its receivers.
    #[track_caller]
    pub(crate) fn publish(&mut self, channel: &str, message: &[u8]) -> i64 {
        match self.command(&[b"PUBLISH", channel.as_bytes(), message]) {
            RedisReply::Integer(receivers) => receivers,
            other => panic!("{other:?}"),
        }
    }

    /// Subscribes to channels of this pattern: from now on [`Self::message`] is to be used.
    #[track_caller]
    pub(crate) fn subscribe(&mut self, pattern: &str) {
        let reply = self.command(&[b"PSUBSCRIBE", pattern.as_bytes()]);
        assert!(matches!(reply, RedisReply::List(_)), "{reply:?}");
    }

    /// The channel and the bytes of the next message.
    #[track_caller]
    pub(crate) fn message(&mut self) -> (String, Vec<u8>) {
        match self.reply() {
            RedisReply::List(parts) => match &parts[..] {
                [_, _, RedisReply::Bytes(channel), RedisReply::Bytes(message)] => {
                    (String::from_utf8(channel.clone()).unwrap(), message.clone())
                }
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    /// The same, or `None` if none begins to arrive within this time.
    #[track_caller]
    pub(crate) fn message_within(&mut self, time: Duration) -> Option<(String, Vec<u8>)> {
        self.stream.get_ref().set_read_timeout(Some(time)).unwrap();
        let arrived = self.stream.fill_buf().is_ok_and(|bytes| !bytes.is_empty());
        self.stream.get_ref().set_read_timeout(Some(TIMEOUT)).unwrap();
        arrived.then(|| self.message())
    }
}
