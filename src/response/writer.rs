//! The parts of a response: head and bencode, and the lengths that are needed before either.

use std::io::Write;
use std::net::Ipv6Addr;

use super::{ResponseOptions, Status};
use annulus_swarm::{InfoHash, Sample, TorrentCounts};

/// A cursor over a response. It panics rather than writing past the end: the `*_bytes_max`
/// functions say how much room is needed.
pub(super) struct Writer<'a> {
    pub(super) out: &'a mut [u8],
    pub(super) at: usize,
}

impl Writer<'_> {
    #[inline]
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    #[inline]
    pub(super) fn number(&mut self, number: u32) {
        let digits = digits_of(number);
        let space = &mut self.out[self.at..self.at + digits];
        let mut rest = number;
        for digit in space.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        self.at += digits;
    }

    pub(super) fn string(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u32);
        self.put(b":");
        self.put(bytes);
    }

    pub(super) fn head(
        &mut self,
        status: Status,
        options: ResponseOptions,
        body_len: Option<usize>,
    ) {
        self.head_with(status, options, body_len, &[]);
    }

    /// With one more header line, given in parts.
    pub(super) fn head_with(
        &mut self,
        status: Status,
        options: ResponseOptions,
        body_len: Option<usize>,
        header: &[&[u8]],
    ) {
        self.put(status.line().as_bytes());
        if !header.is_empty() {
            header.iter().for_each(|part| self.put(part));
            self.put(b"\r\n");
        }
        self.put(b"Content-Type: text/plain\r\n");
        match (options.keep_alive, options.http10) {
            (false, _) => self.put(b"Connection: close\r\n"),
            (true, true) => self.put(b"Connection: keep-alive\r\n"),
            (true, false) => {}
        }
        if let Some(body_len) = body_len {
            self.put(b"Content-Length: ");
            self.number(body_len as u32);
            self.put(b"\r\n");
        }
        self.put(b"\r\n");
    }

    pub(super) fn dictionaries(&mut self, sample: &Sample) {
        for [a, b, c, d, high, low] in sample.v4() {
            let octets = [*a, *b, *c, *d].map(u32::from);
            let text_len = 3 + octets.iter().map(|&octet| digits_of(octet)).sum::<usize>();
            self.put(b"d2:ip");
            self.number(text_len as u32);
            self.put(b":");
            for (index, octet) in octets.into_iter().enumerate() {
                if index > 0 {
                    self.put(b".");
                }
                self.number(octet);
            }
            self.port(u16::from_be_bytes([*high, *low]));
        }
        for peer in sample.v6() {
            let (ip, port) = peer.split_at(16);
            let mut octets = [0; 16];
            octets.copy_from_slice(ip);
            let mut text = Text { text: [0; 48], len: 0 };
            let _ = write!(text, "{}", Ipv6Addr::from(octets));
            self.put(b"d2:ip");
            self.string(&text.text[..text.len]);
            self.port(u16::from_be_bytes([port[0], port[1]]));
        }
    }

    fn port(&mut self, port: u16) {
        self.put(b"4:porti");
        self.number(port.into());
        self.put(b"ee");
    }

    pub(super) fn scrape_torrent(&mut self, info_hash: &InfoHash, counts: &TorrentCounts) {
        self.string(info_hash);
        self.put(b"d8:completei");
        self.number(counts.complete);
        self.put(b"e10:downloadedi");
        self.number(counts.downloaded);
        self.put(b"e10:incompletei");
        self.number(counts.incomplete);
        self.put(b"ee");
    }
}

/// An IPv6 address in text, without the heap.
struct Text {
    text: [u8; 48],
    len: usize,
}

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = (&mut self.text[self.len..]).write(bytes)?;
        self.len += written;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Bytes of a bencoded string.
#[inline]
pub(super) fn string_len(bytes: &[u8]) -> usize {
    digits_of(bytes.len() as u32) + 1 + bytes.len()
}

/// Decimal digits of a number.
#[inline]
pub(super) fn digits_of(number: u32) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}
