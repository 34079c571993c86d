//! Levels: gain, fades and mixing, all saturating.

/// Multiplies every sample by a factor; what exceeds 16 bits is clipped.
pub fn gain(samples: &mut [i16], factor: f32) {
    for sample in samples {
        *sample = scaled(*sample, factor);
    }
}

/// Moves the level in a straight line from factor `from` at the first sample to `to` after the last.
pub fn fade(samples: &mut [i16], from: f32, to: f32) {
    let step = (to - from) / samples.len().max(1) as f32;
    for (at, sample) in samples.iter_mut().enumerate() {
        *sample = scaled(*sample, from + step * at as f32);
    }
}

/// Adds as many samples as the shorter slice holds.
pub fn mix(into: &mut [i16], other: &[i16]) {
    for (sample, &add) in into.iter_mut().zip(other) {
        *sample = sample.saturating_add(add);
    }
}

/// The cast saturates.
fn scaled(sample: i16, factor: f32) -> i16 {
    (f32::from(sample) * factor).round() as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gain_clips_instead_of_wrapping() {
        let mut samples = [100, -100, 30_000, -30_000];
        gain(&mut samples, 2.0);
        assert_eq!(samples, [200, -200, i16::MAX, i16::MIN]);
    }

    #[test]
    fn a_fade_out_falls_evenly_and_its_next_sample_would_be_silent() {
        let mut samples = [1000; 10];
        fade(&mut samples, 1.0, 0.0);
        assert_eq!(samples, [1000, 900, 800, 700, 600, 500, 400, 300, 200, 100]);
        fade(&mut [], 1.0, 0.0);
    }

    #[test]
    fn mixing_saturates_and_keeps_what_has_no_partner() {
        let mut samples = [20_000, 1, 5];
        mix(&mut samples, &[20_000, 2]);
        assert_eq!(samples, [i16::MAX, 3, 5]);
    }
}
