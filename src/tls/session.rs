//! One client's TLS: records in, requests out; replies in, records out. Without I/O.
//!
//! rustls works on the very bytes that were received; only those of an unfinished record are
//! kept. What it wants sent by itself (its side of the handshake, alerts) goes to the caller's
//! buffer at once, but for the ticket of TLS 1.3: where a request comes with the end of the
//! handshake, it goes ahead of the reply and not in a segment of its own.

use std::mem;
use std::net::IpAddr;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{Error, HandshakeKind, PeerMisbehaved, ProtocolVersion};

use super::CONNECTED_TO;
use crate::buffered::BufferedBytes;
use crate::limits::{RECORD_BYTES_MAX, TICKET_BYTES_MAX, UNFINISHED_RECORDS_BYTES_MAX};

/// Bytes that encryption adds to a record at most: header, explicit nonce and tag of TLS 1.2
/// (RFC 5288 section 3), more than header, type and tag of TLS 1.3 (RFC 8446 section 5.2).
const RECORD_OVERHEAD: usize = 5 + 8 + 16;

/// Bytes of a close_notify, which is an alert of two.
const CLOSE_NOTIFY_BYTES: usize = RECORD_OVERHEAD + 2;

/// What a client is told of a hello that rustls fails at without an alert: a fatal
/// handshake_failure (RFC 8446 section 6.2), in a record of its own.
const HANDSHAKE_FAILURE: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];

/// Bytes of a client's last flight of a TLS 1.3 handshake at most: change_cipher_spec, and
/// Finished of SHA-384 (RFC 8446 section 4.4.4). With SHA-256 it is 64 bytes, or 58 without
/// change_cipher_spec, and with the shortest of requests 98.
pub const FINISHED_BYTES_MAX: u32 = 6 + 5 + 4 + 48 + 1 + 16;

/// The most bytes that a reply of `plain` bytes takes on the wire, with all that may go ahead
/// of it and after it.
pub const fn encrypted_bytes_max(plain: usize) -> usize {
    // For one record more, so that `plain_bytes_max` of it is never less than `plain`.
    plain + overhead_max(plain + RECORD_BYTES_MAX)
}

/// How long a reply may be to take `wire` bytes at most.
pub const fn plain_bytes_max(wire: usize) -> usize {
    wire.saturating_sub(overhead_max(wire))
}

const fn overhead_max(bytes: usize) -> usize {
    TICKET_BYTES_MAX + (bytes / RECORD_BYTES_MAX + 1) * RECORD_OVERHEAD + CLOSE_NOTIFY_BYTES
}

/// Types of records (RFC 8446 section 5.1), and the bytes of one of the former.
const CHANGE_CIPHER_SPEC: u8 = 20;
const CHANGE_CIPHER_SPEC_BYTES: usize = 6;
const APPLICATION_DATA: u8 = 23;

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// More may come.
    Open,
    /// The client has sent close_notify (RFC 8446 section 6.1): no more comes.
    Closed,
    /// The client broke the protocol: nothing more is received or sent.
    Failed,
    /// The first byte was none of TLS: the client speaks something else.
    NotTls,
}

/// How a handshake stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeState {
    /// Keys are still being agreed on.
    InProgress,
    /// Done.
    Done {
        /// By TLS 1.3, not 1.2.
        tls13: bool,
        /// From an earlier session, without a certificate.
        resumed: bool,
    },
}

/// The TLS of one connection.
pub struct TlsSession {
    tls: UnbufferedServerConnection,
    /// Received bytes of records that are not whole, or that are [held](Session::holds). rustls
    /// remembers places in them.
    unfinished: BufferedBytes,
    /// See [`TlsSession::holds`].
    holds_records: bool,
    /// The ticket, until the reply to a request that came with the end of the handshake.
    ticket: BufferedBytes,
    /// Whether any byte was received.
    begun: bool,
    /// Whether the client was told anything, or has itself given up: no alert is due then but by
    /// rustls, which has the keys.
    told: bool,
    state: SessionState,
    /// See [`TlsSession::connected_to`].
    connected_to: Option<IpAddr>,
}

impl TlsSession {
    pub(super) fn new(tls: UnbufferedServerConnection) -> TlsSession {
        TlsSession {
            tls,
            unfinished: BufferedBytes::default(),
            holds_records: false,
            ticket: BufferedBytes::default(),
            begun: false,
            told: false,
            state: SessionState::Open,
            connected_to: None,
        }
    }

    /// Notes the address that the client connected to, by which it gets its certificate if it
    /// names no host.
    pub fn connected_to(&mut self, address: IpAddr) {
        self.connected_to = Some(address);
    }

