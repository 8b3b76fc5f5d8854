//! The lines of an access list.

use annulus::access_list::ParsedAccessList;
use annulus::config::BadLines;
use annulus::limits::{ACCESS_BAD_LINES_SHOWN, ACCESS_LINE_BYTES_MAX};
use annulus_swarm::InfoHash;
use quickcheck::quickcheck;

const HASH: &str = "00112233445566778899AabBcCdDeEfF01234567";
const BYTES: InfoHash = [
    0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 1,
    0x23, 0x45, 0x67,
];

fn read(text: impl AsRef<[u8]>, bad_lines: BadLines) -> ParsedAccessList {
    ParsedAccessList::read(text.as_ref(), 0, bad_lines).expect("memory can be read")
}

/// The numbers of the lines of `text` that are bad.
fn bad(text: impl AsRef<[u8]>) -> Vec<u64> {
    read(text, BadLines::Skip).bad.iter().map(|(number, _)| *number).collect()
}

#[test]
fn a_line_is_a_hash_with_blanks_and_a_comment_around_it() {
    let long_comment = format!("{HASH} #{}", "x".repeat(ACCESS_LINE_BYTES_MAX - 42));
    for text in [
        HASH,
        &format!("{HASH}\n"),
        &format!("{HASH}\r\n"),
        &format!("\u{feff}{HASH}\r\n"),
        &format!(" \t{HASH}\t \n"),
        &format!("{HASH}#a comment\n"),
        &format!("{HASH} the name of it\r\n"),
        &format!("\n\r\n # {HASH}\n#\n   \n{HASH}\n\n"),
        &format!("{}\n", HASH.to_lowercase()),
        &format!("{}\n", HASH.to_uppercase()),
        &format!("{HASH}{}\n", "0123456789abcdefABCDEF99"),
        &long_comment,
        &format!("{long_comment}\n"),
    ] {
        let ParsedAccessList { hashes, bad, .. } = read(text, BadLines::Refuse);
        assert_eq!((hashes, bad), (vec![BYTES], vec![]), "{text:?}");
    }
}

#[test]
fn everything_else_is_a_bad_line_with_its_number() {
    let too_long = format!("{HASH}#{}", "x".repeat(ACCESS_LINE_BYTES_MAX - 40));
    for line in [
        &HASH[1..],
        &format!("{HASH}0"),
        &format!("x{HASH}"),
        &format!("{}g", &HASH[1..]),
        &format!("{HASH}0123456789abcdefABCDEF9g"),
        &format!("{HASH}0123456789abcdefABCDEF9"),
        &format!("\u{feff}{HASH}"),
        &format!("{HASH},"),
        &format!("{HASH}\r{HASH}"),
        &format!("{HASH}\r{HASH}\r"),
        &format!("# lines of an old Mac\r{HASH}"),
        &format!("{HASH}\r\r"),
        "\u{e9}",
        &too_long,
        &too_long.repeat(100),
    ] {
        let text = format!("{HASH}\n\n{line}\n{HASH}\n{line}");
        assert_eq!(bad(&text), [3, 5], "{line:?}");
        assert_eq!(read(&text, BadLines::Skip).hashes, [BYTES; 2], "{line:?}");
    }
}

#[test]
fn a_bad_line_is_shown_escaped_and_cut() {
    let parsed = read(["\x1b[1m\"\u{85}", &"y".repeat(100)].join("\n"), BadLines::Skip);
    let [(1, first), (2, second)] = &parsed.bad[..] else { panic!("{parsed:?}") };
    assert!(first.starts_with(r#""\x1b[1m\"\xc2\x85" is no info hash"#), "{first}");
    assert!(second.starts_with(&format!("\"{}...\" is no", "y".repeat(48))), "{second}");
}

#[test]
fn a_list_larger_than_memory_is_an_error() {
    let refused = ParsedAccessList::read(HASH.as_bytes(), usize::MAX, BadLines::Skip).unwrap_err();
    assert!(refused.starts_with("there is no memory for 1844674407370955"), "{refused}");
}

#[test]
fn refused_bad_lines_end_the_reading() {
    let text = "what?\n".repeat(1000);
    let ParsedAccessList { bad, more_bad, .. } = read(&text, BadLines::Skip);
    assert_eq!((bad.len(), more_bad as usize), (ACCESS_BAD_LINES_SHOWN, 1000 - bad.len()));
    let ParsedAccessList { bad, more_bad, .. } = read(&text, BadLines::Refuse);
    assert_eq!((bad.len(), more_bad), (ACCESS_BAD_LINES_SHOWN, 1));
}

quickcheck! {
    fn any_bytes_are_hashes_or_bad_lines(text: Vec<u8>) -> bool {
        let ParsedAccessList { hashes, bad, more_bad } = read(&text, BadLines::Skip);
        let lines = text.split(|byte| *byte == b'\n').count() as u64;
        hashes.len() as u64 + bad.len() as u64 + more_bad <= lines
            && bad.is_sorted_by(|(one, _), (next, _)| one < next)
    }

    fn written_hashes_are_read(hashes: Vec<(u64, u64, u32)>, ends: Vec<u8>) -> bool {
        let hash = |(a, b, c): &(u64, u64, u32)| {
            let mut hash: InfoHash = [0; 20];
            hash[..8].copy_from_slice(&a.to_be_bytes());
            hash[8..16].copy_from_slice(&b.to_be_bytes());
            hash[16..].copy_from_slice(&c.to_be_bytes());
            hash
        };
        let hashes: Vec<InfoHash> = hashes.iter().map(hash).collect();
        let mut text = String::new();
        for (at, hash) in hashes.iter().enumerate() {
            let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            let end = usize::from(ends.get(at).copied().unwrap_or_default());
            text += &if end % 2 == 0 { digits } else { digits.to_uppercase() };
            text += ["\n", "\r\n", " # one\n", "\tname\r\n\n", "#\n"][end % 5];
        }
        read(text, BadLines::Refuse).hashes == hashes
    }
}
