//! Where the bytes of a class stand, found 64 bytes at a time.
//!
//! A [`Class`] is a set of bytes; [`Positions`] walks the places where its members stand. It
//! turns a block of 64 bytes into 64 bits, one for each byte, and then only counts zeros: a
//! loop that looked at byte after byte would be mispredicted at the end of every name and
//! every value, some forty times in a request, and that is most of what parsing one costs.
//!
//! A block is turned into bits by SSE2, or by arithmetic on words where there is none. Both,
//! and the one-byte definition [`contains`], are compared in the tests below. The `unsafe`
//! here calls functions compiled for SSE2; every access to memory is by checked slice.
#![allow(unsafe_code)]

use core::marker::PhantomData;

/// Bytes of a block.
pub(crate) const BLOCK: usize = 64;

/// Bytes that nearly every header name fits in, with its colon.
const NEAR: usize = 16;

/// A set of bytes, given by ranges of ASCII.
pub(crate) trait Class {
    /// First and last byte of each range, both below 0x80.
    const RANGES: &'static [(u8, u8)];
    /// Whether the members are the bytes outside the ranges.
    const NEGATED: bool = false;
}

/// What ends a request target: space and controls.
pub(crate) struct TargetEnd;
impl Class for TargetEnd {
    const RANGES: &'static [(u8, u8)] = &[(0x00, b' ')];
}

/// What does not stand in the usual header value: the lowest controls. Of the members, CR and LF
/// end the value, NUL is an error, and the others are allowed, as one range is quickest. RFC 9110
/// section 5.5 calls all controls but tab invalid and lets a recipient take them, but for these
/// three; clients send them.
pub(crate) struct LowControl;
impl Class for LowControl {
    const RANGES: &'static [(u8, u8)] = &[(0x00, b'\r')];
}

/// What does not stand in the usual header name. Of the members, the colon ends the name, some
/// are token characters all the same, as few ranges are quicker, and all others are errors.
pub(crate) struct NotNameLike;
impl Class for NotNameLike {
    const RANGES: &'static [(u8, u8)] = &[(b'^', b'z'), (b'A', b'Z'), (b'-', b'.')];
    const NEGATED: bool = true;
}

/// What ends a parameter of a query: `&`, and any further `?`.
pub(crate) struct Separator;
impl Class for Separator {
    const RANGES: &'static [(u8, u8)] = &[(b'&', b'&'), (b'?', b'?')];
}

/// The `?` between path and query.
pub(crate) struct QueryStart;
impl Class for QueryStart {
    const RANGES: &'static [(u8, u8)] = &[(b'?', b'?')];
}

/// The `%` of a percent escape.
pub(crate) struct Escape;
impl Class for Escape {
    const RANGES: &'static [(u8, u8)] = &[(b'%', b'%')];
}

/// The hex digits, of either case.
pub(crate) struct HexDigit;
impl Class for HexDigit {
    const RANGES: &'static [(u8, u8)] = &[(b'0', b'9'), (b'A', b'F'), (b'a', b'f')];
}

/// The end of a line.
pub(crate) struct LineFeed;
impl Class for LineFeed {
    const RANGES: &'static [(u8, u8)] = &[(b'\n', b'\n')];
}

/// What is not skipped before a request line.
pub(crate) struct NotPadding;
impl Class for NotPadding {
    const RANGES: &'static [(u8, u8)] = &[(0x00, 0x00), (b'\n', b'\n'), (b'\r', b'\r')];
    const NEGATED: bool = true;
}

/// Whether `byte` is of class `C`.
#[inline]
pub(crate) fn contains<C: Class>(byte: u8) -> bool {
    C::RANGES.iter().any(|&(first, last)| first <= byte && byte <= last) != C::NEGATED
}

/// The places of the members of `C` in `bytes`, in rising order.
pub(crate) struct Positions<'b, C> {
    bytes: &'b [u8],
    /// Where the block at hand starts.
    base: usize,
    /// The members in that block that are still to be given out.
    bits: u64,
    class: PhantomData<C>,
}

impl<'b, C: Class> Positions<'b, C> {
    /// The places at and after `from`.
    #[inline]
    pub(crate) fn new(bytes: &'b [u8], from: usize) -> Self {
        Positions { bytes, base: from, bits: bits_at::<C>(bytes, from), class: PhantomData }
    }

    /// The next place at or after `from`, which must not be less than any place or `from`
    /// before it.
    #[inline]
    pub(crate) fn next_from(&mut self, from: usize) -> Option<usize> {
        debug_assert!(from >= self.base);
        let passed = from - self.base;
        if passed < BLOCK {
            self.bits &= u64::MAX << passed;
        } else {
            *self = Positions::new(self.bytes, from);
        }
        self.next()
    }
}

