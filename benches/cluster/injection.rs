//! Records at a rate that announces on two processors do not reach: a node of this program alone,
//! which publishes and does not listen.

use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use annulus::cluster::{
    Destination, NodeHalves, NodeId, NodeParts, NodePublisher, NodeTime, PeerRecord,
};
use annulus_bench::swarms::{announce_request, unbounded};
use annulus_bench::torrents::mix;
use annulus_swarm::PeerEvent;
use anyhow::Result;

use crate::site::{CHANNEL, RedisConnection};

/// The records: so many clients, each in a torrent of its own choice.
pub(crate) const CLIENTS: u32 = 1_000_000;
pub(crate) const TORRENTS: u32 = 100_000;

/// Time between two looks at what is due, and between two flushes, as a node has them.
const STEP: Duration = Duration::from_millis(5);
const FLUSH: Duration = Duration::from_millis(20);

const PEER_TIMEOUT_S: u32 = 2700;

/// The publishing half of a node.
pub(crate) struct Injector {
    publisher: NodePublisher,
    start: Instant,
    next: u64,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Injected {
    pub(crate) records: u64,
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
}

/// The halves of a node with empty swarms.
pub(crate) fn node(id: u64) -> NodeHalves {
    NodeHalves::new(NodeParts {
        swarms: Arc::new(unbounded(PEER_TIMEOUT_S)),
        id: NodeId(id),
        seed: id,
        peer_timeout_s: PEER_TIMEOUT_S,
        state_age_s: None,
        start: NodeTime { since_start: Duration::ZERO, unix_ms: unix_ms() },
    })
}

/// The record of a number.
pub(crate) fn record(number: u64) -> PeerRecord {
    let client = (mix(number) % u64::from(CLIENTS)) as u32;
    let request = announce_request(client % TORRENTS, client, 0);
    let mut record = PeerRecord::of(&request);
    record.event = PeerEvent::None;
    record
}

pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

impl Injector {
    pub(crate) fn new() -> Injector {
        let mut injector =
            Injector { publisher: node(unix_ms()).publisher, start: Instant::now(), next: 0 };
        injector.publisher.on_connected(injector.now());
        injector
    }

    fn now(&self) -> NodeTime {
        NodeTime { since_start: self.start.elapsed(), unix_ms: unix_ms() }
    }

    /// Publishes so many records a second for this long.
    pub(crate) fn run(
        &mut self,
        rate: u64,
        time: Duration,
        to: &mut RedisConnection,
    ) -> Result<Injected> {
        let (begun, mut sent) = (Instant::now(), Injected::default());
        let (mut flushed, mut result) = (begun, Ok(()));
        let mut buffer = Vec::new();
        while begun.elapsed() < time {
            let now = self.now();
            let due = (begun.elapsed().as_secs_f64() * rate as f64) as u64;
            let mut send = |destination: Destination, frame: &[u8]| {
                sent.frames += 1;
                sent.bytes += frame.len() as u64;
                if result.is_ok() {
                    result = to.publish(&destination.channel(CHANNEL), frame);
                }
            };
            while sent.records < due {
                buffer.clear();
                for _ in 0..(due - sent.records).min(512) {
                    record(self.next).encode(&mut buffer);
                    self.next += 1;
                    sent.records += 1;
                }
                self.publisher.add_records(&buffer, now, &mut send);
            }
            if flushed.elapsed() >= FLUSH {
                self.publisher.flush(now, &mut send);
                flushed = Instant::now();
            }
            self.publisher.step(now, &mut send);
            to.drain()?;
            sleep(STEP);
        }
        let now = self.now();
        self.publisher.flush(now, &mut |destination, frame| {
            result = to.publish(&destination.channel(CHANNEL), frame);
        });
        to.drain()?;
        result.map(|()| sent)
    }
}
