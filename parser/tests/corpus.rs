//! Every request recorded from a real client is read as that client meant it. The expected
//! values come from the names of the files, from `hashes.tsv`, and from a decoder written here
//! without regard to speed.

use std::collections::HashMap;
use std::fs::{read, read_dir, read_to_string};
use std::path::{Path, PathBuf};

use annulus_parser::{
    Announce, AnnounceEvent, Bounds, Head, Method, Numwant, Parsed, Target, Version,
    parse_announce, parse_head, scrape_hashes,
};

const BOUNDS: Bounds =
    Bounds { request_line_bytes_max: 4096, head_bytes_max: 8192, headers_max: 64 };

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

fn requests_under(folder: &Path, requests: &mut Vec<PathBuf>) {
    for entry in read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            requests_under(&path, requests);
        } else if path.extension().is_some_and(|extension| extension == "http") {
            requests.push(path);
        }
    }
}

fn decode(encoded: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut index = 0;
    while index < encoded.len() {
        if encoded[index] == b'%' {
            let digits = str::from_utf8(&encoded[index + 1..index + 3]).unwrap();
            decoded.push(u8::from_str_radix(digits, 16).unwrap());
            index += 3;
        } else {
            decoded.push(encoded[index]);
            index += 1;
        }
    }
    decoded
}

/// A request as the naive reader sees it.
struct Naive {
    query: Vec<u8>,
    version: String,
    headers: Vec<(String, String)>,
}

impl Naive {
    fn read(request: &[u8]) -> Naive {
        // Latin-1, so that every byte is a character.
        let text: String = request.iter().copied().map(char::from).collect();
        let mut lines = text.split("\r\n");
        let mut words = lines.next().unwrap().split(' ');
        assert_eq!(words.next(), Some("GET"));
        let (_, query) = words.next().unwrap().split_once('?').unwrap();
        let version = words.next().unwrap();
        let headers = lines.take_while(|line| !line.is_empty());
        let headers = headers.map(|line| line.split_once(':').unwrap());
        Naive {
            query: query.chars().map(|byte| byte as u8).collect(),
            version: version.to_string(),
            headers: headers
                .map(|(name, value)| (name.to_lowercase(), value.trim().to_string()))
                .collect(),
        }
    }

    /// The decoded values of every parameter of this name.
    fn all(&self, name: &str) -> Vec<Vec<u8>> {
        let parameters = self.query.split(|&byte| byte == b'&' || byte == b'?');
        let values = parameters.filter_map(|parameter| {
            parameter.strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(decode)
        });
        values.collect()
    }

    fn number(&self, name: &str) -> Option<u64> {
        let value = self.all(name).pop()?;
        Some(str::from_utf8(&value).unwrap().parse().unwrap())
    }

    fn keeps_alive(&self) -> bool {
        let connection = self.headers.iter().find(|(name, _)| name == "connection");
        match connection.map(|(_, value)| value.to_lowercase()).as_deref() {
            None => self.version == "HTTP/1.1",
            Some("close") => false,
            Some("keep-alive") => true,
            Some(other) => panic!("{other}"),
        }
    }
}

fn parse_whole(request: &[u8]) -> Head<'_> {
    match parse_head(request, 0, &BOUNDS) {
        Ok(Parsed::Complete { head, consumed }) => {
            assert_eq!(consumed.get(), request.len());
            head
        }
        other => panic!("{other:?}"),
    }
}

fn check_head(head: &Head<'_>, naive: &Naive) {
    assert_eq!(head.method, Method::Get);
    let version = if naive.version == "HTTP/1.0" { Version::Http10 } else { Version::Http11 };
    assert_eq!(head.version, version);
    assert_eq!(head.keep_alive, naive.keeps_alive());
    let text = |bytes: &[u8]| bytes.iter().copied().map(char::from).collect::<String>();
    let headers: Vec<_> =
        head.headers().map(|(name, value)| (text(name).to_lowercase(), text(value))).collect();
    assert_eq!(headers, naive.headers);
}

