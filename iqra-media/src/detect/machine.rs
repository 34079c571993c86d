//! Who answered: a human or an answering machine, and when its greeting is over, so that a message can be left.
//!
//! People answer a call with a word or two and then wait; machines speak on. So the decision is made by the lengths of
//! speech and silence, as `app_amd` of Asterisk made popular, and by tones, which only machines have:
//!
//! ```text
//!  listening ─┬─ no word in 5 s ────────────────────────▶ unknown: silence
//!             ├─ 0.8 s of silence after a short greeting ▶ human
//!             ├─ greeting longer than 2.4 s ─────────────▶ machine ──┬─ beep ─────────────▶ the greeting is over
//!             ├─ more than 5 words ──────────────────────▶ machine ──┼─ 2 s of silence ───▶ the greeting is over
//!             ├─ beep, special information ──────────────▶ machine ──┴─ 60 s ─────────────▶ given up
//!             ├─ fax tones ──────────────────────────────▶ fax
//!             └─ 8 s ────────────────────────────────────▶ unknown: time
//! ```
//! No such rule is right about everybody. A machine with a short greeting is taken for a human until it beeps: then a
//! second [`MachineEvent::Decided`] says so. Silence is no machine here, though `app_amd` calls it one: who hangs up
//! on it hangs up on people.

use std::time::Duration;

use super::progress::{Progress, ProgressDetector};
use super::samples_in;
use super::voice::{self, VoiceActivity, VoiceDetector};
use crate::pcm::UnsupportedRate;

/// The lengths that decide.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// How long the first word may take. Default 5 s, as Twilio waits (`MachineDetectionSilenceTimeout`); Asterisk 2.5.
    pub initial_silence: Duration,
    /// A greeting longer than this is a machine's. Default 2.4 s, as at Twilio (`MachineDetectionSpeechThreshold`);
    /// Asterisk 1.5, which takes people for machines that tell their name and company.
    pub greeting: Duration,
    /// Silence after which a greeting is over and was a human's. Default 0.8 s (Asterisk, `after_greeting_silence`);
    /// Twilio 1.2.
    pub after_greeting: Duration,
    /// More words than this are a machine's. Default 5; Asterisk 2, with a detector that hears fewer pauses.
    pub words: u32,
    /// The least speech that is a word. Default 100 ms (Asterisk, `min_word_length`).
    pub min_word: Duration,
    /// The silence that ends a word. Default 80 ms; Asterisk 50.
    pub between_words: Duration,
    /// When it is decided at the latest. Default 8 s: longer than the first word and the greeting together may take.
    pub total: Duration,
    /// Silence by which a machine's greeting is over. Default 2 s.
    pub end_silence: Duration,
    /// How long a machine's greeting is awaited. Default 60 s.
    pub limit: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            initial_silence: ms(5_000),
            greeting: ms(2_400),
            after_greeting: ms(800),
            words: 5,
            min_word: ms(100),
            between_words: ms(80),
            total: ms(8_000),
            end_silence: ms(2_000),
            limit: ms(60_000),
        }
    }
}

/// Who answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answerer {
    /// A person.
    Human,
    /// An answering machine, or an announcement.
    Machine,
    /// A fax machine or a modem.
    Fax,
    /// It could not be told.
    Unknown,
}

/// What told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Nobody said a word.
    Silence,
    /// A short greeting, then silence.
    ShortGreeting,
    /// Speech for longer than a greeting takes.
    LongGreeting,
    /// More words than a greeting has.
    ManyWords,
    /// A beep.
    Beep,
    /// The tones before an announcement of the network.
    SpecialInformation,
    /// Tones of a fax machine.
    FaxTone,
    /// The time was over.
    Time,
}

/// How a machine's greeting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GreetingEnd {
    /// By a beep.
    Beep,
    /// By silence.
    Silence,
    /// Not within [`Config::limit`].
    Limit,
}

/// What was found. Positions are samples of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineEvent {
    /// Who answered. Told once; and once more where a beep shows that what was taken for another was a machine.
    Decided {
        /// Who.
        answerer: Answerer,
        /// Why.
        reason: Reason,
        /// How far into the stream.
        at: u64,
    },
    /// The machine's greeting is over: from here on a message is recorded.
    GreetingEnded {
        /// How.
        end: GreetingEnd,
        /// Where: behind the beep, or where the silence was long enough.
        at: u64,
    },
}

impl MachineEvent {
    /// The same on a clock that is ahead by so many samples.
    #[must_use]
    pub fn moved(mut self, by: u64) -> Self {
        let (Self::Decided { at, .. } | Self::GreetingEnded { at, .. }) = &mut self;
        *at += by;
        self
    }
}

/// Finds out who answered one call. Start it when the call is answered.
///
/// # Contract
/// As in [`detect`](super).
#[derive(Debug)]
pub struct MachineDetector<D> {
    config: Config,
    rate: u32,
    voice: VoiceActivity<D>,
    progress: ProgressDetector,
    /// Samples from one judgement to the next, and until the next.
    step: u64,
    left: u64,
    heard: u64,
    greeting: Greeting,
    stage: Stage,
}

/// What was said so far, in samples.
#[derive(Clone, Copy, Debug, Default)]
struct Greeting {
    first: Option<u64>,
    last: u64,
    words: u32,
    speaking: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Listening,
    /// Decided, but a beep may still come.
    Settled,
    /// A machine's greeting goes on.
    Waiting,
    Done,
}

/// The tones that decide, as they come.
#[derive(Clone, Copy, Debug)]
enum Sign {
    Beep(u64),
    Information,
    Fax,
}

const STEP: Duration = Duration::from_millis(10);

