//! A sine: test signal, comfort and ring-back tones.

use std::f64::consts::TAU;

/// An endless sine.
#[derive(Clone, Debug)]
pub struct Tone {
    phase: f64,
    step: f64,
    amplitude: f64,
}

impl Tone {
    /// A sine of this frequency and rate in Hz; `amplitude` is its peak.
    pub fn new(frequency: f64, sample_rate: u32, amplitude: i16) -> Self {
        Self { phase: 0.0, step: frequency / f64::from(sample_rate), amplitude: f64::from(amplitude) }
    }

    /// Writes the next samples.
    pub fn fill(&mut self, out: &mut [i16]) {
        for sample in out {
            *sample = (self.amplitude * (self.phase * TAU).sin()).round() as i16;
            self.phase = (self.phase + self.step).fract();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::goertzel::amplitude;

    #[test]
    fn a_tone_goes_on_between_frames_without_a_step() {
        let (mut whole, mut parts) = ([0; 320], [0; 320]);
        Tone::new(440.0, 8000, 10_000).fill(&mut whole);
        let mut tone = Tone::new(440.0, 8000, 10_000);
        parts.chunks_mut(160).for_each(|frame| tone.fill(frame));
        assert_eq!(whole, parts);
    }

    #[test]
    fn a_tone_has_its_frequency_and_level() {
        let mut samples = [0; 8000];
        Tone::new(1000.0, 8000, 12_000).fill(&mut samples);
        assert!((amplitude(&samples, 8000, 1000.0) - 12_000.0).abs() < 10.0);
        assert!(amplitude(&samples, 8000, 1300.0) < 10.0);
    }
}
