//! A connection to a server on which commands are sent and replies are read: AUTH, HELLO, PUBLISH
//! and SUBSCRIBE, in RESP 2, packed and parsed by the `redis` crate.
//!
//! HELLO needs no permission, as AUTH does not, and tells a primary from a replica: what is
//! published at a replica reaches only its own subscribers.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use redis::{Cmd, Parser, RedisError, ServerError, Value, cmd};

use super::servers::{PubSubServer, ServerAddress};
use super::stream::ServerStream;
use crate::config::{Credentials, ServerUrl};
use crate::limits::{CLUSTER_MESSAGE_BYTES_MAX, CLUSTER_TIMEOUT_S};

const TIMEOUT: Duration = Duration::from_secs(CLUSTER_TIMEOUT_S);

const REPLICA: &str = "it is a replica, and what is published there does not reach the other \
    nodes: write the primary into cluster.server";

/// Why a connection could not be made, or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LinkFault {
    /// With a cure where one is known.
    pub(super) what: String,
    /// It lasts until somebody mends it.
    pub(super) needs_operator: bool,
}

impl fmt::Display for LinkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl LinkFault {
    fn of_operator(what: impl Into<String>) -> LinkFault {
        LinkFault { what: what.into(), needs_operator: true }
    }

    pub(super) fn passing(what: impl Into<String>) -> LinkFault {
        LinkFault { what: what.into(), needs_operator: false }
    }
}

pub(super) struct PubSubConnection {
    stream: ServerStream,
    parser: Parser,
    /// Bytes that the next value may take from the stream.
    budget: usize,
    /// What to do if the user may not publish or subscribe.
    rights_cure: String,
}

/// A message, or why there is none.
#[derive(Debug)]
pub(super) enum Received {
    Message(Vec<u8>),
    /// The server has confirmed a subscription.
    Subscribed,
    Nothing,
}

impl PubSubConnection {
    /// Connects and logs in.
    pub(super) fn open(
        server: &PubSubServer,
        address: &ServerAddress,
    ) -> Result<PubSubConnection, LinkFault> {
        let failed = |error: io::Error| connect_fault(&error, server);
        let stream = ServerStream::open(server, address, TIMEOUT).map_err(failed)?;
        let (parser, budget) = (Parser::new(), CLUSTER_MESSAGE_BYTES_MAX);
        let rights_cure = format!(
            "user {user} needs the rights for it: ACL SETUSER {user} +publish +subscribe \
             resetchannels &{channel} &{channel}:*",
            channel = server.channel,
            user = server.user()
        );
        let mut connection = PubSubConnection { stream, parser, budget, rights_cure };
        connection.log_in(server)?;
        Ok(connection)
    }

    fn log_in(&mut self, server: &PubSubServer) -> Result<(), LinkFault> {
        if let Some(Credentials { user, password }) = &server.credentials {
            let mut auth = cmd("AUTH");
            if !user.is_empty() {
                auth.arg(user);
            }
            auth.arg(password.reveal());
            // The text of the error may repeat the arguments.
            if let Value::ServerError(error) = self.exchange(&auth, server)? {
                return Err(self.login_fault(&error, server.user()));
            }
        }
        match self.exchange(cmd("HELLO").arg(2), server)? {
            Value::ServerError(error) if error.code() == "ERR" => Ok(()),
            Value::ServerError(error) => Err(self.reply_fault(&error)),
            reply if is_replica(&reply) => Err(LinkFault::of_operator(REPLICA)),
            _ => Ok(()),
        }
    }

    /// The reply to one command, before anything else is known of the server.
    fn exchange(&mut self, command: &Cmd, server: &PubSubServer) -> Result<Value, LinkFault> {
        let failed = |error: io::Error| connect_fault(&error, server);
        self.stream.write_all(&command.get_packed_command()).map_err(failed)?;
        self.stream.flush().map_err(failed)?;
        self.read().map_err(|error| parse_fault(error, &server.url))
    }

    /// Asks for the messages of these channels. The confirmations are for
    /// [`PubSubConnection::receive`], which from now on returns [`Received::Nothing`] after
    /// `timeout`.
    pub(super) fn subscribe(
        &mut self,
        channels: &[String],
        timeout: Duration,
    ) -> Result<(), LinkFault> {
        let command = cmd("SUBSCRIBE").arg(channels).get_packed_command();
        self.stream.write_all(&command).map_err(|error| lost(&error))?;
        self.stream.flush().map_err(|error| lost(&error))?;
        self.stream.set_read_timeout(timeout).map_err(|error| lost(&error))
    }

