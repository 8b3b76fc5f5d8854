//! Percent-decoding of parameter names and values (RFC 3986 section 2.1), with `+` for a space
//! as HTML forms write it: no client sends a raw `+` to mean one, scripts do send it for 0x20.

use core::ops::Range;

use crate::error::Error;
use crate::scan::{BLOCK, Escape, HexDigit, bits_at};

/// The value of each hex digit of either case; [`NOT_HEX`] for all else.
const HEX: [u8; 256] = {
    let mut values = [NOT_HEX; 256];
    let mut digit = 0;
    while digit < 16 {
        values[b"0123456789abcdef"[digit as usize] as usize] = digit;
        values[b"0123456789ABCDEF"[digit as usize] as usize] = digit;
        digit += 1;
    }
    values
};

/// Has bits that no digit has.
const NOT_HEX: u8 = 0xff;

/// Bytes of an info hash (BEP 3).
const INFO_HASH_BYTES: usize = 20;

/// Bytes of an info hash of version 2 before it is cut for trackers (BEP 52).
const INFO_HASH_V2_BYTES: usize = 32;

/// Characters of an info hash of version 1 in base32, as magnet links have it (BEP 9).
const BASE32_BYTES: usize = 32;

/// A `%` without two hex digits behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The decoded bytes of an encoded name or value.
pub(crate) struct Decoded<'b> {
    rest: &'b [u8],
}

impl<'b> Decoded<'b> {
    pub(crate) fn new(encoded: &'b [u8]) -> Decoded<'b> {
        Decoded { rest: encoded }
    }

    /// Whether this is `plain`, perhaps with padding behind it.
    pub(crate) fn is(mut self, plain: &[u8]) -> bool {
        self.begins_with(plain) && self.has_only_padding()
    }

    /// Whether `plain` comes next, which is taken off.
    pub(crate) fn begins_with(&mut self, plain: &[u8]) -> bool {
        plain.iter().all(|&byte| self.next() == Some(Ok(byte)))
    }

    /// Whether there is nothing but padding.
    fn has_only_padding(mut self) -> bool {
        self.all(|byte| byte.is_ok_and(is_padding))
    }

    /// All of the bytes, written to the front of `buffer`; `None` if they are malformed or
    /// more than that.
    pub(crate) fn collect_in(self, buffer: &mut [u8]) -> Option<&[u8]> {
        let mut length = 0;
        for byte in self {
            *buffer.get_mut(length)? = byte.ok()?;
            length += 1;
        }
        Some(&buffer[..length])
    }
}

impl Iterator for Decoded<'_> {
    type Item = Result<u8, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(match byte {
            b'%' => match rest {
                [high, low, rest @ ..] if is_hex(*high) && is_hex(*low) => {
                    self.rest = rest;
                    Ok(HEX[usize::from(*high)] << 4 | HEX[usize::from(*low)])
                }
                _ => Err(Malformed),
            },
            b'+' => Ok(b' '),
            plain => Ok(plain),
        })
    }
}

/// Whether `byte` means nothing at the end of a value: white space, and the slash at the end of
/// a URL.
pub(crate) fn is_padding(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | b'\r' | b' ' | b'/')
}

fn is_hex(byte: u8) -> bool {
    HEX[usize::from(byte)] != NOT_HEX
}

/// The decimal number that `value` is, perhaps with padding behind it; the greatest there is if
/// it is beyond that. `None` for everything else, a sign included.
#[inline]
pub(crate) fn number(value: &[u8]) -> Option<u64> {
    // Nineteen digits fit.
    if value.is_empty() || value.len() > 19 {
        return long_number(value);
    }
    let mut number = 0;
    for &byte in value {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return long_number(value);
        }
        number = number * 10 + u64::from(digit);
    }
    Some(number)
}

/// [`number`] for numbers of any length that may be percent-encoded.
#[cold]
fn long_number(value: &[u8]) -> Option<u64> {
    let mut number: Option<u64> = None;
    let mut bytes = Decoded::new(value);
    while let Some(byte) = bytes.next() {
        let byte = byte.ok()?;
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return number.filter(|_| is_padding(byte) && bytes.has_only_padding());
        }
        number = Some(number.unwrap_or(0).saturating_mul(10).saturating_add(u64::from(digit)));
    }
    number
}

