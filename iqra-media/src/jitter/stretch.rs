//! Speech made a little shorter or longer without changing its pitch, to bring the jitter buffer's delay to its target.
//!
//! **How.** The frame cross-fades into itself a period later (a period is gone) or a period earlier (a period comes
//! twice). The period is the lag, of 2.5 to 15 ms, at which the samples around the join are most alike: overlap-add by
//! waveform similarity, as Verhelst and Roelands described it (WSOLA, 1993), one join at a time. Before the join the
//! last frames are looked at too, and the last sample of a frame is never changed, so that frames still fit together.
//!
//! **When.** In a pause whatever fits; in speech only where the waveform repeats itself, and a tenth of the time at
//! most ([`SPEECH_SHARE`]). Where nothing repeats the frame stays as it is, and the next may do.
//!
//! Decoded mono samples at 8, 16, 24 or 48 kHz go in and out; other multiples of 8 kHz work too.

use std::time::Duration;

use super::Adjustment;
use super::pitch::{self, LONGEST, SHORTEST, cross_fade, likeness};

/// Speech passes unchanged for so many times the length of a change.
pub const SPEECH_SHARE: usize = 10;
/// In a pause, so many times.
const PAUSE_SHARE: usize = 2;
/// How alike the waveform must be at a join in speech.
const ALIKE: f32 = 0.85;
/// The same when the delay is far from its target.
const ALIKE_IN_NEED: f32 = 0.6;
/// Far from the target.
const NEED: Duration = Duration::from_millis(60);
/// Longest cross-fade, and what is compared before the join, in 8 kHz samples: 5 ms.
const OVERLAP: usize = 40;
/// Louder than this (−40 dBFS) is no pause.
const PAUSE_LEVEL: f32 = 328.0;
/// A pause is no louder than so many times the quietest of late.
const OVER_FLOOR: f32 = 2.0;
/// How fast the quietest level is forgotten, per frame: twice in 1.4 s of 20 ms frames.
const FLOOR_RISE: f32 = 1.01;

/// Changes the length of one stream's frames.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// Rate over 8 kHz.
    factor: usize,
    rate: u32,
    /// What was heard last, and then the frame at hand.
    past: Vec<i16>,
    kept: usize,
    /// Samples that pass unchanged.
    rest: usize,
    floor: f32,
}

impl Stretch {
    /// For mono samples at this rate in Hz.
    pub fn new(sample_rate: u32) -> Self {
        let factor = (sample_rate as usize / 8000).max(1);
        let kept = (LONGEST + OVERLAP) * factor;
        Self { factor, rate: sample_rate.max(1), past: vec![0; kept], kept, rest: 0, floor: PAUSE_LEVEL }
    }

    /// Takes every frame before it is heard, and changes its length if that was asked for and can be done unheard;
    /// gives the change that was made, which is never more than asked plus 5 ms.
    pub fn process(&mut self, frame: &mut Vec<i16>, wanted: Adjustment) -> Adjustment {
        frame.reserve(LONGEST * self.factor);
        let level = pitch::level(frame);
        self.floor = (self.floor * FLOOR_RISE).min(level).max(1.0);
        self.past.extend_from_slice(frame);
        let pause = level <= PAUSE_LEVEL && level <= OVER_FLOOR * self.floor;
        let shift = if self.rest > 0 { None } else { self.shift(frame.len(), wanted, pause) };
        let done = match shift {
            Some((lag, longer)) => self.join(frame, lag, longer, pause),
            None => {
                self.rest = self.rest.saturating_sub(frame.len());
                Adjustment::Keep
            }
        };
        let old = self.past.len() - self.kept;
        self.past.copy_within(old.., 0);
        self.past.truncate(self.kept);
        done
    }

    /// The lag of the best join, and whether it makes the frame longer.
    fn shift(&self, length: usize, wanted: Adjustment, pause: bool) -> Option<(usize, bool)> {
        let (wanted, longer) = match wanted {
            Adjustment::Keep => return None,
            Adjustment::Shorten(wanted) => (wanted, false),
            Adjustment::Lengthen(wanted) => (wanted, true),
        };
        let asked = (wanted + Duration::from_millis(5)).as_micros() * u128::from(self.rate) / 1_000_000;
        let fits = if longer { length } else { length.checked_sub(self.overlap())? };
        let most = usize::try_from(asked).unwrap_or(usize::MAX).min(fits).min(LONGEST * self.factor);
        let score = |lag, step| self.likeness(length, lag, longer, step);
        let (lag, alike) = pitch::best_lag(SHORTEST * self.factor..=most, self.factor, score)?;
        let enough = match (pause, wanted >= NEED) {
            (true, _) => f32::MIN,
            (false, true) => ALIKE_IN_NEED,
            (false, false) => ALIKE,
        };
        (alike >= enough).then_some((lag, longer))
    }

    fn overlap(&self) -> usize {
        OVERLAP * self.factor
    }

    /// How alike the surroundings of the frame's start are to those a lag away.
    fn likeness(&self, length: usize, lag: usize, longer: bool, step: usize) -> f32 {
        let here = self.kept - self.overlap();
        let around = self.overlap() + self.overlap().min(length);
        let there = if longer { here - lag } else { here + lag };
        likeness(&self.past[here..here + around], &self.past[there..there + around], step)
    }

