//! The decoders of one call: of the codec in use, and of those that the far end may change to without a word, since its
//! answer lists them (RFC 3264 §7).
//!
//! All are made with the plan, so that a change costs no allocation. In: payloads, each with the number of its codec
//! here. Out: mono samples at the rate of the first one's decoder, which everything behind it works at; another codec
//! with another rate is resampled to it.

use crate::codec::{CodecSpec, Decoder, Registry, Settings};
use crate::pcm::Resampler;
use crate::sdp::Negotiated;

use super::plan::PlanError;

/// The longest frame that is decoded: 120 ms of stereo at 48 kHz.
const MAX_FRAME: usize = 11_520;

/// What a frame was made of that did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MadeOf {
    /// The copy that the packet after it holds.
    Copy,
    /// What the codec makes up.
    Guess,
    /// Nothing: the codec has no concealment.
    Silence,
}

struct Format {
    payload_type: u8,
    /// As negotiated.
    codec: CodecSpec,
    /// What the far end says of it, by its `a=fmtp`.
    fmtp: String,
    decoder: Box<dyn Decoder>,
    /// What the decoder gives.
    decoded: CodecSpec,
    /// To the rate of the first one; `None` where it is the same.
    resampler: Option<Resampler>,
}

pub(super) struct Decoders {
    all: Vec<Format>,
    active: u8,
    raw: Vec<i16>,
}

impl Decoders {
    /// All that the far end may send, for a conversation that hears at `hears` Hz. Of the other codecs those that
    /// `codecs` cannot decode are left out.
    ///
    /// # Errors
    /// [`PlanError`] when the codec in use cannot be decoded.
    pub(super) fn new(negotiated: &Negotiated, hears: u32, codecs: &Registry) -> Result<Self, PlanError> {
        let settings =
            |fmtp| Settings { fmtp, ptime_ms: negotiated.ptime_ms, sample_rate: hears, channels: 1 };
        let decoder = codecs.decoder(&negotiated.codec, &settings(&negotiated.remote_fmtp))?;
        let decoded = decoder.spec();
        let mut all = vec![Format {
            payload_type: negotiated.receive_payload,
            codec: negotiated.codec,
            fmtp: negotiated.remote_fmtp.clone(),
            decoder,
            decoded,
            resampler: None,
        }];
        for other in negotiated.alternatives.iter().take(usize::from(u8::MAX)) {
            let Ok(decoder) = codecs.decoder(&other.codec, &settings(&other.remote_fmtp)) else { continue };
            let spec = decoder.spec();
            all.push(Format {
                payload_type: other.receive_payload,
                codec: other.codec,
                fmtp: other.remote_fmtp.clone(),
                decoder,
                decoded: spec,
                resampler: match spec.sample_rate == decoded.sample_rate {
                    true => None,
                    false => Some(Resampler::new(spec.sample_rate, decoded.sample_rate)?),
                },
            });
        }
        Ok(Self { all, active: 0, raw: Vec::new() })
    }

    /// Takes over what a re-INVITE came to. Where the first codec is what it was its decoder goes on, under its new
    /// number, and the first codec is the active one; else all are new, and `true` is returned.
    pub(super) fn update(&mut self, mut fresh: Self) -> bool {
        let identity = |decoders: &Self| (decoders.first().codec, decoders.first().fmtp.clone());
        let changed = identity(self) != identity(&fresh);
        if !changed {
            std::mem::swap(&mut self.all[0].decoder, &mut fresh.all[0].decoder);
        }
        *self = fresh;
        changed
    }

    fn first(&self) -> &Format {
        &self.all[0]
    }

    fn now(&self) -> &Format {
        &self.all[usize::from(self.active)]
    }

    /// The codec that both use, unless the far end changed to another one.
    pub(super) fn first_codec(&self) -> CodecSpec {
        self.first().codec
    }

    /// The codec that the far end uses now.
    pub(super) fn codec(&self) -> CodecSpec {
        self.now().codec
    }

    /// What comes out: the first decoder's rate and channels.
    pub(super) fn decoded(&self) -> CodecSpec {
        self.first().decoded
    }

    pub(super) fn sample_rate(&self) -> u32 {
        self.decoded().sample_rate
    }

    /// Whether the first codec is the one in use.
    pub(super) fn is_first(&self) -> bool {
        self.active == 0
    }

