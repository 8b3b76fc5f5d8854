//! What the parts of a request cost, in memory and one at a time: parse, look up in an access
//! list, announce, encode, record for other nodes.
//!
//! `cargo bench --bench micro`. Each measurement checks its result, and calls what the
//! server calls. Figures are nanoseconds: the best and the median of some rounds, since
//! noise only ever adds.
#![allow(clippy::disallowed_methods, reason = "it measures times")]

use std::collections::VecDeque;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use annulus::access_list::AccessList;
use annulus::cluster::{NodeHalves, NodeId, NodeParts, NodeTime, PeerRecord, WorkerOutbox, frame};
use annulus::limits::OUTBOX_SLOT_BYTES;
use annulus::response::{self, AnnounceResponse, Intervals, ResponseOptions};
use annulus_bench::swarms::{NUMWANT, announce_request, unbounded};
use annulus_parser::{Bounds, Parsed, Target, parse_announce, parse_head};
use annulus_swarm::{
    AnnounceBatch, AnnounceRequest, BATCH_MAX, InfoHash, PeerEvent, Random, Sample,
};

const ROUNDS: usize = 15;
const BOUNDS: Bounds = Bounds {
    request_line_bytes_max: annulus::limits::REQUEST_LINE_BYTES_MAX,
    head_bytes_max: annulus::limits::HEAD_BYTES_MAX,
    headers_max: annulus::limits::HEADERS_MAX,
};

fn main() {
    println!("{:<44} {:>9} {:>9}", "", "best ns", "median ns");
    parse();
    encode();
    for hashes in [1000, 1_000_000, 10_000_000] {
        look_up(hashes);
    }
    for peers in [10_000, 1_000_000, 10_000_000] {
        announce(peers);
    }
    for announces in [1, 32] {
        record(announces);
    }
    for peers in [10_000, 1_000_000, 10_000_000] {
        replicate(peers);
    }
}

/// Times `count` calls of `work` per round and prints a line.
fn measure(name: &str, count: usize, mut work: impl FnMut(usize)) {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for call in 0..count {
                work(call);
            }
            start.elapsed().as_nanos() as f64 / count as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!("{name:<44} {:>9.1} {:>9.1}", rounds[0], rounds[ROUNDS / 2]);
}

fn parse() {
    // What Transmission 3.00 sends.
    let request: &[u8] =
        b"GET /announce?info_hash=%1b%9e%f0%a2%e5%0e%8c%c7Wm%ab%d8%a9r%06%ddZU%b6%40\
        &peer_id=-TR3000-4rxjsgfnu0he&port=51413&uploaded=0&downloaded=0&left=201000&numwant=80\
        &key=1236580&compact=1&supportcrypto=1&event=started HTTP/1.1\r\nHost: 127.0.0.1:7070\r\n\
        User-Agent: Transmission/3.00\r\nAccept: */*\r\n\
        Accept-Encoding: deflate, gzip, br, zstd\r\n\r\n";
    measure(&format!("parse an announce of {} bytes", request.len()), 100_000, |_| {
        let Ok(Parsed::Complete { head, consumed }) = parse_head(black_box(request), 0, &BOUNDS)
        else {
            panic!("not parsed")
        };
        let Target::Announce(query) = head.target else { panic!("no announce") };
        let announce = parse_announce(query).expect("an announce");
        assert!(announce.port == 51413 && announce.info_hash[0] == 0x1b);
        assert_eq!(consumed.get(), request.len());
    });
    let mut scrape = b"GET /scrape?".to_vec();
    for torrent in 0..64 {
        let hash: String = (0..20).map(|byte| format!("%{:02x}", byte * 7 + torrent)).collect();
        scrape.extend_from_slice(format!("&info_hash={hash}").as_bytes());
    }
    scrape.extend_from_slice(b" HTTP/1.1\r\nHost: 127.0.0.1:7070\r\n\r\n");
    measure(&format!("parse a scrape of 64 in {} bytes", scrape.len()), 10_000, |_| {
        let Ok(Parsed::Complete { head, .. }) = parse_head(black_box(&scrape), 0, &BOUNDS) else {
            panic!("not parsed")
        };
        let Target::Scrape(query) = head.target else { panic!("no scrape") };
        assert_eq!(annulus_parser::scrape_hashes(query).filter(Result::is_ok).count(), 64);
    });
}

