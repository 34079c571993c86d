//! Sample rate conversion: a rational polyphase FIR filter, streaming, 16-bit in and out.
//!
//! The ratio is reduced to L/M. Conceptually the input is raised to L times its rate, low-pass filtered and every
//! M-th sample kept; the polyphase form computes only those, each from one of L short filters. The low-pass is a
//! sinc under a Kaiser window, [`TAPS`] samples of the lower rate long: flat to 0.85 of the lower Nyquist frequency
//! (3.4 kHz at 8 kHz), 80 dB down from 1.06 of it, and [`Resampler::delay`] is 3 ms at 8 kHz. Coefficients have 14
//! fractional bits and sums 32, so that the compiler can use integer multiply-add vectors.

use std::f64::consts::PI;
use std::time::Duration;

use thiserror::Error;

/// The rates that are converted between, in Hz.
pub const RATES: [u32; 6] = [8000, 16_000, 24_000, 32_000, 44_100, 48_000];

/// Length of the filter in samples of the lower rate.
const TAPS: usize = 48;
/// Middle of the transition band, as a share of the lower rate's Nyquist frequency.
const CUTOFF: f64 = 0.955;
/// Shape of the Kaiser window for 80 dB.
const BETA: f64 = 7.857;
/// Fractional bits of the coefficients: the absolute values of a phase sum to less than 2, so sums fit 32 bits.
const FRACTION: u32 = 14;
/// Filters are multiples of this many coefficients long, a vector register's worth.
const LANES: usize = 8;

/// A rate that [`Resampler`] does not convert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("sample rate {0} Hz is not supported; use 8000, 16000, 24000, 32000, 44100 or 48000")]
pub struct UnsupportedRate(pub u32);

/// Converts one mono stream.
///
/// # Contract
/// Frames of any length in order; state is kept between them. Over a stream, output samples are input samples times
/// the ratio, rounded up. Does not allocate once it has seen its longest frame and `out` has room.
#[derive(Clone, Debug)]
pub struct Resampler {
    from: u32,
    /// Interpolation and decimation factors.
    up: usize,
    down: usize,
    /// `up` filters of `taps` coefficients each, oldest sample first.
    filters: Vec<i16>,
    taps: usize,
    /// The last `taps - 1` samples, then the frame at hand.
    line: Vec<i16>,
    /// The next output's filter.
    phase: usize,
    /// The next output's first sample in `line`.
    start: usize,
}

impl Resampler {
    /// From one rate in Hz to another; equal rates pass samples through.
    ///
    /// # Errors
    /// [`UnsupportedRate`] for a rate that is not in [`RATES`].
    pub fn new(from: u32, to: u32) -> Result<Self, UnsupportedRate> {
        if let Some(&rate) = [from, to].iter().find(|rate| !RATES.contains(rate)) {
            return Err(UnsupportedRate(rate));
        }
        let divisor = gcd(from, to);
        let (up, down) = ((to / divisor) as usize, (from / divisor) as usize);
        let lower = from.min(to);
        let taps = (TAPS * from as usize).div_ceil(lower as usize).next_multiple_of(LANES);
        let filters =
            if from == to { Vec::new() } else { filters(up, taps, f64::from(lower) / f64::from(from)) };
        Ok(Self { from, up, down, filters, taps, line: vec![0; taps - 1], phase: 0, start: 0 })
    }

    /// Converts a frame and appends the result to `out`.
    pub fn process(&mut self, frame: &[i16], out: &mut Vec<i16>) {
        if self.filters.is_empty() {
            return out.extend_from_slice(frame);
        }
        self.line.extend_from_slice(frame);
        while let Some(window) = self.line.get(self.start..self.start + self.taps) {
            out.push(dot(window, &self.filters[self.phase * self.taps..][..self.taps]));
            self.phase += self.down;
            self.start += self.phase / self.up;
            self.phase %= self.up;
        }
        let used = self.start.min(self.line.len());
        self.line.drain(..used);
        self.start -= used;
    }

    /// How much later a sound leaves than it enters.
    pub fn delay(&self) -> Duration {
        if self.filters.is_empty() {
            return Duration::ZERO;
        }
        Duration::from_secs_f64(
            (self.taps * self.up - 1) as f64 / 2.0 / (f64::from(self.from) * self.up as f64),
        )
    }

    /// Forgets the stream, as if new.
    pub fn reset(&mut self) {
        self.line.clear();
        self.line.resize(self.taps - 1, 0);
        (self.phase, self.start) = (0, 0);
    }
}

