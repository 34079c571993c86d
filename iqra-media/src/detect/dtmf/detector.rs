//! Hears keys in the audio.
//!
//! A Hann window of 20 ms moves in steps of 5 ms over the samples ([`bank`](super::super::bank)). A look shows a key
//! where the strongest tone of each group
//! - is loud enough, and the two differ no more than the twist allows,
//! - hold 88 % of all that is under the window, a dial tone left out: speech and music hardly ever do, since their
//!   harmonics and noise are beside them,
//! - have the frequencies of the key, told by the advance of phase over four looks, which also tells how much of a
//!   tone beside its frequency the bank has missed,
//! - and keep their levels and frequencies from look to look, which a voice does not.
//!
//! Four such looks in a row are a key that is down. It is up after five looks in a row that do not hold it, with
//! limits a little wider than those for new keys, so that a short gap does not make two of one press.
//!
//! | what receivers are asked for (ITU-T Q.24, Table A-1) | AT&T | NTT | Denmark | Australia | Brazil | here |
//! |---|---|---|---|---|---|---|
//! | frequency taken | 1.5 % | 1.8 % | 1.5 % + 2 Hz | 1.5 % + 4 Hz | 1.8 % | 1.8 % |
//! | frequency refused | 3.5 % | 3.0 % | | 7 % | 3 % | 3.0 % |
//! | level of a tone, dBm0 | 0 to -25 | -3 to -24 | 0 to -30 | 0 to -27 | -3 to -25 | 0 to -30 |
//! | high tone stronger / weaker by up to, dB | 4 / 8 | 5 / 5 | 6 / 6 | 10 / 10 | 9 / 9 | 10 / 10 |
//! | tone taken / refused, ms | 40 / 23 | 40 / 24 | 40 / 20 | 40 / 25 | 40 / 20 | 40 / 23 |
//! | pause between keys, ms | 40 | 30 | 40 | 40 | 30 | 30 |
//! | interruption that is none, ms | 10 | 10 | 20 | 12 | 10 | 10 |
//!
//! Besides: 15 dB above noise, and with a dial tone as loud as each tone of the key. What only the detector's own
//! clock can tell, start and duration, is right within 8 ms.

use std::time::Duration;

use super::super::bank::{Bank, Look, Phasor, Slide};
use super::super::{samples_in, time};
use super::{COLUMNS, ROWS, key};
use crate::pcm::level;
use crate::rtp::telephone_event::Digit;

/// The window, and the step it moves by.
const WINDOW: Duration = Duration::from_millis(20);
const STEP: Duration = Duration::from_millis(5);
/// Parts of a dial tone, which sounds until the first key: 350 and 440 Hz, and 425 Hz between them, which both show.
const DIAL: [f64; 2] = [350.0, 440.0];
/// Looks in a row that make a key.
const DOWN: usize = 4;
/// Looks in a row without it that end one.
const UP: u32 = 5;
/// Share of the power that a new key holds, and one that is down; and one that is new, before its deviation is known.
const SHARE: f32 = 0.88;
const HELD_SHARE: f32 = 0.55;
const ROUGH_SHARE: f32 = 0.6;
/// How much each tone's power may differ over the looks that make a key: their edges are in the window.
const STEADY: f32 = 2.5;
/// The least that the bank shows of a tone which is near enough.
const RESPONSE: f32 = 0.65;
/// How much the limits of level and twist are wider for a key that is down, in dB.
const HOLD: f32 = 3.0;
/// Half way between the frequencies that are taken and refused.
const TOLERANCE: f64 = 0.024;
/// A dial tone may be this much stronger than the key.
const DIAL_SHARE: f32 = 4.0;
/// How much of the first window that shows a tone is filled by it, and how much of the last that holds it is not.
const FILLED: Duration = Duration::from_millis(18);
const GONE: Duration = Duration::from_millis(6);

/// Limits of the detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// The weakest tone that is heard, in dBm0. Default -33, so that -30 is certain.
    pub level: f32,
    /// How much stronger than the low tone the high one may be, in dB. Default 11, so that 10 is certain.
    pub high_stronger: f32,
    /// How much weaker than the low tone the high one may be, in dB. Default 11, so that 10 is certain.
    pub high_weaker: f32,
}

impl Default for Config {
    fn default() -> Self {
        Self { level: -33.0, high_stronger: 11.0, high_weaker: 11.0 }
    }
}

/// What happened to a key. `Debug` does not show which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyEvent {
    /// It is pressed.
    Down {
        /// Which.
        digit: Digit,
        /// Where its tones began, in samples.
        start: u64,
    },
    /// It was released.
    Up {
        /// Which.
        digit: Digit,
        /// Where its tones began, in samples.
        start: u64,
        /// For how long it was pressed.
        duration: Duration,
    },
}

/// Hears the keys of one stream.
///
/// # Contract
/// As in [`detect`](super::super). A key is told 30 to 40 ms after its tones began, and its end 20 to 40 ms after it.
#[derive(Clone, Debug)]
pub struct Detector {
    slide: Slide,
    ear: Ear,
}

