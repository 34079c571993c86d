//! One band: adaptive differential PCM with a predictor of two poles and six zeros (ITU-T G.722 §3.3 to §3.6).
//!
//! All is 16-bit arithmetic that saturates, as the recommendation's. The six zeros are lanes of eight, so that their
//! adaptation is a few vector operations; lanes six and seven are idle.

use super::tables::{
    HIGHER_CHANGES, HIGHER_THRESHOLD, INVERSE_2, INVERSE_4, INVERSE_5, INVERSE_6, LOWER_CHANGES, LOWER_CODES,
    LOWER_THRESHOLDS, POWERS,
};
use super::{Mode, qmf};

type Lanes = [i16; 8];
/// Lanes in use.
const ZEROS: usize = 6;
/// So many products up to this size do not saturate, in whatever order they are added.
const UNSATURATED: u32 = i16::MAX as u32 / ZEROS as u32;

/// Product of two fractions of 2^15, rounded down.
#[inline(always)]
fn scaled(a: i16, b: i16) -> i16 {
    ((i32::from(a) * i32::from(b)) >> 15).min(i16::MAX.into()) as i16
}

/// Poles, zeros and what they see of the past.
#[derive(Clone, Debug)]
struct Predictor {
    /// Poles: a1, a2.
    poles: [i16; 2],
    /// Reconstructed signal, newest first.
    reconstructed: [i16; 2],
    /// Partially reconstructed signal, newest first.
    partial: [i16; 2],
    zeros: Lanes,
    /// Quantised differences, newest first; 0 in the idle lanes.
    differences: Lanes,
    /// What the zeros predict.
    from_zeros: i16,
    /// What poles and zeros predict together.
    estimate: i16,
}

impl Predictor {
    const fn new() -> Self {
        Self {
            poles: [0; 2],
            reconstructed: [0; 2],
            partial: [0; 2],
            zeros: [0; 8],
            differences: [0; 8],
            from_zeros: 0,
            estimate: 0,
        }
    }

    /// Takes the newest difference, adapts, and predicts the next sample (block 4).
    #[inline(always)]
    fn update(&mut self, difference: i16) {
        let reconstructed = self.estimate.saturating_add(difference);
        let partial = self.from_zeros.saturating_add(difference);
        self.adapt_zeros(difference);
        self.adapt_poles(partial);
        self.partial = [partial, self.partial[0]];
        self.reconstructed = [reconstructed, self.reconstructed[0]];
        self.from_zeros = self.zeros_predict();
        self.estimate = self.poles_predict().saturating_add(self.from_zeros);
    }

    /// UPZERO and the shift of the differences.
    #[inline(always)]
    fn adapt_zeros(&mut self, newest: i16) {
        let change: i16 = if newest == 0 { 0 } else { 128 };
        let old = self.differences;
        for (zero, old) in self.zeros.iter_mut().zip(old) {
            let sign = (old ^ newest) >> 15;
            // 255/256 of it, rounded down.
            let leaked = zero.wrapping_add(((i32::from(*zero) * -256) >> 16) as i16);
            *zero = leaked.saturating_add((change ^ sign) - sign);
        }
        self.differences = [newest, old[0], old[1], old[2], old[3], old[4], 0, 0];
    }

    /// UPPOL2, then UPPOL1. Signs are masks, 0 or -1: they change at random, and a branch would be mispredicted.
    #[inline(always)]
    fn adapt_poles(&mut self, partial: i16) {
        let [a1, a2] = self.poles.map(i32::from);
        let [last, before] = self.partial.map(|old| i32::from((partial ^ old) >> 15));
        let four = (a1 << 2).clamp(-i32::from(i16::MAX), i16::MAX.into());
        let step = (negated(four, !last) >> 7) + negated(128, before);
        let second = (step + ((a2 * 32_512) >> 15)).clamp(-12_288, 12_288);
        let first = ((a1 * 32_640) >> 15) + negated(192, last);
        let bound = 15_360 - second;
        self.poles = [first.clamp(-bound, bound) as i16, second as i16];
    }

    /// FILTEZ: the sum saturates at every step, from the oldest on.
    #[inline(always)]
    fn zeros_predict(&self) -> i16 {
        let mut products = [0i32; 8];
        for ((product, zero), difference) in products.iter_mut().zip(self.zeros).zip(self.differences) {
            *product = (i32::from(difference.saturating_add(difference)) * i32::from(zero)) >> 15;
        }
        let may_saturate = products.iter().fold(false, |any, p| any | (p.unsigned_abs() > UNSATURATED));
        if may_saturate { stepwise(&products) } else { products.iter().sum::<i32>() as i16 }
    }

    /// FILTEP.
    #[inline(always)]
    fn poles_predict(&self) -> i16 {
        let term = |n: usize| {
            let twice = self.reconstructed[n].saturating_add(self.reconstructed[n]);
            scaled(twice, self.poles[n])
        };
        term(0).saturating_add(term(1))
    }
}

