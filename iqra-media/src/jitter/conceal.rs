//! Loss concealment on samples, for codecs without one of their own: what was heard last goes on for a while.
//!
//! **Voice** repeats: the period is found by normalised cross-correlation of the last 20 ms, and the last period is
//! said again; after 10 ms the last two in turn, after 20 ms three, so that it does not turn into a buzz. Each seam
//! cross-fades into the samples before the place that it jumps to. **Noise** (fricatives, background) has no period:
//! the last 20 ms are played backwards, forwards and so on, which keeps their spectrum and has no seam at all.
//!
//! **Level.** The sound fades from the first sample on, to be gone after 60 ms; what comes up instead is noise as quiet
//! as the quietest of late. (Holding the level for the first 10 ms rates lower in docs/quality.md's measures.) Background noise is at that level already and does not fade.
//!
//! **Joints.** The first sample goes on from the last one heard, with the difference fading out, so nothing has to be
//! held back. The first good frame after a loss is faded in over 2 to 10 ms from what the concealment would have gone
//! on with.
//!
//! Pitch repetition with growing periods and a fade of 60 ms is the idea of ITU-T G.711 Appendix I (1999), written
//! here from its description and without its delay of 3.75 ms; the treatment of noise and of joints is our own. Mono
//! samples at 8 kHz or a multiple of it, frames of any length.

use std::time::Duration;

use super::pitch::{self, LONGEST, SHORTEST, cross_fade, likeness};

/// From the first concealed sample to comfort noise.
pub const FADE: Duration = Duration::from_millis(60);
/// After so much one more period is repeated; all in 8 kHz samples from here on.
const GROWTH: usize = 80;
/// What is compared to find the period.
const TEMPLATE: usize = 160;
/// What is remembered: three of the longest periods and a seam.
const MEMORY: usize = 3 * LONGEST + SEAM;
/// Longest cross-fade at a seam.
const SEAM: usize = 32;
/// What of it is played back and forth as noise.
const NOISE: usize = 160;
/// Cross-fade into the first good frame: at least, and at most.
const JOIN: (usize, usize) = (16, 80);
/// From this likeness on the last sound was a voice.
const VOICED: f32 = 0.3;
/// A longer period must be so much more alike than half of it.
const HALF_IS_AS_GOOD: f32 = 0.9;
/// Comfort noise is no louder (−45 dBFS).
const LOUDEST_COMFORT: f32 = 184.0;
/// How fast the quietest level is forgotten, per frame.
const FLOOR_RISE: f32 = 1.01;

/// What a gap is filled with.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// The last periods in turn; the next sample is so far from the end of the past.
    Voice { period: usize, back: usize },
    /// Back and forth.
    Noise { at: usize },
}

/// A gap being filled.
#[derive(Clone, Copy, Debug)]
struct Gap {
    source: Source,
    done: usize,
    /// What the first sample is off from the last one heard.
    step: f32,
    /// Level that the source fades to, as a share of its own.
    rest: f32,
}

/// Conceals one stream.
#[derive(Clone, Debug)]
pub struct Concealer {
    /// Rate over 8 kHz.
    factor: usize,
    past: Vec<i16>,
    /// How much of the past was heard since the last reset.
    known: usize,
    floor: f32,
    gap: Option<Gap>,
    random: fastrand::Rng,
}

impl Concealer {
    /// For mono samples at this rate in Hz.
    pub fn new(sample_rate: u32) -> Self {
        let factor = (sample_rate as usize / 8000).max(1);
        let past = vec![0; MEMORY * factor];
        Self { factor, past, known: 0, floor: 0.0, gap: None, random: fastrand::Rng::with_seed(1) }
    }

    /// Takes each good frame before it is heard; the start of the first one after a loss is blended.
    pub fn heard(&mut self, frame: &mut [i16]) {
        if let Some(gap) = self.gap.take() {
            self.blend(gap, frame);
        }
        let kept = &frame[frame.len().saturating_sub(self.past.len())..];
        self.past.copy_within(kept.len().., 0);
        let end = self.past.len() - kept.len();
        self.past[end..].copy_from_slice(kept);
        self.known = (self.known + kept.len()).min(self.past.len());
        let quietest = (self.floor * FLOOR_RISE + 0.5).min(pitch::level(kept));
        self.floor = quietest.min(LOUDEST_COMFORT);
    }

    /// Fills a lost frame.
    pub fn conceal(&mut self, frame: &mut [i16]) {
        let mut gap = self.gap.unwrap_or_else(|| self.open());
        for sample in frame {
            *sample = self.next(&mut gap);
        }
        self.gap = Some(gap);
    }