/// Rounded and saturated. Chunks of fixed length become vector multiply-adds; lengths are multiples of [`LANES`].
fn dot(window: &[i16], filter: &[i16]) -> i16 {
    let (windows, filters) = (window.as_chunks::<LANES>().0, filter.as_chunks::<LANES>().0);
    let products = |(x, h): (&[i16; LANES], &[i16; LANES])| -> i32 {
        (0..LANES).map(|n| i32::from(x[n]) * i32::from(h[n])).sum()
    };
    let sum: i32 = windows.iter().zip(filters).map(products).sum();
    ((sum + (1 << (FRACTION - 1))) >> FRACTION).clamp(i16::MIN.into(), i16::MAX.into()) as i16
}

/// The prototype low-pass, split into phases. `band` is the lower rate as a share of the input rate.
fn filters(up: usize, taps: usize, band: f64) -> Vec<i16> {
    let length = taps * up;
    let middle = (length - 1) as f64 / 2.0;
    let prototype: Vec<f64> = (0..length)
        .map(|n| {
            let at = n as f64 - middle;
            sinc(at * CUTOFF * band / up as f64) * kaiser(at / (middle + 0.5))
        })
        .collect();
    // Output phase p takes prototype values p, p + up, …; the window runs from the oldest sample to the newest.
    (0..up)
        .flat_map(|phase| quantised((0..taps).rev().map(|tap| prototype[tap * up + phase]).collect()))
        .collect()
}

/// To fixed point with a sum of exactly 1, so that no phase changes the level.
fn quantised(phase: Vec<f64>) -> Vec<i16> {
    let one = 1 << FRACTION;
    let scale = f64::from(one) / phase.iter().sum::<f64>();
    let mut fixed: Vec<i16> = phase.iter().map(|h| (h * scale).round() as i16).collect();
    let rest = one - fixed.iter().map(|&h| i32::from(h)).sum::<i32>();
    if let Some(largest) = fixed.iter_mut().max() {
        *largest += rest as i16;
    }
    fixed
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) }
}

/// Kaiser window over -1 to 1.
fn kaiser(x: f64) -> f64 {
    bessel(BETA * (1.0 - x * x).max(0.0).sqrt()) / bessel(BETA)
}

