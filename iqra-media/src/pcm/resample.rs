//! Sample rate conversion: a rational polyphase FIR filter, streaming, 16-bit in and out.
//!
//! The ratio is reduced to L/M. Conceptually the input is raised to L times its rate, low-pass filtered and every
//! M-th sample kept; the polyphase form computes only those, each from one of L short filters. The low-pass is a
//! sinc under a Kaiser window, [`TAPS`] samples of the lower rate long. What it does, held by tests for every pair:
//!
//! | | |
//! |---|---|
//! | pass-band | within 0.05 dB to 0.84 of the lower rate's Nyquist frequency: 3.36 kHz at 8 kHz, 0.2 dB at 3.4 kHz |
//! | rejection of aliases and images | 80 dB and more from 1.08 of it on |
//! | 1 kHz at half scale | 80 dB above everything else (SINAD) |
//! | delay | [`Resampler::delay`], the same for all frequencies: 3 ms with 8 kHz, 1.5 ms with 16 kHz as the lower rate |
//! | drift | none: output samples are counted in integers |
//!
//! Coefficients are 16 bits long; those far from the middle of a filter are small and have more fractional bits
//! ([`Shape`]), without which rounding them would cost 8 dB of the rejection. The filters of a pair of rates are
//! computed once for all calls.

use std::f64::consts::PI;
use std::sync::OnceLock;
use std::time::Duration;

use thiserror::Error;

use super::dot::{self, CHUNK, LANE_LIMIT, Shape, Walk};

/// The rates that are converted between, in Hz.
pub const RATES: [u32; 6] = [8000, 16_000, 24_000, 32_000, 44_100, 48_000];

/// Length of the filter in samples of the lower rate.
const TAPS: usize = 48;
/// Middle of the transition band, as a share of the lower rate's Nyquist frequency.
const CUTOFF: f64 = 0.955;
/// Shape of the Kaiser window for 84 dB.
const BETA: f64 = 8.3;

/// A rate that [`Resampler`] does not convert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("sample rate {0} Hz is not supported; use 8000, 16000, 24000, 32000, 44100 or 48000")]
pub struct UnsupportedRate(pub u32);

/// Converts one mono stream.
///
/// # Contract
/// Frames of any length in order; state is kept between them, and how a stream is cut into frames does not change it.
/// Over a stream, output samples are input samples times the ratio, rounded up. Does not allocate once it has seen its
/// longest frame and `out` has room.
#[derive(Clone, Debug)]
pub struct Resampler {
    from: u32,
    /// `None` where the rates are equal.
    conversion: Option<(Walk, &'static [i16])>,
    /// The last `taps - 1` samples, then the frame at hand.
    line: Vec<i16>,
}

impl Resampler {
    /// From one rate in Hz to another; equal rates pass samples through.
    ///
    /// # Errors
    /// [`UnsupportedRate`] for a rate that is not in [`RATES`].
    pub fn new(from: u32, to: u32) -> Result<Self, UnsupportedRate> {
        let (input, output) = (index(from)?, index(to)?);
        let conversion = (from != to).then(|| {
            let filters = FILTERS[input][output].get_or_init(|| Filters::new(from, to));
            (filters.walk, &filters.coefficients[..])
        });
        let line = conversion.map_or_else(Vec::new, |(walk, _)| vec![0; walk.taps - 1]);
        Ok(Self { from, conversion, line })
    }

    /// Converts a frame and appends the result to `out`.
    pub fn process(&mut self, frame: &[i16], out: &mut Vec<i16>) {
        let Some((walk, coefficients)) = &mut self.conversion else {
            return out.extend_from_slice(frame);
        };
        self.line.extend_from_slice(frame);
        dot::convolve(walk, &self.line, coefficients, out);
        let used = walk.start.min(self.line.len());
        self.line.drain(..used);
        walk.start -= used;
    }

    /// How much later a sound leaves than it enters.
    pub fn delay(&self) -> Duration {
        let Some((Walk { taps, up, .. }, _)) = self.conversion else { return Duration::ZERO };
        Duration::from_secs_f64((taps * up - 1) as f64 / 2.0 / (f64::from(self.from) * up as f64))
    }

