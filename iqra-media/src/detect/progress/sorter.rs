//! Says of each window what it holds.
//!
//! Whether there is one pure tone is asked by prediction: of a sine, each sample and the one two lags before add up to
//! a multiple of the one between, and the multiple is its frequency. The window is then split into four parts, whose
//! phases correct the frequency to a hertz and whose sum says how much of the window's power the tone holds.

use std::f64::consts::TAU;

use super::super::bank::{Bank, Look, Phasor, Slide};
use crate::pcm::level;

/// Frequencies of the pairs, and which two make one.
const FREQUENCIES: [f64; 6] = [350.0, 400.0, 440.0, 450.0, 480.0, 620.0];
const PAIRS: [(Pair, usize, usize); 4] =
    [(Pair::Dial, 0, 2), (Pair::Ring, 2, 4), (Pair::BritishRing, 1, 3), (Pair::Busy, 4, 5)];
/// Share of the power that a pair holds, and of the pair's that the weaker of the two does.
const PAIR_SHARE: f32 = 0.75;
const WEAKER_SHARE: f32 = 0.15;
/// Share of the power that a single tone holds.
const SINGLE_SHARE: f64 = 0.8;
/// What is softer is silence, in dBm0.
const SILENCE: f64 = -43.0;
/// Single tones are looked for between these, in Hz.
const SINGLES: std::ops::RangeInclusive<f64> = 300.0..=2400.0;

/// What a window holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Sort {
    Silence,
    /// A tone of this frequency in Hz, and the share of the power that it holds.
    Single(f64, f64),
    Pair(Pair),
    Other,
}

/// Two tones at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pair {
    /// 350 + 440 Hz.
    Dial,
    /// 440 + 480 Hz.
    Ring,
    /// 400 + 450 Hz.
    BritishRing,
    /// 480 + 620 Hz.
    Busy,
}

#[derive(Clone, Debug)]
pub(super) struct Sorter {
    rate: u32,
    bank: Bank,
    silence: f32,
}

impl Sorter {
    pub(super) fn new(rate: u32, slide: &Slide) -> Self {
        let peak = f32::from(level::peak_of_dbm0(SILENCE));
        Self { rate, bank: Bank::new(rate, slide, &FREQUENCIES), silence: peak * peak / 2.0 }
    }

    pub(super) fn sort(&mut self, look: &Look<'_>) -> Sort {
        if look.power < self.silence {
            return Sort::Silence;
        }
        if let Some(pair) = self.pair(look) {
            return Sort::Pair(pair);
        }
        match single(look.window, self.rate) {
            Some((frequency, share)) if share >= SINGLE_SHARE => Sort::Single(frequency, share),
            _ => Sort::Other,
        }
    }

    fn pair(&mut self, look: &Look<'_>) -> Option<Pair> {
        let tones: [Phasor; 6] = self.bank.measure(look.window);
        let powers = tones.map(Phasor::power);
        let found = PAIRS.iter().find(|&&(_, low, high)| {
            let (low, high) = (powers[low], powers[high]);
            let both = low + high;
            both >= look.power * PAIR_SHARE && low.min(high) >= both * WEAKER_SHARE
        });
        found.map(|&(pair, ..)| pair)
    }
}

/// The frequency in Hz of the tone in the window, were there just one, and its share of the power.
fn single(window: &[i16], rate: u32) -> Option<(f64, f64)> {
    let rate = f64::from(rate);
    // Lags as at 8 kHz: an eighth of a millisecond, and for low tones, to which noise would do more, two.
    let lag = (rate / 8000.0) as usize;
    let rough = predicted(window, lag.max(1))? * rate;
    let rough = if rough < 1200.0 { predicted(window, 2 * lag.max(1))? * rate } else { rough };
    let quarters = quarters(window, rough / rate);
    let turned = quarters.windows(2).fold(Phasor::default(), |sum, pair| {
        let turned = pair[1].turned(pair[0]);
        Phasor { re: sum.re + turned.re, im: sum.im + turned.im }
    });
    let per_quarter = f64::from(turned.angle()) / TAU;
    let length = window.len() as f64 / 4.0;
    let frequency = rough + per_quarter * rate / length;
    let share = share(&quarters, per_quarter, window);
    SINGLES.contains(&frequency).then_some((frequency, share))
}

