//! Responses as bytes, without a server: their exact form, and that the longest fit their bounds.

use std::hash::RandomState;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use annulus::response::{
    AnnounceResponse, FAILURE_BYTES_MAX, Intervals, MESSAGE_BYTES_MAX, ResponseOptions, RetryIn,
    Status, announce, announce_bytes_max, continue_scrape, continue_scrape_bytes_max, failure,
    message, scrape, scrape_bytes_max,
};
use annulus_swarm::{
    AnnounceRequest, CompactAddr, InfoHash, PeerEvent, Random, Sample, SwarmConfig, Swarms,
    TorrentCounts,
};

const KEEP: ResponseOptions = ResponseOptions { http10: false, keep_alive: true, head_only: false };
const LONGEST: TorrentCounts =
    TorrentCounts { complete: u32::MAX, incomplete: u32::MAX, downloaded: u32::MAX };
const INTERVALS: Intervals = Intervals { interval_s: u32::MAX, min_interval_s: u32::MAX };

/// A sample of so many peers of each family, their addresses as long in text as can be.
fn sample(v4: u16, v6: u16) -> Sample {
    let settings = SwarmConfig {
        torrents_max: 1,
        peers_max: u64::MAX,
        peers_per_torrent_max: u32::MAX,
        peers_per_address_max: 0,
        peer_timeout_s: 100,
    };
    let swarms = Swarms::new(settings, RandomState::new());
    let mut sample = Sample::with_capacity(u32::from(v4) + u32::from(v6));
    let mut random = Random::seeded(1);
    let mut announce = |ip: IpAddr, port, numwant| {
        let peer = CompactAddr::new(ip, port);
        let event = PeerEvent::None;
        let announcement = AnnounceRequest {
            info_hash: [7; 20],
            peer,
            seeder: false,
            event,
            numwant,
            own_family_only: false,
        };
        swarms.announce(&announcement, 0, &mut random, &mut sample);
    };
    for peer in 0..v4 {
        announce(IpAddr::V4(Ipv4Addr::new(255, 254, 253, 252)), 60_000 - peer, 0);
    }
    for peer in 0..v6 {
        announce(IpAddr::V6(Ipv6Addr::from([0xff; 16])), 60_000 - peer, 0);
    }
    announce(IpAddr::V4(Ipv4Addr::LOCALHOST), 1, u32::from(v4) + u32::from(v6));
    assert_eq!((sample.v4().len(), sample.v6().len()), (v4.into(), v6.into()));
    sample
}

/// Splits a response, and checks its length against its Content-Length.
fn body(response: &[u8]) -> (String, Vec<u8>) {
    let end = response.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8(response[..end].to_vec()).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    assert_eq!(length.unwrap().parse(), Ok(response.len() - end));
    (head, response[end..].to_vec())
}

#[test]
fn the_longest_announces_fit_exactly_where_they_should() {
    for (v4, v6) in [(0, 0), (1, 0), (0, 1), (200, 0), (0, 200), (150, 50), (0, 900)] {
        for compact in [true, false] {
            for external in
                [IpAddr::V4(Ipv4Addr::BROADCAST), IpAddr::V6(Ipv6Addr::from([0xff; 16]))]
            {
                let sample = sample(v4, v6);
                let counts = LONGEST;
                let answer = AnnounceResponse {
                    counts,
                    external,
                    intervals: INTERVALS,
                    sample: &sample,
                    compact,
                };
                let options = ResponseOptions { http10: true, ..KEEP };
                let max = announce_bytes_max(usize::from(v4 + v6));
                let mut out = vec![0xaa; max];
                let len = announce(&mut out, options, &answer);
                let (_, body) = body(&out[..len]);
                assert!(body.starts_with(b"d8:completei4294967295e10:downloaded"));
                assert!(body.ends_with(b"e"));
                assert_eq!(compact, !body.windows(8).any(|bytes| bytes == b"5:peersl"));
                if !compact && v6 > 0 {
                    let entry = b"d2:ip39:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff4:porti";
                    let found = body.windows(entry.len()).filter(|bytes| bytes == entry);
                    assert_eq!(found.count(), usize::from(v6));
                }
            }
        }
    }
}

