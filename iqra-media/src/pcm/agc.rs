//! Automatic gain: brings speech to one level, leaves noise alone, and never clips.
//!
//! ```text
//!  samples ──▶ level of each 10 ms ──▶ speech? ──▶ the gain it needs ──▶ gain moves there ──▶ limiter ──▶ samples
//!                                     (the gate)    within its range      fast down, slowly up   peaks
//! ```
//! The gate keeps the gain where it is while what is heard is too soft to be speech, so that noise does not swell in
//! pauses. The limiter turns down what would pass its ceiling at that very sample and recovers within some 50 ms.

use super::level::dbm0_of_power;
use std::time::Duration;

/// What the gain aims at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// The level of speech that comes out, in dBm0. Default -18.
    pub target: f32,
    /// The most that is added, in dB. Default 18.
    pub max_gain: f32,
    /// The most that is taken away, in dB. Default 18.
    pub max_cut: f32,
    /// What is softer than this is no speech, and moves no gain; in dBm0. Default -42.
    pub gate: f32,
    /// How fast the gain falls: two thirds of the way in this time. Default 100 ms.
    pub attack: Duration,
    /// How fast it rises. Default 1.5 s.
    pub release: Duration,
    /// Peaks do not pass this, in dB below full scale. Default 1.
    pub ceiling: f32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            target: -18.0,
            max_gain: 18.0,
            max_cut: 18.0,
            gate: -42.0,
            attack: Duration::from_millis(100),
            release: Duration::from_millis(1_500),
            ceiling: 1.0,
        }
    }
}

/// The gain of one stream.
///
/// # Contract
/// Frames of any length in order; how the stream is cut does not change it. No delay, no allocation.
#[derive(Clone, Debug)]
pub struct Agc {
    config: Config,
    /// Samples of a block, and those of the current one with the sum of their squares.
    block: u32,
    filled: u32,
    squares: f32,
    /// In dB, at the end of the current block; as a factor, now; and what it moves by each sample.
    gain: f32,
    factor: f32,
    step: f32,
    /// Shares of the way that a block moves, down and up.
    shares: (f32, f32),
    ceiling: f32,
    /// What the limiter leaves, and how it recovers each sample.
    limit: f32,
    recovery: f32,
}

const BLOCK: Duration = Duration::from_millis(10);
const RECOVERY: Duration = Duration::from_millis(50);

impl Agc {
    /// For a sample rate in Hz.
    pub fn new(rate: u32, config: Config) -> Self {
        let share = |time: Duration| 1.0 - (-BLOCK.as_secs_f32() / time.as_secs_f32().max(1e-3)).exp();
        let block = ((rate as f32 * BLOCK.as_secs_f32()) as u32).max(1);
        Self {
            config,
            block,
            filled: 0,
            squares: 0.0,
            gain: 0.0,
            factor: 1.0,
            step: 0.0,
            shares: (share(config.attack), share(config.release)),
            ceiling: 32_767.0 * factor(-config.ceiling.max(0.0)),
            limit: 1.0,
            recovery: 1.0 - (-1.0 / (RECOVERY.as_secs_f32() * rate as f32).max(1.0)).exp(),
        }
    }

    /// The gain now, in dB, the limiter not counted.
    pub fn gain(&self) -> f32 {
        self.gain
    }

    /// Brings the next samples to the level.
    pub fn process(&mut self, samples: &mut [i16]) {
        for sample in samples {
            let input = f32::from(*sample);
            self.squares += input * input;
            *sample = self.limited(input * self.factor);
            self.factor += self.step;
            self.filled += 1;
            if self.filled == self.block {
                self.turn();
            }
        }
    }