/// The info hash that `bytes[range]` is: 20 bytes, or the first 20 of 32 (BEP 52), perhaps with
/// padding behind them.
///
/// # Errors
///
/// [`Error::InfoHashEscapeMalformed`] if that is true, else [`Error::InfoHashHex`],
/// [`Error::InfoHashBase32`] or [`Error::InfoHashLengthWrong`].
///
/// 32 characters of base32 are not taken for a hash of version 2. That is the output of SHA-256,
/// which has nothing but the 58 byte values of base32, letters of either case, once in
/// (256/58)^32, some 4 * 10^20 torrents.
#[inline]
pub(crate) fn info_hash(bytes: &[u8], range: Range<usize>) -> Result<[u8; 20], Error> {
    let value = &bytes[range.clone()];
    if value.len() < INFO_HASH_BYTES || value.len() > 3 * INFO_HASH_BYTES {
        return long_info_hash(value);
    }
    // Which bytes of a hash are escaped is as random as the hash, and a branch on it would be
    // mispredicted half a dozen times. So every place is decoded as if it were escaped, and as
    // if it were not, and bits tell where a decoded byte really starts.
    const _: () = assert!(3 * INFO_HASH_BYTES <= BLOCK);
    let within = u64::MAX >> (BLOCK - value.len());
    let escapes = bits_at::<Escape>(bytes, range.start) & within;
    let digits = bits_at::<HexDigit>(bytes, range.start) & within;
    let starts = within & !(escapes << 1 | escapes << 2);
    if escapes & !(digits >> 1 & digits >> 2) != 0 {
        return Err(Error::InfoHashEscapeMalformed);
    }
    if starts.count_ones() as usize != INFO_HASH_BYTES {
        return long_info_hash(value);
    }

    let padded;
    let block = match bytes[range.start..].first_chunk() {
        Some(block) => block,
        None => {
            padded = pad(value);
            &padded
        }
    };
    let decoded = decode_everywhere(block);
    let mut info_hash = [0; INFO_HASH_BYTES];
    let mut starts = starts;
    for byte in &mut info_hash {
        *byte = decoded[starts.trailing_zeros() as usize % BLOCK];
        starts &= starts.wrapping_sub(1);
    }
    Ok(info_hash)
}

/// For each place of a block, the byte that is encoded there if one is. What it makes of a `%`
/// without hex digits has no meaning. Kept to operations that the compiler turns into vector
/// instructions.
#[inline]
fn decode_everywhere(bytes: &[u8; BLOCK + 2]) -> [u8; BLOCK] {
    // The letters of either case have 1 to 6 in their low bits, and bit 6 set, which adds 9.
    let digit = |byte: u8| {
        let letter = byte >> 6;
        (byte & 0x0f).wrapping_add(letter << 3 | letter)
    };
    let high: &[u8; BLOCK] = bytes[1..].first_chunk().unwrap_or(&[0; BLOCK]);
    let low: &[u8; BLOCK] = bytes[2..].first_chunk().unwrap_or(&[0; BLOCK]);
    let mut decoded = [0; BLOCK];
    for index in 0..BLOCK {
        let escaped = digit(high[index]) << 4 | digit(low[index]) & 0x0f;
        let byte = bytes[index];
        let plain = if byte == b'+' { b' ' } else { byte };
        decoded[index] = if byte == b'%' { escaped } else { plain };
    }
    decoded
}

#[cold]
fn pad(value: &[u8]) -> [u8; BLOCK + 2] {
    let mut padded = [0; BLOCK + 2];
    padded[..value.len()].copy_from_slice(value);
    padded
}

