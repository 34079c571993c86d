//! Where a waveform repeats itself: normalised cross-correlation over the periods of a voice.
//!
//! Searched coarsely on every n-th sample (8 kHz, whatever the rate) and then finely around the best place, so that
//! the cost per search grows with the rate and not with its square.

/// Shortest period of a voice in 8 kHz samples: 2.5 ms, 400 Hz.
pub(super) const SHORTEST: usize = 20;
/// Longest period of a voice in 8 kHz samples: 15 ms, 66 Hz.
pub(super) const LONGEST: usize = 120;

/// How alike two equally long stretches are: 1 for the same shape, 0 for nothing in common, −1 for the inverse. Only
/// every `step`th sample is looked at.
pub(super) fn likeness(a: &[i16], b: &[i16], step: usize) -> f32 {
    let (mut cross, mut energy_a, mut energy_b) = (0.0, 1.0, 1.0);
    for (&a, &b) in a.iter().zip(b).step_by(step.max(1)) {
        let (a, b) = (f32::from(a), f32::from(b));
        cross += a * b;
        energy_a += a * a;
        energy_b += b * b;
    }
    cross / f32::sqrt(energy_a * energy_b)
}

/// The lag among `lags` (in samples) for which `score(lag, step)` is highest, and its score. `factor` is the rate over
/// 8 kHz.
pub(super) fn best_lag(
    lags: std::ops::RangeInclusive<usize>,
    factor: usize,
    score: impl Fn(usize, usize) -> f32,
) -> Option<(usize, f32)> {
    let factor = factor.max(1);
    let (from, to) = (*lags.start(), *lags.end());
    let best = |candidates: &mut dyn Iterator<Item = usize>, step| {
        candidates.map(|lag| (lag, score(lag, step))).max_by(|a, b| a.1.total_cmp(&b.1))
    };
    let (coarse, found) = best(&mut lags.step_by(factor), factor)?;
    if factor == 1 {
        return Some((coarse, found));
    }
    let around = coarse.saturating_sub(factor - 1).max(from)..=(coarse + factor - 1).min(to);
    best(&mut around.into_iter(), 1)
}

/// Root mean square.
pub(super) fn level(samples: &[i16]) -> f32 {
    // Whole numbers may be added in any order, and so many at once.
    let energy: u64 = samples.iter().map(|&sample| u64::from(i32::from(sample).pow(2).unsigned_abs())).sum();
    (energy as f32 / samples.len().max(1) as f32).sqrt()
}

/// From `a` to `b` in a straight line: at position `at` of `length`.
pub(super) fn cross_fade(a: i16, b: i16, at: usize, length: usize) -> i16 {
    let share = (at + 1) as f32 / (length + 1) as f32;
    let (a, b) = (f32::from(a), f32::from(b));
    (a + (b - a) * share).round() as i16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm::tone::Tone;

    #[test]
    fn the_period_of_a_tone_is_found_at_every_rate() {
        for factor in [1, 2, 3, 6] {
            let mut tone = vec![0; 400 * factor];
            Tone::new(100.0, 8000 * factor as u32, 9000).fill(&mut tone);
            let half = 200 * factor;
            let lags = SHORTEST * factor..=LONGEST * factor;
            let score = |lag, step| likeness(&tone[half..], &tone[half - lag..400 * factor - lag], step);
            let (lag, found) = best_lag(lags, factor, score).unwrap();
            assert_eq!(lag, 80 * factor);
            assert!(found > 0.999, "{found}");
        }
    }

    #[test]
    fn likeness_knows_same_inverse_and_nothing() {
        let (a, b) = ([100, -50, 30], [-100, 50, -30]);
        assert!(likeness(&a, &a, 1) > 0.99 && likeness(&a, &b, 1) < -0.99);
        assert!(likeness(&a, &[0; 3], 1).abs() < 0.01);
        let (from, to) = (5, 4);
        assert_eq!(best_lag(from..=to, 1, |_, _| 0.0), None);
    }
}
