//! G.722: 16 kHz audio in 64 kbit/s, one octet for two samples (ITU-T G.722, RFC 3551 §4.5.2).
//!
//! ```text
//! pcm 16 kHz ─▶ Analysis ─┬─ lower band 8 kHz ─▶ Lower: 6 bits ─┬─▶ octet: hhllllll
//!                         └─ higher band 8 kHz ▶ Higher: 2 bits ┘
//! ```
//! Bit-exact with the ITU-T Software Tool Library: 64 kbit/s encoding, and decoding in all three [`Mode`]s. By an
//! error in RFC 1890 that its successors kept, the RTP clock runs at 8 kHz.

mod band;
mod qmf;
mod tables;

use super::{CodecError, CodecSpec, Decoder, Encoder, Registry, fitting};
use band::{Higher, Lower};
use qmf::{Analysis, PIECE, Synthesis};

/// G.722, static payload type 9 (RFC 3551 §6).
pub const G722: CodecSpec =
    CodecSpec { name: "G722", payload_type: 9, clock_rate: 8000, sample_rate: 16_000, channels: 1, fmtp: "" };

/// How many of an octet's bits are audio. On RTP it is always all of them; the lower rates leave the lowest bits of
/// each octet to other data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Eight bits: mode 1.
    #[default]
    Kbit64,
    /// Seven bits: mode 2.
    Kbit56,
    /// Six bits: mode 3.
    Kbit48,
}

/// Adds G.722.
pub fn register(registry: &mut Registry) {
    registry.register(G722, |_| Ok(Box::new(G722Encoder::new())), |_| Ok(Box::new(G722Decoder::default())));
}

/// Encodes at 64 kbit/s.
#[derive(Clone, Debug)]
pub struct G722Encoder {
    analysis: Analysis,
    lower: Lower,
    higher: Higher,
}

impl G722Encoder {
    /// At the start of a stream.
    pub const fn new() -> Self {
        Self { analysis: Analysis::new(), lower: Lower::new(), higher: Higher::new() }
    }
}

impl Default for G722Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder for G722Encoder {
    fn spec(&self) -> CodecSpec {
        G722
    }

    fn encode(&mut self, pcm: &[i16], out: &mut [u8]) -> Result<usize, CodecError> {
        if !pcm.len().is_multiple_of(2) {
            return Err(CodecError::FrameLength { codec: G722.name, samples: pcm.len() });
        }
        let octets = pcm.len() / 2;
        let out = fitting(out, octets)?;
        let mut bands = [(0, 0); PIECE];
        for (pcm, out) in pcm.chunks(2 * PIECE).zip(out.chunks_mut(PIECE)) {
            self.analysis.split(pcm, &mut bands);
            for (octet, &(lower, higher)) in out.iter_mut().zip(&bands) {
                *octet = self.higher.encode(higher) << 6 | self.lower.encode(lower);
            }
        }
        Ok(octets)
    }
}

/// Decodes in one [`Mode`].
#[derive(Clone, Debug)]
pub struct G722Decoder {
    mode: Mode,
    lower: Lower,
    higher: Higher,
    synthesis: Synthesis,
}

impl G722Decoder {
    /// At the start of a stream.
    pub const fn new(mode: Mode) -> Self {
        Self { mode, lower: Lower::new(), higher: Higher::new(), synthesis: Synthesis::new() }
    }

    #[inline(always)]
    fn bands(&mut self, payload: &[u8], bands: &mut [(i16, i16)], mode: Mode) {
        for (band, &octet) in bands.iter_mut().zip(payload) {
            *band = (self.lower.decode(octet, mode), self.higher.decode(octet >> 6));
        }
    }
}

impl Default for G722Decoder {
    fn default() -> Self {
        Self::new(Mode::default())
    }
}

impl Decoder for G722Decoder {
    fn spec(&self) -> CodecSpec {
        G722
    }

    fn duration(&self, payload: &[u8]) -> u32 {
        u32::try_from(payload.len()).unwrap_or(u32::MAX)
    }