    /// Waits for a message.
    pub(super) fn receive(&mut self) -> Result<Received, LinkFault> {
        let parts = match self.read() {
            Ok(Value::Array(parts)) => parts,
            Ok(Value::ServerError(error)) => return Err(self.reply_fault(&error)),
            Ok(_) => return Err(LinkFault::passing("sends what is no message")),
            Err(error) if error.is_timeout() => return Ok(Received::Nothing),
            Err(error) => return Err(read_fault(error)),
        };
        let mut parts = parts.into_iter();
        match (parts.next(), parts.next(), parts.next()) {
            (Some(Value::BulkString(kind)), Some(_), Some(Value::BulkString(message)))
                if kind == b"message" =>
            {
                Ok(Received::Message(message))
            }
            (Some(Value::BulkString(kind)), ..) if kind == b"subscribe" => Ok(Received::Subscribed),
            _ => Ok(Received::Nothing),
        }
    }

    /// Sends packed PUBLISH commands, `count` of them, and reads the replies.
    pub(super) fn publish(&mut self, commands: &[u8], count: usize) -> Result<(), LinkFault> {
        self.stream.write_all(commands).map_err(|error| lost(&error))?;
        self.stream.flush().map_err(|error| lost(&error))?;
        for _ in 0..count {
            match self.read().map_err(read_fault)? {
                Value::Int(_) => {}
                Value::ServerError(error) => return Err(self.reply_fault(&error)),
                _ => return Err(LinkFault::passing("replies to PUBLISH with what is no number")),
            }
        }
        Ok(())
    }

    /// Without the text of the error, which may repeat the password.
    fn login_fault(&self, error: &ServerError, user: &str) -> LinkFault {
        LinkFault::of_operator(match error.code() {
            "LOADING" => return self.reply_fault(error),
            "WRONGPASS" | "ERR" => {
                format!("the password of user {user} is wrong, or there is no such user")
            }
            code => format!("user {user} cannot log in ({code})"),
        })
    }

    fn reply_fault(&self, error: &ServerError) -> LinkFault {
        let text = format!("{} {}", error.code(), error.details().unwrap_or_default());
        let text = text.trim_end();
        LinkFault::of_operator(match error.code() {
            "LOADING" | "MASTERDOWN" | "BUSY" => {
                return LinkFault::passing(format!("it is not ready yet ({text})"));
            }
            "NOAUTH" => {
                let cure = "set cluster.password or cluster.credentials_file";
                format!("it asks for a password: {cure}")
            }
            "NOPERM" => format!("{} ({text})", self.rights_cure),
            "DENIED" => {
                let cure = "see protected-mode and bind in its configuration";
                format!("it takes only connections of its own host: {cure}")
            }
            "READONLY" => REPLICA.to_owned(),
            _ => text.to_owned(),
        })
    }

    fn read(&mut self) -> Result<Value, RedisError> {
        let stream = Budgeted { stream: &mut self.stream, left: &mut self.budget };
        let value = self.parser.parse_value(stream)?;
        self.budget = CLUSTER_MESSAGE_BYTES_MAX;
        Ok(value)
    }
}

/// Packs a PUBLISH command.
pub(super) fn pack_publish(channel: &str, message: &[u8], out: &mut Vec<u8>) {
    cmd("PUBLISH").arg(channel).arg(message).write_packed_command(out);
}

/// Fails where a value is longer than it may be: the parser would collect it whole.
struct Budgeted<'s, S> {
    stream: &'s mut S,
    left: &'s mut usize,
}

impl<S: Read> Read for Budgeted<'_, S> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if *self.left == 0 {
            let what = format!("sends more than {CLUSTER_MESSAGE_BYTES_MAX} bytes at once");
            return Err(io::Error::other(what));
        }
        let most = out.len().min(*self.left);
        let len = self.stream.read(&mut out[..most])?;
        *self.left -= len;
        Ok(len)
    }
}

/// Whether the reply to HELLO, a list of names and values, names another role than the primary's.
fn is_replica(reply: &Value) -> bool {
    let Value::Array(fields) = reply else { return false };
    let is = |value: &Value, text: &str| match value {
        Value::BulkString(bytes) => bytes == text.as_bytes(),
        Value::SimpleString(string) => string == text,
        _ => false,
    };
    fields.chunks_exact(2).any(|pair| is(&pair[0], "role") && !is(&pair[1], "master"))
}

fn connect_fault(error: &io::Error, server: &PubSubServer) -> LinkFault {
    let is_unix = server.tls.is_none() && server.url.to_string().starts_with("unix:");
    match error.kind() {
        ErrorKind::PermissionDenied if is_unix => LinkFault::of_operator(format!(
            "{error}: the tracker's user and group must be allowed to write to the socket"
        )),
        ErrorKind::InvalidData => LinkFault::of_operator(format!(
            "TLS: {error}: see cluster.ca_file and the name in the URL; a server without TLS has \
             redis://"
        )),
        // A server without TLS waits for more of what it takes for a command.
        ErrorKind::TimedOut | ErrorKind::WouldBlock if server.tls.is_some() => {
            LinkFault::passing(format!(
                "no answer within {CLUSTER_TIMEOUT_S} seconds: a server without TLS has redis://"
            ))
        }
        _ => lost(error),
    }
}

