//! Levels: gain, fades and mixing, all saturating.

/// The level of a sine that reaches full scale, in dBm0: the largest that A-law carries (ITU-T G.711; 3.17 in µ-law).
// A level that only looks like pi.
#[allow(clippy::approx_constant)]
pub const FULL_SCALE_DBM0: f64 = 3.14;

/// The peak of a sine of this level in dBm0, the unit of levels on a telephone line; not more than full scale.
pub fn peak_of_dbm0(level: f64) -> i16 {
    (32_767.0 * 10f64.powf((level - FULL_SCALE_DBM0) / 20.0)).round() as i16
}

/// The level in dBm0 of a sound with this mean square, in squared sample units; minus infinity for silence.
pub fn dbm0_of_power(mean_square: f64) -> f64 {
    10.0 * (mean_square / (32_767.0 * 32_767.0 / 2.0)).log10() + FULL_SCALE_DBM0
}

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

/// Takes the click out of a cut: what follows `last`, the last sample before the cut, begins there and moves to its own
/// level over the whole slice. For where the sound before the cut is gone and cannot be faded out.
pub fn declick(samples: &mut [i16], last: i16) {
    let Some(&first) = samples.first() else { return };
    let (gap, length) = (f32::from(last) - f32::from(first), samples.len() as f32);
    for (at, sample) in samples.iter_mut().enumerate() {
        // Half a cosine, which has no corner at either end.
        let share = 0.5 + 0.5 * (std::f32::consts::PI * at as f32 / length).cos();
        *sample = (f32::from(*sample) + gap * share).round() as i16;
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
    fn levels_on_the_line_are_those_of_sines() {
        let peak = f64::from(peak_of_dbm0(-10.0));
        assert!((dbm0_of_power(peak * peak / 2.0) + 10.0).abs() < 0.01);
        assert_eq!(peak_of_dbm0(FULL_SCALE_DBM0), 32_767);
        assert_eq!(peak_of_dbm0(40.0), 32_767);
        assert_eq!(dbm0_of_power(0.0), f64::NEG_INFINITY);
    }

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
    fn a_cut_does_not_click() {
        let mut samples = [0; 40];
        declick(&mut samples, 10_000);
        assert_eq!(samples[0], 10_000);
        assert!(samples.windows(2).all(|w| (0..450).contains(&(i32::from(w[0]) - i32::from(w[1])))));
        assert!(samples[39] < 50);
        let mut steady = [500; 10];
        declick(&mut steady, 500);
        assert_eq!(steady, [500; 10]);
        let mut far = [i16::MIN; 3];
        declick(&mut far, i16::MAX);
        assert_eq!(far[0], i16::MAX);
        declick(&mut [], 5);
    }

    #[test]
    fn mixing_saturates_and_keeps_what_has_no_partner() {
        let mut samples = [20_000, 1, 5];
        mix(&mut samples, &[20_000, 2]);
        assert_eq!(samples, [i16::MAX, 3, 5]);
    }
}
