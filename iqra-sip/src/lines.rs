//! Finds line ends and colons in a head, 64 octets at a time: one load of each block serves all its lines.
//!
//! Where the processor compares sixteen octets at once and tells which matched, that is used; elsewhere eight octets
//! are compared in one word. Both give the same masks.

use crate::message::Fault;

/// Octets of a block: one bit of a mask each.
const BLOCK: usize = 64;

/// A head with the masks of the block that was looked at last.
pub(crate) struct Lines<'a> {
    bytes: &'a [u8],
    base: usize,
    masks: Masks,
}

/// One bit per octet of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Masks {
    /// CR and everything below it: NUL, tab, LF.
    controls: u64,
    colons: u64,
}

impl<'a> Lines<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a [u8]) -> Lines<'a> {
        Lines { bytes, base: 0, masks: masks_at(bytes, 0) }
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The first colon, CR or octet below CR from `from` on.
    #[inline]
    pub(crate) fn stop(&mut self, from: usize) -> Option<usize> {
        self.find(from, |masks| masks.controls | masks.colons)
    }

    /// The CR of the CRLF that ends the line at `at`. A NUL is let pass behind a backslash only, where a quoted string
    /// escapes it (RFC 3261 §25.1 `quoted-pair`).
    #[inline]
    pub(crate) fn end(&mut self, at: usize) -> Result<usize, Fault> {
        let found = self.find(at, |masks| masks.controls).ok_or(Fault::Incomplete)?;
        if self.bytes[found..].starts_with(b"\r\n") { Ok(found) } else { self.odd_end(at, found) }
    }

    /// The same where what was found is no CRLF.
    #[cold]
    fn odd_end(&mut self, at: usize, mut found: usize) -> Result<usize, Fault> {
        loop {
            match self.bytes[found] {
                b'\r' if self.bytes.get(found + 1) == Some(&b'\n') => return Ok(found),
                b'\r' if found + 1 == self.bytes.len() => return Err(Fault::Incomplete),
                b'\r' | b'\n' => return Err(Fault::LineBreak),
                0 if found == at || self.bytes[found - 1] != b'\\' => return Err(Fault::Nul),
                _ => found = self.find(found + 1, |masks| masks.controls).ok_or(Fault::Incomplete)?,
            }
        }
    }

    #[inline]
    fn find(&mut self, mut from: usize, mask: impl Fn(Masks) -> u64) -> Option<usize> {
        loop {
            let base = from - from % BLOCK;
            if base != self.base && !self.load(base) {
                return None;
            }
            let left = mask(self.masks) >> (from % BLOCK);
            if left != 0 {
                return Some(from + left.trailing_zeros() as usize);
            }
            from = base + BLOCK;
        }
    }

    /// Looks at another block; `false` where there is none.
    #[inline(never)]
    fn load(&mut self, base: usize) -> bool {
        let within = base < self.bytes.len();
        if within {
            (self.base, self.masks) = (base, masks_at(self.bytes, base));
        }
        within
    }
}

#[inline]
fn masks_at(bytes: &[u8], base: usize) -> Masks {
    let rest = &bytes[base..];
    match rest.first_chunk() {
        Some(block) => masks(block),
        None => {
            let mut block = [u8::MAX; BLOCK];
            block[..rest.len()].copy_from_slice(rest);
            masks(&block)
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[allow(unsafe_code)] // The one place; the instructions themselves are safe to use.
fn masks(block: &[u8; BLOCK]) -> Masks {
    // SAFETY: every x86-64 processor has SSE2.
    unsafe { lanes(block) }
}

/// The masks by lanes of sixteen octets.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
fn lanes(block: &[u8; BLOCK]) -> Masks {
    use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8};
    let (mut controls, mut colons) = (0, 0);
    for (at, lane) in block.as_chunks::<16>().0.iter().enumerate() {
        let lane = u128::from_le_bytes(*lane);
        let lane = _mm_set_epi64x((lane >> 64) as i64, lane as i64);
        let low = _mm_cmpeq_epi8(_mm_min_epu8(lane, _mm_set1_epi8(b'\r' as i8)), lane);
        let colon = _mm_cmpeq_epi8(lane, _mm_set1_epi8(b':' as i8));
        controls |= u64::from(_mm_movemask_epi8(low) as u16) << (16 * at);
        colons |= u64::from(_mm_movemask_epi8(colon) as u16) << (16 * at);
    }
    Masks { controls, colons }
}

#[cfg(not(target_arch = "x86_64"))]
use words as masks;

/// The masks by words of eight octets.
#[cfg_attr(target_arch = "x86_64", cfg(test))]
fn words(block: &[u8; BLOCK]) -> Masks {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    const ONES: u64 = 0x0101_0101_0101_0101;
    /// Brings the high bits of the eight octets together.
    fn gather(high: u64) -> u64 {
        ((high & HIGH) >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
    }
    let (mut controls, mut colons) = (0, 0);
    for (at, word) in block.as_chunks::<8>().0.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // Without the high bits no octet borrows from or carries into its neighbour.
        let above = ((word & !HIGH) + ONES * u64::from(0x80 - (b'\r' + 1))) | word;
        let other = word ^ (ONES * u64::from(b':'));
        let other = ((other & !HIGH) + !HIGH) | other;
        controls |= gather(!above) << (8 * at);
        colons |= gather(!other) << (8 * at);
    }
    Masks { controls, colons }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_lanes_give_the_same_masks() {
        for b in 0..=u8::MAX {
            for at in 0..BLOCK {
                let mut block = [b'x'; BLOCK];
                block[at] = b;
                let expected =
                    Masks { controls: u64::from(b <= b'\r') << at, colons: u64::from(b == b':') << at };
                assert_eq!((masks(&block), words(&block)), (expected, expected), "{b} at {at}");
            }
        }
    }

    #[test]
    fn lines_end_with_both_octets_wherever_the_block_ends() {
        for len in 0..200 {
            let text = [&vec![b'x'; len][..], b"\r\n"].concat();
            assert_eq!(Lines::new(&text).end(0), Ok(len));
            assert_eq!(Lines::new(&text[..len + 1]).end(0), Err(Fault::Incomplete));
            assert_eq!(Lines::new(&text[..len]).end(0), Err(Fault::Incomplete));
        }
    }
}
