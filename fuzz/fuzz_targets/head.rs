//! The HTTP head: the result does not depend on how the bytes were cut, and exactly one request is
//! consumed.
#![no_main]

use annulus_parser::{Bounds, Error, Head, Method, Parsed, parse_head, target_so_far};
use libfuzzer_sys::fuzz_target;

/// Small, so that the bounds are reached.
const BOUNDS: Bounds =
    Bounds { request_line_bytes_max: 512, head_bytes_max: 1024, headers_max: 16 };

/// All that a caller can read from a head.
fn seen(head: &Head<'_>) -> String {
    let headers: Vec<(&[u8], &[u8])> = head.headers().collect();
    let Head { method, version, target, keep_alive, .. } = head;
    format!("{method:?} {version:?} {target:?} {keep_alive} {headers:?}")
}

fn whole(input: &[u8]) -> Result<Option<(String, usize)>, Error> {
    let so_far = target_so_far(input);
    match parse_head(input, 0, &BOUNDS)? {
        Parsed::Complete { head, consumed } => {
            assert_eq!(so_far, (head.method != Method::Options).then_some(head.target));
            Ok(Some((seen(&head), consumed.get())))
        }
        Parsed::Partial => Ok(None),
    }
}

fuzz_target!(|input: &[u8]| {
    let expected = whole(input);
    if let Ok(Some((_, consumed))) = &expected {
        assert!(*consumed > 0 && *consumed <= input.len());
        // Bytes after a request do not matter, except NULs, which are consumed with it.
        let end = input[..*consumed].iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1);
        let alone = whole(&input[..end]).expect("a request alone is no error");
        assert_eq!(alone.expect("a request alone is complete").1, end);
    }
    // Byte by byte, with the number of bytes that the parser has seen.
    let mut before = 0;
    for len in 1..=input.len() {
        match parse_head(&input[..len], before, &BOUNDS) {
            Ok(Parsed::Partial) => before = len,
            Ok(Parsed::Complete { head, consumed }) => {
                let (expected_head, expected_consumed) =
                    expected.expect("no error in the whole").expect("complete in the whole");
                assert_eq!(seen(&head), expected_head);
                assert!(consumed.get() <= expected_consumed);
                return;
            }
            Err(error) => {
                assert_eq!(expected, Err(error), "the cut at {len} decides the error");
                return;
            }
        }
    }
    assert_eq!(expected, Ok(None), "unfinished byte by byte");
});
