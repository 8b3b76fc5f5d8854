//! Full scrapes, which are sent piece by piece.
//!
//! Several go on at once, each with a cursor of its own, and a turn of the loop sends one piece of
//! one of them: however many there are and however fast they are read, they add no more to a turn.

use annulus_ring::{Key, Ring};

use super::Worker;
use super::slot::Phase;

impl<R: Ring> Worker<R> {
    /// Begins to stream to a connection, once the start of the reply is out.
    pub(super) fn begin_stream(&mut self, key: Key) {
        let slot = &mut self.slots[key.slot() as usize];
        slot.phase = Phase::Streaming;
        slot.stream = Some(Box::new(self.server.begin_full_scrape()));
        self.set_deadline(key, self.settings.send_s);
        self.queue(key);
    }

    /// Sends the next piece of the stream that has waited longest.
    pub(super) fn stream_some(&mut self) {
        while let Some(key) = self.streams.pop_front() {
            let Some(slot) = self.slot(key) else { continue };
            slot.queued = false;
            if slot.phase == Phase::Streaming && !slot.sending {
                return self.stream_on(key);
            }
        }
    }

    fn stream_on(&mut self, key: Key) {
        let slot = &mut self.slots[key.slot() as usize];
        let before = slot.held_bytes();
        let Some(stream) = &mut slot.stream else { return };
        let (out, server) = (self.ring.send_buffer(), &mut self.server);
        let write = |out: &mut [u8]| server.write_scrape_chunk(stream, out);
        let (len, more) = slot.connection.stream_chunk(&mut self.scratch, out, write);
        self.counters.bytes_sent.add(len as u64);
        if len > 0 {
            slot.sent_turn = self.turn;
            self.ring.send(key, &slot.socket, len);
        }
        if !more {
            slot.phase = Phase::Flushing;
            self.end_stream(key);
        }
        self.recount(key, before);
        self.set_deadline(key, self.settings.send_s);
        self.queue(key);
    }

    /// Frees what a stream holds, if the connection has one.
    pub(super) fn end_stream(&mut self, key: Key) {
        if self.slots[key.slot() as usize].stream.take().is_some() {
            self.server.end_full_scrape();
        }
    }
}
