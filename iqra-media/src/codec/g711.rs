//! G.711: 8 kHz companding, PCMU (µ-law) and PCMA (A-law), one byte per sample (ITU-T G.711, RFC 3551 §4.5.14).
//!
//! Bit-exact with the ITU-T Software Tool Library. Both laws keep four bits below the leading one of the magnitude
//! and the place of that one. A small integer converted to `f32` has exactly this in the bits of its float form
//! (exponent, then mantissa), so the encoder needs neither a search for the segment nor a branch, and the compiler
//! turns the loop into vector code. The decoder shifts the mantissa into its segment, in vectors as well.

use super::{CodecError, CodecSpec, Decoder, Encoder, Registry, fitting, simd};

/// µ-law, static payload type 0 (RFC 3551 §6).
pub const PCMU: CodecSpec =
    CodecSpec { name: "PCMU", payload_type: 0, clock_rate: 8000, sample_rate: 8000, channels: 1, fmtp: "" };

/// A-law, static payload type 8 (RFC 3551 §6).
pub const PCMA: CodecSpec = CodecSpec { name: "PCMA", payload_type: 8, ..PCMU };

/// The byte of silence in µ-law.
pub const ULAW_SILENCE: u8 = 0xFF;
/// The byte of silence in A-law.
pub const ALAW_SILENCE: u8 = 0xD5;

/// An `f32` shifted right by this keeps its exponent and the four highest mantissa bits.
const SEGMENT_SHIFT: u32 = 23 - 4;
/// Exponent of an `f32` holding 1.0.
const F32_BIAS: i32 = 127;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Law {
    Mu,
    A,
}

/// Encoder and decoder of one law. Without state between frames.
#[derive(Clone, Copy, Debug)]
pub struct G711 {
    law: Law,
}

impl G711 {
    /// µ-law (PCMU).
    pub const fn ulaw() -> Self {
        Self { law: Law::Mu }
    }

    /// A-law (PCMA).
    pub const fn alaw() -> Self {
        Self { law: Law::A }
    }

    const fn codec(self) -> CodecSpec {
        match self.law {
            Law::Mu => PCMU,
            Law::A => PCMA,
        }
    }
}

/// Adds PCMU, then PCMA.
pub fn register(registry: &mut Registry) {
    registry.register(PCMU, |_| Ok(Box::new(G711::ulaw())), |_| Ok(Box::new(G711::ulaw())));
    registry.register(PCMA, |_| Ok(Box::new(G711::alaw())), |_| Ok(Box::new(G711::alaw())));
}

impl Encoder for G711 {
    fn spec(&self) -> CodecSpec {
        self.codec()
    }

    fn encode(&mut self, pcm: &[i16], out: &mut [u8]) -> Result<usize, CodecError> {
        let out = fitting(out, pcm.len())?;
        match self.law {
            Law::Mu => encode_ulaw(pcm, out),
            Law::A => encode_alaw(pcm, out),
        }
        Ok(pcm.len())
    }
}

impl Decoder for G711 {
    fn spec(&self) -> CodecSpec {
        self.codec()
    }

    fn duration(&self, payload: &[u8]) -> u32 {
        u32::try_from(payload.len()).unwrap_or(u32::MAX)
    }

    fn decode(&mut self, payload: &[u8], out: &mut [i16]) -> Result<usize, CodecError> {
        let out = fitting(out, payload.len())?;
        match self.law {
            Law::Mu => decode_ulaw(payload, out),
            Law::A => decode_alaw(payload, out),
        }
        Ok(payload.len())
    }
}

/// Encodes as many samples as the shorter slice holds.
pub fn encode_ulaw(pcm: &[i16], out: &mut [u8]) {
    simd::map(pcm, out, ulaw);
}

/// Encodes as many samples as the shorter slice holds.
pub fn encode_alaw(pcm: &[i16], out: &mut [u8]) {
    simd::map(pcm, out, alaw);
}

