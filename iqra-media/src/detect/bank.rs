//! Some frequencies of a stream, looked at again and again: a window slides over the samples in steps, and at each step
//! the bank tells amplitude and phase of every frequency, and the power under the window.
//!
//! Each frequency is two rows of coefficients, a cosine and a sine under a Hann window, so that a look is a few sums of
//! products in [`dot`](crate::pcm::dot): faster than Goertzel's recursion, whose every step waits for the one before,
//! and the phase comes with it. The phase's advance from one step to the next tells a frequency far more precisely
//! than the window could tell two apart.

use std::f64::consts::TAU;
use std::time::Duration;

use super::samples_in;
use crate::pcm::dot::{self, CHUNK, LANE_LIMIT};

/// A component of a sound: amplitude (of a sine, its peak in sample units) and phase.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Phasor {
    pub(super) re: f32,
    pub(super) im: f32,
}

impl Phasor {
    /// Mean square of the sine.
    pub(super) fn power(self) -> f32 {
        (self.re * self.re + self.im * self.im) / 2.0
    }

    /// How far this has turned since `before`.
    pub(super) fn turned(self, before: Self) -> Self {
        self.times(Self { re: before.re, im: -before.im })
    }

    pub(super) fn times(self, other: Self) -> Self {
        Self { re: self.re * other.re - self.im * other.im, im: self.re * other.im + self.im * other.re }
    }

    pub(super) fn angle(self) -> f32 {
        self.im.atan2(self.re)
    }
}

/// What one look through the window has shown.
#[derive(Debug)]
pub(super) struct Look<'a> {
    /// The samples under the window.
    pub(super) window: &'a [i16],
    /// Mean square under the window.
    pub(super) power: f32,
    /// The position behind the window's last sample.
    pub(super) end: u64,
}

/// A window that slides over a stream.
#[derive(Clone, Debug)]
pub(super) struct Slide {
    line: Vec<i16>,
    hann: Vec<f32>,
    /// Sum of the squares of the window.
    norm: f32,
    length: usize,
    step: usize,
    end: u64,
}

impl Slide {
    /// A window of about this length, moved by `step`.
    pub(super) fn new(rate: u32, length: Duration, step: Duration) -> Self {
        let length = (samples_in(length, rate) as usize).max(CHUNK).next_multiple_of(CHUNK);
        let step = (samples_in(step, rate) as usize).clamp(1, length);
        let hann: Vec<f32> = hann(length).map(|w| w as f32).collect();
        let mut line = Vec::with_capacity(length);
        line.resize(length - step, 0);
        let norm = hann.iter().map(|w| w * w).sum();
        Self { line, hann, norm, length, step, end: 0 }
    }

    /// Samples under the window.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Samples from one look to the next.
    pub(super) fn step(&self) -> usize {
        self.step
    }

    /// Takes samples in, and gives a look at each step.
    pub(super) fn feed(&mut self, mut samples: &[i16], mut look: impl FnMut(Look<'_>)) {
        while !samples.is_empty() {
            let (taken, rest) = samples.split_at((self.length - self.line.len()).min(samples.len()));
            self.line.extend_from_slice(taken);
            samples = rest;
            if self.line.len() == self.length {
                self.end += self.step as u64;
                let power = dot::energy(&self.line, &self.hann) / self.norm;
                look(Look { window: &self.line, power, end: self.end });
                self.line.copy_within(self.step.., 0);
                self.line.truncate(self.length - self.step);
            }
        }
    }
}

/// The frequencies of a bank.
#[derive(Clone, Debug)]
pub(super) struct Bank {
    rows: Vec<i16>,
    sums: Vec<f32>,
    scale: f32,
    /// How far each frequency turns in a step of the window.
    turns: Vec<Phasor>,
}

impl Bank {
    /// For windows of this slide, frequencies in Hz.
    pub(super) fn new(rate: u32, slide: &Slide, frequencies: &[f64]) -> Self {
        let step = |frequency: f64| TAU * frequency / f64::from(rate);
        let length = slide.length();
        let wave =
            |w: f64, shift: f64| hann(length).enumerate().map(move |(n, h)| h * (w * n as f64 + shift).cos());
        // Re and Im of the sum over x e^{-iwn}: rows of cos(wn) and -sin(wn).
        let waves: Vec<Vec<f64>> = frequencies
            .iter()
            .flat_map(|&f| [0.0, TAU / 4.0].map(|shift| wave(step(f), shift).collect()))
            .collect();
        let one = waves.iter().map(|wave| LANE_LIMIT / widest_lane(wave)).fold(32_767.0, f64::min);
        let rows = waves.iter().flatten().map(|h| (h * one).round() as i16).collect();
        let turns = frequencies.iter().map(|&f| {
            let (im, re) = (step(f) * slide.step() as f64).sin_cos();
            Phasor { re: re as f32, im: im as f32 }
        });
        let scale = (2.0 / (hann(length).sum::<f64>() * one)) as f32;
        Self { rows, sums: vec![0.0; waves.len()], scale, turns: turns.collect() }
    }