/// Modified Bessel function of the first kind, order 0, by its power series.
fn bessel(x: f64) -> f64 {
    let (mut sum, mut term) = (1.0, 1.0);
    for k in 1..40 {
        term *= (x / 2.0 / f64::from(k)).powi(2);
        sum += term;
    }
    sum
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::goertzel::{amplitude, purity};
    use crate::pcm::tone::Tone;

    fn pairs() -> impl Iterator<Item = (u32, u32)> {
        RATES.into_iter().flat_map(|from| RATES.map(|to| (from, to)))
    }

    /// One second of a tone, resampled in frames of 20 ms, without the first 100 ms.
    fn resampled(from: u32, to: u32, frequency: f64, peak: i16) -> Vec<i16> {
        let (mut resampler, mut tone) = (Resampler::new(from, to).unwrap(), Tone::new(frequency, from, peak));
        let (mut frame, mut out) = (vec![0; from as usize / 50], Vec::new());
        for _ in 0..50 {
            tone.fill(&mut frame);
            resampler.process(&frame, &mut out);
        }
        out.split_off(to as usize / 10)
    }

    /// Signal to everything else, in dB.
    fn sinad(samples: &[i16], rate: u32, frequency: f64) -> f64 {
        let share = purity(samples, rate, frequency);
        10.0 * (share / (1.0 - share).max(1e-12)).log10()
    }

    fn level(samples: &[i16], rate: u32, frequency: f64, peak: f64) -> f64 {
        20.0 * (amplitude(samples, rate, frequency) / peak).max(1e-9).log10()
    }

    #[test]
    fn a_1_khz_tone_stays_clean_at_every_pair_of_rates() {
        for (from, to) in pairs() {
            let out = resampled(from, to, 1000.0, 16_000);
            let (clean, level) = (sinad(&out, to, 1000.0), level(&out, to, 1000.0, 16_000.0));
            assert!(clean >= 65.0, "{from} -> {to}: SINAD {clean:.1} dB");
            assert!(level.abs() < 0.05, "{from} -> {to}: level {level:.2} dB");
        }
    }

    #[test]
    fn the_telephone_band_passes_flat_to_its_edge() {
        for (from, to) in [(8000, 16_000), (8000, 24_000), (8000, 48_000), (48_000, 8000), (24_000, 8000)] {
            for frequency in [200.0, 2500.0, 3400.0] {
                let out = resampled(from, to, frequency, 16_000);
                let (clean, level) = (sinad(&out, to, frequency), level(&out, to, frequency, 16_000.0));
                assert!(clean >= 60.0, "{from} -> {to} at {frequency}: SINAD {clean:.1} dB");
                assert!(level.abs() < 0.1, "{from} -> {to} at {frequency}: level {level:.2} dB");
            }
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_rejected() {
        for (from, to) in pairs().filter(|(from, to)| to < from) {
            let nyquist = f64::from(to) / 2.0;
            for frequency in [nyquist * 1.08, nyquist * 1.15, f64::from(from) / 2.0 * 0.97] {
                if frequency < f64::from(from) / 2.0 && frequency > nyquist * 1.06 {
                    let out = resampled(from, to, frequency, 16_000);
                    let power = out.iter().map(|&s| f64::from(s).powi(2)).sum::<f64>() / out.len() as f64;
                    let rejection = -10.0 * (power / (16_000f64.powi(2) / 2.0)).max(1e-12).log10();
                    assert!(rejection >= 60.0, "{from} -> {to} at {frequency}: {rejection:.1} dB");
                }
            }
        }
    }

    #[test]
    fn a_step_leaves_after_the_stated_delay() {
        for (from, to) in pairs() {
            let mut resampler = Resampler::new(from, to).unwrap();
            let (mut out, quiet) = (Vec::new(), from as usize / 100);
            let input: Vec<i16> =
                (0..from as usize / 10).map(|n| if n < quiet { 0 } else { 10_000 }).collect();
            resampler.process(&input, &mut out);
            let crossing = out.iter().position(|&s| s >= 5000).unwrap() as f64 / f64::from(to);
            let expected = 0.01 + resampler.delay().as_secs_f64();
            let sample = 1.0 / f64::from(from.min(to));
            assert!(
                (crossing - expected).abs() <= sample,
                "{from} -> {to}: {crossing} instead of {expected} s"
            );
            assert!(resampler.delay() <= Duration::from_micros(3100));
        }
    }

    #[test]
    fn frames_of_any_length_give_the_same_stream() {
        let mut input = vec![0; 4800];
        Tone::new(700.0, 24_000, 20_000).fill(&mut input);
        let (mut whole, mut parts) = (Vec::new(), Vec::new());
        Resampler::new(24_000, 16_000).unwrap().process(&input, &mut whole);
        let mut resampler = Resampler::new(24_000, 16_000).unwrap();
        let mut rest = &input[..];
        for length in [1, 7, 480, 0, 33, 1000].into_iter().cycle() {
            let (frame, tail) = rest.split_at(length.min(rest.len()));
            resampler.process(frame, &mut parts);
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        assert_eq!(whole.len(), 3200);
        assert!(whole == parts);
    }

    #[test]
    fn full_scale_saturates_instead_of_wrapping() {
        let input: Vec<i16> = (0..800).map(|n| if n / 40 % 2 == 0 { i16::MAX } else { i16::MIN }).collect();
        let mut out = Vec::new();
        Resampler::new(8000, 48_000).unwrap().process(&input, &mut out);
        assert!(out.windows(2).all(|w| (i32::from(w[0]) - i32::from(w[1])).abs() < 20_000));
        assert!(out.contains(&i16::MAX) && out.contains(&i16::MIN));
    }

    #[test]
    fn sums_of_extreme_samples_fit_32_bits() {
        for (from, to) in pairs() {
            let resampler = Resampler::new(from, to).unwrap();
            for filter in resampler.filters.chunks(resampler.taps) {
                let gain: i64 = filter.iter().map(|&h| i64::from(h).abs()).sum();
                assert!(gain * 32768 + (1 << FRACTION) < i64::from(i32::MAX), "{from} -> {to}: {gain}");
            }
        }
    }

    #[test]
    fn steady_state_does_not_grow() {
        let mut resampler = Resampler::new(8000, 48_000).unwrap();
        let mut out = Vec::with_capacity(960);
        resampler.process(&[0; 160], &mut out);
        let (line, room) = (resampler.line.capacity(), out.capacity());
        for _ in 0..100 {
            out.clear();
            resampler.process(&[0; 160], &mut out);
            assert_eq!(out.len(), 960);
        }
        assert_eq!((resampler.line.capacity(), out.capacity()), (line, room));
    }

    #[test]
    fn reset_forgets_the_stream() {
        let mut resampler = Resampler::new(16_000, 24_000).unwrap();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        resampler.process(&[9000; 321], &mut first);
        resampler.reset();
        resampler.process(&[9000; 321], &mut second);
        assert!(first == second);
    }

    #[test]
    fn other_rates_are_refused_with_the_list() {
        let error = Resampler::new(8000, 11_025).unwrap_err();
        assert_eq!(error, UnsupportedRate(11_025));
        assert!(error.to_string().contains("48000"));
    }
}