/// The frequency, in turns per sample, that predicts the window best over this lag.
fn predicted(window: &[i16], lag: usize) -> Option<f64> {
    let (early, middle, late) = (window, window.get(lag..)?, window.get(2 * lag..)?);
    let (mut across, mut own) = (0.0f32, 0.0f32);
    for ((&early, &middle), &late) in early.iter().zip(middle).zip(late) {
        across += (f32::from(early) + f32::from(late)) * f32::from(middle);
        own += f32::from(middle) * f32::from(middle);
    }
    let cosine = f64::from(across) / f64::from(own) / 2.0;
    (own > 0.0).then(|| cosine.clamp(-1.0, 1.0).acos() / TAU / lag as f64)
}

/// The component at a frequency, in turns per sample, of each quarter of the window. All four are walked through at
/// once, with one phasor that turns; then each is turned to where it is in the window.
fn quarters(window: &[i16], frequency: f64) -> [Phasor; 4] {
    let (sin, cos) = (TAU * frequency).sin_cos();
    let (turn, mut at) = (Phasor { re: cos as f32, im: -sin as f32 }, Phasor { re: 1.0, im: 0.0 });
    let (mut re, mut im) = ([0.0f32; 4], [0.0f32; 4]);
    let length = window.len() / 4;
    let [a, b, c, d] = [0, 1, 2, 3].map(|quarter| &window[quarter * length..][..length]);
    for (((&a, &b), &c), &d) in a.iter().zip(b).zip(c).zip(d) {
        let samples = [a, b, c, d].map(f32::from);
        for n in 0..4 {
            re[n] += samples[n] * at.re;
            im[n] += samples[n] * at.im;
        }
        at = at.times(turn);
    }
    std::array::from_fn(|n| {
        let (sin, cos) = (-TAU * frequency * (n * length) as f64).sin_cos();
        Phasor { re: re[n], im: im[n] }.times(Phasor { re: cos as f32, im: sin as f32 })
    })
}

/// The share of the window's power in the four quarters, each turned back by what it turned since the one before.
fn share(quarters: &[Phasor; 4], per_quarter: f64, window: &[i16]) -> f64 {
    let mut sum = Phasor::default();
    for (n, quarter) in quarters.iter().enumerate() {
        let (im, re) = (-TAU * per_quarter * n as f64).sin_cos();
        let back = quarter.times(Phasor { re: re as f32, im: im as f32 });
        (sum.re, sum.im) = (sum.re + back.re, sum.im + back.im);
    }
    let own: f32 = window.iter().map(|&s| f32::from(s) * f32::from(s)).sum();
    // Of a tone beside the frequency that they were asked for, quarters show less.
    let turn = TAU / 2.0 * per_quarter;
    let response = if turn.abs() < 1e-3 { 1.0 } else { (turn.sin() / turn).powi(2) };
    // A sine of amplitude a adds up to n a / 2, and has n a^2 / 2 of power.
    f64::from(sum.power()) * 4.0 / response / (f64::from(own) * window.len() as f64).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm::tone::Tone;

    #[test]
    fn the_frequency_of_a_tone_is_right_to_a_hertz() {
        for rate in [8000, 16_000, 44_100, 48_000] {
            for frequency in [300.5, 425.0, 1000.0, 1100.0, 1776.7, 2100.0] {
                let mut window = vec![0; (rate as usize * 64 / 1000).next_multiple_of(16)];
                Tone::new(frequency, rate, 3000).fill(&mut window);
                let (found, share) = single(&window, rate).unwrap();
                assert!((found - frequency).abs() < 1.0, "{rate}: {found} for {frequency}");
                assert!(share > 0.98 && share < 1.02, "{rate}: {share} at {frequency}");
            }
        }
    }

    #[test]
    fn silence_and_full_scale_have_an_answer() {
        assert_eq!(single(&[0; 512], 8000), None);
        assert!(single(&[i16::MIN; 512], 8000).is_none_or(|(f, _)| f.is_finite()));
        assert_eq!(single(&[], 8000), None);
    }
}
