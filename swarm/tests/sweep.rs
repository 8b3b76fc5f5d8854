//! Expiry in slices: its pace, the size of its slices, and that none is missed.

use std::hash::RandomState;
use std::sync::Arc;
use std::thread;

use annulus_swarm::{
    AnnounceRequest, CompactAddr, InfoHash, PeerEvent, Random, Sample, ScrapeCursor, SwarmConfig,
    Swarms, Sweep, SweepStatus, TorrentCounts, Totals,
};

const TIMEOUT_S: u32 = 4000;
const PERIOD_S: u32 = TIMEOUT_S / 4;

fn swarms() -> Swarms {
    let config = SwarmConfig {
        torrents_max: 100_000,
        peers_max: 100_000,
        peers_per_torrent_max: 100_000,
        peers_per_address_max: 0,
        peer_timeout_s: TIMEOUT_S,
    };
    Swarms::new(config, RandomState::new())
}

/// Announces of `peers` peers at second 0, spread over `torrents` torrents.
fn announce(swarms: &Swarms, torrents: u32, peers: u32) {
    let (mut random, mut sample) = (Random::seeded(0), Sample::with_capacity(0));
    for n in 0..peers {
        let mut info_hash = [0; 20];
        info_hash[..4].copy_from_slice(&(n % torrents).to_be_bytes());
        let [a, b, c, d] = n.to_be_bytes();
        let request = AnnounceRequest {
            info_hash,
            peer: CompactAddr::V4([a, b, c, d, 0, 1]),
            seeder: n % 2 == 0,
            event: PeerEvent::None,
            numwant: 0,
            own_family_only: false,
        };
        swarms.announce(&request, 0, &mut random, &mut sample);
    }
}

/// Sweeps until nothing is due; returns the number of slices.
fn finish(swarms: &Swarms, part: &mut Sweep, now: u32) -> u32 {
    let mut slices = 1;
    while swarms.sweep(part, now, |_| true) == SweepStatus::Pending {
        slices += 1;
    }
    slices
}

#[test]
fn the_work_is_spread_over_the_period() {
    let swarms = swarms();
    announce(&swarms, 40_000, 40_000);
    let mut part = Sweep::new(0, 1);
    let start_s = 2 * TIMEOUT_S;
    assert_eq!(swarms.sweep(&mut part, start_s, |_| true), SweepStatus::Idle);
    for quarter in 1..=4 {
        for now in (start_s + PERIOD_S / 4 * (quarter - 1)..).take(PERIOD_S as usize / 4) {
            let before = swarms.totals().peers;
            finish(&swarms, &mut part, now + 1);
            let gone = before - swarms.totals().peers;
            assert!(gone < 150, "{gone} in one of {PERIOD_S} seconds");
        }
        let left = swarms.totals().peers.abs_diff(40_000 - 10_000 * u64::from(quarter));
        assert!(left < 1000, "{left} off after quarter {quarter}");
    }
    assert_eq!(swarms.totals(), Totals { torrents: 0, peers: 0 });
}

#[test]
fn after_a_long_pause_one_or_two_rounds_suffice() {
    let swarms = swarms();
    announce(&swarms, 10, 10);
    let mut part = Sweep::new(0, 2);
    let mut other = Sweep::new(1, 2);
    for part in [&mut part, &mut other] {
        finish(&swarms, part, 0);
        let slices = finish(&swarms, part, 2 * TIMEOUT_S);
        // Two rounds of 1024 empty shards, 256 of them in a slice.
        assert!(slices < 2 * 1024 / 256 + 10, "{slices}");
    }
    assert_eq!(swarms.totals(), Totals { torrents: 0, peers: 0 });
}

#[test]
fn a_slice_of_a_large_swarm_is_bounded() {
    let swarms = swarms();
    announce(&swarms, 1, 50_000);
    let mut part = Sweep::new(0, 1);
    finish(&swarms, &mut part, 0);
    let slices = finish(&swarms, &mut part, PERIOD_S);
    // A slice checks 8192 stamps.
    assert!(slices > 50_000 / 8192, "{slices} to look at all");
    assert_eq!(swarms.totals().peers, 50_000);
    let mut left = 50_000;
    while swarms.sweep(&mut part, 2 * TIMEOUT_S, |_| true) == SweepStatus::Pending {
        let now_left = swarms.totals().peers;
        assert!(left - now_left <= 128, "{} taken out in one slice", left - now_left);
        left = now_left;
    }
    assert_eq!(swarms.totals(), Totals { torrents: 0, peers: 0 });
}

#[test]
fn a_full_round_removes_in_small_slices_what_is_not_kept() {
    let swarms = swarms();
    announce(&swarms, 40_000, 40_000);
    let keep = |info_hash: &InfoHash| info_hash[3].is_multiple_of(2);
    let mut parts = [Sweep::new(0, 2), Sweep::new(1, 2)];
    for part in &mut parts {
        // Nothing is due in the first second by itself.
        assert_eq!(swarms.sweep(part, 0, keep), SweepStatus::Idle);
        part.start_full_round();
        loop {
            let before = swarms.totals().torrents;
            let swept = swarms.sweep(part, 0, keep);
            let gone = before - swarms.totals().torrents;
            assert!(gone <= 129, "{gone} taken out in one slice");
            if swept == SweepStatus::Idle {
                break;
            }
        }
    }
    assert_eq!(swarms.totals(), Totals { torrents: 20_000, peers: 20_000 });
}

