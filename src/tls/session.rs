//! The TLS of one connection, without I/O: it decrypts what arrives and encrypts responses.
//!
//! rustls decrypts in place, in the buffer that received the bytes; only an incomplete record is
//! buffered. What rustls sends itself (its side of the handshake, alerts) is written to the
//! caller's buffer at once. The TLS 1.3 session ticket is the exception: if a request arrives with
//! the end of the handshake, the ticket is sent in front of the response, not in a segment of its
//! own.

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

/// Bytes of a close_notify: an alert has two bytes.
const CLOSE_NOTIFY_BYTES: usize = RECORD_OVERHEAD + 2;

/// A fatal handshake_failure alert (RFC 8446 section 6.2) as a record. It answers a hello that
/// rustls rejects without an alert of its own.
const HANDSHAKE_FAILURE: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];

/// The most bytes of a client's last flight in a TLS 1.3 handshake: change_cipher_spec, and
/// Finished with SHA-384 (RFC 8446 section 4.4.4). With SHA-256 it is 64 bytes, or 58 without
/// change_cipher_spec; together with the shortest request it is at least 98.
pub const FINISHED_BYTES_MAX: u32 = 6 + 5 + 4 + 48 + 1 + 16;

/// The most bytes that a response of `plain` bytes takes on the wire, with a ticket in front of it
/// and a close_notify behind it.
pub const fn encrypted_bytes_max(plain: usize) -> usize {
    // One record more, so that `plain_bytes_max` of the result is never less than `plain`.
    plain + overhead_max(plain + RECORD_BYTES_MAX)
}

/// The longest response that takes at most `wire` bytes on the wire.
pub const fn plain_bytes_max(wire: usize) -> usize {
    wire.saturating_sub(overhead_max(wire))
}

const fn overhead_max(bytes: usize) -> usize {
    TICKET_BYTES_MAX + (bytes / RECORD_BYTES_MAX + 1) * RECORD_OVERHEAD + CLOSE_NOTIFY_BYTES
}

/// Record types (RFC 8446 section 5.1), and the length of a change_cipher_spec record.
const CHANGE_CIPHER_SPEC: u8 = 20;
const CHANGE_CIPHER_SPEC_BYTES: usize = 6;
const APPLICATION_DATA: u8 = 23;

/// Whether a session is usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    Open,
    /// The client has sent close_notify (RFC 8446 section 6.1): it sends nothing more.
    Closed,
    /// The client violated the protocol: nothing more is received or sent.
    Failed,
    /// The first byte is not TLS: the client uses another protocol.
    NotTls,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeState {
    InProgress,
    Done {
        /// TLS 1.3, else 1.2.
        tls13: bool,
        /// By a ticket of an earlier session.
        resumed: bool,
    },
}

