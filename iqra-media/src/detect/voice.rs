//! Voice activity: from when to when somebody speaks.
//!
//! A [`VoiceDetector`] says of one frame after the other how likely it is speech; [`VoiceActivity`] makes spells of
//! speech of it. Detectors are fooled by noise, and all in the same way: what hums or hisses steadily scores high. So
//! a frame counts as speech only where
//! - its score passes a threshold that rises above what the detector gives to the noise of this very line, and
//! - it is louder than that noise, whose level is followed: the quietest tenth of a second of the last one and a half.
//!
//! Speech begins when enough such frames came together ([`Config::min_speech`]), so that a click begins none, and ends
//! after a silence ([`Config::hang_over`]), so that the gaps in words end none. Both are told later than they were,
//! with the position where they were.

use std::collections::VecDeque;
use std::time::Duration;

use super::{samples_in, time};
use crate::pcm::level::dbm0_of_power;
use crate::pcm::{Resampler, UnsupportedRate};

#[cfg(feature = "vad")]
mod earshot;

#[cfg(feature = "vad")]
pub use self::earshot::Earshot;

/// Tells speech from everything else, a frame at a time.
///
/// # Contract
/// [`probability`](Self::probability) is called with frames of exactly [`frame`](Self::frame) samples at
/// [`rate`](Self::rate) in order, and does not allocate. Neither of the two ever changes.
pub trait VoiceDetector {
    /// The sample rate that it hears, one of [`RATES`](crate::pcm::RATES).
    fn rate(&self) -> u32;

    /// Samples in a frame, at least 1: 5 to 50 ms are of use.
    fn frame(&self) -> usize;

    /// How likely the next frame is speech, 0 to 1.
    fn probability(&mut self, frame: &[i16]) -> f32;

    /// Forgets the stream.
    fn reset(&mut self);
}

impl<D: VoiceDetector + ?Sized> VoiceDetector for Box<D> {
    fn rate(&self) -> u32 {
        (**self).rate()
    }

    fn frame(&self) -> usize {
        (**self).frame()
    }

    fn probability(&mut self, frame: &[i16]) -> f32 {
        (**self).probability(frame)
    }

    fn reset(&mut self) {
        (**self).reset();
    }
}

/// Takes for speech whatever is clearly louder than the line's noise. Costs next to nothing, and cannot tell a voice
/// from a dog.
#[derive(Clone, Debug)]
pub struct Energy {
    rate: u32,
    floor: Floor,
}

impl Energy {
    /// For a sample rate in Hz, of [`RATES`](crate::pcm::RATES).
    pub fn new(rate: u32) -> Self {
        Self { rate, floor: Floor::new(FRAME) }
    }
}

/// A frame of [`Energy`].
const FRAME: Duration = Duration::from_millis(10);

impl VoiceDetector for Energy {
    fn rate(&self) -> u32 {
        self.rate
    }

    fn frame(&self) -> usize {
        (samples_in(FRAME, self.rate) as usize).max(1)
    }

    fn probability(&mut self, frame: &[i16]) -> f32 {
        let above = self.floor.above(level(frame));
        1.0 / (1.0 + (-(above - 8.0) / 1.5).exp())
    }

    fn reset(&mut self) {
        self.floor = Floor::new(FRAME);
    }
}

/// How speech is told apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// The least score that is speech, 0 to 1; noise that scores high raises it. Default 0.5.
    pub threshold: f32,
    /// How much louder than the noise speech is at least, in dB. Default 6.
    pub margin: f32,
    /// What is shorter is no speech. Default 80 ms.
    pub min_speech: Duration,
    /// How long it is quiet until speech is over. Default 300 ms.
    pub hang_over: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self { threshold: 0.5, margin: 6.0, min_speech: ms(80), hang_over: ms(300) }
    }
}

/// A spell of speech began or ended. Positions are samples of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoiceEvent {
    /// Somebody speaks.
    Started {
        /// Where it began.
        at: u64,
    },
    /// Nobody speaks any more.
    Ended {
        /// Where it ended.
        at: u64,
        /// For how long somebody spoke.
        duration: Duration,
    },
}

impl VoiceEvent {
    /// The same on a clock that is ahead by so many samples.
    #[must_use]
    pub fn moved(mut self, by: u64) -> Self {
        let (Self::Started { at } | Self::Ended { at, .. }) = &mut self;
        *at += by;
        self
    }
}