/// [`info_hash`] for values of any length.
#[cold]
fn long_info_hash(value: &[u8]) -> Result<[u8; 20], Error> {
    let mut bytes = [0; 2 * INFO_HASH_V2_BYTES];
    let mut length = 0;
    // Without padding. A hash may end in bytes that look like it.
    let mut unpadded = 0;
    for byte in Decoded::new(value) {
        let byte = byte.map_err(|Malformed| Error::InfoHashEscapeMalformed)?;
        if let Some(place) = bytes.get_mut(length) {
            *place = byte;
        }
        length += 1;
        if !is_padding(byte) {
            unpadded = length;
        }
    }
    let is_as_long_as = |length_of_it| unpadded <= length_of_it && length_of_it <= length;
    let is_text_of = |length_of_it, is_digit: fn(u8) -> bool| {
        is_as_long_as(length_of_it) && bytes[..length_of_it].iter().all(|&byte| is_digit(byte))
    };
    if is_as_long_as(INFO_HASH_BYTES) {
        Ok(*bytes.first_chunk().unwrap_or(&[0; INFO_HASH_BYTES]))
    } else if is_text_of(BASE32_BYTES, is_base32) {
        Err(Error::InfoHashBase32)
    } else if is_as_long_as(INFO_HASH_V2_BYTES) {
        Ok(*bytes.first_chunk().unwrap_or(&[0; INFO_HASH_BYTES]))
    } else if [INFO_HASH_BYTES, INFO_HASH_V2_BYTES].iter().any(|it| is_text_of(2 * it, is_hex)) {
        Err(Error::InfoHashHex)
    } else {
        Err(Error::InfoHashLengthWrong)
    }
}