    /// Forgets the past, after silence or a new stream.
    pub fn reset(&mut self) {
        self.past.fill(0);
        self.known = 0;
        self.gap = None;
    }

    fn blend(&mut self, mut gap: Gap, frame: &mut [i16]) {
        let join = (JOIN.0 * self.factor + gap.done / 8).min(JOIN.1 * self.factor).min(frame.len());
        for (at, sample) in frame.iter_mut().take(join).enumerate() {
            *sample = cross_fade(self.next(&mut gap), *sample, at, join);
        }
    }

    /// Decides how a gap is filled.
    fn open(&self) -> Gap {
        let source =
            self.period().map_or(Source::Noise { at: 0 }, |period| Source::Voice { period, back: period });
        let end = self.past.len();
        let step = match source {
            Source::Voice { period, .. } => {
                f32::from(self.past[end - 1]) - f32::from(self.past[end - 1 - period])
            }
            Source::Noise { .. } => 0.0,
        };
        let level = pitch::level(&self.past[end - (NOISE * self.factor).min(self.known)..]);
        Gap { source, done: 0, step, rest: (2.0 * self.floor / level.max(1.0)).min(1.0).powi(2) }
    }

    /// The period of the voice heard last, if it was one.
    fn period(&self) -> Option<usize> {
        let (factor, end) = (self.factor, self.past.len());
        let template = &self.past[end - TEMPLATE * factor..];
        let score =
            |lag: usize, step| likeness(template, &self.past[end - TEMPLATE * factor - lag..end - lag], step);
        let (lag, alike) = pitch::best_lag(SHORTEST * factor..=LONGEST * factor, factor, score)?;
        let half = lag / 2;
        if half >= SHORTEST * factor && score(half, 1) > HALF_IS_AS_GOOD * alike {
            return Some(half);
        }
        (alike >= VOICED).then_some(lag)
    }

    fn next(&mut self, gap: &mut Gap) -> i16 {
        if self.known == 0 {
            return 0;
        }
        let sample = match &mut gap.source {
            Source::Voice { period, back } => {
                let periods = 1 + (gap.done / (GROWTH * self.factor)).min(2);
                voice(&self.past, *period, periods * *period, back, SEAM * self.factor)
            }
            Source::Noise { at } => back_and_forth(&self.past, at, (NOISE * self.factor).min(self.known)),
        };
        let seam = SEAM * self.factor;
        let step = gap.step * (1.0 - gap.done as f32 / seam as f32).max(0.0);
        let fade = FADE.as_millis() as usize * 8 * self.factor;
        let faded = gap.done as f32 / fade as f32;
        let gain = 1.0 - (1.0 - gap.rest) * faded.min(1.0);
        gap.done += 1;
        let comfort = self.floor * (1.0 - gain) * (self.random.f32() - 0.5) * 3.46;
        ((sample + step) * gain + comfort).round() as i16
    }
}

/// The next sample of the repeated periods; near the seam it fades into what comes before the place to jump to.
fn voice(past: &[i16], period: usize, jump: usize, back: &mut usize, seam: usize) -> f32 {
    let seam = seam.min(period / 4).max(1);
    let at = past.len() - *back;
    let sample = match past.len() - at {
        left if left <= seam && at >= jump => cross_fade(past[at], past[at - jump], seam - left, seam),
        _ => past[at],
    };
    *back -= 1;
    if *back == 0 {
        *back = jump;
    }
    sample.into()
}