fn encode() {
    let swarms = unbounded(2700);
    let mut random = Random::seeded(1);
    let mut sample = Sample::with_capacity(200);
    for client in 0..300 {
        swarms.announce(&announce_request(0, client, NUMWANT), 0, &mut random, &mut sample);
    }
    let mut out = vec![0; response::announce_bytes_max(200)];
    for (numwant, compact) in [(0, true), (50, true), (200, true), (50, false)] {
        let counts = swarms.announce(&announce_request(0, 7, numwant), 0, &mut random, &mut sample);
        let parts = AnnounceResponse {
            counts,
            external: IpAddr::V4(Ipv4Addr::LOCALHOST),
            intervals: Intervals { interval_s: 1800, min_interval_s: 900 },
            sample: &sample,
            compact,
        };
        let options = ResponseOptions { http10: false, keep_alive: true, head_only: false };
        let form = if compact { "compact" } else { "dictionaries" };
        measure(&format!("encode {numwant} peers, {form}"), 50_000, |_| {
            let len = response::announce(black_box(&mut out), options, &parts);
            assert!(out[..len].starts_with(b"HTTP/1.1 200 OK\r\n") && out[len - 1] == b'e');
            assert!(len > numwant as usize * 6);
        });
    }
}

/// Looks for info hashes in an access list of so many; every other one is there.
fn look_up(hashes: usize) {
    let mut random = Random::seeded(5);
    let mut info_hash = || {
        let mut hash: InfoHash = [0; 20];
        hash.as_chunks_mut()
            .0
            .iter_mut()
            .for_each(|four| *four = random.below(u32::MAX).to_be_bytes());
        hash
    };
    let listed: Vec<InfoHash> = (0..hashes).map(|_| info_hash()).collect();
    let mut order = Random::seeded(6);
    let asked: Vec<InfoHash> = (0..100_000)
        .map(|call| match call % 2 {
            0 => listed[order.below(hashes as u32) as usize],
            _ => info_hash(),
        })
        .collect();
    let list = AccessList::new(listed);
    measure(&format!("look up in a list of {hashes} info hashes"), asked.len(), |call| {
        assert_eq!(list.contains(black_box(&asked[call])), call % 2 == 0);
    });
}

/// Announces of known peers into a table of `peers`, ten to a torrent on average, some
/// torrents far larger than others.
fn announce(peers: u32) {
    let swarms = unbounded(2700);
    let mut random = Random::seeded(2);
    let mut sample = Sample::with_capacity(200);
    let torrents = peers / 10;
    let mut known = Vec::with_capacity(peers as usize);
    for client in 0..peers {
        let torrent = skewed(&mut random, torrents);
        let filled = announce_request(torrent, client, 0);
        swarms.announce(&filled, 0, &mut random, &mut sample);
        known.push(torrent);
    }
    assert_eq!(swarms.totals().peers, u64::from(peers));
    let mut order = Random::seeded(3);
    let asked: Vec<AnnounceRequest> = (0..100_000)
        .map(|_| order.below(peers))
        .map(|client| announce_request(known[client as usize], client, NUMWANT))
        .collect();
    let mut announce = |again: &AnnounceRequest| {
        let counts = swarms.announce(again, 1, &mut random, &mut sample);
        let eligible = counts.complete + counts.incomplete - 1;
        let given = sample.v4().len() as u32;
        assert!(given <= NUMWANT && (given == NUMWANT || given <= eligible));
    };
    measure(&format!("announce, 50 wanted, {peers} peers"), asked.len(), |call| {
        announce(&asked[call]);
    });
    // As a worker does that has so many requests in hand, whatever the size of the tables.
    let mut batch = AnnounceBatch::new();
    measure(&format!("the same in batches of {BATCH_MAX}"), asked.len(), |call| {
        if call.is_multiple_of(BATCH_MAX) {
            for coming in asked[call..].iter().take(BATCH_MAX) {
                batch.push(coming.info_hash, Some(coming.peer));
            }
            swarms.prefetch(&mut batch);
        }
        announce(&asked[call]);
    });
    assert_eq!(swarms.totals().peers, u64::from(peers));
    let mut order = Random::seeded(4);
    let asked: Vec<InfoHash> = (0..100_000)
        .map(|_| known[order.below(peers) as usize])
        .map(|torrent| announce_request(torrent, 0, 0).info_hash)
        .collect();
    let scrape = |info_hash: &InfoHash| {
        let counts = swarms.scrape(info_hash);
        assert!(counts.complete + counts.incomplete > 0);
    };
    measure(&format!("scrape a torrent, {peers} peers"), asked.len(), |call| scrape(&asked[call]));
    measure("the same, of a scrape of 64", asked.len(), |call| {
        if call.is_multiple_of(BATCH_MAX) {
            asked[call..].iter().take(BATCH_MAX).for_each(|hash| batch.push_scrape(*hash));
            swarms.prefetch(&mut batch);
        }
        scrape(&asked[call]);
    });
}