impl Detector {
    /// For a sample rate in Hz from 8000 on, with the default limits.
    pub fn new(rate: u32) -> Self {
        Self::with(rate, Config::default())
    }

    /// For a sample rate in Hz from 8000 on.
    pub fn with(rate: u32, config: Config) -> Self {
        let slide = Slide::new(rate, WINDOW, STEP);
        let frequencies: Vec<f64> = ROWS.into_iter().chain(COLUMNS).chain(DIAL).collect();
        let bank = Bank::new(rate, &slide, &frequencies);
        let limits = [Limits::new(&config, ROUGH_SHARE, 0.0), Limits::new(&config, HELD_SHARE, HOLD)];
        let step = slide.step() as f64 / f64::from(rate);
        let turn = |frequency: &f64| (std::f64::consts::TAU * frequency * TOLERANCE * step) as f32;
        let filled = samples_in(FILLED, rate);
        let bins = (slide.length() as f64 / slide.step() as f64 / std::f64::consts::TAU) as f32;
        let tolerances = [ROWS.each_ref().map(turn), COLUMNS.each_ref().map(turn)];
        let ear = Ear { rate, bank, limits, tolerances, bins, filled, run: None, press: None };
        Self { slide, ear }
    }

    /// Hears the next samples.
    pub fn process(&mut self, samples: &[i16], mut tell: impl FnMut(KeyEvent)) {
        let ear = &mut self.ear;
        self.slide.feed(samples, |look| ear.hear(&look, &mut tell));
    }

    /// The stream has ended: a key that is down is up.
    pub fn finish(&mut self) -> Option<KeyEvent> {
        self.ear.run = None;
        self.ear.release()
    }

    /// The key that is down.
    pub fn pressed(&self) -> Option<Digit> {
        self.ear.press.as_ref().map(|press| press.digit)
    }
}

/// Limits of a look, as powers and ratios of them.
#[derive(Clone, Copy, Debug)]
struct Limits {
    share: f32,
    level: f32,
    stronger: f32,
    weaker: f32,
}

impl Limits {
    fn new(config: &Config, share: f32, wider: f32) -> Self {
        let ratio = |decibels: f32| 10f32.powf(decibels / 10.0);
        let peak = f32::from(level::peak_of_dbm0(f64::from(config.level - wider)));
        Self {
            share,
            level: peak * peak / 2.0,
            stronger: ratio(config.high_stronger + wider),
            weaker: ratio(config.high_weaker + wider),
        }
    }
}

/// The strongest tones of a look.
#[derive(Clone, Copy, Debug)]
struct Pair {
    at: [usize; 2],
    tones: [Phasor; 2],
    /// Power of all but a dial tone.
    rest: f32,
}

impl Pair {
    fn within(&self, limits: &Limits) -> bool {
        let [low, high] = self.tones.map(Phasor::power);
        low.min(high) >= limits.level
            && high <= low * limits.stronger
            && low <= high * limits.weaker
            && low + high >= self.rest * limits.share
    }

    /// Whether the tones hold what they should, each of which the bank sees with this response.
    fn is_clean(&self, responses: [f32; 2]) -> bool {
        let [low, high] = self.tones.map(Phasor::power);
        low / responses[0] + high / responses[1] >= self.rest * SHARE
    }
}

/// The power that a Hann window shows of a tone this many bins beside the frequency that is looked for.
fn response(bins: f32) -> f32 {
    let turn = std::f32::consts::PI * bins;
    if turn.abs() < 1e-3 {
        1.0
    } else {
        (turn.sin() / turn / (1.0 - bins * bins)).powi(2).clamp(RESPONSE, 1.0)
    }
}

/// Looks in a row that show the same key: the last of them, the newest at the end.
#[derive(Clone, Copy, Debug)]
struct Run {
    looks: usize,
    pairs: [Pair; DOWN],
    /// Where their windows ended.
    ends: [u64; DOWN],
    /// How each tone deviated from its frequency from one to the next.
    deviations: [[Phasor; 2]; DOWN],
}

impl Run {
    fn new(pair: Pair, end: u64) -> Self {
        let deviations = [[Phasor::default(); 2]; DOWN];
        Self { looks: 1, pairs: [pair; DOWN], ends: [end; DOWN], deviations }
    }

    fn newest(&self) -> &Pair {
        &self.pairs[DOWN - 1]
    }

    fn push(&mut self, pair: Pair, end: u64, deviation: [Phasor; 2]) {
        self.looks = self.looks.saturating_add(1);
        self.pairs.rotate_left(1);
        self.ends.rotate_left(1);
        self.deviations.rotate_left(1);
        self.pairs[DOWN - 1] = pair;
        self.ends[DOWN - 1] = end;
        self.deviations[DOWN - 1] = deviation;
    }