fn is_base32(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || (b'2'..=b'7').contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;
    use std::vec::Vec;

    #[test]
    fn numbers() {
        let cases: [(&[u8], Option<u64>); 26] = [
            (b"0", Some(0)),
            (b"6881", Some(6881)),
            (b"0006881", Some(6881)),
            (b"%36%388%31", Some(6881)),
            (b"9999999999999999999", Some(9_999_999_999_999_999_999)),
            (b"18446744073709551615", Some(u64::MAX)),
            (b"18446744073709551616", Some(u64::MAX)),
            (b"99999999999999999999999999", Some(u64::MAX)),
            (b"00000000000000000000000007", Some(7)),
            (b"", None),
            (b"-1", None),
            (b"+1", None),
            (b"1 ", Some(1)),
            (b"1+", Some(1)),
            (b"6881%0d%0A", Some(6881)),
            (b"6881%20%09/", Some(6881)),
            (b"99999999999999999999%0D", Some(u64::MAX)),
            (b"%0D", None),
            (b"/1", None),
            (b"1%0D1", None),
            (b"1%0D%", None),
            (b"1e3", None),
            (b"0x10", None),
            (b"%3", None),
            (b"%3g1", None),
            (b"99999999999999999999x", None),
        ];
        for (value, expected) in cases {
            assert_eq!(number(value), expected, "{value:?}");
        }
    }

    #[test]
    fn decoding() {
        let decode = |encoded| Decoded::new(encoded).collect::<Result<Vec<u8>, Malformed>>();
        assert_eq!(decode(b"a+b%20c%2B%fF%Ff\xe9"), Ok(b"a b c+\xff\xff\xe9".to_vec()));
        assert_eq!(decode(b"%25%32%35"), Ok(b"%25".to_vec()));
        let malformed: [&[u8]; 7] = [b"%", b"%4", b"a%", b"%g0", b"%0g", b"%%41", b"% 4"];
        for encoded in malformed {
            assert_eq!(decode(encoded), Err(Malformed), "{encoded:?}");
        }
        assert_eq!(Decoded::new(b"%61+").collect_in(&mut [0; 2]), Some(&b"a "[..]));
        assert_eq!(Decoded::new(b"%61+").collect_in(&mut [0; 1]), None);
    }

    /// Text made of pieces that matter to the decoder, long enough to be a hash of either
    /// kind, and often of the right length.
    fn encoded(seeds: &[u8]) -> Vec<u8> {
        let pieces: [&[u8]; 12] =
            [b"%41", b"%fF", b"%00", b"+", b"=", b"z", b"\xff", b"%2b", b"0", b"%aB", b"%", b"%4"];
        // The malformed ones come rarely.
        let choose = |seed: &u8| pieces[usize::from(*seed) % if *seed > 250 { 12 } else { 10 }];
        seeds.iter().flat_map(choose).copied().collect()
    }

    quickcheck! {
        /// The quick way and the plain way agree on values that stand anywhere in a query.
        fn info_hash_twins(seeds: Vec<u8>, before: u8, after: u8, shape: u8) -> bool {
            let mut seeds = seeds;
            match shape % 4 {
                0 => seeds.resize(20, 0),
                1 => seeds.resize(19 + usize::from(shape % 3), 3),
                2 => seeds.resize(32, 9),
                _ => {}
            }
            let value = encoded(&seeds);
            let mut bytes = std::vec![b'%'; usize::from(before)];
            bytes.extend(&value);
            bytes.resize(bytes.len() + usize::from(after), b'4');
            let start = usize::from(before);
            info_hash(&bytes, start..start + value.len()) == long_info_hash(&value)
        }
    }

    #[test]
    fn info_hash_lengths() {
        for length in 0..100 {
            let plain = std::vec![0xf1; length];
            let escaped = b"%f1".repeat(length);
            let expected = match length {
                20 | 32 => Ok([0xf1; 20]),
                _ => Err(Error::InfoHashLengthWrong),
            };
            assert_eq!(info_hash(&plain, 0..length), expected);
            assert_eq!(info_hash(&escaped, 0..3 * length), expected);
        }
    }

    #[test]
    fn info_hashes_in_text() {
        let check = |value: &[u8]| info_hash(value, 0..value.len());
        for length in [40, 64] {
            let hex: Vec<u8> =
                b"0123456789abcdefABCDEF".iter().cycle().take(length).copied().collect();
            assert_eq!(check(&hex), Err(Error::InfoHashHex));
            assert_eq!(check(&[&hex, &b"%0D"[..]].concat()), Err(Error::InfoHashHex));
            assert_eq!(check(&[b"%61", &hex[1..]].concat()), Err(Error::InfoHashHex));
            assert_eq!(check(&hex[1..]), Err(Error::InfoHashLengthWrong));
            assert_eq!(check(&[b"g", &hex[1..]].concat()), Err(Error::InfoHashLengthWrong));
        }
        let base32 = b"ABCXYZabcxyz234567ABCXYZabcxyz23";
        assert_eq!(check(base32), Err(Error::InfoHashBase32));
        assert_eq!(check(&[b"%41", &base32[1..], b"+"].concat()), Err(Error::InfoHashBase32));
        for other in *b"0189@[`{1-.\xff\0" {
            for at in 0..32 {
                let mut v2 = *base32;
                v2[at] = other;
                assert_eq!(check(&v2), Ok(*v2.first_chunk().unwrap()), "{other:#x} at {at}");
            }
        }
        // Twenty bytes are a hash, whatever they look like.
        assert_eq!(check(b"0123456789abcdef0123"), Ok(*b"0123456789abcdef0123"));
    }

    #[test]
    fn info_hash_padding() {
        let check = |value: &[u8]| {
            let bytes = [value, b"&port=1"].concat();
            info_hash(&bytes, 0..value.len())
        };
        let (v1, v2) = (b"a".repeat(20), b"%f0".repeat(32));
        let paddings: [&[u8]; 5] = [b"%0D", b"%0d%0A", b"%20", b"/", b"+%09//%20%20%20%20%20%20"];
        for padding in paddings {
            assert_eq!(check(&[&v1, padding].concat()), Ok([b'a'; 20]), "{padding:?}");
            assert_eq!(check(&[&v2, padding].concat()), Ok([0xf0; 20]), "{padding:?}");
            let wrong = [&v1, padding, b"a"].concat();
            assert_eq!(check(&wrong), Err(Error::InfoHashLengthWrong), "{padding:?}");
        }
        // What ends in such bytes keeps them.
        assert_eq!(check(b"aaaaaaaaaaaaaaaaaa%0D/"), Ok(*b"aaaaaaaaaaaaaaaaaa\r/"));
        assert_eq!(check(b"aaaaaaaaaaaaaaaaaa%0D/%20"), Ok(*b"aaaaaaaaaaaaaaaaaa\r/"));
        assert_eq!(check(b"aaaaaaaaaaaaaaaaaaa"), Err(Error::InfoHashLengthWrong));
    }

    #[test]
    fn info_hash_escapes() {
        for cut in 1..3 {
            let mut value = b"%61".repeat(20);
            value.truncate(60 - cut);
            // What stands behind the value must not complete its escape.
            value.extend(b"616161");
            let result = info_hash(&value, 0..60 - cut);
            assert_eq!(result, Err(Error::InfoHashEscapeMalformed));
        }
        for at in 0..60 {
            let mut value = b"%61".repeat(20);
            value[at] = b'%';
            let expected =
                if at % 3 == 0 { Ok([b'a'; 20]) } else { Err(Error::InfoHashEscapeMalformed) };
            assert_eq!(info_hash(&value, 0..60), expected);
        }
    }
}