/// Decodes as many bytes as the shorter slice holds.
pub fn decode_ulaw(payload: &[u8], out: &mut [i16]) {
    simd::map(payload, out, expand_ulaw);
}

/// Decodes as many bytes as the shorter slice holds.
pub fn decode_alaw(payload: &[u8], out: &mut [i16]) {
    simd::map(payload, out, expand_alaw);
}

/// Magnitude in one's complement, as the STL takes it: -1 and 0 share a code.
#[inline(always)]
fn magnitude(sample: i16) -> i32 {
    i32::from(sample ^ (sample >> 15))
}

/// 0x80 for samples from 0 up.
#[inline(always)]
fn positive_bit(sample: i16) -> i32 {
    i32::from(!sample >> 15) & 0x80
}

/// Place of the leading one (counted from bit `first`) and the four bits below it: `segment << 4 | mantissa`.
#[inline(always)]
fn segment_and_mantissa(value: i32, first: i32) -> i32 {
    ((value as f32).to_bits() >> SEGMENT_SHIFT) as i32 - ((F32_BIAS + first) << 4)
}

/// 14-bit magnitude plus bias 33, so that each of the eight segments starts at a power of two from 2^5.
#[inline(always)]
fn ulaw(sample: i16) -> u8 {
    let biased = ((magnitude(sample) >> 2) + 33).min(0x1FFF);
    (positive_bit(sample) | (0x7F - segment_and_mantissa(biased, 5))) as u8
}

/// 12-bit magnitude; below 32 the code is linear, above it each segment doubles the step.
#[inline(always)]
fn alaw(sample: i16) -> u8 {
    let linear = magnitude(sample) >> 4;
    let code = if linear < 32 { linear } else { segment_and_mantissa(linear, 3) };
    ((positive_bit(sample) | code) ^ 0x55) as u8
}

/// Middle of the interval: (2 mantissa + 33) << segment, without the bias, in 16-bit scale.
#[inline(always)]
fn expand_ulaw(byte: u8) -> i16 {
    let code = i32::from(!byte);
    let magnitude = (((2 * (code & 0xF) + 33) << (code >> 4 & 7)) - 33) << 2;
    signed(magnitude, -(code >> 7))
}

/// Middle of the interval; segments 0 and 1 have the same step, and only from 1 up there is a leading one.
#[inline(always)]
fn expand_alaw(byte: u8) -> i16 {
    let code = i32::from(byte ^ 0xD5);
    let (segment, mantissa) = (code >> 4 & 7, code & 0xF);
    let leading = i32::from(segment > 0);
    let magnitude = (2 * mantissa + 1 + (leading << 5)) << (segment - leading) << 3;
    signed(magnitude, -(code >> 7))
}