    /// Forgets the stream, as if new.
    pub fn reset(&mut self) {
        let Some((walk, _)) = &mut self.conversion else { return };
        (walk.phase, walk.start) = (0, 0);
        self.line.clear();
        self.line.resize(walk.taps - 1, 0);
    }
}

fn index(rate: u32) -> Result<usize, UnsupportedRate> {
    RATES.iter().position(|&known| known == rate).ok_or(UnsupportedRate(rate))
}

/// The filters of each pair of rates, made when the first call needs them.
static FILTERS: [[OnceLock<Filters>; RATES.len()]; RATES.len()] =
    [const { [const { OnceLock::new() }; RATES.len()] }; RATES.len()];

/// The phases of a conversion, each oldest sample first, and the way through them from the first sample on.
#[derive(Debug)]
struct Filters {
    walk: Walk,
    coefficients: Box<[i16]>,
}

impl Filters {
    fn new(from: u32, to: u32) -> Self {
        let divisor = gcd(from, to);
        let (up, down) = ((to / divisor) as usize, (from / divisor) as usize);
        let lower = from.min(to);
        let taps = (TAPS * from as usize).div_ceil(lower as usize).next_multiple_of(CHUNK);
        let phases = phases(up, taps, f64::from(lower) / f64::from(from));
        let (shape, fraction) = resolution(&phases, taps / CHUNK);
        let scaled = |(at, h): (usize, &f64)| -> i16 {
            let tail = !(shape.before..shape.before + shape.centre).contains(&(at / CHUNK));
            let bits = fraction as i32 + if tail { shape.shift } else { 0 };
            (h * f64::from(bits).exp2()).round() as i16
        };
        let coefficients = phases.iter().flat_map(|phase| phase.iter().enumerate().map(scaled)).collect();
        Self { walk: Walk { taps, up, down, phase: 0, start: 0, shape, fraction }, coefficients }
    }
}

/// The layout and the fractional bits that 16-bit coefficients and 32-bit lanes leave room for.
fn resolution(phases: &[Vec<f64>], chunks: usize) -> (Shape, u32) {
    // About a third in the middle, as many chunks before it as behind.
    let before = (chunks - chunks / 3) / 2;
    let mut shape = Shape { before, centre: chunks - 2 * before, shift: 0 };
    let centre = before * CHUNK..(before + shape.centre) * CHUNK;
    let tail = |at: &usize| !centre.contains(at);
    let peak = |tails: bool| -> f64 {
        let of_phase = |phase: &Vec<f64>| {
            let chosen = (0..phase.len()).filter(|at| tail(at) == tails);
            chosen.map(|at| phase[at].abs()).fold(0.0, f64::max)
        };
        phases.iter().map(of_phase).fold(0.0, f64::max)
    };
    let lane = |tails_alone: bool| -> f64 {
        let of_lane = |phase: &Vec<f64>, lane: usize| -> f64 {
            let chosen = (0..phase.len()).filter(|at| at / 2 % 8 == lane && (!tails_alone || tail(at)));
            chosen.map(|at| phase[at].abs()).sum()
        };
        phases.iter().flat_map(|phase| (0..8).map(|n| of_lane(phase, n))).fold(0.0, f64::max)
    };
    let bits = |peak: f64, lane: f64| (32_767.0 / peak).min(LANE_LIMIT / lane).log2().floor() as u32;
    let fraction = bits(peak(false), lane(false));
    shape.shift = bits(peak(true), lane(true)).clamp(fraction, fraction + 8) as i32 - fraction as i32;
    (shape, fraction)
}

/// The prototype low-pass, split into phases. `band` is the lower rate as a share of the input rate.
fn phases(up: usize, taps: usize, band: f64) -> Vec<Vec<f64>> {
    let length = taps * up;
    let middle = (length - 1) as f64 / 2.0;
    let prototype: Vec<f64> = (0..length)
        .map(|n| {
            let at = n as f64 - middle;
            sinc(at * CUTOFF * band / up as f64) * kaiser(at / (middle + 0.5))
        })
        .collect();
    // Output phase p takes prototype values p, p + up, …; the window runs from the oldest sample to the newest.
    let phase = |phase: usize| (0..taps).rev().map(|tap| prototype[tap * up + phase]).collect::<Vec<_>>();
    (0..up).map(|at| normalised(phase(at))).collect()
}

/// With a sum of 1, so that no phase changes the level.
fn normalised(phase: Vec<f64>) -> Vec<f64> {
    let sum: f64 = phase.iter().sum();
    phase.into_iter().map(|h| h / sum).collect()
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
    use crate::pcm::dot::SPARE;
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
            assert!(clean >= 80.0, "{from} -> {to}: SINAD {clean:.1} dB");
            assert!(level.abs() < 0.05, "{from} -> {to}: level {level:.2} dB");
        }
    }

    /// Level in dB of what comes out of a tone of half scale beside that tone itself, from its total power.
    fn stray(samples: &[i16], peak: f64) -> f64 {
        let power = samples.iter().map(|&s| f64::from(s).powi(2)).sum::<f64>() / samples.len() as f64;
        10.0 * (power / (peak * peak / 2.0)).max(1e-12).log10()
    }

    #[test]
    fn the_pass_band_is_flat_to_its_edge_and_clean() {
        for (from, to) in pairs() {
            let nyquist = f64::from(from.min(to)) / 2.0;
            for (share, flat) in [(0.05, 0.02), (0.3, 0.02), (0.6, 0.02), (0.84, 0.05), (0.85, 0.2)] {
                // A whole number of periods in the 0.9 s that are measured.
                let frequency = (nyquist * share / 10.0).round() * 10.0;
                let out = resampled(from, to, frequency, 16_000);
                let (clean, level) = (sinad(&out, to, frequency), level(&out, to, frequency, 16_000.0));
                assert!(clean >= 80.0, "{from} -> {to} at {frequency}: SINAD {clean:.1} dB");
                assert!(level.abs() < flat, "{from} -> {to} at {frequency}: level {level:.3} dB");
            }
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_rejected_by_80_db() {
        for (from, to) in pairs().filter(|(from, to)| to < from) {
            let (nyquist, highest) = (f64::from(to) / 2.0, f64::from(from) / 2.0);
            for step in 0..24 {
                let frequency =
                    (nyquist * 1.08 + (highest - nyquist * 1.08) * f64::from(step) / 24.0).round();
                if frequency < highest * 0.99 && frequency >= nyquist * 1.08 {
                    let stray = stray(&resampled(from, to, frequency, 16_000), 16_000.0);
                    assert!(stray <= -80.0, "{from} -> {to} at {frequency}: {stray:.1} dB");
                }
            }
        }
    }

    #[test]
    fn an_hour_has_as_many_samples_as_it_should() {
        for (from, to) in pairs().filter(|(from, to)| from != to) {
            // Positions alone, without the sums: `convolve` moves them like this.
            let Walk { up, down, taps, .. } = Filters::new(from, to).walk;
            let inputs = u64::from(from) * 3600;
            let outputs = (inputs * up as u64).div_ceil(down as u64);
            assert_eq!(outputs, u64::from(to) * 3600, "{from} -> {to}");
            let (mut resampler, mut out, mut count) = (Resampler::new(from, to).unwrap(), Vec::new(), 0);
            let frame = vec![0; from as usize / 50 + 1];
            for _ in 0..50 {
                resampler.process(&frame, &mut out);
                count += out.len();
                out.clear();
            }
            assert_eq!(count, (frame.len() * 50 * up).div_ceil(down), "{from} -> {to}");
            assert!(resampler.line.len() < taps + frame.len(), "nothing is left behind");
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

    proptest::proptest! {
        #[test]
        fn how_a_stream_is_cut_does_not_change_it(
            input in proptest::collection::vec(proptest::num::i16::ANY, 0..3000),
            cuts in proptest::collection::vec(0usize..700, 1..12),
            pair in proptest::sample::select(pairs().collect::<Vec<_>>()),
        ) {
            let (from, to) = pair;
            let (mut whole, mut parts) = (Vec::new(), Vec::new());
            Resampler::new(from, to).unwrap().process(&input, &mut whole);
            let (mut resampler, mut rest) = (Resampler::new(from, to).unwrap(), &input[..]);
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (frame, tail) = rest.split_at(cut.min(rest.len()));
                resampler.process(frame, &mut parts);
                rest = tail;
            }
            proptest::prop_assert_eq!(whole.len(), (input.len() * to as usize).div_ceil(from as usize));
            proptest::prop_assert!(whole == parts);
        }
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
        for (from, to) in pairs().filter(|(from, to)| from != to) {
            let Filters { walk: Walk { taps, shape, .. }, coefficients } = &Filters::new(from, to);
            let tail = |at: usize| !(shape.before..shape.before + shape.centre).contains(&(at / CHUNK));
            for filter in coefficients.chunks(*taps) {
                let lane = |n: usize, chosen: &dyn Fn(usize) -> i64| -> i64 {
                    let at = (0..*taps).filter(|at| at / 2 % 8 == n);
                    at.map(|at| i64::from(filter[at]).abs() * chosen(at)).sum()
                };
                let tails = |n| lane(n, &|at| i64::from(tail(at)));
                let centre = |n| lane(n, &|at| i64::from(!tail(at)));
                assert!((0..8).all(|n| tails(n) * 32_768 < 1 << 31), "{from} -> {to}");
                let whole = |n| (tails(n) >> shape.shift) + centre(n) + 1;
                assert!((0..8).all(|n| whole(n) * 32_768 < 1 << 31), "{from} -> {to}");
                assert!((0..8).map(whole).sum::<i64>() * (32_768 >> SPARE) < 1 << 31, "{from} -> {to}");
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
