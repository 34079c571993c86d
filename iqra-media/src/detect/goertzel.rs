//! Goertzel's algorithm: how much of one frequency is in a stretch of samples.

use std::f64::consts::TAU;

/// Peak amplitude of the sine of this frequency in Hz, in sample units (0 to 32767).
///
/// Frequencies closer together than `sample_rate / samples.len()` are not told apart. 0 for no samples.
pub fn amplitude(samples: &[i16], sample_rate: u32, frequency: f64) -> f64 {
    let coefficient = 2.0 * (TAU * frequency / f64::from(sample_rate)).cos();
    let (mut last, mut before) = (0.0, 0.0);
    for &sample in samples {
        (last, before) = (f64::from(sample) + coefficient * last - before, last);
    }
    let power = last * last + before * before - coefficient * last * before;
    2.0 * power.max(0.0).sqrt() / samples.len().max(1) as f64
}

/// Share of a stretch's power that is one sine, from 0 to 1: near 1 for a clean tone, near 0 for noise or silence.
pub fn purity(samples: &[i16], sample_rate: u32, frequency: f64) -> f64 {
    let total: f64 = samples.iter().map(|&s| f64::from(s).powi(2)).sum::<f64>() / samples.len().max(1) as f64;
    if total == 0.0 {
        return 0.0;
    }
    (amplitude(samples, sample_rate, frequency).powi(2) / 2.0 / total).min(1.0)
}

/// The strongest of these frequencies with its peak amplitude; `None` when there are no samples or no frequencies.
pub fn strongest(samples: &[i16], sample_rate: u32, frequencies: &[f64]) -> Option<(f64, f64)> {
    if samples.is_empty() {
        return None;
    }
    frequencies
        .iter()
        .map(|&frequency| (frequency, amplitude(samples, sample_rate, frequency)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm::level::mix;
    use crate::pcm::tone::Tone;

    fn tone(frequency: f64, amplitude: i16) -> [i16; 1600] {
        let mut samples = [0; 1600];
        Tone::new(frequency, 8000, amplitude).fill(&mut samples);
        samples
    }

    #[test]
    fn the_strongest_of_two_mixed_tones_is_found() {
        let mut samples = tone(440.0, 5000);
        mix(&mut samples, &tone(1000.0, 8000));
        let (frequency, level) = strongest(&samples, 8000, &[350.0, 440.0, 1000.0, 2000.0]).unwrap();
        assert_eq!(frequency, 1000.0);
        assert!((level - 8000.0).abs() < 50.0, "{level}");
    }

    #[test]
    fn purity_tells_a_tone_from_other_sound() {
        let clean = tone(440.0, 5000);
        let mut mixed = clean;
        mix(&mut mixed, &tone(1000.0, 5000));
        assert!(purity(&clean, 8000, 440.0) > 0.999);
        assert!((purity(&mixed, 8000, 440.0) - 0.5).abs() < 0.01);
        assert_eq!(purity(&[0; 160], 8000, 440.0), 0.0);
    }

    #[test]
    fn nothing_has_no_strongest_tone() {
        assert_eq!(strongest(&[], 8000, &[440.0]), None);
        assert_eq!(strongest(&[1], 8000, &[]), None);
    }
}