/// The value itself for a mask of 0, its negative for -1.
#[inline(always)]
fn signed(magnitude: i32, mask: i32) -> i16 {
    ((magnitude ^ mask) - mask) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The upper end of each µ-law segment in 14-bit scale, with bias (G.711 table 2a).
    const ULAW_ENDS: [i32; 8] = [0x3F, 0x7F, 0xFF, 0x1FF, 0x3FF, 0x7FF, 0xFFF, 0x1FFF];
    /// The upper end of each A-law segment in 12-bit scale (G.711 table 1a).
    const ALAW_ENDS: [i32; 8] = [0xF, 0x1F, 0x3F, 0x7F, 0xFF, 0x1FF, 0x3FF, 0x7FF];

    fn all_samples() -> impl Iterator<Item = i16> {
        i16::MIN..=i16::MAX
    }

    fn one_complement(sample: i16) -> i32 {
        if sample < 0 { -1 - i32::from(sample) } else { i32::from(sample) }
    }

    fn ulaw_by_search(sample: i16) -> u8 {
        let biased = (one_complement(sample) / 4 + 33).min(0x1FFF);
        let segment = ULAW_ENDS.iter().position(|&end| biased <= end).unwrap() as i32;
        let mantissa = (biased >> (segment + 1)) & 0xF;
        let sign = if sample >= 0 { 0x80 } else { 0 };
        sign | ((7 - segment) << 4 | (15 - mantissa)) as u8
    }

    fn alaw_by_search(sample: i16) -> u8 {
        let linear = one_complement(sample) / 16;
        let segment = ALAW_ENDS.iter().position(|&end| linear <= end).unwrap() as i32;
        let mantissa = (linear >> if segment > 1 { segment - 1 } else { 0 }) & 0xF;
        let sign = if sample >= 0 { 0x80 } else { 0 };
        (sign | (segment << 4 | mantissa) as u8) ^ 0x55
    }

    #[test]
    fn every_sample_encodes_as_the_segment_search_says() {
        for sample in all_samples() {
            assert_eq!(ulaw(sample), ulaw_by_search(sample), "µ-law of {sample}");
            assert_eq!(alaw(sample), alaw_by_search(sample), "A-law of {sample}");
        }
    }

    #[test]
    fn every_path_gives_the_same() {
        let (pcm, codes): (Vec<i16>, Vec<u8>) = (all_samples().collect(), (0..=255).collect());
        for each in [ulaw, alaw] {
            let (mut taken, mut portable) = (vec![0; pcm.len()], vec![0; pcm.len()]);
            simd::map(&pcm, &mut taken, each);
            simd::map_portable(&pcm, &mut portable, each);
            assert_eq!(taken, portable);
        }
        for each in [expand_ulaw, expand_alaw] {
            let (mut taken, mut portable) = ([0; 256], [1; 256]);
            simd::map(&codes, &mut taken, each);
            simd::map_portable(&codes, &mut portable, each);
            assert_eq!(taken, portable);
        }
    }

    #[test]
    fn every_code_survives_decode_and_encode() {
        for byte in 0..=255 {
            let (mu, a) = (expand_ulaw(byte), expand_alaw(byte));
            // Both zeros of µ-law decode to 0, which encodes as the positive one.
            let expected = if byte == 0x7F { ULAW_SILENCE } else { byte };
            assert_eq!(ulaw(mu), expected, "µ-law {byte:#x} -> {mu}");
            assert_eq!(alaw(a), byte, "A-law {byte:#x} -> {a}");
        }
    }

    #[test]
    fn the_ends_of_the_scale_are_those_of_the_recommendation() {
        assert_eq!([expand_ulaw(0x00), expand_ulaw(0x80), expand_ulaw(0xFF)], [-32124, 32124, 0]);
        assert_eq!([expand_alaw(0x2A), expand_alaw(0xAA), expand_alaw(0xD5)], [-32256, 32256, 8]);
        assert_eq!([ulaw(0), alaw(0)], [ULAW_SILENCE, ALAW_SILENCE]);
    }

    #[test]
    fn decoded_samples_are_within_half_a_step() {
        for sample in all_samples().filter(|s| s.unsigned_abs() < 32124) {
            let wide = i32::from(sample);
            for decoded in [expand_ulaw(ulaw(sample)), expand_alaw(alaw(sample))] {
                let error = (i32::from(decoded) - wide).abs();
                assert!(error <= wide.abs() / 32 + 17, "{sample} became {decoded}");
            }
        }
    }

    #[test]
    fn a_short_output_is_refused_and_says_what_it_needs() {
        let error = G711::ulaw().encode(&[0; 160], &mut [0; 80]).unwrap_err();
        assert_eq!(error, CodecError::OutputTooSmall { needed: 160, available: 80 });
        assert!(G711::alaw().decode(&[0; 160], &mut [0; 159]).is_err());
    }

    #[test]
    fn a_frame_round_trips_through_the_traits() {
        let (mut codec, mut bytes, mut samples) = (G711::alaw(), [0; 160], [0; 160]);
        assert_eq!(codec.encode(&[1000; 160], &mut bytes), Ok(160));
        assert_eq!(codec.duration(&bytes), 160);
        assert_eq!(codec.decode(&bytes, &mut samples), Ok(160));
        assert_eq!(samples, [1008; 160]);
    }
}