#[test]
fn a_full_round_that_is_restarted_checks_everything_again() {
    let swarms = swarms();
    announce(&swarms, 40_000, 40_000);
    announce(&swarms, 1, 20_000);
    let mut part = Sweep::new(0, 1);
    part.start_full_round();
    for _ in 0..20 {
        assert_eq!(swarms.sweep(&mut part, 0, |_| true), SweepStatus::Pending);
    }
    part.start_full_round();
    while swarms.sweep(&mut part, 0, |_| false) == SweepStatus::Pending {}
    assert_eq!(swarms.totals(), Totals { torrents: 0, peers: 0 });
}

#[test]
fn a_full_round_every_second_does_not_delay_expiry() {
    let swarms = swarms();
    announce(&swarms, 1000, 1000);
    let mut part = Sweep::new(0, 1);
    finish(&swarms, &mut part, 0);
    for now in 2 * TIMEOUT_S..2 * TIMEOUT_S + 40 {
        // The round is never finished.
        part.start_full_round();
        assert_eq!(swarms.sweep(&mut part, now, |_| true), SweepStatus::Pending);
    }
    assert_eq!(swarms.totals(), Totals { torrents: 0, peers: 0 });
}

#[test]
fn peers_that_come_and_go_between_slices_do_not_hide_expired_ones() {
    let swarms = swarms();
    announce(&swarms, 1, 3000);
    let (mut random, mut sample) = (Random::seeded(0), Sample::with_capacity(0));
    let mut part = Sweep::new(0, 1);
    finish(&swarms, &mut part, 0);
    let now = 2 * TIMEOUT_S;
    let mut slice: u8 = 0;
    while swarms.sweep(&mut part, now, |_| true) == SweepStatus::Pending {
        // A new peer joins and an old one leaves, seeders and leechers in turn.
        for (peer, event) in [
            ([9, 9, 9, slice, 0, 1], PeerEvent::None),
            ([0, 0, 2, slice, 0, 1], PeerEvent::Stopped),
        ] {
            let peer = CompactAddr::V4(peer);
            let seeder = slice.is_multiple_of(2);
            let a = AnnounceRequest {
                info_hash: [0; 20],
                peer,
                seeder,
                event,
                numwant: 0,
                own_family_only: false,
            };
            swarms.announce(&a, now, &mut random, &mut sample);
        }
        slice += 1;
    }
    // One round may miss a row that a new seeder has moved.
    finish(&swarms, &mut part, now + PERIOD_S);
    assert_eq!(swarms.totals().peers, u64::from(slice));
}

#[test]
fn concurrent_workers_keep_the_totals_right() {
    const WORKERS: usize = 4;
    const CONFIG: SwarmConfig = SwarmConfig {
        torrents_max: 1000,
        peers_max: 5000,
        peers_per_torrent_max: 300,
        peers_per_address_max: 0,
        peer_timeout_s: 100,
    };
    let swarms = Arc::new(Swarms::new(CONFIG, RandomState::new()));
    let work = |worker: usize| {
        let swarms = Arc::clone(&swarms);
        move || {
            let mut random = Random::seeded(worker as u64);
            let mut sample = Sample::with_capacity(50);
            let mut part = Sweep::new(worker, WORKERS);
            for step in 0..60_000_u32 {
                // The workers share torrents, but not peers.
                let peer = random.below(700) as u16 * WORKERS as u16 + worker as u16;
                let torrent = random.below(1 + random.clone().below(40));
                let event = match random.below(8) {
                    0..3 => PeerEvent::Stopped,
                    3 => PeerEvent::Completed,
                    _ => PeerEvent::None,
                };
                let [high, low] = peer.to_be_bytes();
                let a = AnnounceRequest {
                    info_hash: [torrent as u8; 20],
                    peer: CompactAddr::V4([10, 0, high, low, 0, 80]),
                    seeder: event == PeerEvent::Completed,
                    event,
                    numwant: 30,
                    own_family_only: false,
                };
                let now = step / 200;
                let counts = swarms.announce(&a, now, &mut random, &mut sample);
                assert!(counts.complete + counts.incomplete <= CONFIG.peers_per_torrent_max);
                assert!(swarms.totals().peers <= CONFIG.peers_max);
                swarms.sweep(&mut part, now, |_| true);
            }
            part
        }
    };
    let threads: Vec<_> = (0..WORKERS).map(|worker| thread::spawn(work(worker))).collect();
    let mut parts: Vec<_> =
        threads.into_iter().map(|thread| thread.join().expect("no worker panics")).collect();

    let (mut cursor, mut all) = (ScrapeCursor::default(), Vec::new());
    while swarms.scrape_chunk(&mut cursor, 100, &mut all) {}
    let sum = |counts: &TorrentCounts| u64::from(counts.complete + counts.incomplete);
    let peers = all.iter().map(|(_, counts)| sum(counts)).sum();
    assert_eq!(swarms.totals(), Totals { torrents: all.len() as u64, peers });
    assert!(peers > 1000, "{peers}");

    for part in &mut parts {
        while swarms.sweep(part, 450, |_| true) == SweepStatus::Pending {}
    }
    assert_eq!(swarms.totals(), Totals { torrents: 0, peers: 0 });
}