/// What an announce costs more at a node of a cluster: its record, and its share of handing over
/// those of so many announces a turn.
fn record(announces: usize) {
    let (mut outbox, slot) = WorkerOutbox::new();
    let mut taken = Vec::with_capacity(OUTBOX_SLOT_BYTES);
    let request = announce_request(1, 1, NUMWANT);
    let mut bytes = 0;
    measure(&format!("record of an announce, {announces} a turn"), 100_000, |call| {
        assert!(outbox.add(&PeerRecord::of(black_box(&request))));
        if call.is_multiple_of(announces) {
            assert!(!outbox.hand_over());
        }
        // The publisher's thread comes every 20 ms.
        if call.is_multiple_of(10_000) {
            taken.clear();
            assert!(!slot.take(&mut taken));
            bytes += taken.len();
        }
    });
    assert!(bytes > ROUNDS * 90_000 * 27, "{bytes}");
}

/// Frames of records for other nodes: what a record costs the thread that makes them, and what it
/// costs the thread of another node that applies it to swarms of so many peers, all of them known.
/// One in a hundred stops, and comes back.
fn replicate(peers: u32) {
    const FRAMES: usize = 20;
    const RECORDS: usize = FRAMES * (frame::PAYLOAD_BYTES_MAX / 27);
    let swarms = Arc::new(unbounded(2700));
    let (mut random, mut sample) = (Random::seeded(2), Sample::with_capacity(200));
    let torrents = peers / 10;
    let mut known = Vec::with_capacity(peers as usize);
    for client in 0..peers {
        let torrent = skewed(&mut random, torrents);
        swarms.announce(&announce_request(torrent, client, 0), 0, &mut random, &mut sample);
        known.push(torrent);
    }
    let now = NodeTime { since_start: Duration::from_secs(1), unix_ms: 0 };
    let node = |id, swarms| {
        NodeHalves::new(NodeParts {
            swarms,
            id: NodeId(id),
            seed: id,
            peer_timeout_s: 2700,
            state_age_s: None,
            start: now,
        })
    };
    let mut sender = node(1, Arc::new(unbounded(2700)));
    let mut receiver = node(2, Arc::clone(&swarms));
    sender.publisher.on_connected(now);
    receiver.subscriber.on_subscribed(now);
    let mut records = Vec::new();
    for _ in 0..RECORDS {
        let client = random.below(peers);
        let request = announce_request(known[client as usize], client, 0);
        let stopped = AnnounceRequest { event: PeerEvent::Stopped, ..request };
        let stops = random.below(100) == 0;
        PeerRecord::of(if stops { &stopped } else { &request }).encode(&mut records);
    }
    let mut frames: Vec<Vec<u8>> = Vec::new();
    let each = 1.0 / RECORDS as f64;
    measure_each("make frames, a record", each, || {
        frames.clear();
        sender.publisher.add_records(black_box(&records), now, &mut |_, frame| {
            frames.push(frame.to_vec());
        });
        assert!(frames.len() + 1 >= FRAMES);
    });
    let applied = |receiver: &NodeHalves| -> u64 {
        receiver.status.subscriber.records.iter().map(|(_, count)| count).sum()
    };
    // Frames that were applied once are refused: each round has its own, in their order.
    let mut rounds: VecDeque<Vec<Vec<u8>>> = (0..ROUNDS)
        .map(|_| {
            let mut frames = Vec::new();
            sender.publisher.add_records(&records, now, &mut |_, frame| {
                frames.push(frame.to_vec());
            });
            frames
        })
        .collect();
    measure_each(&format!("apply a record, {peers} peers"), each, || {
        let before = applied(&receiver);
        for frame in rounds.pop_front().expect("a round") {
            receiver.subscriber.receive(black_box(&frame), now, &mut |_| true);
        }
        assert!(applied(&receiver) - before + 2 * (RECORDS / FRAMES) as u64 >= RECORDS as u64);
    });
}

/// Times one call of `work` a round and prints a line, of a part of each.
fn measure_each(name: &str, part: f64, mut work: impl FnMut()) {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_nanos() as f64 * part
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!("{name:<44} {:>9.1} {:>9.1}", rounds[0], rounds[ROUNDS / 2]);
}

/// A number below `n`, small ones far more often.
fn skewed(random: &mut Random, n: u32) -> u32 {
    let unit = f64::from(random.below(1 << 24)) / f64::from(1 << 24);
    ((unit * unit * unit) * f64::from(n)) as u32
}