    /// Sets where the gain goes in the next block.
    fn turn(&mut self) {
        let level = dbm0_of_power(f64::from(self.squares / self.block as f32).max(0.1)) as f32;
        (self.filled, self.squares) = (0, 0.0);
        if level >= self.config.gate {
            let wanted = (self.config.target - level).clamp(-self.config.max_cut, self.config.max_gain);
            let share = if wanted < self.gain { self.shares.0 } else { self.shares.1 };
            self.gain += (wanted - self.gain) * share;
        }
        self.step = (factor(self.gain) - self.factor) / self.block as f32;
    }

    fn limited(&mut self, sample: f32) -> i16 {
        self.limit += (1.0 - self.limit) * self.recovery;
        let most = self.ceiling / sample.abs().max(1.0);
        self.limit = self.limit.min(most);
        (sample * self.limit).round() as i16
    }
}

fn factor(decibels: f32) -> f32 {
    10f32.powf(decibels / 20.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm::level::peak_of_dbm0;
    use crate::pcm::tone::Tone;

    fn tone(level: f64, seconds: usize) -> Vec<i16> {
        let mut samples = vec![0; 8000 * seconds];
        Tone::new(440.0, 8000, peak_of_dbm0(level)).fill(&mut samples);
        samples
    }

    fn level(samples: &[i16]) -> f64 {
        dbm0_of_power(samples.iter().map(|&s| f64::from(s).powi(2)).sum::<f64>() / samples.len() as f64)
    }

    #[test]
    fn speech_of_any_level_comes_to_the_target() {
        for loud in [-35.0, -25.0, -18.0, -10.0, -3.0] {
            let mut samples = tone(loud, 8);
            Agc::new(8000, Config::default()).process(&mut samples);
            let end = level(&samples[7 * 8000..]);
            assert!((end + 18.0).abs() < 0.5, "{loud} became {end:.1}");
        }
    }

    #[test]
    fn the_gain_has_its_range_and_its_pace() {
        let mut agc = Agc::new(8000, Config { max_gain: 6.0, ..Config::default() });
        agc.process(&mut tone(-35.0, 20));
        assert!((agc.gain() - 6.0).abs() < 0.1, "{}", agc.gain());
        agc.process(&mut tone(-8.0, 1)[..800]);
        assert!((-6.0..-3.0).contains(&agc.gain()), "two thirds of 16 dB in 100 ms: {}", agc.gain());
        let low = agc.gain();
        agc.process(&mut tone(-35.0, 1)[..4000]);
        assert!(agc.gain() > low && agc.gain() < low + 6.0, "slowly up: {}", agc.gain());
    }

    #[test]
    fn noise_in_pauses_is_not_pumped_up() {
        let mut agc = Agc::new(8000, Config::default());
        agc.process(&mut tone(-20.0, 5));
        let before = agc.gain();
        let mut pause = tone(-50.0, 20);
        agc.process(&mut pause);
        assert_eq!(agc.gain(), before);
        assert!((level(&pause) + 48.0).abs() < 0.5);
    }

    #[test]
    fn nothing_passes_the_ceiling() {
        let ceiling = (32_767.0 * factor(-1.0)).round() as i16;
        let mut agc = Agc::new(8000, Config::default());
        // The gain is at its most when full scale comes in.
        agc.process(&mut tone(-38.0, 20));
        let mut random = fastrand::Rng::with_seed(3);
        let mut noise: Vec<i16> = (0..8000).map(|_| random.i16(..)).collect();
        noise.extend([i16::MIN, i16::MAX, i16::MIN]);
        agc.process(&mut noise);
        assert!(noise.iter().all(|s| s.unsigned_abs() <= ceiling.unsigned_abs()));
        assert!(noise[..80].iter().any(|s| s.unsigned_abs() > 25_000), "and it is still loud");
    }

    #[test]
    fn how_the_stream_is_cut_does_not_change_it() {
        let (mut whole, mut parts) = (tone(-30.0, 2), tone(-30.0, 2));
        Agc::new(8000, Config::default()).process(&mut whole);
        let mut agc = Agc::new(8000, Config::default());
        parts.chunks_mut(37).for_each(|frame| agc.process(frame));
        assert!(whole == parts);
    }
}