fn check_announce(announce: &Announce<'_>, naive: &Naive) {
    assert_eq!(naive.all("info_hash"), [announce.info_hash]);
    assert_eq!(naive.number("port"), Some(announce.port.into()));
    assert!(announce.port != 0);
    assert_eq!(naive.number("left"), announce.left);
    assert_eq!(naive.number("downloaded"), announce.downloaded);
    assert!(announce.compact);
    let numwant = match announce.numwant {
        Numwant::Default => None,
        Numwant::AtMost(count) => Some(count.into()),
    };
    assert_eq!(naive.number("numwant"), numwant);
    for (address, name) in [(announce.ip, "ip"), (announce.ipv4, "ipv4"), (announce.ipv6, "ipv6")] {
        let text = naive.all(name).pop().map(|value| String::from_utf8(value).unwrap());
        assert_eq!(address.is_some(), text.is_some());
        let ip = address.map(|address| address.endpoint().unwrap().0);
        assert_eq!(ip, text.map(|text| text.parse().unwrap()));
    }
}

/// What the client is known to ask for, on other events and on `stopped`.
fn known_numwant(client: &str) -> (Numwant, Numwant) {
    let (usual, stopped) = match client {
        "aria2" => (50, Some(0)),
        "ctorrent" => (100, Some(100)),
        "libtorrent" => (200, Some(0)),
        "rtorrent" => (50, None),
        "transmission" => (80, Some(0)),
        "webtorrent" => (50, Some(50)),
        other => panic!("{other}"),
    };
    (Numwant::AtMost(usual), stopped.map_or(Numwant::Default, Numwant::AtMost))
}

fn check_recording(path: &Path, request: &[u8]) {
    let naive = Naive::read(request);
    let head = parse_whole(request);
    check_head(&head, &naive);

    let mut words = path.file_stem().unwrap().to_str().unwrap().split('-').skip(1);
    let (kind, detail) = (words.next().unwrap(), words.next());
    match head.target {
        Target::Scrape(query) if kind == "scrape" => {
            let hashes: Result<Vec<_>, _> = scrape_hashes(query).collect();
            let hashes = hashes.unwrap();
            assert_eq!(hashes.len(), if detail == Some("multi4") { 4 } else { 1 });
            assert_eq!(naive.all("info_hash"), hashes);
        }
        Target::Announce(query) if kind == "announce" => {
            let announce = parse_announce(query).unwrap();
            check_announce(&announce, &naive);
            let event = match detail.unwrap() {
                "none" => AnnounceEvent::None,
                "started" => AnnounceEvent::Started,
                "stopped" => AnnounceEvent::Stopped,
                "completed" => AnnounceEvent::Completed,
                other => panic!("{other}"),
            };
            assert_eq!(announce.event, event);

            let folder = path.parent().unwrap();
            let client = folder.file_name().unwrap().to_str().unwrap().split('-').next().unwrap();
            // rTorrent's variants leave numwant at the default of not sending it.
            if client != "rtorrent" || !folder.ends_with("rtorrent-0.9.8-variants") {
                let (usual, stopped) = known_numwant(client);
                let known = if event == AnnounceEvent::Stopped { stopped } else { usual };
                assert_eq!(announce.numwant, known);
            }
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn recorded_requests_are_read_as_they_were_meant() {
    let mut requests = Vec::new();
    requests_under(&root(), &mut requests);
    requests.retain(|path| !path.parent().unwrap().ends_with("hashes"));
    assert_eq!(requests.len(), 188);
    for path in requests {
        println!("{}", path.display());
        check_recording(&path, &read(&path).unwrap());
    }
}

/// One announce for each of a hundred info hashes, in which all byte values occur, by five
/// clients that escape differently.
#[test]
fn every_client_encodes_the_same_hashes() {
    let table = read_to_string(root().join("hashes.tsv")).unwrap();
    let hashes: HashMap<&str, &str> =
        table.lines().map(|line| line.split_once('\t').unwrap()).collect();
    let mut requests = Vec::new();
    requests_under(&root(), &mut requests);
    requests.retain(|path| path.parent().unwrap().ends_with("hashes"));
    assert_eq!(requests.len(), 384);
    for path in requests {
        println!("{}", path.display());
        let request = read(&path).unwrap();
        let naive = Naive::read(&request);
        let head = parse_whole(&request);
        check_head(&head, &naive);
        // These were recorded under `/m/<name>/announce`.
        let Target::Announce(query) = head.target else { panic!("{:?}", head.target) };
        let announce = parse_announce(query).unwrap();
        check_announce(&announce, &naive);
        assert_eq!(announce.event, AnnounceEvent::Started);
        let hex: String = announce.info_hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, hashes[path.file_stem().unwrap().to_str().unwrap()]);
    }
}