/// The value itself for a mask of 0, its negative for -1.
#[inline(always)]
fn negated(value: i32, mask: i32) -> i32 {
    (value ^ mask) - mask
}

#[cold]
fn stepwise(products: &[i32; 8]) -> i16 {
    let steps = products[..ZEROS].iter().rev();
    steps.fold(0i16, |sum, &product| sum.saturating_add(product.min(i16::MAX.into()) as i16))
}

/// The quantiser's step: its logarithm adapts, and it follows (blocks 3).
#[derive(Clone, Copy, Debug)]
struct Step {
    log: i16,
    size: i16,
}

impl Step {
    /// Adds a change to the logarithm, within 0 to `most`; `base` scales the size.
    #[inline(always)]
    fn adapt(&mut self, change: i16, most: i16, base: i16) {
        let leaked = ((i32::from(self.log) * 127) >> 7) as i16;
        self.log = (leaked + change).clamp(0, most);
        let power = i32::from(POWERS[usize::from((self.log >> 6) as u16 & 31)]);
        // The shift to the right is at most base, and one to the left at least.
        self.size = ((power << 1 >> (base + 1 - (self.log >> 11))) << 2) as i16;
    }

    #[inline(always)]
    fn times(self, level: i16) -> i16 {
        scaled(self.size, level)
    }
}

/// The lower band, 0 to 4 kHz: 6 bits, of which the upper four adapt.
#[derive(Clone, Debug)]
pub(super) struct Lower {
    predictor: Predictor,
    step: Step,
}

impl Lower {
    pub(super) const fn new() -> Self {
        Self { predictor: Predictor::new(), step: Step { log: 0, size: 32 } }
    }

    /// One sample to its six bits.
    #[inline(always)]
    pub(super) fn encode(&mut self, sample: i16) -> u8 {
        let difference = sample.saturating_sub(self.predictor.estimate);
        let code = self.quantise(difference);
        self.adapt(code >> 2);
        code
    }

    /// Six bits to a sample.
    #[inline(always)]
    pub(super) fn decode(&mut self, code: u8, mode: Mode) -> i16 {
        let level = match mode {
            Mode::Kbit64 => INVERSE_6[usize::from(code & 63)],
            Mode::Kbit56 => INVERSE_5[usize::from(code >> 1 & 31)],
            Mode::Kbit48 => INVERSE_4[usize::from(code >> 2 & 15)],
        };
        let sample = i32::from(self.predictor.estimate) + i32::from(self.step.times(level));
        self.adapt(code >> 2 & 15);
        qmf::limit(sample)
    }

    /// QUANTL: counts the thresholds that the magnitude reaches, all at once.
    #[inline(always)]
    fn quantise(&self, difference: i16) -> u8 {
        let sign = difference >> 15;
        let magnitude = difference ^ sign;
        let size = self.step.size as u16;
        let mut reached = [0i16; 32];
        for (reached, threshold) in reached.iter_mut().zip(LOWER_THRESHOLDS) {
            let threshold = ((u32::from(threshold << 4) * u32::from(size)) >> 16) as i16;
            *reached = i16::from(magnitude >= threshold);
        }
        let count = reached.iter().sum::<i16>() as usize - 3;
        LOWER_CODES[usize::from(sign != 0)][count]
    }

    #[inline(always)]
    fn adapt(&mut self, code: u8) {
        let code = usize::from(code);
        let difference = self.step.times(INVERSE_4[code]);
        self.step.adapt(LOWER_CHANGES[code], 18_432, 8);
        self.predictor.update(difference);
    }
}

/// The higher band, 4 to 8 kHz: 2 bits.
#[derive(Clone, Debug)]
pub(super) struct Higher {
    predictor: Predictor,
    step: Step,
}

impl Higher {
    pub(super) const fn new() -> Self {
        Self { predictor: Predictor::new(), step: Step { log: 0, size: 8 } }
    }

    /// One sample to its two bits.
    #[inline(always)]
    pub(super) fn encode(&mut self, sample: i16) -> u8 {
        let difference = sample.saturating_sub(self.predictor.estimate);
        let sign = difference >> 15;
        let magnitude = i32::from(difference ^ sign);
        let large = magnitude >= (HIGHER_THRESHOLD * i32::from(self.step.size)) >> 12;
        let code = if sign == 0 { 3 } else { 1 } - u8::from(large);
        self.adapt(code);
        code
    }

    /// Two bits to a sample.
    #[inline(always)]
    pub(super) fn decode(&mut self, code: u8) -> i16 {
        let before = self.predictor.estimate;
        let difference = self.adapt(code & 3);
        qmf::limit(before.saturating_add(difference).into())
    }

    #[inline(always)]
    fn adapt(&mut self, code: u8) -> i16 {
        let code = usize::from(code);
        let difference = self.step.times(INVERSE_2[code]);
        self.step.adapt(HIGHER_CHANGES[code], 22_528, 10);
        self.predictor.update(difference);
        difference
    }
}