/// Spells of speech in one stream.
///
/// # Contract
/// As in [`detect`](super). A start is told [`Config::min_speech`] and some 50 ms after it, an end
/// [`Config::hang_over`] after it.
#[derive(Debug)]
pub struct VoiceActivity<D> {
    detector: D,
    rate: u32,
    resampler: Resampler,
    /// Samples at the detector's rate that make no frame yet.
    waiting: Vec<i16>,
    frames: u64,
    spells: Spells,
}

impl<D: VoiceDetector> VoiceActivity<D> {
    /// For a stream of this sample rate in Hz, with the default settings.
    ///
    /// # Errors
    /// [`UnsupportedRate`] where the rate, or the detector's, is not in [`RATES`](crate::pcm::RATES).
    pub fn new(rate: u32, detector: D) -> Result<Self, UnsupportedRate> {
        Self::with(rate, detector, Config::default())
    }

    /// For a stream of this sample rate in Hz.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with(rate: u32, detector: D, config: Config) -> Result<Self, UnsupportedRate> {
        let resampler = Resampler::new(rate, detector.rate())?;
        let frame = time(detector.frame() as u64, detector.rate());
        let waiting =
            Vec::with_capacity(detector.frame() + 2 * PIECE * (detector.rate() / rate + 1) as usize);
        Ok(Self { detector, rate, resampler, waiting, frames: 0, spells: Spells::new(config, frame) })
    }

    /// Hears the next samples.
    pub fn process(&mut self, samples: &[i16], mut tell: impl FnMut(VoiceEvent)) {
        for piece in samples.chunks(PIECE) {
            self.resampler.process(piece, &mut self.waiting);
            let length = self.detector.frame().max(1);
            let mut heard = 0;
            while let Some(frame) = self.waiting.get(heard..heard + length) {
                let (score, level) = (self.detector.probability(frame), level(frame));
                heard += length;
                self.frames += 1;
                if let Some(change) = self.spells.hear(self.frames, score, level) {
                    tell(self.event(change));
                }
            }
            self.waiting.drain(..heard);
        }
    }

    /// Whether somebody speaks, silences shorter than the hang-over included.
    pub fn is_speaking(&self) -> bool {
        self.spells.began.is_some()
    }

    /// The stream has ended, and with it what is spoken.
    pub fn finish(&mut self) -> Option<VoiceEvent> {
        self.spells.finish().map(|change| self.event(change))
    }

    /// Forgets the stream; positions count anew.
    pub fn reset(&mut self) {
        self.detector.reset();
        self.resampler.reset();
        self.waiting.clear();
        self.frames = 0;
        self.spells = Spells::new(self.spells.config, self.spells.frame);
    }

    fn event(&self, change: Change) -> VoiceEvent {
        match change {
            Change::Started(frame) => VoiceEvent::Started { at: self.position(frame) },
            Change::Ended(from, to) => {
                let (from, at) = (self.position(from), self.position(to));
                VoiceEvent::Ended { at, duration: time(at - from, self.rate) }
            }
        }
    }

    /// Where in the stream the frame of this number begins, counted from 0.
    fn position(&self, frame: u64) -> u64 {
        let heard =
            frame * self.detector.frame() as u64 * u64::from(self.rate) / u64::from(self.detector.rate());
        heard.saturating_sub(samples_in(self.resampler.delay(), self.rate))
    }
}

/// Samples that are resampled at once, which bounds what waits for the detector.
const PIECE: usize = 480;

/// What a frame changed; frames are counted from 0.
#[derive(Clone, Copy, Debug)]
enum Change {
    Started(u64),
    Ended(u64, u64),
}

/// From scores and levels of frames to spells.
#[derive(Clone, Debug)]
struct Spells {
    config: Config,
    frame: Duration,
    floor: Floor,
    /// What the detector gives to this line's noise.
    noise_score: f32,
    /// Speech that may become a spell: its first frame, and how much there is of it.
    candidate: Option<(u64, Duration)>,
    /// First frame of the spell.
    began: Option<u64>,
    /// The frame behind the last one with speech.
    last: u64,
}

/// The threshold stays this far above the scores of noise, and below the highest.
const ABOVE_NOISE: f32 = 0.25;
const HIGHEST: f32 = 0.9;
/// How much lower both thresholds are while somebody speaks: score, and dB.
const HOLD: (f32, f32) = (0.15, 2.0);
/// How fast the noise's score is learned.
const LEARNED_IN: Duration = Duration::from_millis(1_500);