    /// The component of each frequency.
    pub(super) fn measure<const N: usize>(&mut self, window: &[i16]) -> [Phasor; N] {
        dot::dots(window, &self.rows, &mut self.sums);
        std::array::from_fn(|n| match self.sums.get(2 * n..2 * n + 2) {
            Some(&[re, im]) => Phasor { re: re * self.scale, im: im * self.scale },
            _ => Phasor::default(),
        })
    }

    /// How much further than its frequency the component at `at` has turned since the look before: `angle` is 2 pi
    /// times the step's time times the difference in Hz.
    pub(super) fn deviation(&self, at: usize, now: Phasor, before: Phasor) -> Phasor {
        let Phasor { re, im } = self.turns[at];
        now.turned(before).times(Phasor { re, im: -im })
    }
}

/// Hann's window without its zeros at the ends.
fn hann(length: usize) -> impl Iterator<Item = f64> {
    (0..length).map(move |n| 0.5 - 0.5 * (TAU * (n as f64 + 0.5) / length as f64).cos())
}

/// The largest sum of absolute values in a lane.
fn widest_lane(wave: &[f64]) -> f64 {
    let lane = |lane: usize| -> f64 {
        wave.iter().enumerate().filter(|(at, _)| at / 2 % 8 == lane).map(|(_, h)| h.abs()).sum()
    };
    (0..8).map(lane).fold(f64::MIN_POSITIVE, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm::tone::Tone;

    #[test]
    fn a_bank_tells_amplitude_power_and_deviation() {
        for rate in [8000, 16_000, 44_100, 48_000] {
            let mut slide = Slide::new(rate, Duration::from_millis(20), Duration::from_millis(5));
            let mut bank = Bank::new(rate, &slide, &[697.0, 1209.0]);
            let mut samples = vec![0; rate as usize / 2];
            Tone::new(707.0, rate, 10_000).fill(&mut samples);
            let (mut looks, mut before) = (0, Phasor::default());
            let step = slide.step() as f64 / f64::from(rate);
            slide.feed(&samples, |look| {
                let [low, high] = bank.measure(look.window);
                if looks > 4 {
                    assert!((look.power / 5e7 - 1.0).abs() < 0.02, "{rate}: {}", look.power);
                    assert!((low.power() / 5e7 - 0.95).abs() < 0.02, "{rate}: {}", low.power());
                    assert!(high.power() < 5e7 / 3e4, "{rate}: {}", high.power());
                    let off = f64::from(bank.deviation(0, low, before).angle()) / TAU / step;
                    assert!((off - 10.0).abs() < 0.2, "{rate}: {off} Hz");
                }
                (looks, before) = (looks + 1, low);
            });
            assert_eq!(looks, rate as usize / 2 / slide.step());
        }
    }

    #[test]
    fn the_loudest_samples_do_not_overflow() {
        let slide = Slide::new(48_000, Duration::from_millis(64), Duration::from_millis(10));
        let mut bank = Bank::new(48_000, &slide, &[0.0, 350.0]);
        let [flat, _] = bank.measure::<2>(&vec![i16::MIN; slide.length()]);
        assert!((flat.re / -65_536.0 - 1.0).abs() < 0.01, "{}", flat.re);
    }

    #[test]
    fn cuts_of_the_stream_change_no_look() {
        let samples: Vec<i16> = (0..2000).map(|n| (n * 7919 % 20_011) as i16).collect();
        let looks = |frame: usize| {
            let mut slide = Slide::new(8000, Duration::from_millis(20), Duration::from_millis(5));
            let mut looks = Vec::new();
            samples.chunks(frame).for_each(|f| slide.feed(f, |look| looks.push((look.end, look.power))));
            looks
        };
        assert_eq!(looks(1), looks(2000));
        assert_eq!(looks(160), looks(33));
    }
}
