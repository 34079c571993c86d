//! The quadrature mirror filters: 16 kHz audio to two bands at 8 kHz, and back (ITU-T G.722 §3.2.1, §4.3).
//!
//! The filter is symmetric, so its two halves have the same taps, one forwards and one backwards. Each half runs over
//! a line of its own, the first or the second samples of the pairs, so that a sum is one vector dot product.

use super::tables::QMF;

/// Taps of one half, with zeros up to whole vectors.
const TAPS: usize = 16;
/// Pairs of samples at a time; what is longer goes in pieces.
pub(super) const PIECE: usize = 80;
/// Samples of the past that a window reaches back.
const PAST: usize = TAPS - 1;

const FORWARD: [i16; TAPS] = taps(false);
const BACKWARD: [i16; TAPS] = taps(true);

/// The taps behind zeros, oldest sample first.
const fn taps(backward: bool) -> [i16; TAPS] {
    let (mut taps, mut at) = ([0; TAPS], 0);
    while at < QMF.len() {
        taps[TAPS - QMF.len() + at] = QMF[if backward { QMF.len() - 1 - at } else { at }];
        at += 1;
    }
    taps
}

/// What each half of the filter runs over, the past first.
#[derive(Clone, Debug)]
struct Lines {
    forward: [i16; PAST + PIECE],
    backward: [i16; PAST + PIECE],
}

impl Lines {
    const fn new() -> Self {
        Self { forward: [0; PAST + PIECE], backward: [0; PAST + PIECE] }
    }

    /// The two sums at pair `at`.
    #[inline(always)]
    fn sums(&self, at: usize) -> (i32, i32) {
        (dot(&self.forward, at, &FORWARD), dot(&self.backward, at, &BACKWARD))
    }

    fn keep_past(&mut self, pairs: usize) {
        self.forward.copy_within(pairs..pairs + PAST, 0);
        self.backward.copy_within(pairs..pairs + PAST, 0);
    }
}

#[inline(always)]
fn dot(line: &[i16; PAST + PIECE], at: usize, taps: &[i16; TAPS]) -> i32 {
    let window = &line[at..at + TAPS];
    window.iter().zip(taps).map(|(&x, &h)| i32::from(x) * i32::from(h)).sum()
}

/// The 15-bit numbers of the bands (LIMIT).
#[inline(always)]
pub(super) fn limit(value: i32) -> i16 {
    value.clamp(-16_384, 16_383) as i16
}

/// Splits.
#[derive(Clone, Debug)]
pub(super) struct Analysis(Lines);

impl Analysis {
    pub(super) const fn new() -> Self {
        Self(Lines::new())
    }

    /// From up to [`PIECE`] pairs of samples to as many of the lower and higher band.
    pub(super) fn split(&mut self, pcm: &[i16], bands: &mut [(i16, i16)]) {
        let lines = &mut self.0;
        let pairs = pcm.as_chunks::<2>().0;
        for (at, &[first, second]) in pairs.iter().enumerate() {
            lines.forward[PAST + at] = first;
            lines.backward[PAST + at] = second;
        }
        for (at, band) in bands.iter_mut().enumerate().take(pairs.len()) {
            let (first, second) = lines.sums(at);
            *band = (limit((second + first) >> 14), limit((second - first) >> 14));
        }
        lines.keep_past(pairs.len());
    }
}

/// Joins.
#[derive(Clone, Debug)]
pub(super) struct Synthesis(Lines);

impl Synthesis {
    pub(super) const fn new() -> Self {
        Self(Lines::new())
    }

    /// From up to [`PIECE`] samples of the lower and higher band to as many pairs of samples.
    pub(super) fn join(&mut self, bands: &[(i16, i16)], pcm: &mut [i16]) {
        let lines = &mut self.0;
        for (at, &(lower, higher)) in bands.iter().enumerate() {
            lines.forward[PAST + at] = lower.saturating_add(higher);
            lines.backward[PAST + at] = lower.saturating_sub(higher);
        }
        for (at, pair) in pcm.as_chunks_mut::<2>().0.iter_mut().enumerate().take(bands.len()) {
            let (sum, difference) = lines.sums(at);
            *pair = [saturated(difference >> 11), saturated(sum >> 11)];
        }
        lines.keep_past(bands.len());
    }
}

#[inline(always)]
fn saturated(value: i32) -> i16 {
    value.clamp(i16::MIN.into(), i16::MAX.into()) as i16
}