fn back_and_forth(past: &[i16], at: &mut usize, length: usize) -> f32 {
    let place = *at % (2 * length);
    *at += 1;
    let back = if place < length { place + 1 } else { 2 * length - place };
    past[past.len() - back].into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::goertzel::purity;
    use crate::pcm::tone::Tone;

    const RATES: [u32; 4] = [8000, 16_000, 24_000, 48_000];

    fn tone(frequency: f64, rate: u32, ms: u32) -> Vec<i16> {
        let mut samples = vec![0; (rate / 1000 * ms) as usize];
        Tone::new(frequency, rate, 8000).fill(&mut samples);
        samples
    }

    fn noise(amplitude: i32, samples: usize) -> Vec<i16> {
        let mut random = fastrand::Rng::with_seed(7);
        (0..samples).map(|_| random.i32(-amplitude..=amplitude) as i16).collect()
    }

    /// Lets `before` be heard in frames and then conceals `lost` samples.
    fn after(concealer: &mut Concealer, before: &mut [i16], lost: usize) -> Vec<i16> {
        before.chunks_mut(160).for_each(|frame| concealer.heard(frame));
        let mut made_up = vec![0; lost];
        made_up.chunks_mut(70).for_each(|frame| concealer.conceal(frame));
        made_up
    }

    #[test]
    fn a_voice_goes_on_at_its_pitch() {
        for rate in RATES {
            for pitch in [95.0, 155.0, 333.0] {
                let mut heard = tone(pitch, rate, 200);
                let lost = after(&mut Concealer::new(rate), &mut heard, rate as usize / 50);
                let found = purity(&lost, rate, pitch);
                assert!(found > 0.93, "{pitch} Hz at {rate}: {found}");
                let ms = rate as usize / 1000;
                assert!(pitch::level(&lost[..10 * ms]) > 4800.0, "it has hardly faded after 10 ms");
            }
        }
    }

    #[test]
    fn no_joint_clicks() {
        for rate in RATES {
            for lost_ms in [5, 20, 45] {
                let mut heard = tone(217.0, rate, 300);
                let steepest = |samples: &[i16]| {
                    samples.windows(2).map(|w| (i32::from(w[0]) - i32::from(w[1])).abs()).max()
                };
                let allowed = steepest(&heard).unwrap() * 3 / 2;
                let (before, rest) = heard.split_at_mut(rate as usize / 10);
                let lost = rate as usize / 1000 * lost_ms;
                let mut concealer = Concealer::new(rate);
                let made_up = after(&mut concealer, before, lost);
                rest[lost..].chunks_mut(160).for_each(|frame| concealer.heard(frame));
                let all = [&before[..], &made_up, &rest[lost..]].concat();
                assert!(steepest(&all).unwrap() <= allowed, "{rate} Hz, {lost_ms} ms: {:?}", steepest(&all));
            }
        }
    }

    #[test]
    fn noise_stays_noise() {
        let mut heard = noise(3000, 1600);
        let lost = after(&mut Concealer::new(8000), &mut heard, 160);
        let level = pitch::level(&lost);
        assert!((1300.0..1900.0).contains(&level), "{level}");
        let lags = 20..=60;
        let (_, alike) =
            pitch::best_lag(lags, 1, |lag, step| likeness(&lost[lag..], &lost[..160 - lag], step)).unwrap();
        assert!(alike < 0.5, "it has no period: {alike}");
    }

    #[test]
    fn a_long_loss_ends_in_what_the_background_was() {
        for background in [0, 100] {
            let mut concealer = Concealer::new(16_000);
            concealer.conceal(&mut [0; 320]);
            noise(background, 16_000 * 4).chunks_mut(320).for_each(|frame| concealer.heard(frame));
            let lost = after(&mut concealer, &mut tone(200.0, 16_000, 100), 16 * 100);
            let level = pitch::level(&lost[16 * 60..]);
            let floor = background as f32 / 3f32.sqrt();
            assert!((0.4 * floor..=1.5 * floor + 8.0).contains(&level), "{level} after {floor}");
            assert!(pitch::level(&lost[16 * 40..16 * 60]) > floor);
        }
    }

    #[test]
    fn background_noise_does_not_fade() {
        let lost = after(&mut Concealer::new(8000), &mut noise(100, 40_000), 1600);
        let level = pitch::level(&lost[1000..]);
        assert!((40.0..80.0).contains(&level), "{level}");
    }

    #[test]
    fn good_frames_stay_as_they_are() {
        let mut concealer = Concealer::new(8000);
        let mut frame = [1234; 160];
        concealer.heard(&mut frame);
        assert_eq!(frame, [1234; 160]);
    }

    #[test]
    fn without_a_past_there_is_silence() {
        let mut lost = [7; 80];
        let mut concealer = Concealer::new(8000);
        concealer.conceal(&mut lost);
        assert_eq!(lost, [0; 80]);
        concealer.heard(&mut [9000; 160]);
        concealer.reset();
        concealer.conceal(&mut lost);
        assert_eq!(lost, [0; 80], "a reset forgets");
    }

    #[test]
    fn short_pasts_and_frames_of_every_length_do_not_panic() {
        for rate in [7999, 8000, 44_100, 48_000] {
            for length in [0, 1, 7, 100, 5000] {
                let mut concealer = Concealer::new(rate);
                for n in 0..20 {
                    let mut frame = noise(i32::from(i16::MAX), length);
                    if n % 3 == 0 { concealer.heard(&mut frame) } else { concealer.conceal(&mut frame) }
                }
            }
        }
    }
}
