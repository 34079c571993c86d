//! Notes to speak with, and an ear for speech: energy above a floor, held for a while.

use std::time::Duration;

use iqra_media::conversation::AudioFormat;
use iqra_media::pcm::tone::Tone;

/// What both parties of the demo hear and speak.
pub const FORMAT: AudioFormat = AudioFormat::HZ_16000;
/// The same in samples per second.
pub const RATE: u32 = 16_000;

/// The agent's greeting, from its first to its last note, in Hz.
pub const GREETING: [f64; 4] = [523.25, 659.25, 783.99, 1046.5];
/// What the agent answers when the caller has spoken.
pub const ANSWER: f64 = 880.0;
/// What the caller speaks.
pub const CALLER: f64 = 600.0;
/// What the agent confirms a key with.
pub const KEY: f64 = 1320.0;

/// A note of this pitch and length at a third of full scale.
pub fn note(hz: f64, length: Duration) -> Vec<i16> {
    let mut samples = vec![0; (length.as_millis() * u128::from(RATE) / 1000) as usize];
    Tone::new(hz, RATE, 10_000).fill(&mut samples);
    samples
}

/// The whole greeting, `seconds` long.
pub fn greeting(seconds: u32) -> Vec<i16> {
    let each = Duration::from_millis(250);
    GREETING.iter().cycle().take(seconds as usize * 4).flat_map(|hz| note(*hz, each)).collect()
}

/// Tells when speech starts and when it has ended.
#[derive(Debug, Default)]
pub struct Ear {
    speaking: bool,
    loud: u32,
    quiet: u32,
}

/// What changed with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Speech began: 60 ms of it have been heard.
    Started,
    /// Speech ended: 300 ms of silence have been heard.
    Ended,
}

impl Ear {
    const FLOOR: i64 = 600;
    const START_MS: u32 = 60;
    const END_MS: u32 = 300;

    /// Listens to a frame at [`RATE`].
    pub fn listen(&mut self, frame: &[i16]) -> Option<Change> {
        let ms = frame.len() as u32 * 1000 / RATE;
        if Self::is_loud(frame) {
            self.loud += ms;
            self.quiet = 0;
        } else {
            self.quiet += ms;
            self.loud = 0;
        }
        if !self.speaking && self.loud >= Self::START_MS {
            self.speaking = true;
            return Some(Change::Started);
        }
        if self.speaking && self.quiet >= Self::END_MS {
            self.speaking = false;
            return Some(Change::Ended);
        }
        None
    }

    /// Whether the frame's RMS level is above the floor (about -35 dBFS).
    pub fn is_loud(frame: &[i16]) -> bool {
        let energy: i64 = frame.iter().map(|s| i64::from(*s) * i64::from(*s)).sum();
        energy > Self::FLOOR * Self::FLOOR * frame.len().max(1) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speech_is_heard_to_start_and_to_end() {
        let mut ear = Ear::default();
        let loud = note(CALLER, Duration::from_millis(20));
        let quiet = vec![0i16; loud.len()];
        let started = (1..).find(|_| ear.listen(&loud) == Some(Change::Started));
        let ended = (1..).find(|_| ear.listen(&quiet) == Some(Change::Ended));
        assert_eq!((started, ended), (Some(3), Some(15)));
    }

    #[test]
    fn a_click_is_not_speech() {
        let mut ear = Ear::default();
        let loud = note(CALLER, Duration::from_millis(20));
        for _ in 0..50 {
            assert_eq!(ear.listen(&loud), None);
            assert_eq!(ear.listen(&vec![0; 320]), None);
        }
    }
}