    /// Which codec a payload type is.
    pub(super) fn find(&self, payload_type: u8) -> Option<u8> {
        let at = self.all.iter().position(|format| format.payload_type == payload_type)?;
        u8::try_from(at).ok()
    }

    pub(super) fn codec_of(&self, format: u8) -> CodecSpec {
        self.all[usize::from(format)].codec
    }

    /// How long a payload of this codec plays, in units of its clock.
    pub(super) fn duration(&self, format: u8, payload: &[u8]) -> u32 {
        self.all[usize::from(format)].decoder.duration(payload)
    }

    /// What plays from here on is of this codec.
    pub(super) fn change_to(&mut self, format: u8) {
        if format != self.active && usize::from(format) < self.all.len() {
            self.active = format;
            self.reset();
        }
    }

    /// Forgets the stream.
    pub(super) fn reset(&mut self) {
        let format = &mut self.all[usize::from(self.active)];
        format.decoder.reset();
        if let Some(resampler) = &mut format.resampler {
            resampler.reset();
        }
    }

    /// Decodes into `pcm`; `false` when the payload was no good.
    pub(super) fn decode(&mut self, payload: &[u8], pcm: &mut Vec<i16>) -> bool {
        let length = self.now().decoder.duration(payload);
        self.into(length, pcm, |decoder, out| {
            let decoded = decoder.decode(payload, out).unwrap_or(0);
            out.truncate(decoded);
            decoded > 0
        })
    }

    /// Fills `pcm` with this many clock units of what was lost: from a copy in the payload that follows, else as the
    /// codec makes it up, else with silence.
    pub(super) fn recover(
        &mut self,
        clock_units: u32,
        next: Option<(u8, &[u8])>,
        pcm: &mut Vec<i16>,
    ) -> MadeOf {
        let next = next.filter(|(format, _)| *format == self.active).map(|(_, payload)| payload);
        let mut made_of = MadeOf::Silence;
        self.into(clock_units, pcm, |decoder, out| {
            if next.is_some_and(|payload| decoder.recover(payload, out)) {
                made_of = MadeOf::Copy;
            } else if decoder.conceal(out) {
                made_of = MadeOf::Guess;
            }
            made_of != MadeOf::Silence
        });
        made_of
    }

    /// Fills `pcm` with this many clock units of silence.
    pub(super) fn be_silent(&self, clock_units: u32, pcm: &mut Vec<i16>) {
        let samples = u64::from(clock_units) * u64::from(self.sample_rate()) / u64::from(self.clock_rate());
        pcm.clear();
        pcm.resize(usize::try_from(samples).unwrap_or(usize::MAX).min(MAX_FRAME), 0);
    }

    fn clock_rate(&self) -> u32 {
        self.codec().clock_rate.max(1)
    }

    /// Has the decoder in use fill a frame with all its channels, and puts it into `pcm`, mono at our rate.
    fn into(
        &mut self,
        clock_units: u32,
        pcm: &mut Vec<i16>,
        fill: impl FnOnce(&mut dyn Decoder, &mut Vec<i16>) -> bool,
    ) -> bool {
        let format = &mut self.all[usize::from(self.active)];
        let frame = if format.resampler.is_some() { &mut self.raw } else { &mut *pcm };
        frame.clear();
        frame.resize(samples_of(format, clock_units).min(MAX_FRAME), 0);
        let filled = fill(format.decoder.as_mut(), frame);
        mix_down(frame, format.decoded.channels);
        if let Some(resampler) = &mut format.resampler {
            pcm.clear();
            resampler.process(&self.raw, pcm);
        }
        filled
    }
}

/// Samples, all channels, that last as long as this many RTP clock units.
fn samples_of(format: &Format, units: u32) -> usize {
    let Format { codec, decoded, .. } = format;
    let per_channel = u64::from(units) * u64::from(decoded.sample_rate) / u64::from(codec.clock_rate.max(1));
    usize::try_from(per_channel).unwrap_or(usize::MAX).saturating_mul(decoded.channels.max(1).into())
}

fn mix_down(pcm: &mut Vec<i16>, channels: u8) {
    if channels == 2 {
        let frames = pcm.len() / 2;
        for at in 0..frames {
            pcm[at] = i16::midpoint(pcm[2 * at], pcm[2 * at + 1]);
        }
        pcm.truncate(frames);
    }
}
