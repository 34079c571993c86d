//! L16: samples as they are, 16 bits in network order (RFC 3551 §4.5.11).
//!
//! Between machines that speak it, nothing is lost and no time spent; it needs 16 bits a sample. Payload types are
//! dynamic here. The static ones 10 and 11 are of 44.1 kHz, which no packet time divides evenly: not supported.
//!
//! A packet of 20 ms is longer than [`LONGEST_PAYLOAD`] at 48 kHz, so [`Encoder::packet_time`] is 10 ms there. SDP that
//! lists L16 asks for no longer packets either, of any codec of its m-line, since one `a=maxptime` is for all of them.

use super::{CodecError, CodecSpec, Decoder, Encoder, LONGEST_PAYLOAD, Registry, fitting, simd};

/// At 8 kHz.
pub const HZ_8000: CodecSpec =
    CodecSpec { name: "L16", payload_type: 112, clock_rate: 8000, sample_rate: 8000, channels: 1, fmtp: "" };
/// At 16 kHz.
pub const HZ_16000: CodecSpec = at(113, 16_000);
/// At 24 kHz.
pub const HZ_24000: CodecSpec = at(114, 24_000);
/// At 48 kHz.
pub const HZ_48000: CodecSpec = at(115, 48_000);

const fn at(payload_type: u8, rate: u32) -> CodecSpec {
    CodecSpec { payload_type, clock_rate: rate, sample_rate: rate, ..HZ_8000 }
}

/// Adds L16 at 16, 24, 48 and 8 kHz, in this order. It is not in [`Registry::default`]: it takes four times the
/// network of G.711, so whoever offers it should mean it.
pub fn register(registry: &mut Registry) {
    for spec in [HZ_16000, HZ_24000, HZ_48000, HZ_8000] {
        registry.register(spec, move |_| Ok(Box::new(L16::new(spec))), move |_| Ok(Box::new(L16::new(spec))));
    }
}

/// The longest packet time in milliseconds, in steps of 10, of which the payload fits [`LONGEST_PAYLOAD`].
pub fn longest_packet_time(spec: &CodecSpec) -> u8 {
    let octets_of_10_ms = (2 * spec.samples(10)).max(1);
    u8::try_from(LONGEST_PAYLOAD / octets_of_10_ms * 10).unwrap_or(u8::MAX)
}

/// Encoder and decoder of one rate. Without state between frames.
#[derive(Clone, Copy, Debug)]
pub struct L16 {
    spec: CodecSpec,
}

impl L16 {
    /// For one of this module's specs, or another one of linear samples.
    pub const fn new(spec: CodecSpec) -> Self {
        Self { spec }
    }

    /// Samples of all channels in a payload; a part of one at its end is left out.
    fn samples(&self, payload: &[u8]) -> usize {
        let channels = usize::from(self.spec.channels.max(1));
        payload.len() / 2 / channels * channels
    }
}

impl Encoder for L16 {
    fn spec(&self) -> CodecSpec {
        self.spec
    }

    fn encode(&mut self, pcm: &[i16], out: &mut [u8]) -> Result<usize, CodecError> {
        let out = fitting(out, 2 * pcm.len())?;
        simd::map(pcm, out.as_chunks_mut::<2>().0, i16::to_be_bytes);
        Ok(out.len())
    }

    fn packet_time(&self, wanted_ms: u8) -> u8 {
        wanted_ms.min(longest_packet_time(&self.spec))
    }
}

impl Decoder for L16 {
    fn spec(&self) -> CodecSpec {
        self.spec
    }

    fn duration(&self, payload: &[u8]) -> u32 {
        let units = self.samples(payload) / usize::from(self.spec.channels.max(1));
        u32::try_from(units).unwrap_or(u32::MAX)
    }

    fn decode(&mut self, payload: &[u8], out: &mut [i16]) -> Result<usize, CodecError> {
        let out = fitting(out, self.samples(payload))?;
        simd::map(payload.as_chunks::<2>().0, out, i16::from_be_bytes);
        Ok(out.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_travel_in_network_order_and_unchanged() {
        let (mut codec, mut octets, mut back) = (L16::new(HZ_16000), [0; 6], [0; 3]);
        assert_eq!(codec.encode(&[0x1234, -2, i16::MIN], &mut octets), Ok(6));
        assert_eq!(octets, [0x12, 0x34, 0xFF, 0xFE, 0x80, 0x00]);
        assert_eq!(codec.duration(&octets), 3);
        assert_eq!(codec.decode(&octets, &mut back), Ok(3));
        assert_eq!(back, [0x1234, -2, i16::MIN]);
    }

    #[test]
    fn an_odd_octet_at_the_end_is_left_out() {
        let mut codec = L16::new(HZ_8000);
        assert_eq!((codec.duration(&[1, 2, 3]), codec.decode(&[1, 2, 3], &mut [0; 2])), (1, Ok(1)));
        assert_eq!((codec.duration(&[1]), codec.decode(&[1], &mut [])), (0, Ok(0)));
        let mut stereo = L16::new(CodecSpec { channels: 2, ..HZ_8000 });
        assert_eq!((stereo.duration(&[0; 6]), stereo.decode(&[0; 6], &mut [0; 4])), (1, Ok(2)));
    }

    #[test]
    fn packets_fit_the_path() {
        for (spec, longest) in [(HZ_8000, 70), (HZ_16000, 30), (HZ_24000, 20), (HZ_48000, 10)] {
            assert_eq!(longest_packet_time(&spec), longest, "{spec:?}");
            let mut codec = L16::new(spec);
            let used = codec.packet_time(20);
            assert_eq!(used, longest.min(20));
            let mut payload = [0; LONGEST_PAYLOAD];
            let pcm = vec![1; spec.samples(used.into())];
            assert_eq!(codec.encode(&pcm, &mut payload), Ok(2 * pcm.len()), "{spec:?}");
        }
    }

    #[test]
    fn a_short_output_is_refused() {
        let error = L16::new(HZ_8000).encode(&[0; 80], &mut [0; 159]).unwrap_err();
        assert_eq!(error, CodecError::OutputTooSmall { needed: 160, available: 159 });
        assert!(L16::new(HZ_8000).decode(&[0; 160], &mut [0; 79]).is_err());
    }
}