impl Spells {
    fn new(config: Config, frame: Duration) -> Self {
        let floor = Floor::new(frame);
        Self { config, frame, floor, noise_score: 0.0, candidate: None, began: None, last: 0 }
    }

    /// Takes in the frame before `behind`.
    fn hear(&mut self, behind: u64, score: f32, level: f32) -> Option<Change> {
        let above = self.floor.above(level);
        let speech = self.is_speech(score, above);
        if speech {
            self.last = behind;
        } else if above < self.config.margin {
            let share = self.frame.as_secs_f32() / LEARNED_IN.as_secs_f32();
            self.noise_score += (score.clamp(0.0, 1.0) - self.noise_score) * share.min(1.0);
        }
        match self.began {
            Some(_) if self.frame * (behind - self.last) as u32 >= self.config.hang_over => self.finish(),
            Some(_) => None,
            None => self.gather(behind - 1, speech),
        }
    }

    fn is_speech(&self, score: f32, above: f32) -> bool {
        let (lower, softer) = if self.began.is_some() { HOLD } else { (0.0, 0.0) };
        let threshold = self.config.threshold.max((self.noise_score + ABOVE_NOISE).min(HIGHEST));
        score >= threshold - lower && above >= self.config.margin - softer
    }

    /// Adds a frame to the candidate; frames without speech take from it twice what they last.
    fn gather(&mut self, frame: u64, speech: bool) -> Option<Change> {
        let (first, so_far) = self.candidate.unwrap_or((frame, Duration::ZERO));
        let so_far = if speech { so_far + self.frame } else { so_far.saturating_sub(2 * self.frame) };
        self.candidate = (!so_far.is_zero()).then_some((first, so_far));
        if so_far < self.config.min_speech {
            return None;
        }
        (self.began, self.candidate) = (Some(first), None);
        Some(Change::Started(first))
    }

    fn finish(&mut self) -> Option<Change> {
        let from = self.began.take()?;
        Some(Change::Ended(from, self.last))
    }
}

/// Level of a frame in dBm0.
fn level(frame: &[i16]) -> f32 {
    let power = frame.iter().map(|&s| f32::from(s) * f32::from(s)).sum::<f32>() / frame.len().max(1) as f32;
    dbm0_of_power(f64::from(power.max(0.1))) as f32
}

/// The level of a line's noise: the least of the smoothed level over the last one and a half seconds.
#[derive(Clone, Debug)]
struct Floor {
    smoothed: f32,
    /// Share of a new frame in the smoothed level.
    share: f32,
    /// The least of each sixth of the time, oldest first; the last is still growing.
    least: VecDeque<f32>,
    frames: usize,
    per_part: usize,
}

/// Parts of the time, and how long each is.
const PARTS: usize = 6;
const PART: Duration = Duration::from_millis(250);
const SMOOTHED_OVER: Duration = Duration::from_millis(40);
/// Noise is between these in dBm0: what is louder is what the line is for, what is softer nobody hears.
const FLOOR_RANGE: (f32, f32) = (-65.0, -32.0);

impl Floor {
    fn new(frame: Duration) -> Self {
        let least = std::iter::repeat_n(f32::INFINITY, PARTS).collect();
        let per_part = (PART.as_nanos() / frame.as_nanos().max(1)).max(1) as usize;
        let share = (frame.as_secs_f32() / SMOOTHED_OVER.as_secs_f32()).min(1.0);
        Self { smoothed: f32::NAN, share, least, frames: 0, per_part }
    }

    /// Takes in the level of the next frame, and tells how far above the noise it is, in dB.
    fn above(&mut self, level: f32) -> f32 {
        let before = if self.smoothed.is_nan() { level } else { self.smoothed };
        self.smoothed = before + (level - before) * self.share;
        if self.frames == self.per_part {
            self.least.pop_front();
            self.least.push_back(f32::INFINITY);
            self.frames = 0;
        }
        self.frames += 1;
        if let Some(part) = self.least.back_mut() {
            *part = part.min(self.smoothed);
        }
        let floor = self.least.iter().copied().fold(f32::INFINITY, f32::min);
        level - floor.clamp(FLOOR_RANGE.0, FLOOR_RANGE.1)
    }
}