    /// Whether keys are still being agreed on.
    pub fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// How its handshake stands.
    pub fn handshake(&self) -> HandshakeState {
        if self.is_handshaking() {
            return HandshakeState::InProgress;
        }
        HandshakeState::Done {
            tls13: self.tls.protocol_version() == Some(ProtocolVersion::TLSv1_3),
            resumed: self.tls.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }

    /// Whether the costly step of a handshake is still to come, the answer to the hello.
    pub fn is_before_hello(&self) -> bool {
        self.tls.protocol_version().is_none()
    }

    /// Whether `bytes`, behind what is unfinished, go on with a handshake in a way that may cost
    /// much: a hello, a second one (RFC 8446 section 4.1.4), a key exchange of TLS 1.2, or garbage.
    /// The end of a TLS 1.3 handshake does not, and can be told, for it is encrypted.
    pub fn may_be_costly(&self, bytes: &[u8]) -> bool {
        if !self.is_handshaking() {
            return false;
        }
        if self.tls.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
            return true;
        }
        let mut records = self.unfinished.as_slice().iter().chain(bytes);
        match records.next() {
            Some(&APPLICATION_DATA) => false,
            // change_cipher_spec, which may go ahead, is one byte in a record.
            Some(&CHANGE_CIPHER_SPEC) => records
                .nth(CHANGE_CIPHER_SPEC_BYTES - 1)
                .is_some_and(|&next| next != APPLICATION_DATA),
            Some(_) => true,
            None => false,
        }
    }

