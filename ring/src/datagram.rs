//! A received datagram, in the buffer that the kernel wrote it to.
//!
//! Each buffer has four parts: the header of `recvmsg(2)` in io_uring (`struct
//! io_uring_recvmsg_out`, Linux 6.0), the sender's address, control messages, and the payload. Both
//! engines use the layout of io_uring, so that one reader serves both.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;

use crate::buffers::RecvBuf;

/// Index of a datagram socket, in the order in which the engine got them.
pub type DatagramIndex = u16;

/// Bytes of `struct io_uring_recvmsg_out`: four numbers.
const HEADER_BYTES: usize = 16;
/// Bytes of the sender's address: a `sockaddr_in6` has 28, and control messages are aligned to 8.
pub(crate) const NAME_BYTES: usize = 32;
/// Bytes of the control messages: one with an address of IPv6 has 40.
pub(crate) const CONTROL_BYTES: usize = 64;

pub(crate) const NAME_AT: usize = HEADER_BYTES;
pub(crate) const CONTROL_AT: usize = NAME_AT + NAME_BYTES;
pub(crate) const PAYLOAD_AT: usize = CONTROL_AT + CONTROL_BYTES;

/// Bytes of a buffer for a datagram. The longest request of a scrape has 1496 (BEP 15), and more
/// than 1472 do not pass Ethernet in one packet.
pub const DATAGRAM_BUFFER_BYTES: usize = 2048;

/// Bytes of a datagram that are received at most; the rest is cut off by the kernel.
pub const DATAGRAM_BYTES_MAX: usize = DATAGRAM_BUFFER_BYTES - PAYLOAD_AT;

/// Bytes of a reply at most: what fits one Ethernet packet by IPv4.
pub const REPLY_BYTES_MAX: usize = 1472;

/// One received datagram. Dropping it returns its buffer.
#[derive(Debug)]
pub struct Datagram {
    buffer: RecvBuf,
    socket: DatagramIndex,
}

/// The address of this machine that a datagram was sent to: `struct in_pktinfo` (ip(7)) or `struct
/// in6_pktinfo` (RFC 3542 section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AskedAddress {
    pub(crate) ip: IpAddr,
    /// The interface, which a link-local address needs.
    pub(crate) interface: u32,
}

impl Datagram {
    /// Over a buffer that the kernel has filled.
    pub(crate) fn received(buffer: RecvBuf, socket: DatagramIndex) -> Datagram {
        debug_assert!(buffer.len() >= PAYLOAD_AT);
        Datagram { buffer, socket }
    }

    /// For tests, whose rings receive nothing: a datagram `from` a client to the address `to`. A
    /// payload that does not fit is cut.
    pub fn simulated(
        mut buffer: RecvBuf,
        socket: DatagramIndex,
        (from, to): (SocketAddr, Option<IpAddr>),
        payload: &[u8],
    ) -> Datagram {
        let room = buffer.len() - PAYLOAD_AT;
        let taken = &payload[..payload.len().min(room)];
        let name_len = write_name(&mut buffer[NAME_AT..CONTROL_AT], from);
        let control = &mut buffer[CONTROL_AT..PAYLOAD_AT];
        let control_len =
            to.map_or(0, |ip| write_asked(control, AskedAddress { ip, interface: 0 }));
        buffer[PAYLOAD_AT..PAYLOAD_AT + taken.len()].copy_from_slice(taken);
        let flags = if taken.len() < payload.len() { libc::MSG_TRUNC as u32 } else { 0 };
        let lens = [name_len as u32, control_len as u32, taken.len() as u32, flags];
        write_header(&mut buffer, lens);
        buffer.truncate(PAYLOAD_AT + taken.len());
        Datagram { buffer, socket }
    }

    /// The socket that received it.
    pub fn socket(&self) -> DatagramIndex {
        self.socket
    }

    /// Its bytes, which may be none.
    pub fn payload(&self) -> &[u8] {
        &self.buffer[PAYLOAD_AT..]
    }

    /// Whether it was longer than [`DATAGRAM_BYTES_MAX`], so that the end of the payload is lost.
    pub fn is_truncated(&self) -> bool {
        self.header(3) & libc::MSG_TRUNC as u32 != 0
    }

    /// The sender. `None` if it is not an IP address. An IPv6 socket that receives IPv4 too has
    /// mapped addresses (RFC 4291 section 2.5.5.2).
    pub fn from(&self) -> Option<SocketAddr> {
        read_name(self.name())
    }

    /// The address that it was sent to, if the socket is bound to all addresses.
    pub fn to(&self) -> Option<IpAddr> {
        self.asked().map(|asked| asked.ip)
    }

    /// The sender's address as the kernel wrote it.
    pub(crate) fn name(&self) -> &[u8] {
        let len = (self.header(0) as usize).min(NAME_BYTES);
        &self.buffer[NAME_AT..NAME_AT + len]
    }

    pub(crate) fn asked(&self) -> Option<AskedAddress> {
        let len = (self.header(1) as usize).min(CONTROL_BYTES);
        read_asked(&self.buffer[CONTROL_AT..CONTROL_AT + len])
    }

    /// One number of the header: length of the name, of the control messages and of the payload,
    /// and flags.
    fn header(&self, index: usize) -> u32 {
        number(&self.buffer[..HEADER_BYTES], index * 4..index * 4 + 4)
    }
}

/// Writes the header: length of the name, of the control messages and of the payload, and flags.
pub(crate) fn write_header(buffer: &mut [u8], numbers: [u32; 4]) {
    for (bytes, number) in buffer[..HEADER_BYTES].chunks_exact_mut(4).zip(numbers) {
        bytes.copy_from_slice(&number.to_ne_bytes());
    }
}

