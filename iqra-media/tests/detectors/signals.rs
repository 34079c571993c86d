//! Sounds for the tests of the detectors: tones, noise, and something that has what detectors take for speech - a
//! voice's harmonics with a pitch that moves, formants that glide from vowel to vowel, hisses, pauses - all from seeds.

use std::f64::consts::TAU;

use iqra_media::pcm::level::{dbm0_of_power, peak_of_dbm0};

/// Samples as they are mixed, before they become 16 bits.
pub(crate) type Sound = Vec<f64>;

/// Seeds for what is tried often: all in a release build, a tenth where the compiler leaves the sums slow.
pub(crate) fn seeds(all: u64) -> std::ops::Range<u64> {
    0..if cfg!(debug_assertions) { all.div_ceil(10) } else { all }
}

/// Rates at which everything is tried: narrow band and an odd one where sums are slow, as above.
pub(crate) fn rates() -> impl Iterator<Item = u32> {
    let all = [8000, 44_100, 16_000, 48_000];
    all.into_iter().take(if cfg!(debug_assertions) { 2 } else { 4 })
}

pub(crate) fn samples(rate: u32, ms: u64) -> usize {
    (u64::from(rate) * ms / 1000) as usize
}

pub(crate) fn silence(rate: u32, ms: u64) -> Sound {
    vec![0.0; samples(rate, ms)]
}

/// Sines of (frequency in Hz, level in dBm0), beginning at a phase in turns.
pub(crate) fn tones(rate: u32, ms: u64, sines: &[(f64, f64)], phase: f64) -> Sound {
    let mut sound = silence(rate, ms);
    for &(frequency, level) in sines {
        let peak = f64::from(peak_of_dbm0(level));
        for (n, sample) in sound.iter_mut().enumerate() {
            *sample += peak * (TAU * (phase + frequency * n as f64 / f64::from(rate))).sin();
        }
    }
    sound
}

