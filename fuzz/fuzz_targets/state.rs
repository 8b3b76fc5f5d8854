//! The state file: any bytes are refused or read, however they come; and what is read can be
//! written again and is the same then. The input is a file as it is, or the entries of blocks that
//! get the checksums which a fuzzer would not find.
#![no_main]

use std::hash::RandomState;
use std::io::{self, Read};

use annulus::state::format::{StateHeader, StateReader, StateTotals, StateWriter};
use annulus::state::{read_entries, write_swarms};
use annulus_swarm::{Ages, Entries, Restored, SwarmConfig, Swarms, TorrentEntry};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&kind, rest)) = input.split_first() else { return };
    if kind % 2 == 0 {
        check(rest);
        return;
    }
    // Cut into blocks at the bytes 0xfe, which are left out.
    let mut file = Vec::new();
    let tick_s = u32::from(kind >> 4) + 1;
    let header = StateHeader { tick_s, phase_s: tick_s - 1, unix_s: 1000, node: 1 };
    let mut writer = StateWriter::begin(&mut file, &header).unwrap();
    let (mut entries, mut peers) = (0, 0);
    for block in rest.split(|&byte| byte == 0xfe) {
        writer.block(block).unwrap();
        for entry in Entries::new(block).flatten() {
            entries += 1;
            peers += entry.peer_count() as u64;
        }
    }
    writer.finish(entries, peers).unwrap();
    check(&file);
});

/// At most so many bytes a call, as a slow disk may have.
struct Slowly<'a>(&'a [u8]);

impl Read for Slowly<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = into.len().min(7);
        self.0.read(&mut into[..length])
    }
}

fn check(file: &[u8]) {
    let whole = read(file);
    let slow = read(Slowly(file));
    assert_eq!(whole.as_ref().map(|it| it.0), slow.map(|it| it.0));
    let Some((_, swarms)) = whole else { return };
    let mut written = Vec::new();
    write_swarms(&swarms, &mut written, (1000, 1), || 0, || true).unwrap();
    let (totals, again) = read(&written[..]).expect("what was written is read");
    assert_eq!(totals.peers, swarms.totals().peers);
    assert_eq!(again.stats(), swarms.stats());
    // One byte less is none.
    assert!(read(&written[..written.len() - 1]).is_none());
}

fn read(input: impl Read + Send) -> Option<(StateTotals, Swarms)> {
    let (reader, header) = StateReader::begin(input).ok()?;
    let config = SwarmConfig {
        torrents_max: 1000,
        peers_max: 10_000,
        peers_per_torrent_max: 1000,
        peers_per_address_max: 2,
        peer_timeout_s: 50,
    };
    let ages = Ages { tick_s: header.tick_s, phase_s: header.phase_s, elapsed_s: 0 };
    let mut swarms = Swarms::new(config, RandomState::new());
    swarms.align_ticks(&ages, 0);
    let merge = |entry: &TorrentEntry<'_>| -> Restored {
        let count = entry.peers().count();
        assert_eq!(count, entry.peer_count());
        let restored = swarms.restore(entry, &ages, 0, |_, _| true);
        let Restored { stored, updated, expired, refused } = restored;
        assert!(stored + updated + expired + refused <= count as u64);
        restored
    };
    let (totals, _) = read_entries(reader, 1, merge).ok()?;
    Some((totals, swarms))
}