fn number(bytes: &[u8], range: Range<usize>) -> u32 {
    let bytes = bytes.get(range).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u32::from_ne_bytes)
}

/// Reads a `sockaddr_in` or `sockaddr_in6`.
fn read_name(name: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(name.get(..2)?.try_into().ok()?);
    let port = u16::from_be_bytes(name.get(2..4)?.try_into().ok()?);
    match i32::from(family) {
        libc::AF_INET => {
            let ip: [u8; 4] = name.get(4..8)?.try_into().ok()?;
            Some(SocketAddrV4::new(Ipv4Addr::from(ip), port).into())
        }
        libc::AF_INET6 => {
            let ip: [u8; 16] = name.get(8..24)?.try_into().ok()?;
            let flow = u32::from_be(number(name, 4..8));
            let scope = number(name, 24..28);
            Some(SocketAddrV6::new(Ipv6Addr::from(ip), port, flow, scope).into())
        }
        _ => None,
    }
}

/// Writes a `sockaddr_in` or `sockaddr_in6`; returns its length.
pub(crate) fn write_name(into: &mut [u8], address: SocketAddr) -> usize {
    into[2..4].copy_from_slice(&address.port().to_be_bytes());
    match address {
        SocketAddr::V4(v4) => {
            into[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            into[4..8].copy_from_slice(&v4.ip().octets());
            into[8..16].fill(0);
            16
        }
        SocketAddr::V6(v6) => {
            into[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            into[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
            into[8..24].copy_from_slice(&v6.ip().octets());
            into[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
            28
        }
    }
}

/// Bytes of a control message's header on 64-bit Linux: length, level, type.
const CONTROL_HEADER_BYTES: usize = 16;

/// Reads the address asked from control messages.
fn read_asked(mut control: &[u8]) -> Option<AskedAddress> {
    while control.len() >= CONTROL_HEADER_BYTES {
        let len = u64::from_ne_bytes(control[..8].try_into().ok()?);
        let len = usize::try_from(len).ok()?;
        let level = number(control, 8..12) as i32;
        let kind = number(control, 12..16) as i32;
        let data = control.get(CONTROL_HEADER_BYTES..len)?;
        match (level, kind) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // Interface, local address, destination of the header.
                let ip: [u8; 4] = data.get(4..8)?.try_into().ok()?;
                let ip = Ipv4Addr::from(ip).into();
                return Some(AskedAddress { ip, interface: number(data, 0..4) });
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let ip: [u8; 16] = data.get(..16)?.try_into().ok()?;
                let ip = Ipv6Addr::from(ip).into();
                return Some(AskedAddress { ip, interface: number(data, 16..20) });
            }
            _ => control = control.get(len.next_multiple_of(8)..)?,
        }
    }
    None
}

/// Writes the control message that has a reply leave from the address asked; returns its length.
/// The interface is named for link-local addresses only: for all others the route decides.
pub(crate) fn write_asked(into: &mut [u8], asked: AskedAddress) -> usize {
    let data = &mut into[CONTROL_HEADER_BYTES..];
    let (data_len, level, kind) = match asked.ip {
        IpAddr::V4(ip) => {
            data[..4].fill(0);
            data[4..8].copy_from_slice(&ip.octets());
            data[8..12].fill(0);
            (12, libc::IPPROTO_IP, libc::IP_PKTINFO)
        }
        IpAddr::V6(ip) => {
            let interface = if ip.is_unicast_link_local() { asked.interface } else { 0 };
            data[..16].copy_from_slice(&ip.octets());
            data[16..20].copy_from_slice(&interface.to_ne_bytes());
            (20, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)
        }
    };
    let len = CONTROL_HEADER_BYTES + data_len;
    into[..8].copy_from_slice(&(len as u64).to_ne_bytes());
    into[8..12].copy_from_slice(&level.to_ne_bytes());
    into[12..16].copy_from_slice(&kind.to_ne_bytes());
    into[len..len.next_multiple_of(8)].fill(0);
    len.next_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use super::{DATAGRAM_BUFFER_BYTES, DATAGRAM_BYTES_MAX, Datagram};
    use crate::buffers::Pool;

    #[test]
    fn addresses_and_payload_survive_the_buffer() {
        let pool = Pool::new(1, DATAGRAM_BUFFER_BYTES as u32).unwrap();
        let cases: [(&str, Option<&str>); 4] = [
            ("192.0.2.7:6881", None),
            ("192.0.2.7:0", Some("127.0.0.2")),
            ("[2001:db8::1]:65535", Some("fe80::1")),
            ("[::ffff:192.0.2.7]:1", Some("::ffff:127.0.0.2")),
        ];
        for (from, to) in cases {
            let from: SocketAddr = from.parse().unwrap();
            let to: Option<IpAddr> = to.map(|to| to.parse().unwrap());
            for len in [0, 1, DATAGRAM_BYTES_MAX, DATAGRAM_BYTES_MAX + 1] {
                let payload: Vec<u8> = (0..len).map(|at| at as u8).collect();
                let buffer = pool.take().unwrap();
                let datagram = Datagram::simulated(buffer, 3, (from, to), &payload);
                assert_eq!(datagram.payload(), &payload[..len.min(DATAGRAM_BYTES_MAX)]);
                assert_eq!(datagram.is_truncated(), len > DATAGRAM_BYTES_MAX);
                assert_eq!((datagram.from(), datagram.to()), (Some(from), to));
                assert_eq!(datagram.socket(), 3);
            }
        }
    }
}