/// The TLS of one connection.
pub struct TlsSession {
    tls: UnbufferedServerConnection,
    /// Received bytes of incomplete records, or of held ones ([`TlsSession::holds_records`]).
    /// rustls remembers places in them.
    unfinished: BufferedBytes,
    /// See [`TlsSession::holds_records`].
    holds_records: bool,
    /// The session ticket, until the response to a request that arrived with the end of the
    /// handshake.
    ticket: BufferedBytes,
    begun: bool,
    /// Whether anything was sent, or the client sent an alert: [`HANDSHAKE_FAILURE`] must not
    /// follow then.
    has_written: bool,
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
            has_written: false,
            state: SessionState::Open,
            connected_to: None,
        }
    }

    /// Notes the address that the client connected to: it selects the certificate if the client
    /// sends no server name.
    pub fn connected_to(&mut self, address: IpAddr) {
        self.connected_to = Some(address);
    }

    pub fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    pub fn handshake(&self) -> HandshakeState {
        if self.is_handshaking() {
            return HandshakeState::InProgress;
        }
        HandshakeState::Done {
            tls13: self.tls.protocol_version() == Some(ProtocolVersion::TLSv1_3),
            resumed: self.tls.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }

    /// Whether the expensive step of a handshake, the response to the hello, is still to come.
    pub fn is_before_hello(&self) -> bool {
        self.tls.protocol_version().is_none()
    }

    /// Whether `bytes`, appended to the incomplete record, may be an expensive step of a handshake:
    /// a hello, a second hello (RFC 8446 section 4.1.4), a TLS 1.2 key exchange, or garbage. The
    /// end of a TLS 1.3 handshake is cheap, and recognizable because it is encrypted.
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
            // A change_cipher_spec record may come first.
            Some(&CHANGE_CIPHER_SPEC) => records
                .nth(CHANGE_CIPHER_SPEC_BYTES - 1)
                .is_some_and(|&next| next != APPLICATION_DATA),
            Some(_) => true,
            None => false,
        }
    }

    /// Whether only the end of a TLS 1.3 handshake is missing. It needs no response, so the tracker
    /// can wait for it together with the first request, which follows at once.
    pub fn awaits_finished(&self) -> bool {
        self.is_handshaking()
            && self.unfinished.is_empty()
            && self.tls.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    pub fn state(&self) -> SessionState {
        self.state
    }

    /// The length of received bytes that are not decrypted yet.
    pub fn unfinished_bytes(&self) -> usize {
        self.unfinished.len()
    }

    /// The memory of those and of a pending ticket.
    pub fn allocated_bytes(&self) -> usize {
        self.unfinished.allocated() + self.ticket.allocated()
    }

    /// Discards bytes that are not decrypted yet and a pending ticket: nothing more is received or
    /// sent.
    pub fn forget_pending(&mut self) {
        self.unfinished = BufferedBytes::default();
        self.ticket = BufferedBytes::default();
        self.holds_records = false;
    }

    /// Whether the last [`TlsSession::open`] has left records for the next call, which may be given
    /// no bytes. One of them may violate the protocol, and nothing can be sent after that, so the
    /// requests that are decrypted are answered first.
    pub fn holds_records(&self) -> bool {
        self.holds_records
    }

    /// Buffers received bytes for the next [`TlsSession::open`].
    pub fn buffer(&mut self, bytes: &[u8]) {
        self.unfinished.extend(bytes);
    }

    /// Keeps received bytes too, but not before what is decrypted has been answered: see
    /// [`TlsSession::holds_records`].
    pub fn hold(&mut self, bytes: &[u8]) {
        self.buffer(bytes);
        self.holds_records = !self.unfinished.is_empty();
    }

    /// Decrypts received `bytes` in place and appends the plaintext to `plain`. Returns how many
    /// bytes it wrote to `out` to be sent: of the handshake, or an alert.
    /// `out` has room for [`FLIGHT_BYTES_MAX`](crate::limits::FLIGHT_BYTES_MAX).
    pub fn open(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>, out: &mut [u8]) -> usize {
        let mut written = if self.unfinished.is_empty() {
            let (used, written) = self.advance(bytes, plain, out);
            self.buffer(&bytes[used..]);
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
        self.has_written |= written > 0;
        if self.state == SessionState::Failed && !mem::replace(&mut self.has_written, true) {
            written = HANDSHAKE_FAILURE.len();
            out[..written].copy_from_slice(&HANDSHAKE_FAILURE);
        }
        written
    }

    /// Feeds `bytes` to rustls until it needs more, or has decrypted a part of them. Returns how
    /// many it has consumed, and how many it wrote.
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
                    self.has_written |= matches!(error, Error::AlertReceived(_));
                }
                // All other states wait for the client. Early data is not enabled.
                Ok(_) => break,
            }
            let sent = &out[before..written];
            if was_handshaking && self.may_wait(sent.len()) {
                self.ticket.extend(sent);
                written = before;
            } else if !sent.is_empty() && !self.ticket.is_empty() {
                // Records are sent in the order in which they were encrypted.
                self.ticket.extend(sent);
                written = before + take_ticket(&mut self.ticket, &mut out[before..]);
            }
            if self.state == SessionState::Failed && !self.tls.wants_write() {
                // The alert is written. rustls must not get the invalid bytes again.
                break;
            }
        }
        if flooded && !self.is_handshaking() {
            // rustls has no incomplete message then, so it still encrypts if it is given no bytes.
            (self.state, self.holds_records) = (SessionState::Open, true);
            written += self.encrypt(&[], true, &mut out[written..]);
            (self.state, self.holds_records) = (SessionState::Failed, false);
        }
        if was_handshaking && plain.is_empty() && used == bytes.len() {
            // No request has arrived with it: the ticket is sent now.
            written += take_ticket(&mut self.ticket, &mut out[written..]);
        }
        (used, written)
    }

    /// Whether the `len` bytes just written are a ticket that can wait for a response.
    fn may_wait(&self, len: usize) -> bool {
        self.state == SessionState::Open
            && !self.is_handshaking()
            && self.tls.protocol_version() == Some(ProtocolVersion::TLSv1_3)
            && self.ticket.len() + len <= TICKET_BYTES_MAX
    }

    /// Encrypts a response, and close_notify behind it if it is the `last`. `out` has room for
    /// [`encrypted_bytes_max`] of it. Returns how many bytes are to be sent: none before the end
    /// of the handshake, or when the keys have encrypted as much as they may.
    pub fn encrypt(&mut self, plain: &[u8], last: bool, out: &mut [u8]) -> usize {
        if matches!(self.state, SessionState::Failed | SessionState::NotTls)
            || self.is_handshaking()
        {
            return 0;
        }
        let mut written = take_ticket(&mut self.ticket, out);
        loop {
            // Held records are processed later.
            let records =
                if self.holds_records { &mut [][..] } else { self.unfinished.as_mut_slice() };
            let UnbufferedStatus { discard, state } = self.tls.process_tls_records(records);
            let room = &mut out[written..];
            let encrypted = match state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => data.encode(room).ok(),
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    Some(0)
                }
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let response = traffic.encrypt(plain, room).unwrap_or(0);
                    let end = match last {
                        true => traffic.queue_close_notify(&mut room[response..]).unwrap_or(0),
                        false => 0,
                    };
                    if response == 0 && !plain.is_empty() {
                        self.state = SessionState::Failed;
                    }
                    return written + response + end;
                }
                _ => None,
            };
            self.unfinished.consume(discard);
            match encrypted {
                Some(len) => written += len,
                None => {
                    self.state = SessionState::Failed;
                    return written;
                }
            }
        }
    }
}

/// Whether a client repeated an allowed message too often: rustls fails without an alert then.
fn is_flood(error: &Error) -> bool {
    use PeerMisbehaved::{TooManyKeyUpdateRequests, TooManyWarningAlertsReceived};
    let Error::PeerMisbehaved(error) = error else { return false };
    matches!(error, TooManyKeyUpdateRequests | TooManyWarningAlertsReceived)
}

/// Moves the ticket to `out`. Returns its length.
fn take_ticket(ticket: &mut BufferedBytes, out: &mut [u8]) -> usize {
    let ticket = mem::take(ticket);
    out[..ticket.len()].copy_from_slice(ticket.as_slice());
    ticket.len()
}
