//! The parts that a negotiation calls for: codec and resamplers of one call, made outside the media thread.
//!
//! In: what SDP negotiated and what the conversation hears and speaks. Out: a [`Plan`] for
//! [`MediaSession`](super::MediaSession), at the start of a call and at each re-INVITE.

use std::fmt;

use crate::codec::{CodecError, Decoder, Encoder, Registry, Settings};
use crate::conversation::Formats;
use crate::pcm::{Resampler, UnsupportedRate};
use crate::sdp::Negotiated;

/// Why a negotiation cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The codec was negotiated but is not in the registry.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The codec has a sample rate that is not converted.
    #[error(transparent)]
    Rate(#[from] UnsupportedRate),
}

/// A negotiation with everything that it needs.
pub struct Plan {
    negotiated: Negotiated,
    encoder: Box<dyn Encoder>,
    decoder: Box<dyn Decoder>,
    to_hearing: Resampler,
    to_codec: Resampler,
    formats: Formats,
}

impl Plan {
    /// Makes the parts.
    ///
    /// # Errors
    /// [`PlanError`] when the codec is not in `codecs`, or samples at a rate that is not converted.
    pub fn new(negotiated: Negotiated, formats: Formats, codecs: &Registry) -> Result<Self, PlanError> {
        let (hears, speaks) = (formats.hears.sample_rate(), formats.speaks.sample_rate());
        let encoder = codecs.encoder(&negotiated.codec, &settings(&negotiated, speaks))?;
        let decoder = codecs.decoder(&negotiated.codec, &settings(&negotiated, hears))?;
        Ok(Self {
            to_hearing: Resampler::new(decoder.spec().sample_rate, hears)?,
            to_codec: Resampler::new(speaks, encoder.spec().sample_rate)?,
            encoder,
            decoder,
            negotiated,
            formats,
        })
    }
}

/// What the call asks of the codec. A line is mono.
fn settings(negotiated: &Negotiated, sample_rate: u32) -> Settings<'_> {
    Settings { fmtp: "", ptime_ms: negotiated.ptime_ms, sample_rate, channels: 1 }
}

impl Plan {
    pub(super) fn negotiated(&self) -> &Negotiated {
        &self.negotiated
    }

    /// Sample rates in Hz of the decoder and the encoder.
    pub(super) fn rates(&self) -> (u32, u32) {
        (self.decoder.spec().sample_rate, self.encoder.spec().sample_rate)
    }

    /// What each half of the session needs.
    pub(super) fn into_halves(self) -> (ToReceive, ToSend) {
        let Self { negotiated, encoder, decoder, to_hearing, to_codec, .. } = self;
        let receiving = Parts { negotiated: negotiated.clone(), codec: decoder, resampler: to_hearing };
        (receiving, Parts { negotiated, codec: encoder, resampler: to_codec })
    }
}

/// What one half of the session takes from a plan.
pub(super) struct Parts<C> {
    pub(super) negotiated: Negotiated,
    pub(super) codec: C,
    pub(super) resampler: Resampler,
}

pub(super) type ToReceive = Parts<Box<dyn Decoder>>;
pub(super) type ToSend = Parts<Box<dyn Encoder>>;

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("negotiated", &self.negotiated)
            .field("formats", &self.formats)
            .finish_non_exhaustive()
    }
}