impl<D: VoiceDetector> MachineDetector<D> {
    /// For a stream of this sample rate in Hz.
    ///
    /// # Errors
    /// [`UnsupportedRate`] where the rate, or the detector's, is not in [`RATES`](crate::pcm::RATES).
    pub fn new(rate: u32, detector: D, config: Config) -> Result<Self, UnsupportedRate> {
        let spells = voice::Config {
            min_speech: config.min_word,
            hang_over: config.between_words,
            ..voice::Config::default()
        };
        let step = samples_in(STEP, rate).max(1);
        Ok(Self {
            config,
            rate,
            voice: VoiceActivity::with(rate, detector, spells)?,
            progress: ProgressDetector::new(rate),
            step,
            left: step,
            heard: 0,
            greeting: Greeting::default(),
            stage: Stage::Listening,
        })
    }

    /// Hears the next samples.
    pub fn process(&mut self, mut samples: &[i16], mut tell: impl FnMut(MachineEvent)) {
        while !samples.is_empty() && self.stage != Stage::Done {
            let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(samples.len());
            let (piece, rest) = samples.split_at(length);
            samples = rest;
            let sign = self.listen(piece);
            self.heard += length as u64;
            self.left -= length as u64;
            if let Some(sign) = sign {
                self.heed(sign, &mut tell);
            }
            if self.left == 0 {
                self.left = self.step;
                self.judge(&mut tell);
            }
        }
    }

    /// Whether nothing more will be told.
    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    fn listen(&mut self, piece: &[i16]) -> Option<Sign> {
        let greeting = &mut self.greeting;
        self.voice.process(piece, |event| match event {
            voice::VoiceEvent::Started { at } => {
                greeting.first.get_or_insert(at);
                greeting.words = greeting.words.saturating_add(1);
                greeting.speaking = true;
            }
            voice::VoiceEvent::Ended { at, .. } => (greeting.speaking, greeting.last) = (false, at),
        });
        let mut sign = None;
        self.progress.process(piece, |event| match event {
            Progress::Beep { end, .. } => sign = Some(Sign::Beep(end)),
            Progress::SpecialInformation { .. } => sign = Some(Sign::Information),
            Progress::FaxCalling { .. } | Progress::FaxAnswering { .. } => sign = Some(Sign::Fax),
            _ => {}
        });
        sign
    }

    /// Tones decide whatever was decided before.
    fn heed(&mut self, sign: Sign, tell: &mut impl FnMut(MachineEvent)) {
        let (answerer, reason) = match sign {
            Sign::Beep(_) => (Answerer::Machine, Reason::Beep),
            Sign::Information => (Answerer::Machine, Reason::SpecialInformation),
            Sign::Fax => (Answerer::Fax, Reason::FaxTone),
        };
        let beep = matches!(sign, Sign::Beep(_));
        if self.stage == Stage::Listening || (self.stage == Stage::Settled && beep) {
            self.decide(answerer, reason, tell);
        }
        if let (Sign::Beep(at), Stage::Waiting) = (sign, self.stage) {
            self.end(GreetingEnd::Beep, at, tell);
        }
    }

    /// What the lengths of speech and silence so far decide.
    fn judge(&mut self, tell: &mut impl FnMut(MachineEvent)) {
        match self.stage {
            Stage::Listening => {
                if let Some((answerer, reason)) = self.verdict() {
                    self.decide(answerer, reason, tell);
                }
            }
            Stage::Waiting if self.silence() >= self.samples(self.config.end_silence) => {
                self.end(GreetingEnd::Silence, self.heard, tell);
            }
            Stage::Waiting if self.heard >= self.samples(self.config.limit) => {
                self.end(GreetingEnd::Limit, self.heard, tell);
            }
            Stage::Settled if self.heard >= self.samples(self.config.limit) => self.stage = Stage::Done,
            _ => {}
        }
    }

    fn verdict(&self) -> Option<(Answerer, Reason)> {
        let Greeting { first, last, words, speaking } = self.greeting;
        let Some(first) = first else {
            let silent = self.heard >= self.samples(self.config.initial_silence);
            return silent.then_some((Answerer::Unknown, Reason::Silence));
        };
        let until = if speaking { self.heard } else { last };
        if until.saturating_sub(first) > self.samples(self.config.greeting) {
            Some((Answerer::Machine, Reason::LongGreeting))
        } else if words > self.config.words {
            Some((Answerer::Machine, Reason::ManyWords))
        } else if self.silence() >= self.samples(self.config.after_greeting) {
            Some((Answerer::Human, Reason::ShortGreeting))
        } else if self.heard >= self.samples(self.config.total) {
            Some((Answerer::Unknown, Reason::Time))
        } else {
            None
        }
    }

    fn decide(&mut self, answerer: Answerer, reason: Reason, tell: &mut impl FnMut(MachineEvent)) {
        self.stage = match answerer {
            Answerer::Machine => Stage::Waiting,
            Answerer::Fax => Stage::Done,
            Answerer::Human | Answerer::Unknown => Stage::Settled,
        };
        tell(MachineEvent::Decided { answerer, reason, at: self.heard });
    }

    fn end(&mut self, end: GreetingEnd, at: u64, tell: &mut impl FnMut(MachineEvent)) {
        self.stage = Stage::Done;
        tell(MachineEvent::GreetingEnded { end, at });
    }

    /// Since when nobody speaks, once somebody has.
    fn silence(&self) -> u64 {
        if self.greeting.speaking { 0 } else { self.heard.saturating_sub(self.greeting.last) }
    }

    fn samples(&self, time: Duration) -> u64 {
        samples_in(time, self.rate)
    }
}
