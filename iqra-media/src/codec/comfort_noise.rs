//! Comfort noise: what a far side without voice sends of its background, instead of audio (RFC 3389).
//!
//! A description (SID) is one octet of level, and optionally the shape of its spectrum as reflection coefficients, one
//! octet each. [`Generator`] turns it into noise for the gap, [`describe`] makes one of the level alone. The
//! background is noise through an all-pole lattice filter, with a power that the level names in dB below an overload.

/// Static payload type at 8 kHz (RFC 3551 §6).
pub const PAYLOAD_TYPE: u8 = 13;
/// RTP clock rate of the static payload type in Hz.
pub const CLOCK_RATE: u32 = 8_000;
/// Reflection coefficients that are used: a decoder may leave out the higher ones (RFC 3389 §3).
pub const MAX_ORDER: usize = 12;

/// Level in dB below overload at which noise is no longer told from silence.
const SILENT: u8 = 127;
/// A reflection coefficient's step, in 2^-15 (RFC 3389 §3.2). What is sent has the sign of linear prediction's
/// whitening filter, whose first coefficient is near -1 for dull noise; the lattice here adds where that one subtracts.
const REFLECTION_STEP: i32 = 258;
/// Fractional bits of reflection coefficients and gains.
const FRACTION: u32 = 15;
/// What 0 dBov is here: the root mean square of a square wave at full scale.
const OVERLOAD: f64 = 32_767.0;
/// Root of the mean square of the generator's excitation, uniform in -32768..=32767.
const EXCITATION: f64 = 18_918.6;

/// Makes noise as described last.
#[derive(Clone, Debug)]
pub struct Generator {
    reflections: [i32; MAX_ORDER],
    order: usize,
    /// Factor of the excitation.
    gain: i32,
    /// The lattice's delayed backward errors.
    delayed: [i32; MAX_ORDER + 1],
    /// Of the excitation.
    random: u32,
}

impl Generator {
    /// Silence until something is described.
    pub const fn new() -> Self {
        Self {
            reflections: [0; MAX_ORDER],
            order: 0,
            gain: 0,
            delayed: [0; MAX_ORDER + 1],
            random: 0x2545_F491,
        }
    }

    /// Takes the payload of a comfort noise packet; `false` for an empty one, which changes nothing.
    pub fn describe(&mut self, payload: &[u8]) -> bool {
        let Some((&level, coefficients)) = payload.split_first() else { return false };
        self.order = coefficients.len().min(MAX_ORDER);
        for (reflection, &octet) in self.reflections.iter_mut().zip(coefficients) {
            *reflection = (127 - i32::from(octet.min(254))) * REFLECTION_STEP;
        }
        self.gain = self.gain_for(level & 0x7F);
        true
    }

    /// Fills a stretch of the gap, at any sample rate.
    pub fn fill(&mut self, pcm: &mut [i16]) {
        for sample in pcm {
            *sample = self.next();
        }
    }

    /// What makes the filtered excitation as strong as the level says: the filter alone amplifies it by the inverse of
    /// what the reflections leave, 1 - k² each.
    fn gain_for(&self, level: u8) -> i32 {
        if level == SILENT {
            return 0;
        }
        let unit = f64::from(1 << FRACTION);
        let left: f64 =
            self.reflections[..self.order].iter().map(|&k| 1.0 - (f64::from(k) / unit).powi(2)).product();
        let wanted = OVERLOAD * 10f64.powf(-f64::from(level) / 20.0);
        (wanted / EXCITATION * left.sqrt() * unit) as i32
    }

    /// One sample: from the last stage of the lattice to the first.
    fn next(&mut self) -> i16 {
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let excitation = (self.random >> 16) as i16;
        let mut forward = scaled(i32::from(excitation), self.gain);
        for stage in (0..self.order).rev() {
            let (k, delayed) = (self.reflections[stage], self.delayed[stage]);
            forward = clipped(forward + scaled(delayed, k));
            self.delayed[stage + 1] = clipped(delayed - scaled(forward, k));
        }
        self.delayed[0] = forward;
        forward.clamp(i16::MIN.into(), i16::MAX.into()) as i16
    }
}

impl Default for Generator {
    fn default() -> Self {
        Self::new()
    }
}

/// A description of these samples' level, without a spectrum: the payload of a comfort noise packet.
pub fn describe(pcm: &[i16]) -> [u8; 1] {
    let energy: f64 = pcm.iter().map(|&s| f64::from(s).powi(2)).sum();
    let rms = (energy / pcm.len().max(1) as f64).sqrt();
    let below = 20.0 * (OVERLOAD / rms.max(0.01)).log10();
    [below.round().clamp(0.0, SILENT.into()) as u8]
}

fn scaled(value: i32, factor: i32) -> i32 {
    ((i64::from(value) * i64::from(factor)) >> FRACTION) as i32
}

/// Far beyond what is audible, and within what the lattice's sums can hold.
fn clipped(value: i32) -> i32 {
    value.clamp(-(1 << 24), 1 << 24)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(payload: &[u8]) -> Vec<i16> {
        let (mut generator, mut pcm) = (Generator::new(), vec![0; 16_000]);
        assert!(generator.describe(payload));
        generator.fill(&mut pcm);
        pcm
    }

    /// Correlation of neighbours: 0 for white noise, near 1 for a dull one, near -1 for a sharp one.
    fn colour(pcm: &[i16]) -> f64 {
        let product = |lag: usize| -> f64 {
            pcm[lag..].iter().zip(pcm).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
        };
        product(1) / product(0)
    }

    #[test]
    fn noise_has_the_level_that_was_described_whatever_its_spectrum() {
        for spectrum in [&[][..], &[60], &[200], &[30, 200, 90, 150], &[127; 20]] {
            for level in [10, 25, 40, 60] {
                let payload = [&[level], spectrum].concat();
                let heard = describe(&noise(&payload))[0];
                assert!(heard.abs_diff(level) <= 1, "{payload:?}: {heard}");
            }
        }
    }

    #[test]
    fn the_first_coefficient_colours_the_noise() {
        assert!(colour(&noise(&[30])).abs() < 0.05);
        let (one, other) = (colour(&noise(&[30, 20])), colour(&noise(&[30, 234])));
        assert!(one.abs() > 0.6 && other.abs() > 0.6 && one.signum() != other.signum(), "{one} {other}");
    }

    /// As ffmpeg's encoder describes brown noise, in which neighbours correlate by 0.98.
    #[test]
    fn dull_noise_of_another_encoder_comes_out_dull() {
        let colour = colour(&noise(&[35, 3, 120, 130, 139, 106, 124, 131, 129, 129, 143]));
        assert!(colour > 0.95, "{colour}");
    }

    #[test]
    fn a_description_of_nothing_changes_nothing() {
        let (mut generator, mut pcm) = (Generator::new(), [1; 80]);
        assert!(!generator.describe(&[]));
        generator.fill(&mut pcm);
        assert_eq!(pcm, [0; 80]);
    }

    #[test]
    fn extremes_stay_in_their_bounds() {
        for octet in [0, 1, 127, 254, 255] {
            for level in [0, 127, 128, 255] {
                noise(&[&[level], &[octet; 12][..]].concat());
            }
        }
        assert_eq!(noise(&[127, 0, 0]), vec![0; 16_000]);
    }

    #[test]
    fn levels_are_in_decibels_below_overload() {
        assert_eq!(describe(&[32_767; 160]), [0]);
        assert_eq!(describe(&[-3_277; 160]), [20]);
        assert_eq!(describe(&[0; 160]), [127]);
        assert_eq!(describe(&[]), [127]);
    }
}
