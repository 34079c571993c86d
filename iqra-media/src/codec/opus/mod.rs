//! Opus: voice and music from 6 to 510 kbit/s, with a clock of 48 kHz (RFC 6716, RFC 7587).
//!
//! Opus codes 8 to 48 kHz audio in one stream, and a decoder gives it at whatever rate is asked for: here at the
//! conversation's, in [`Settings::sample_rate`], so that no resampler follows. The rtpmap always says two channels
//! (RFC 7587 §7); what is decoded is mono unless the conversation works with two, and what is sent is mono unless the
//! far side prefers stereo, too. Bitrate, bandwidth, in-band FEC and discontinuous transmission follow the far side's
//! `a=fmtp` ([`Parameters`]).
//!
//! The computing is a [`Backend`]'s. Feature `opus` brings `Libopus`: libopus 1.6, built from source with CMake and
//! the C compiler. Without it [`register`] takes any other backend.

mod backend;
#[cfg(feature = "opus")]
mod libopus;
pub mod packet;
mod parameters;

pub use backend::{Backend, BackendDecoder, BackendEncoder, EncoderSetup};
#[cfg(feature = "opus")]
pub use libopus::Libopus;
pub use parameters::Parameters;

use std::sync::Arc;

use super::{CodecError, CodecSpec, Decoder, Encoder, LONGEST_PAYLOAD, Registry, Settings, fitting};

/// Opus as it is offered: in-band FEC wanted, mono preferred.
pub const OPUS: CodecSpec = CodecSpec {
    name: "opus",
    payload_type: 111,
    clock_rate: 48_000,
    sample_rate: 48_000,
    channels: 2,
    fmtp: "minptime=10;useinbandfec=1",
};

/// Packet times in milliseconds that are one frame each.
const PACKET_TIMES: [u8; 4] = [60, 40, 20, 10];
/// Sample rates in Hz of the PCM side.
const RATES: [u32; 4] = [8_000, 16_000, 24_000, 48_000];
/// A packet of up to so many octets is one that need not be sent.
const UNSENT: usize = 2;

/// How Opus is encoded, as far as the far side leaves it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Effort from 0 to 10. Default 5: half the time of 10, and on voice hard to tell from it.
    pub complexity: u8,
    /// Bit/s on average, 6000 to 510000, at most what the far side wants. Default: by the sample rate, in the middle of
    /// what RFC 7587 §3.1.1 recommends (12 kbit/s at 8 kHz, 20 at 16, 24 at 24 and 32 at 48 kHz, for each channel); where
    /// the far side uses copies of lost frames, what those need beside the whole band (20, 26, 32 and 36 kbit/s). With
    /// less, libopus sends no copies up to 5 % of loss, and beyond that narrows the band to make room for them.
    pub bitrate: Option<u32>,
    /// Packets of a hundred that are lost, until a report tells. Default 5: with 0, no copies would be sent.
    pub expected_loss: u8,
}

impl Default for Config {
    fn default() -> Self {
        Self { complexity: 5, bitrate: None, expected_loss: 5 }
    }
}

/// Adds Opus by this backend.
pub fn register(registry: &mut Registry, backend: impl Backend + 'static, config: Config) {
    let for_encoding = Arc::new(backend);
    let for_decoding = for_encoding.clone();
    registry.register(
        OPUS,
        move |settings| Ok(Box::new(OpusEncoder::new(&*for_encoding, config, settings)?)),
        move |settings| Ok(Box::new(OpusDecoder::new(&*for_decoding, settings)?)),
    );
}

fn pcm_side(settings: &Settings<'_>) -> CodecSpec {
    let sample_rate = if RATES.contains(&settings.sample_rate) { settings.sample_rate } else { 48_000 };
    CodecSpec { sample_rate, channels: settings.channels.clamp(1, 2), ..OPUS }
}