    fn join(&mut self, frame: &mut Vec<i16>, lag: usize, longer: bool, pause: bool) -> Adjustment {
        let overlap = self.overlap().min(frame.len());
        let there = if longer { self.kept - lag } else { self.kept + lag };
        frame.truncate(overlap);
        for (at, sample) in frame.iter_mut().enumerate() {
            *sample = cross_fade(*sample, self.past[there + at], at, overlap);
        }
        frame.extend_from_slice(&self.past[there + overlap..]);
        self.rest = lag * if pause { PAUSE_SHARE } else { SPEECH_SHARE };
        let length = Duration::from_nanos(lag as u64 * 1_000_000_000 / u64::from(self.rate));
        if longer { Adjustment::Lengthen(length) } else { Adjustment::Shorten(length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::goertzel::purity;
    use crate::pcm::tone::Tone;

    const RATES: [u32; 4] = [8000, 16_000, 24_000, 48_000];
    const LESS: Adjustment = Adjustment::Shorten(Duration::from_millis(40));
    const MORE: Adjustment = Adjustment::Lengthen(Duration::from_millis(40));

    /// A tone of four seconds.
    fn tone(frequency: f64, rate: u32) -> Vec<i16> {
        let mut samples = vec![0; rate as usize * 4];
        Tone::new(frequency, rate, 8000).fill(&mut samples);
        samples
    }

    fn noise(amplitude: i32, samples: usize) -> Vec<i16> {
        let mut random = fastrand::Rng::with_seed(5);
        (0..samples).map(|_| random.i32(-amplitude..=amplitude) as i16).collect()
    }

    /// What comes out when every frame of `ms` is to change, and by how many samples the line says that it did.
    fn run(samples: &[i16], rate: u32, ms: usize, wanted: Adjustment) -> (Vec<i16>, i64) {
        let mut stretch = Stretch::new(rate);
        let (mut out, mut changed) = (Vec::new(), 0.0);
        for frame in samples.chunks(rate as usize / 1000 * ms) {
            let mut frame = frame.to_vec();
            changed += match stretch.process(&mut frame, wanted) {
                Adjustment::Keep => 0.0,
                Adjustment::Shorten(by) => -by.as_secs_f64(),
                Adjustment::Lengthen(by) => by.as_secs_f64(),
            };
            out.extend(frame);
        }
        (out, (changed * f64::from(rate)).round() as i64)
    }

    #[test]
    fn the_change_told_is_the_change_made() {
        for rate in RATES {
            for ms in [10, 20, 30, 60] {
                for wanted in [LESS, MORE] {
                    let samples = tone(300.0, rate);
                    let (out, told) = run(&samples, rate, ms, wanted);
                    assert_eq!(out.len() as i64 - samples.len() as i64, told, "{rate} Hz, {ms} ms");
                    assert!(told.unsigned_abs() as usize > samples.len() / 40, "{rate} Hz, {ms} ms: {told}");
                }
            }
        }
    }

    #[test]
    fn a_tone_keeps_its_spectrum_and_level() {
        for rate in RATES {
            for frequency in [125.0, 440.0, 1000.0] {
                for wanted in [LESS, MORE] {
                    let (out, _) = run(&tone(frequency, rate), rate, 20, wanted);
                    for tenth in out.chunks_exact(rate as usize / 10).skip(1) {
                        let pure = purity(tenth, rate, frequency);
                        assert!(pure > 0.98, "{frequency} Hz at {rate}, {wanted:?}: {pure}");
                        let level = pitch::level(tenth);
                        assert!((5300.0..5900.0).contains(&level), "{frequency} Hz at {rate}: {level}");
                    }
                }
            }
        }
    }

    #[test]
    fn no_joint_clicks() {
        let steepest =
            |samples: &[i16]| samples.windows(2).map(|w| (i32::from(w[0]) - i32::from(w[1])).abs()).max();
        for rate in RATES {
            let samples = tone(217.0, rate);
            for wanted in [LESS, MORE] {
                let (out, _) = run(&samples, rate, 20, wanted);
                assert!(
                    steepest(&out).unwrap() <= steepest(&samples).unwrap() * 5 / 4,
                    "{rate} Hz, {wanted:?}"
                );
            }
        }
    }

    #[test]
    fn speech_changes_by_a_tenth_at_most() {
        for wanted in [LESS, MORE] {
            let samples = tone(180.0, 8000);
            let (_, told) = run(&samples, 8000, 20, wanted);
            assert!((told.unsigned_abs() as usize) <= samples.len() / SPEECH_SHARE + 120, "{told}");
        }
    }

    #[test]
    fn a_pause_changes_quickly_and_a_hiss_not_at_all() {
        let (_, told) = run(&noise(60, 8000), 8000, 20, LESS);
        assert!(told < -1200, "{told} of 8000 in a pause");
        assert_eq!(run(&noise(6000, 8000), 8000, 20, LESS).1, 0);
    }

    #[test]
    fn it_takes_no_more_than_was_asked_and_half_a_period() {
        let asked = Duration::from_millis(4);
        for samples in [noise(60, 8000), tone(100.0, 8000)] {
            let mut stretch = Stretch::new(8000);
            for frame in samples.chunks(160) {
                if let Adjustment::Shorten(by) =
                    stretch.process(&mut frame.to_vec(), Adjustment::Shorten(asked))
                {
                    assert!(by <= asked + Duration::from_millis(5), "{by:?}");
                }
            }
        }
    }

    #[test]
    fn frames_of_every_length_and_rate_pass() {
        for rate in [7999, 8000, 44_100] {
            for length in [0, 1, 39, 61, 160, 3000] {
                for wanted in [Adjustment::Keep, LESS, MORE] {
                    let mut stretch = Stretch::new(rate);
                    for _ in 0..10 {
                        let mut frame = noise(60, length);
                        let done = stretch.process(&mut frame, wanted);
                        assert_eq!(done == Adjustment::Keep, frame.len() == length);
                    }
                }
            }
        }
    }
}
