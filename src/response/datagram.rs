//! Encodes replies by UDP (BEP 15): numbers in network byte order, at most [`REPLY_BYTES_MAX`].

use annulus_parser::DATAGRAM_HASHES_MAX;
use annulus_ring::REPLY_BYTES_MAX;
use annulus_swarm::TorrentCounts;

/// Values of the action, the first number of a reply.
const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;

const CONNECT_BYTES: usize = 16;
const ANNOUNCE_HEAD_BYTES: usize = 20;
const SCRAPE_HEAD_BYTES: usize = 8;
const SCRAPE_TORRENT_BYTES: usize = 12;
const ERROR_HEAD_BYTES: usize = 8;

/// Bytes of a reply with peers. With the headers of IP and UDP it passes tunnels too, whose packets
/// are smaller than those of Ethernet: a fragment that is lost loses the reply.
const PEERS_REPLY_BYTES_MAX: usize = 1400;

/// The most IPv4 peers in a reply.
pub const IPV4_PEERS_MAX: usize = (PEERS_REPLY_BYTES_MAX - ANNOUNCE_HEAD_BYTES) / 6;
/// The most IPv6 peers in a reply: an IPv6 packet has larger headers, and within 1400 bytes with
/// all of them there is room for so many.
pub const IPV6_PEERS_MAX: usize = 73;

const _: () = assert!(IPV4_PEERS_MAX == 230);
const _: () = assert!(ANNOUNCE_HEAD_BYTES + 18 * IPV6_PEERS_MAX + 48 <= PEERS_REPLY_BYTES_MAX);
const _: () = assert!(PEERS_REPLY_BYTES_MAX <= REPLY_BYTES_MAX);
const _: () = assert!(
    SCRAPE_HEAD_BYTES + SCRAPE_TORRENT_BYTES * DATAGRAM_HASHES_MAX <= PEERS_REPLY_BYTES_MAX
);
const _: () = assert!(ERROR_HEAD_BYTES + super::MESSAGE_BYTES_MAX <= REPLY_BYTES_MAX);

/// Writes the reply to a connect. Returns its length, which is the least that a connect has.
#[inline]
pub fn connect(out: &mut [u8], transaction_id: u32, connection_id: u64) -> usize {
    let [high, low] = [(connection_id >> 32) as u32, connection_id as u32];
    put(out, [CONNECT, transaction_id, high, low]);
    CONNECT_BYTES
}

/// Writes the reply to an announce, with `peers` of the client's family: at most
/// [`IPV4_PEERS_MAX`] or [`IPV6_PEERS_MAX`]. Returns its length.
#[inline]
pub fn announce(
    out: &mut [u8],
    transaction_id: u32,
    interval_s: u32,
    counts: TorrentCounts,
    peers: &[u8],
) -> usize {
    put(out, [ANNOUNCE, transaction_id, interval_s, counts.incomplete, counts.complete]);
    let len = ANNOUNCE_HEAD_BYTES + peers.len();
    out[ANNOUNCE_HEAD_BYTES..len].copy_from_slice(peers);
    len
}

/// Writes the reply to a scrape, for at most [`DATAGRAM_HASHES_MAX`] torrents in the order in which
/// they were asked for. Returns its length.
pub fn scrape(
    out: &mut [u8],
    transaction_id: u32,
    torrents: impl Iterator<Item = TorrentCounts>,
) -> usize {
    put(out, [SCRAPE, transaction_id]);
    let mut len = SCRAPE_HEAD_BYTES;
    for counts in torrents {
        put(&mut out[len..], [counts.complete, counts.downloaded, counts.incomplete]);
        len += SCRAPE_TORRENT_BYTES;
    }
    len
}

/// Writes an error. `reason` has at most [`MESSAGE_BYTES_MAX`](super::MESSAGE_BYTES_MAX). Returns
/// its length.
pub fn error(out: &mut [u8], transaction_id: u32, reason: &str) -> usize {
    debug_assert!(reason.len() <= super::MESSAGE_BYTES_MAX);
    put(out, [ERROR, transaction_id]);
    let len = ERROR_HEAD_BYTES + reason.len();
    out[ERROR_HEAD_BYTES..len].copy_from_slice(reason.as_bytes());
    len
}

#[inline(always)]
fn put<const N: usize>(out: &mut [u8], numbers: [u32; N]) {
    let (places, _) = out[..4 * N].as_chunks_mut();
    for (place, number) in places.iter_mut().zip(numbers) {
        *place = number.to_be_bytes();
    }
}