fn setup(config: Config, settings: &Settings<'_>) -> EncoderSetup {
    let (pcm, theirs) = (pcm_side(settings), Parameters::read(settings.fmtp));
    let (usual, with_copies) = match pcm.sample_rate.min(theirs.max_playback_rate) {
        ..16_000 => (12_000, 20_000),
        16_000..24_000 => (20_000, 26_000),
        24_000..48_000 => (24_000, 32_000),
        _ => (32_000, 36_000),
    };
    let usual = if theirs.in_band_fec { with_copies } else { usual };
    let channels = if theirs.stereo { pcm.channels } else { 1 };
    let bitrate = config.bitrate.unwrap_or(usual * u32::from(channels));
    EncoderSetup {
        sample_rate: pcm.sample_rate,
        channels,
        bitrate: bitrate
            .min(theirs.max_average_bitrate.unwrap_or(u32::MAX))
            .clamp(*parameters::BITRATES.start(), *parameters::BITRATES.end()),
        complexity: config.complexity.min(10),
        max_playback_rate: theirs.max_playback_rate,
        constant_bitrate: theirs.constant_bitrate,
        in_band_fec: theirs.in_band_fec,
        dtx: theirs.dtx,
        expected_loss: config.expected_loss.min(100),
    }
}

/// Encodes for a far side with its parameters.
pub struct OpusEncoder {
    spec: CodecSpec,
    dtx: bool,
    longest_ms: u8,
    raw: Box<dyn BackendEncoder>,
}

impl OpusEncoder {
    /// By this backend; the far side's `a=fmtp` decides over what `config` leaves open.
    ///
    /// # Errors
    /// [`CodecError::Library`] when the backend has no such encoder.
    pub fn new(backend: &dyn Backend, config: Config, settings: &Settings<'_>) -> Result<Self, CodecError> {
        let setup = setup(config, settings);
        Ok(Self {
            spec: CodecSpec { channels: setup.channels, ..pcm_side(settings) },
            dtx: setup.dtx,
            longest_ms: Parameters::read(settings.fmtp).max_packet_time_ms.unwrap_or(u8::MAX),
            raw: backend.encoder(&setup)?,
        })
    }
}

impl Encoder for OpusEncoder {
    /// With the rate and channels that are taken in.
    fn spec(&self) -> CodecSpec {
        self.spec
    }

    fn encode(&mut self, pcm: &[i16], out: &mut [u8]) -> Result<usize, CodecError> {
        if !PACKET_TIMES.iter().any(|&ms| self.spec.samples(ms.into()) == pcm.len()) {
            return Err(CodecError::FrameLength { codec: OPUS.name, samples: pcm.len() });
        }
        let most = out.len().min(LONGEST_PAYLOAD);
        let written = self.raw.encode(pcm, &mut out[..most])?;
        Ok(if self.dtx && written <= UNSENT { 0 } else { written })
    }

    fn packet_time(&self, wanted_ms: u8) -> u8 {
        let most = wanted_ms.min(self.longest_ms);
        PACKET_TIMES.into_iter().find(|&ms| ms <= most).unwrap_or(10)
    }

    fn set_expected_loss(&mut self, percent: u8) {
        self.raw.set_expected_loss(percent.min(100));
    }
}

/// Decodes to the conversation's rate.
///
/// Opus makes up audio in pieces of 2.5 ms (RFC 6716 §4.4 leaves it to the decoder, libopus has no shorter ones). Gaps
/// have any length, since the jitter buffer cuts and stretches them: of the last piece the rest waits for the stretch
/// of the gap that follows.
pub struct OpusDecoder {
    spec: CodecSpec,
    raw: Box<dyn BackendDecoder>,
    /// Made up, and not yet asked for.
    spare: Vec<i16>,
}

impl OpusDecoder {
    /// By this backend.
    ///
    /// # Errors
    /// [`CodecError::Library`] when the backend has no such decoder.
    pub fn new(backend: &dyn Backend, settings: &Settings<'_>) -> Result<Self, CodecError> {
        let spec = pcm_side(settings);
        let raw = backend.decoder(spec.sample_rate, spec.channels)?;
        Ok(Self { spec, raw, spare: Vec::with_capacity(piece(&spec)) })
    }

    /// Makes up the end of a stretch that is shorter than a piece.
    fn conceal_part(&mut self, out: &mut [i16]) -> bool {
        self.spare.resize(piece(&self.spec), 0);
        let known = self.raw.conceal(&mut self.spare);
        if known {
            out.copy_from_slice(&self.spare[..out.len()]);
        }
        self.spare.drain(..if known { out.len() } else { self.spare.len() });
        known
    }
}