    /// Whether all that is missing is the end of a TLS 1.3 handshake, which is answered by
    /// nothing: the first request, which follows at once, may be awaited with it.
    pub fn awaits_finished(&self) -> bool {
        self.is_handshaking()
            && self.unfinished.is_empty()
            && self.tls.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    /// Where it stands after the last [`TlsSession::open`].
    pub fn state(&self) -> SessionState {
        self.state
    }

    /// Received bytes that are not decrypted yet.
    pub fn unfinished_bytes(&self) -> usize {
        self.unfinished.len()
    }

    /// Bytes that are allocated for those, and for a ticket that waits to be sent.
    pub fn allocated_bytes(&self) -> usize {
        self.unfinished.allocated() + self.ticket.allocated()
    }

    /// Forgets the bytes that are not decrypted yet, and a ticket that waits to be sent: nothing
    /// more is received or sent.
    pub fn forget_pending(&mut self) {
        self.unfinished = BufferedBytes::default();
        self.ticket = BufferedBytes::default();
        self.holds_records = false;
    }

    /// Whether the last [`TlsSession::open`] has left records for the next, which may be given no
    /// bytes: one of them may break the protocol, and nothing can be sent after that, so what is
    /// decrypted is to be answered first.
    pub fn holds_records(&self) -> bool {
        self.holds_records
    }

    /// Keeps received bytes for the next [`TlsSession::open`].
    pub fn keep(&mut self, bytes: &[u8]) {
        self.unfinished.extend(bytes);
    }

    /// Keeps received bytes too, but not before what is decrypted has been answered: see
    /// [`TlsSession::holds`].
    pub fn hold(&mut self, bytes: &[u8]) {
        self.keep(bytes);
        self.holds_records = !self.unfinished.is_empty();
    }

    /// Takes received `bytes`, overwriting them, and adds to `plain` what they decrypt to.
    /// Returns how many bytes it wrote to `out` to be sent: of the handshake, or an alert.
    /// `out` has room for [`FLIGHT_BYTES_MAX`](crate::limits::FLIGHT_BYTES_MAX).
    pub fn open(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>, out: &mut [u8]) -> usize {
        let mut written = if self.unfinished.is_empty() {
            let (used, written) = self.advance(bytes, plain, out);
            self.keep(&bytes[used..]);
            written
        } else {
            let mut all = mem::take(&mut self.unfinished);
            all.extend(bytes);
            let (used, written) = self.advance(all.as_mut_slice(), plain, out);
            all.consume(used);
            self.unfinished = all;
            written
        };
        if !self.holds_records && self.unfinished.len() > UNFINISHED_RECORDS_BYTES_MAX {
            self.state = SessionState::Failed;
        }
        self.told |= written > 0;
        if self.state == SessionState::Failed && !mem::replace(&mut self.told, true) {
            written = HANDSHAKE_FAILURE.len();
            out[..written].copy_from_slice(&HANDSHAKE_FAILURE);
        }
        written
    }

    /// Feeds `bytes` to rustls until it wants more, or has decrypted something and not come to
    /// their end. Returns how many it has used up, and how many it wrote.
    fn advance(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>, out: &mut [u8]) -> (usize, usize) {
        if let Some(first) = bytes.first()
            && !mem::replace(&mut self.begun, true)
            && (first.is_ascii_graphic() || first.is_ascii_whitespace())
        {
            self.state = SessionState::NotTls;
        }
        self.holds_records = false;
        if matches!(self.state, SessionState::Failed | SessionState::NotTls) {
            return (bytes.len(), 0);
        }
        let was_handshaking = self.is_handshaking();
        if was_handshaking {
            CONNECTED_TO.set(self.connected_to);
        }
        let (mut used, mut written) = (0, 0);
        let mut flooded = false;
        loop {
            let before = written;
            let UnbufferedStatus { discard, state } =
                self.tls.process_tls_records(&mut bytes[used..]);
            used += discard;
            match state {
                Ok(ConnectionState::ReadTraffic(mut records)) => {
                    while let Some(Ok(record)) = records.next_record() {
                        plain.extend_from_slice(record.payload);
                        used += record.discard;
                    }
                    if !plain.is_empty() && used < bytes.len() {
                        self.holds_records = true;
                        break;
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    match data.encode(&mut out[before..]) {
                        Ok(len) => written += len,
                        Err(_) => self.state = SessionState::Failed,
                    }
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.state = SessionState::Closed,
                Err(error) => {
                    self.state = SessionState::Failed;
                    flooded = is_flood(&error);
                    self.told |= matches!(error, Error::AlertReceived(_));
                }
                // All others wait for the client. Early data is never offered.
                Ok(_) => break,
            }
            let sent = &out[before..written];
            if was_handshaking && self.may_wait(sent.len()) {
                self.ticket.extend(sent);
                written = before;
            } else if !sent.is_empty() && !self.ticket.is_empty() {
                // The ticket was encrypted first, so it has to be sent first.
                self.ticket.extend(sent);
                written = before + take_ticket(&mut self.ticket, &mut out[before..]);
            }
            if self.state == SessionState::Failed && !self.tls.wants_write() {
                // The alert is written. rustls must not see the bad bytes a second time.
                break;
            }
        }
        if flooded && !self.is_handshaking() {
            // No part of a message is pending then, so rustls encrypts on if it is shown no bytes.
            (self.state, self.holds_records) = (SessionState::Open, true);
            written += self.encrypt(&[], true, &mut out[written..]);
            (self.state, self.holds_records) = (SessionState::Failed, false);
        }
        if was_handshaking && plain.is_empty() && used == bytes.len() {
            // No request is on its way, as far as can be seen: the ticket may be awaited.
            written += take_ticket(&mut self.ticket, &mut out[written..]);
        }
        (used, written)
    }

    /// Whether what was just written, `len` bytes, is a ticket that may wait for a reply.
    fn may_wait(&self, len: usize) -> bool {
        self.state == SessionState::Open
            && !self.is_handshaking()
            && self.tls.protocol_version() == Some(ProtocolVersion::TLSv1_3)
            && self.ticket.len() + len <= TICKET_BYTES_MAX
    }

    /// Encrypts a reply, and close_notify after it if it is the `last`. `out` has room for
    /// [`encrypted_bytes_max`] of it. Returns how many bytes are to be sent: none before the end
    /// of the handshake, or when the keys are worn out.
    pub fn encrypt(&mut self, plain: &[u8], last: bool, out: &mut [u8]) -> usize {
        if matches!(self.state, SessionState::Failed | SessionState::NotTls)
            || self.is_handshaking()
        {
            return 0;
        }
        let mut written = take_ticket(&mut self.ticket, out);
        loop {
            // Those that it holds are not to be seen yet.
            let records =
                if self.holds_records { &mut [][..] } else { self.unfinished.as_mut_slice() };
            let UnbufferedStatus { discard, state } = self.tls.process_tls_records(records);
            let room = &mut out[written..];
            let sealed = match state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => data.encode(room).ok(),
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    Some(0)
                }
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let reply = traffic.encrypt(plain, room).unwrap_or(0);
                    let end = match last {
                        true => traffic.queue_close_notify(&mut room[reply..]).unwrap_or(0),
                        false => 0,
                    };
                    if reply == 0 && !plain.is_empty() {
                        self.state = SessionState::Failed;
                    }
                    return written + reply + end;
                }
                _ => None,
            };
            self.unfinished.consume(discard);
            match sealed {
                Some(len) => written += len,
                None => {
                    self.state = SessionState::Failed;
                    return written;
                }
            }
        }
    }
}

/// Whether a client did too often what it may do: rustls gives up without an alert.
fn is_flood(error: &Error) -> bool {
    use PeerMisbehaved::{TooManyKeyUpdateRequests, TooManyWarningAlertsReceived};
    let Error::PeerMisbehaved(error) = error else { return false };
    matches!(error, TooManyKeyUpdateRequests | TooManyWarningAlertsReceived)
}

/// Moves the ticket to where it is sent from. Returns its length.
fn take_ticket(ticket: &mut BufferedBytes, out: &mut [u8]) -> usize {
    let ticket = mem::take(ticket);
    out[..ticket.len()].copy_from_slice(ticket.as_slice());
    ticket.len()
}