    fn decode(&mut self, payload: &[u8], out: &mut [i16]) -> Result<usize, CodecError> {
        let samples = 2 * payload.len();
        let out = fitting(out, samples)?;
        let mut bands = [(0, 0); PIECE];
        for (payload, out) in payload.chunks(PIECE).zip(out.chunks_mut(2 * PIECE)) {
            let bands = &mut bands[..payload.len()];
            match self.mode {
                Mode::Kbit64 => self.bands(payload, bands, Mode::Kbit64),
                Mode::Kbit56 => self.bands(payload, bands, Mode::Kbit56),
                Mode::Kbit48 => self.bands(payload, bands, Mode::Kbit48),
            }
            self.synthesis.join(bands, out);
        }
        Ok(samples)
    }

    fn reset(&mut self) {
        *self = Self::new(self.mode);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sixty milliseconds each of a tone, noise, full-scale square, silence, an alternation and a step.
    fn signal() -> Vec<i16> {
        let mut random = fastrand::Rng::with_seed(5);
        let mut pcm = Vec::new();
        pcm.extend((0..960).map(|n| ((n * n % 977) * 30 - 14_000) as i16));
        pcm.extend((0..960).map(|_| random.i16(..)));
        pcm.extend((0..960).map(|n| if n / 20 % 2 == 0 { i16::MAX } else { i16::MIN }));
        pcm.extend([0; 960]);
        pcm.extend((0..960).map(|n| if n % 2 == 0 { i16::MIN } else { i16::MAX }));
        pcm.extend([i16::MAX; 960]);
        pcm
    }

    /// FNV-1a.
    fn digest(octets: impl Iterator<Item = u8>) -> u64 {
        octets.fold(0xCBF2_9CE4_8422_2325, |hash, octet| {
            (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01B3)
        })
    }

    fn decoded(octets: &[u8], mode: Mode) -> Vec<i16> {
        let mut pcm = vec![0; 2 * octets.len()];
        assert_eq!(G722Decoder::new(mode).decode(octets, &mut pcm), Ok(pcm.len()));
        pcm
    }

    fn encoded(pcm: &[i16]) -> Vec<u8> {
        let mut octets = vec![0; pcm.len() / 2];
        assert_eq!(G722Encoder::new().encode(pcm, &mut octets), Ok(octets.len()));
        octets
    }

    /// The values are of the code that was exact with the vectors of the ITU-T, which are not in the repository.
    #[test]
    fn the_codes_and_samples_of_a_hard_signal_stay_as_they_are() {
        let octets = encoded(&signal());
        let samples = [Mode::Kbit64, Mode::Kbit56, Mode::Kbit48]
            .map(|mode| digest(decoded(&octets, mode).into_iter().flat_map(i16::to_le_bytes)));
        let expected = (
            13_166_660_808_590_499_529,
            [3_108_625_915_055_950_538, 1_391_096_231_127_847_722, 6_204_522_316_414_655_037],
        );
        assert_eq!((digest(octets.into_iter()), samples), expected);
    }

    #[test]
    fn random_octets_saturate_and_never_wrap() {
        let mut random = fastrand::Rng::with_seed(6);
        let octets: Vec<u8> = (0..20_000).map(|_| random.u8(..)).collect();
        for mode in [Mode::Kbit64, Mode::Kbit56, Mode::Kbit48] {
            decoded(&octets, mode); // overflow checks are on in tests
        }
    }

    #[test]
    fn an_octet_is_two_samples_and_a_unit_of_the_clock() {
        let mut decoder = G722Decoder::default();
        assert_eq!((decoder.duration(&[0; 160]), G722.duration(20), G722.samples(20)), (160, 160, 320));
        assert_eq!(decoder.decode(&[], &mut []), Ok(0));
        let error = G722Encoder::new().encode(&[0; 3], &mut [0; 2]).unwrap_err();
        assert_eq!(error, CodecError::FrameLength { codec: "G722", samples: 3 });
        assert!(decoder.decode(&[0; 4], &mut [0; 7]).is_err());
    }
}