    /// How far each tone turned from its frequency in a step, on the mean; `None` where it did not do so evenly.
    fn angles(&self, most: [f32; 2]) -> Option<[f32; 2]> {
        let turns = |n: usize| self.deviations[1..].iter().map(move |tones| tones[n]);
        let angles = [0, 1].map(|n| {
            turns(n).fold(Phasor::default(), |a, b| Phasor { re: a.re + b.re, im: a.im + b.im }).angle()
        });
        let even = |n: usize| turns(n).all(|turn| (turn.angle() - angles[n]).abs() <= most[n] * 0.75);
        (0..2).all(|n| angles[n].abs() <= most[n] && even(n)).then_some(angles)
    }

    fn is_steady(&self) -> bool {
        let powers = |n: usize| self.pairs.iter().map(move |pair| pair.tones[n].power());
        let most = |n| powers(n).fold(0.0, f32::max);
        (0..2).all(|n| powers(n).all(|power| power * STEADY >= most(n)))
    }
}

/// A key that is down.
#[derive(Clone, Copy, Debug)]
struct Press {
    digit: Digit,
    at: [usize; 2],
    start: u64,
    /// Where the window that last held it ended.
    last: u64,
    missed: u32,
}

#[derive(Clone, Debug)]
struct Ear {
    rate: u32,
    bank: Bank,
    /// For new keys, and for one that is down.
    limits: [Limits; 2],
    /// How far each tone may turn from its frequency in a step.
    tolerances: [[f32; 4]; 2],
    /// From an angle in a step to the window's resolution.
    bins: f32,
    filled: u64,
    run: Option<Run>,
    press: Option<Press>,
}

impl Ear {
    fn hear(&mut self, look: &Look<'_>, tell: &mut impl FnMut(KeyEvent)) {
        let pair = self.strongest(look);
        let found = self.follow(pair.filter(|pair| pair.within(&self.limits[0])), look.end);
        if let Some(press) = &mut self.press {
            let held = pair.is_some_and(|pair| pair.at == press.at && pair.within(&self.limits[1]));
            press.missed = if held { 0 } else { press.missed + 1 };
            press.last = if held { look.end } else { press.last };
            if found.is_some_and(|run| run.newest().at != press.at) || press.missed >= UP {
                self.release().into_iter().for_each(&mut *tell);
            }
        }
        if let (None, Some(run)) = (&self.press, found) {
            self.begin(&run, look).into_iter().for_each(tell);
        }
    }

    /// The strongest tone of each group, where anything is loud enough to ask.
    fn strongest(&mut self, look: &Look<'_>) -> Option<Pair> {
        if look.power < self.limits[1].level {
            return None;
        }
        let tones: [Phasor; 10] = self.bank.measure(look.window);
        let powers = tones.map(Phasor::power);
        let strongest = |group: std::ops::Range<usize>| {
            group.max_by(|&a, &b| powers[a].total_cmp(&powers[b])).unwrap_or(0)
        };
        let at = [strongest(0..4), strongest(4..8)];
        let key = powers[at[0]] + powers[at[1]];
        let dial = (powers[8] + powers[9]).min(DIAL_SHARE * key);
        Some(Pair { at, tones: at.map(|at| tones[at]), rest: (look.power - dial).max(key) })
    }

    /// The run that this look goes on with, once it is long enough and at the frequencies of its key.
    fn follow(&mut self, pair: Option<Pair>, end: u64) -> Option<Run> {
        let before = self.run.take();
        let pair = pair?;
        let Some(mut run) = before.filter(|run| run.newest().at == pair.at) else {
            self.run = Some(Run::new(pair, end));
            return None;
        };
        let before = run.newest().tones;
        let deviation = [0, 1].map(|n| self.bank.deviation(pair.at[n], pair.tones[n], before[n]));
        run.push(pair, end, deviation);
        self.run = Some(run);
        let most = [0, 1].map(|n| self.tolerances[n][pair.at[n] % 4]);
        let angles = run.angles(most).filter(|_| run.looks >= DOWN && run.is_steady())?;
        let responses = angles.map(|angle| response(angle * self.bins));
        run.pairs.iter().all(|pair| pair.is_clean(responses)).then_some(run)
    }

    fn begin(&mut self, run: &Run, look: &Look<'_>) -> Option<KeyEvent> {
        let at = run.newest().at;
        let digit = key(at[0], at[1] - 4)?;
        let start = run.ends[0].saturating_sub(self.filled);
        self.press = Some(Press { digit, at, start, last: look.end, missed: 0 });
        Some(KeyEvent::Down { digit, start })
    }

    fn release(&mut self) -> Option<KeyEvent> {
        let Press { digit, start, last, missed, .. } = self.press.take()?;
        let fades = if missed == 0 { 0 } else { samples_in(GONE, self.rate) };
        let end = last.saturating_sub(fades).max(start);
        Some(KeyEvent::Up { digit, start, duration: time(end - start, self.rate) })
    }
}