/// White noise of this level in dBm0.
pub(crate) fn noise(rate: u32, ms: u64, level: f64, seed: u64) -> Sound {
    let mut random = fastrand::Rng::with_seed(seed);
    let spread = f64::from(peak_of_dbm0(level)) / 2f64.sqrt();
    let gaussian = |random: &mut fastrand::Rng| (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
    (0..samples(rate, ms)).map(|_| gaussian(&mut random) * spread).collect()
}

pub(crate) fn add(sound: &mut [f64], other: &[f64]) {
    sound.iter_mut().zip(other).for_each(|(sample, add)| *sample += add);
}

pub(crate) fn pcm(sound: &[f64]) -> Vec<i16> {
    sound.iter().map(|&sample| sample.round() as i16).collect()
}

/// Level in dBm0.
pub(crate) fn level(sound: &[f64]) -> f64 {
    dbm0_of_power(sound.iter().map(|s| s * s).sum::<f64>() / sound.len().max(1) as f64)
}

/// Scales a sound to a level in dBm0.
pub(crate) fn at_level(mut sound: Sound, wanted: f64) -> Sound {
    let factor = 10f64.powf((wanted - level(&sound)) / 20.0);
    sound.iter_mut().for_each(|sample| *sample *= factor);
    sound
}

/// A resonance.
struct Formant {
    last: [f64; 2],
}

impl Formant {
    fn pass(&mut self, rate: u32, frequency: f64, width: f64, input: f64) -> f64 {
        let radius = (-TAU / 2.0 * width / f64::from(rate)).exp();
        let turn = 2.0 * radius * (TAU * frequency / f64::from(rate)).cos();
        let out = input * (1.0 - radius) + turn * self.last[0] - radius * radius * self.last[1];
        self.last = [out, self.last[0]];
        out
    }
}

/// First three formants of some vowels, in Hz, of men, women and children.
const VOWELS: [[f64; 3]; 10] = [
    [270.0, 2290.0, 3010.0],
    [390.0, 1990.0, 2550.0],
    [530.0, 1840.0, 2480.0],
    [660.0, 1720.0, 2410.0],
    [730.0, 1090.0, 2440.0],
    [570.0, 840.0, 2410.0],
    [300.0, 870.0, 2240.0],
    [850.0, 1220.0, 2810.0],
    [470.0, 1160.0, 2680.0],
    [1030.0, 1370.0, 3170.0],
];

/// A word: three to seven vowels that glide into each other, with a hiss before some, of the level -10 dBm0 or so.
pub(crate) fn word(rate: u32, random: &mut fastrand::Rng) -> Sound {
    let mut sound = Vec::new();
    let mut formants = [const { Formant { last: [0.0; 2] } }; 3];
    let mut pitch = [95.0, 130.0, 190.0, 240.0, 310.0][random.usize(..5)];
    let (mut phase, mut from) = (0.0, VOWELS[random.usize(..VOWELS.len())]);
    for _ in 0..random.usize(1..4) {
        if random.bool() {
            let ms = random.u64(30..90);
            sound.extend(noise(rate, ms, -32.0, random.u64(..)));
        }
        let (to, glide) = (VOWELS[random.usize(..VOWELS.len())], 0.9 + 0.2 * random.f64());
        let length = samples(rate, random.u64(70..220));
        for n in 0..length {
            let at = n as f64 / length as f64;
            let loud = (at * 8.0).min((1.0 - at) * 8.0).min(1.0);
            phase += pitch * (1.0 + (glide - 1.0) * at) / f64::from(rate);
            let pulse = if phase >= 1.0 { 1.0 } else { 0.0 };
            phase -= pulse;
            let breath = 0.01 * (random.f64() - 0.5);
            let mut out = 0.0;
            for (which, (formant, gain)) in formants.iter_mut().zip([1.0, 0.5, 0.25]).enumerate() {
                let frequency = from[which] + (to[which] - from[which]) * at;
                let width = 60.0 + 0.05 * frequency;
                out +=
                    gain * formant.pass(rate, frequency.min(f64::from(rate) * 0.45), width, pulse + breath);
            }
            sound.push(out * loud * 60_000.0);
        }
        (pitch, from) = (pitch * glide, to);
    }
    sound
}

/// Words with pauses between, at a level in dBm0 over all.
pub(crate) fn speech(rate: u32, ms: u64, level: f64, seed: u64) -> Sound {
    let mut random = fastrand::Rng::with_seed(seed);
    let length = samples(rate, ms);
    let mut sound = Vec::with_capacity(length + rate as usize);
    while sound.len() < length {
        sound.extend(word(rate, &mut random));
        let pause = if random.usize(..4) == 0 { random.u64(250..450) } else { random.u64(20..110) };
        sound.extend(silence(rate, pause));
    }
    sound.truncate(length);
    at_level(sound, level)
}

/// Chords of three notes with harmonics, changing every 150 to 600 ms.
pub(crate) fn music(rate: u32, ms: u64, level: f64, seed: u64) -> Sound {
    let mut random = fastrand::Rng::with_seed(seed);
    let length = samples(rate, ms);
    let mut sound = Vec::with_capacity(length + rate as usize);
    while sound.len() < length {
        let note = |random: &mut fastrand::Rng| 110.0 * 2f64.powf(f64::from(random.u32(0..40)) / 12.0);
        let notes: Vec<f64> = (0..3).map(|_| note(&mut random)).collect();
        let sines: Vec<(f64, f64)> = notes
            .iter()
            .flat_map(|&f| (1..6).map(move |h| (f * f64::from(h), -14.0 - 5.0 * f64::from(h))))
            .filter(|&(f, _)| f < f64::from(rate) * 0.45)
            .collect();
        sound.extend(tones(rate, random.u64(150..600), &sines, random.f64()));
    }
    sound.truncate(length);
    at_level(sound, level)
}