impl<C: Class> Iterator for Positions<'_, C> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.bits == 0 {
            let base = self.base + BLOCK;
            if base >= self.bytes.len() {
                return None;
            }
            self.base = base;
            self.bits = bits_at::<C>(self.bytes, base);
        }
        let at = self.base + self.bits.trailing_zeros() as usize;
        self.bits &= self.bits - 1;
        Some(at)
    }
}

/// The place of the first member of `C` at or after `from`, which is expected to be near.
#[inline]
pub(crate) fn find_near<C: Class>(bytes: &[u8], from: usize) -> Option<usize> {
    let Some(near) = bytes.get(from..)?.first_chunk() else {
        return Positions::<C>::new(bytes, from).next();
    };
    match bits::<C, NEAR>(near) {
        0 => Positions::<C>::new(bytes, from + NEAR).next(),
        bits => Some(from + bits.trailing_zeros() as usize),
    }
}

/// The place of the last member of `C` in `bytes`.
pub(crate) fn rfind<C: Class>(bytes: &[u8]) -> Option<usize> {
    let mut end = bytes.len();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let bits = bits_at::<C>(&bytes[..end], start);
        if bits != 0 {
            return Some(start + bits.ilog2() as usize);
        }
        end = start;
    }
    None
}

/// One bit for each of the up to [`BLOCK`] bytes from `from` on, the lowest for the first.
#[inline]
pub(crate) fn bits_at<C: Class>(bytes: &[u8], from: usize) -> u64 {
    let rest = bytes.get(from..).unwrap_or_default();
    if let Some(block) = rest.first_chunk() {
        return bits::<C, BLOCK>(block);
    }
    if rest.is_empty() {
        return 0;
    }
    // The end of nearly every input comes by here. Reading the last 64 bytes again is far
    // cheaper than copying what remains into a block of its own.
    if let Some(block) = bytes.last_chunk() {
        return bits::<C, BLOCK>(block) >> (BLOCK - rest.len());
    }
    let mut block = [0; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    bits::<C, BLOCK>(&block) & (u64::MAX >> (BLOCK - rest.len()))
}

#[cfg(target_feature = "sse2")]
#[inline]
fn bits<C: Class, const N: usize>(block: &[u8; N]) -> u64 {
    // SAFETY: this is compiled only where the whole program may use SSE2.
    unsafe { sse2::bits::<C, N>(block) }
}

#[cfg(not(target_feature = "sse2"))]
#[inline]
fn bits<C: Class, const N: usize>(block: &[u8; N]) -> u64 {
    swar::bits::<C, N>(block)
}

#[cfg(target_feature = "sse2")]
mod sse2 {
    #[cfg(target_arch = "x86")]
    use core::arch::x86;
    #[cfg(target_arch = "x86_64")]
    use core::arch::x86_64 as x86;

    use super::{BLOCK, Class};
    use x86::{
        __m128i, _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x,
        _mm_set1_epi8, _mm_setzero_si128, _mm_sub_epi8,
    };

    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn bits<C: Class, const N: usize>(block: &[u8; N]) -> u64 {
        let (quarters, _) = block.as_chunks::<16>();
        let mut bits = 0;
        for (index, quarter) in quarters.iter().enumerate() {
            let halves = u128::from_le_bytes(*quarter);
            let bytes = _mm_set_epi64x((halves >> 64) as i64, halves as i64);
            bits |= u64::from(members::<C>(bytes)) << (16 * index);
        }
        if C::NEGATED { !bits & (u64::MAX >> (BLOCK - N)) } else { bits }
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn members<C: Class>(bytes: __m128i) -> u16 {
        let mut members = _mm_setzero_si128();
        for &(first, last) in C::RANGES {
            let within = if first == last {
                _mm_cmpeq_epi8(bytes, _mm_set1_epi8(first as i8))
            } else {
                // There is no unsigned comparison: x <= y is min(x, y) == x.
                let above = _mm_sub_epi8(bytes, _mm_set1_epi8(first as i8));
                let capped = _mm_min_epu8(above, _mm_set1_epi8((last - first) as i8));
                _mm_cmpeq_epi8(capped, above)
            };
            members = _mm_or_si128(members, within);
        }
        _mm_movemask_epi8(members) as u16
    }
}

#[cfg(any(test, not(target_feature = "sse2")))]
mod swar {
    use super::{BLOCK, Class};

    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const LOWS: u64 = u64::from_ne_bytes([0x7f; 8]);
    const TOPS: u64 = u64::from_ne_bytes([0x80; 8]);

    pub(super) fn bits<C: Class, const N: usize>(block: &[u8; N]) -> u64 {
        let (words, _) = block.as_chunks::<8>();
        let mut bits = 0;
        for (index, word) in words.iter().enumerate() {
            let word = u64::from_le_bytes(*word);
            let members = C::RANGES.iter().fold(0, |members, &(first, last)| {
                members | at_least(word, first) & !at_least(word, last + 1)
            });
            // Gathers the top bits of the eight bytes, the first into the lowest place.
            let gathered = (members >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56;
            bits |= gathered << (8 * index);
        }
        if C::NEGATED { !bits & (u64::MAX >> (BLOCK - N)) } else { bits }
    }

    /// The top bit of every byte of `word` that is at least `bound`, which is at most 0x80.
    /// Sums of seven bits do not carry from one byte into the next, so that each is exact.
    fn at_least(word: u64, bound: u8) -> u64 {
        debug_assert!(bound <= 0x80);
        (((word & LOWS) + ONES * u64::from(0x80 - bound)) | word) & TOPS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// Every byte value, in an order that puts members and others side by side.
    fn noise(len: usize) -> Vec<u8> {
        (0..len).map(|index| (index * 167 + index / 256 * 31) as u8).collect()
    }

    fn naive<C: Class>(bytes: &[u8]) -> Vec<usize> {
        (0..bytes.len()).filter(|&index| contains::<C>(bytes[index])).collect()
    }

    fn check_twins<C: Class>() {
        let bytes = noise(256 + 2 * BLOCK);
        for start in 0..256 {
            let block: &[u8; BLOCK] = bytes[start..].first_chunk().unwrap();
            let expected = (0..BLOCK).filter(|&index| contains::<C>(block[index]));
            let expected = expected.fold(0, |bits, index| bits | 1 << index);
            assert_eq!(bits::<C, BLOCK>(block), expected);
            assert_eq!(swar::bits::<C, BLOCK>(block), expected);
        }
    }

    fn check_positions<C: Class>() {
        let bytes = noise(4 * BLOCK);
        for start in 0..BLOCK {
            for len in 0..3 * BLOCK {
                let bytes = &bytes[start..start + len];
                let expected = naive::<C>(bytes);
                assert!(Positions::<C>::new(bytes, 0).eq(expected.iter().copied()));
                assert_eq!(rfind::<C>(bytes), expected.last().copied());
                assert_eq!(find_near::<C>(bytes, 0), expected.first().copied());
            }
        }
    }

    fn check_next_from<C: Class>() {
        let bytes = noise(4 * BLOCK);
        for stride in [1, 2, 7, 63, 64, 65, 100, 200] {
            let mut positions = Positions::<C>::new(&bytes, 0);
            let mut from = 0;
            while from < bytes.len() {
                let expected = (from..bytes.len()).find(|&at| contains::<C>(bytes[at]));
                assert_eq!(positions.next_from(from), expected);
                from = expected.map_or(bytes.len(), |at| at + stride);
            }
            assert_eq!(positions.next_from(bytes.len() + stride), None);
        }
    }

    fn check_all<C: Class>(definition: impl Fn(u8) -> bool) {
        for byte in 0..=255 {
            assert_eq!(contains::<C>(byte), definition(byte), "{byte:#x}");
        }
        check_twins::<C>();
        check_positions::<C>();
        check_next_from::<C>();
    }

    #[test]
    fn every_way_of_scanning_agrees() {
        check_all::<TargetEnd>(|byte| byte <= b' ');
        check_all::<LowControl>(|byte| byte <= b'\r');
        check_all::<NotNameLike>(|byte| !(byte.is_ascii_alphabetic() || b"-.^_`".contains(&byte)));
        check_all::<Separator>(|byte| b"&?".contains(&byte));
        check_all::<QueryStart>(|byte| byte == b'?');
        check_all::<Escape>(|byte| byte == b'%');
        check_all::<HexDigit>(|byte| byte.is_ascii_hexdigit());
        check_all::<LineFeed>(|byte| byte == b'\n');
        check_all::<NotPadding>(|byte| !b"\0\r\n".contains(&byte));
    }

    /// One member at every place of otherwise empty input: a tail read twice, or a block
    /// skipped, shows at once.
    #[test]
    fn a_lone_member_is_found_wherever_it_is() {
        for len in 1..200 {
            for at in 0..len {
                let mut bytes = std::vec![b'a'; len];
                bytes[at] = b'%';
                assert!(Positions::<Escape>::new(&bytes, 0).eq([at]));
                assert_eq!(Positions::<Escape>::new(&bytes, at).next(), Some(at));
                assert_eq!(Positions::<Escape>::new(&bytes, at + 1).next(), None);
                assert_eq!(find_near::<Escape>(&bytes, at / 2), Some(at));
                assert_eq!(find_near::<Escape>(&bytes, at + 1), None);
                assert_eq!(rfind::<Escape>(&bytes), Some(at));
            }
        }
    }
}