impl Decoder for OpusDecoder {
    /// With the rate and channels that come out.
    fn spec(&self) -> CodecSpec {
        self.spec
    }

    fn duration(&self, payload: &[u8]) -> u32 {
        packet::duration(payload)
    }

    fn decode(&mut self, payload: &[u8], out: &mut [i16]) -> Result<usize, CodecError> {
        let units = packet::duration(payload);
        if units == 0 {
            return Err(CodecError::Malformed { codec: OPUS.name });
        }
        let samples = units * (self.spec.sample_rate / 1_000) / 48 * u32::from(self.spec.channels);
        let out = fitting(out, samples as usize)?;
        self.spare.clear();
        self.raw.decode(payload, out)
    }

    fn conceal(&mut self, out: &mut [i16]) -> bool {
        let kept = self.spare.len().min(out.len());
        let (first, rest) = out.split_at_mut(kept);
        first.copy_from_slice(&self.spare[..kept]);
        self.spare.drain(..kept);
        let (pieces, end) = rest.split_at_mut(rest.len() - rest.len() % piece(&self.spec));
        (pieces.is_empty() || self.raw.conceal(pieces)) && (end.is_empty() || self.conceal_part(end))
    }

    fn recover(&mut self, next_payload: &[u8], out: &mut [i16]) -> bool {
        self.spare.clear();
        packet::duration(next_payload) > 0 && self.raw.recover(next_payload, out)
    }

    fn reset(&mut self) {
        self.spare.clear();
        self.raw.reset();
    }
}

/// Samples, all channels, of the least that is made up at once: 2.5 ms.
fn piece(spec: &CodecSpec) -> usize {
    spec.sample_rate as usize / 400 * usize::from(spec.channels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup_for(fmtp: &str, sample_rate: u32, channels: u8) -> EncoderSetup {
        setup(Config::default(), &Settings { fmtp, sample_rate, channels, ..Settings::default() })
    }

    #[test]
    fn without_parameters_it_is_mono_at_a_rate_for_voice() {
        for (rate, bitrate) in [(8_000, 12_000), (16_000, 20_000), (24_000, 24_000), (48_000, 32_000)] {
            let setup = setup_for("", rate, 1);
            assert_eq!((setup.sample_rate, setup.channels, setup.bitrate), (rate, 1, bitrate));
            assert!(!setup.in_band_fec && !setup.dtx && !setup.constant_bitrate);
        }
    }

    #[test]
    fn copies_have_room_beside_the_voice() {
        for (rate, bitrate) in [(8_000, 20_000), (16_000, 26_000), (24_000, 32_000), (48_000, 36_000)] {
            assert_eq!(setup_for("useinbandfec=1", rate, 1).bitrate, bitrate);
        }
        assert_eq!(setup_for("useinbandfec=1;maxaveragebitrate=20000", 16_000, 1).bitrate, 20_000);
    }

    #[test]
    fn the_far_side_decides_what_it_receives() {
        let setup =
            setup_for("maxplaybackrate=8000;maxaveragebitrate=9000;useinbandfec=1;usedtx=1;cbr=1", 48_000, 1);
        assert_eq!((setup.bitrate, setup.max_playback_rate), (9_000, 8_000));
        assert!(setup.in_band_fec && setup.dtx && setup.constant_bitrate);
    }

    #[test]
    fn stereo_is_sent_where_both_sides_want_it() {
        assert_eq!(setup_for("stereo=1", 48_000, 2).channels, 2);
        assert_eq!(setup_for("stereo=1", 48_000, 1).channels, 1);
        assert_eq!(setup_for("stereo=0", 48_000, 2).channels, 1);
        assert_eq!(setup_for("stereo=1", 48_000, 2).bitrate, 64_000);
    }

    #[test]
    fn a_rate_that_opus_does_not_have_becomes_48_khz() {
        assert_eq!(setup_for("", 44_100, 1).sample_rate, 48_000);
    }
}
