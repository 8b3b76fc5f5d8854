//! Every datagram recorded from a real client is read as that client meant it. What it meant is in
//! the file's name, and known of the client.

use std::fs::{read, read_dir};
use std::path::{Path, PathBuf};

use annulus_parser::{
    AnnounceEvent, DatagramAction, DatagramAnnounce, DatagramQuery, DatagramRequest, Numwant,
    parse_datagram,
};

/// The bytes of the shared file that clients have or lack.
const FILE_BYTES: u64 = 1_500_007;

fn recordings() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let folders = read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let files = folders.filter(|path| path.is_dir()).flat_map(|folder| read_dir(folder).unwrap());
    let files = files.map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "udp")).collect()
}

#[test]
fn recorded_datagrams_are_read_as_they_were_meant() {
    let recordings = recordings();
    assert_eq!(recordings.len(), 56);
    for path in recordings {
        println!("{}", path.display());
        let bytes = read(&path).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap();
        // As in 003-announce-started-v6.
        let mut words = name.split('-').skip(1);
        let (kind, event) = (words.next().unwrap(), words.next());
        let client = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
        let client = client.split('-').next().unwrap();
        match parse_datagram(&bytes).unwrap() {
            DatagramRequest::Connect { transaction_id } => {
                assert_eq!((kind, bytes.len()), ("connect", 16));
                assert_eq!(transaction_id.to_be_bytes(), bytes[12..16]);
            }
            DatagramRequest::Identified { header, query } => {
                assert_eq!(header.connection_id.to_be_bytes(), bytes[..8]);
                assert_eq!(header.transaction_id.to_be_bytes(), bytes[12..16]);
                match query.unwrap() {
                    DatagramQuery::Announce(announce) => {
                        assert_eq!((kind, header.action), ("announce", DatagramAction::Announce));
                        check_announce(client, event.unwrap(), &announce, &bytes);
                    }
                    DatagramQuery::Scrape(hashes) => {
                        assert_eq!((kind, header.action), ("scrape", DatagramAction::Scrape));
                        assert_eq!(hashes.as_slice().as_flattened(), &bytes[16..]);
                    }
                }
            }
        }
    }
}

fn check_announce(client: &str, event: &str, announce: &DatagramAnnounce<'_>, bytes: &[u8]) {
    let (prefix, usual, stopped) = match client {
        "aria2" => ("A2-1-36-0-", Numwant::AtMost(50), Numwant::AtMost(0)),
        "libtorrent" => ("-LT2080-", Numwant::AtMost(200), Numwant::AtMost(0)),
        "rtorrent" => ("-lt0D80-", Numwant::Default, Numwant::Default),
        "transmission" => ("-TR3000-", Numwant::AtMost(80), Numwant::AtMost(0)),
        other => panic!("{other}"),
    };
    let expected = match event {
        "none" => AnnounceEvent::None,
        "started" => AnnounceEvent::Started,
        "completed" => AnnounceEvent::Completed,
        "stopped" => AnnounceEvent::Stopped,
        other => panic!("{other}"),
    };
    assert_eq!(announce.event, expected);
    assert_eq!(announce.info_hash, bytes[16..36]);
    assert!(announce.peer_id.starts_with(prefix.as_bytes()));
    assert!([0, FILE_BYTES].contains(&announce.left));
    assert!(announce.left == 0 || expected != AnnounceEvent::Completed);
    assert!(announce.downloaded <= FILE_BYTES && announce.uploaded <= 10 * FILE_BYTES);
    let numwant = if expected == AnnounceEvent::Stopped { stopped } else { usual };
    assert_eq!((announce.numwant, announce.ip, announce.port), (numwant, 0, 6881));
    // aria2 ends with the field of extensions that BEP 15 once had, which reads as the end of the
    // options of BEP 41.
    let path: Vec<u8> = announce.url_data().flatten().copied().collect();
    assert_eq!(path, if client == "libtorrent" { &b"/announce"[..] } else { &[] });
    assert_eq!(
        bytes.len(),
        if client == "aria2" { 100 } else { 98 + path.len() + path.len().min(2) }
    );
}
