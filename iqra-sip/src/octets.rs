//! Compares many octets at once, for the two searches that a message costs: line ends and colons
//! ([`crate::lines`]), and the ends of words ([`crate::message`]'s grammar).
//!
//! Where the processor compares sixteen octets at once and tells which matched, that is used; elsewhere eight octets
//! are compared in one word. Both give the same masks.
#![allow(unsafe_code)] // To call what needs SSE2, which every x86-64 has; the instructions themselves are safe.

/// Octets of a block: one bit of a mask each.
pub(crate) const BLOCK: usize = 64;

/// Octets that [`odd`] looks at.
pub(crate) const LANE: usize = 16;

/// One bit per octet of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Masks {
    /// CR and everything below it: NUL, tab, LF.
    pub(crate) controls: u64,
    pub(crate) colons: u64,
}

/// Whether [`odd`] passes over this octet: it belongs to every word of SIP but a number.
pub(crate) const fn is_plain(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.')
}

#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn masks(block: &[u8; BLOCK]) -> Masks {
    // SAFETY: every x86-64 processor has SSE2.
    unsafe { sse2::masks(block) }
}

/// One bit per octet that is not plain.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn odd(lane: &[u8; LANE]) -> u16 {
    // SAFETY: every x86-64 processor has SSE2.
    unsafe { sse2::odd(lane) }
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use words::{masks, odd};

/// By lanes of sixteen octets.
#[cfg(target_arch = "x86_64")]
mod sse2 {
    use std::arch::x86_64::{
        __m128i, _mm_andnot_si128, _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128,
        _mm_set_epi64x, _mm_set1_epi8, _mm_sub_epi8,
    };

    use super::{BLOCK, LANE, Masks};

    #[target_feature(enable = "sse2")]
    #[inline]
    fn load(lane: &[u8; LANE]) -> __m128i {
        let lane = u128::from_le_bytes(*lane);
        _mm_set_epi64x((lane >> 64) as i64, lane as i64)
    }

    #[target_feature(enable = "sse2")]
    #[inline]
    fn up_to(lane: __m128i, last: u8) -> __m128i {
        _mm_cmpeq_epi8(_mm_min_epu8(lane, _mm_set1_epi8(last as i8)), lane)
    }

    #[target_feature(enable = "sse2")]
    #[inline]
    fn within(lane: __m128i, first: u8, last: u8) -> __m128i {
        up_to(_mm_sub_epi8(lane, _mm_set1_epi8(first as i8)), last - first)
    }

    #[target_feature(enable = "sse2")]
    #[inline]
    fn equal(lane: __m128i, b: u8) -> __m128i {
        _mm_cmpeq_epi8(lane, _mm_set1_epi8(b as i8))
    }

    #[target_feature(enable = "sse2")]
    #[inline]
    pub(super) fn masks(block: &[u8; BLOCK]) -> Masks {
        let (mut controls, mut colons) = (0, 0);
        for (at, lane) in block.as_chunks::<LANE>().0.iter().enumerate() {
            let lane = load(lane);
            controls |= u64::from(_mm_movemask_epi8(up_to(lane, b'\r')) as u16) << (LANE * at);
            colons |= u64::from(_mm_movemask_epi8(equal(lane, b':')) as u16) << (LANE * at);
        }
        Masks { controls, colons }
    }

    #[target_feature(enable = "sse2")]
    #[inline]
    pub(super) fn odd(lane: &[u8; LANE]) -> u16 {
        let lane = load(lane);
        let letters = within(_mm_or_si128(lane, _mm_set1_epi8(0x20)), b'a', b'z');
        let others = _mm_andnot_si128(equal(lane, b'/'), within(lane, b'-', b'9'));
        !(_mm_movemask_epi8(_mm_or_si128(letters, others)) as u16)
    }
}

/// By words of eight octets.
#[cfg(any(test, not(target_arch = "x86_64")))]
mod words {
    use super::{BLOCK, LANE, Masks};

    const HIGH: u64 = 0x8080_8080_8080_8080;
    const ONES: u64 = 0x0101_0101_0101_0101;

    /// Brings the high bits of the eight octets together.
    fn gather(high: u64) -> u64 {
        ((high & HIGH) >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
    }

    /// The high bit of every octet of `word` from `first` to `last`, both ASCII.
    fn within(word: u64, first: u8, last: u8) -> u64 {
        // Without the high bits no octet carries into its neighbour.
        let low = word & !HIGH;
        let from = low + ONES * u64::from(0x80 - first);
        let past = low + ONES * u64::from(0x80 - (last + 1));
        from & !past & !word
    }

    pub(crate) fn masks(block: &[u8; BLOCK]) -> Masks {
        let (mut controls, mut colons) = (0, 0);
        for (at, word) in block.as_chunks::<8>().0.iter().enumerate() {
            let word = u64::from_le_bytes(*word);
            controls |= gather(within(word, 0, b'\r')) << (8 * at);
            colons |= gather(within(word, b':', b':')) << (8 * at);
        }
        Masks { controls, colons }
    }

    pub(crate) fn odd(lane: &[u8; LANE]) -> u16 {
        let [low, high] = [0, 8].map(|at| {
            let word = u64::from_le_bytes(*lane[at..].first_chunk().expect("half a lane"));
            let letters = within(word | (ONES * 0x20), b'a', b'z');
            gather(letters | within(word, b'-', b'.') | within(word, b'0', b'9')) as u16
        });
        !(low | high << 8)
    }
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
                assert_eq!((masks(&block), words::masks(&block)), (expected, expected), "{b} at {at}");
            }
            for at in 0..LANE {
                let mut lane = [b'x'; LANE];
                lane[at] = b;
                let expected = u16::from(!is_plain(b)) << at;
                assert_eq!((odd(&lane), words::odd(&lane)), (expected, expected), "{b} at {at}");
            }
        }
    }
}