#[test]
fn an_announce_in_both_forms_to_the_letter() {
    let sample = sample(2, 1);
    let counts = TorrentCounts { complete: 1, incomplete: 20, downloaded: 300 };
    let intervals = Intervals { interval_s: 1800, min_interval_s: 900 };
    let external = IpAddr::V4(Ipv4Addr::new(65, 66, 67, 68));
    let answer = AnnounceResponse { counts, external, intervals, sample: &sample, compact: true };
    let mut out = vec![0; announce_bytes_max(3)];
    let len = announce(&mut out, KEEP, &answer);
    let (head, compact) = body(&out[..len]);
    assert_eq!(
        head,
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
            compact.len()
        )
    );
    let common = b"d8:completei1e10:downloadedi300e11:external ip4:ABCD10:incompletei20e\
                   8:intervali1800e12:min intervali900e5:peers";
    let (v4, v6) = (sample.v4().as_flattened(), sample.v6().as_flattened());
    assert_eq!(compact, [common, b"12:".as_slice(), v4, b"6:peers618:", v6, b"e"].concat());

    let len = announce(&mut out, KEEP, &AnnounceResponse { compact: false, ..answer });
    let (_, list) = body(&out[..len]);
    let entry = |ip: &str, port: &[u8]| {
        let port = u16::from_be_bytes([port[0], port[1]]);
        format!("d2:ip{}:{ip}4:porti{port}ee", ip.len())
    };
    let v4 = sample.v4().iter().map(|peer| entry("255.254.253.252", &peer[4..]));
    let v6 = sample.v6().iter().map(|peer| entry(&["ffff"; 8].join(":"), &peer[16..]));
    let entries: String = v4.chain(v6).collect();
    assert_eq!(list, [common, b"l".as_slice(), entries.as_bytes(), b"ee"].concat());
}

#[test]
fn scrapes_and_failures_at_their_longest_fit() {
    for count in [1usize, 64, 395] {
        let torrents: Vec<(InfoHash, TorrentCounts)> =
            (0..count).map(|index| ([index as u8; 20], LONGEST)).collect();
        let mut torrents: Vec<(InfoHash, TorrentCounts)> = torrents;
        for (index, (hash, _)) in torrents.iter_mut().enumerate() {
            hash[..2].copy_from_slice(&(index as u16).to_be_bytes());
        }
        let mut out = vec![0; scrape_bytes_max(count)];
        let len = scrape(&mut out, ResponseOptions { http10: true, ..KEEP }, &torrents);
        let (_, body) = body(&out[..len]);
        assert!(body.starts_with(b"d5:filesd20:") && body.ends_with(b"eee"));
        let mut piece = vec![0; continue_scrape_bytes_max(count)];
        let len = continue_scrape(&mut piece, &torrents, true);
        assert_eq!(piece[..len], body[b"d5:filesd".len()..]);
    }
    let reason = "r".repeat(MESSAGE_BYTES_MAX);
    for retry in [RetryIn::Never, RetryIn::Minutes(u32::MAX)] {
        let mut out = [0; FAILURE_BYTES_MAX];
        let options = ResponseOptions { http10: true, ..KEEP };
        let len = failure(&mut out, options, &reason, INTERVALS, retry);
        let (head, body) = body(&out[..len]);
        assert!(head.contains("\r\nConnection: keep-alive\r\n"));
        assert!(body.starts_with(b"d14:failure reason128:rrr") && body.ends_with(b"e"));
    }
    let mut out = [0; FAILURE_BYTES_MAX];
    let len = message(&mut out, ResponseOptions::CLOSING, Status::HeaderFieldsTooLarge, &reason);
    let (head, _) = body(&out[..len]);
    assert!(head.starts_with("HTTP/1.1 431 ") && head.contains("\r\nConnection: close\r\n"));
}

#[test]
fn a_head_is_the_get_reply_without_its_body() {
    let sample = sample(3, 2);
    for compact in [true, false] {
        let answer = AnnounceResponse {
            counts: LONGEST,
            external: IpAddr::V4(Ipv4Addr::LOCALHOST),
            intervals: INTERVALS,
            sample: &sample,
            compact,
        };
        let mut get = vec![0; announce_bytes_max(5)];
        let mut head = get.clone();
        let get_len = announce(&mut get, KEEP, &answer);
        let head_len = announce(&mut head, ResponseOptions { head_only: true, ..KEEP }, &answer);
        assert_eq!(head[..head_len], get[..head_len]);
        assert!(head_len < get_len && head[..head_len].ends_with(b"\r\n\r\n"));
    }
}