fn timeout_fault(error: &io::Error) -> Option<LinkFault> {
    let is_timeout = matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock);
    is_timeout.then(|| LinkFault::passing(format!("no answer within {CLUSTER_TIMEOUT_S} seconds")))
}

fn lost(error: &io::Error) -> LinkFault {
    timeout_fault(error).unwrap_or_else(|| LinkFault::passing(error.to_string()))
}

fn parse_fault(error: RedisError, url: &ServerUrl) -> LinkFault {
    if error.is_io_error() {
        return read_fault(error);
    }
    let cure = match url.to_string().starts_with("redis:") {
        true => ": if it speaks TLS, its URL begins with rediss://",
        false => "",
    };
    LinkFault::of_operator(format!("its answer is not that of Valkey or Redis{cure}"))
}

fn read_fault(error: RedisError) -> LinkFault {
    if error.is_timeout() {
        return LinkFault::passing(format!("no answer within {CLUSTER_TIMEOUT_S} seconds"));
    }
    // Of a broken handshake: what a server without our certificate would say comes after it.
    let text = error.to_string();
    if text.contains("CertificateRequired") {
        return LinkFault::of_operator(
            "it asks for a certificate: set cluster.certificate and cluster.key, or \
             tls-auth-clients no at the server",
        );
    }
    match text.contains("invalid peer certificate") {
        true => {
            LinkFault::of_operator(format!("{text}: see cluster.ca_file and the name in the URL"))
        }
        false if text.contains("unexpected end of file") => {
            LinkFault::passing("the server has closed the connection")
        }
        false => LinkFault::passing(text),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::{self, ErrorKind, Read};

    use redis::{Parser, Value};

    use super::{Budgeted, CLUSTER_MESSAGE_BYTES_MAX, is_replica, pack_publish};

    /// Delivers pieces, with a timeout between two of them.
    struct Pieces(VecDeque<Option<Vec<u8>>>);

    impl Read for Pieces {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            match self.0.pop_front() {
                None => Ok(0),
                Some(None) => Err(ErrorKind::WouldBlock.into()),
                Some(Some(mut piece)) => {
                    let rest = piece.split_off(piece.len().min(out.len()));
                    out[..piece.len()].copy_from_slice(&piece);
                    if !rest.is_empty() {
                        self.0.push_front(Some(rest));
                    }
                    Ok(piece.len())
                }
            }
        }
    }

    #[test]
    fn a_message_goes_on_after_a_timeout_anywhere_in_it() {
        let message = vec![b'\r'; 70_000];
        let mut bytes = b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$70000\r\n".to_vec();
        bytes.extend_from_slice(&message);
        bytes.extend_from_slice(b"\r\n:5\r\n");
        for size in [1, 7, 1000] {
            let pieces = bytes.chunks(size).flat_map(|piece| [Some(piece.to_vec()), None]);
            let mut stream = Pieces(pieces.collect());
            let (mut parser, mut left) = (Parser::new(), CLUSTER_MESSAGE_BYTES_MAX);
            let mut next = || {
                loop {
                    let budgeted = Budgeted { stream: &mut stream, left: &mut left };
                    match parser.parse_value(budgeted) {
                        Err(error) if error.is_timeout() => {}
                        value => return value.unwrap(),
                    }
                }
            };
            let text = |text: &[u8]| Value::BulkString(text.to_vec());
            assert_eq!(next(), Value::Array(vec![text(b"message"), text(b"a"), text(&message)]));
            assert_eq!(next(), Value::Int(5));
        }
    }

    #[test]
    fn a_message_beyond_the_bound_is_not_collected() {
        let mut endless = io::Read::chain(&b"$536870912\r\n"[..], io::repeat(b'a'));
        let mut left = CLUSTER_MESSAGE_BYTES_MAX;
        let budgeted = Budgeted { stream: &mut endless, left: &mut left };
        let error = Parser::new().parse_value(budgeted).unwrap_err();
        assert!(error.to_string().contains("1048576 bytes"), "{error}");
    }

    #[test]
    fn commands_are_packed_and_roles_are_read() {
        let mut packed = Vec::new();
        pack_publish("a", b"b\r\n", &mut packed);
        pack_publish("c", b"", &mut packed);
        let expected: &[u8] = b"*3\r\n$7\r\nPUBLISH\r\n$1\r\na\r\n$3\r\nb\r\n\r\n\
                                *3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$0\r\n\r\n";
        assert_eq!(packed, expected);
        let hello = |role: &str| {
            let fields = ["server", "redis", "role", role, "modules"];
            let text = |field: &&str| Value::BulkString(field.as_bytes().to_vec());
            let list = fields.iter().map(text).chain([Value::Array(Vec::new())]);
            Value::Array(list.collect())
        };
        assert!(is_replica(&hello("replica")) && !is_replica(&hello("master")));
        assert!(!is_replica(&Value::Nil));
    }
}
