//! The parts that a negotiation calls for: codec and resamplers of one call, made outside the media thread.
//!
//! In: what SDP negotiated and what the conversation hears and speaks. Out: a [`Plan`] for
//! [`MediaSession`](super::MediaSession), at the start of a call and at each re-INVITE.

use std::fmt;
use std::net::SocketAddr;
#[cfg(feature = "webrtc")]
use std::time::Instant;

use super::decoders::Decoders;
#[cfg(feature = "webrtc")]
use super::handshake::{Agreed, Dtls};
use super::protection::{Protection, Srtp};
use crate::codec::{CodecError, Encoder, Registry, Settings};
use crate::conversation::Formats;
use crate::pcm::{Resampler, UnsupportedRate};
#[cfg(feature = "webrtc")]
use crate::rtp::dtls::{Certificate, HandshakeError};
#[cfg(feature = "webrtc")]
use crate::rtp::ice::IceResponder;
use crate::sdp::{Negotiated, Security};

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
    /// DTLS was negotiated, but there is no certificate of ours to do it with.
    #[error(
        "the media is protected by DTLS, for which this side has no certificate: build with feature webrtc and give \
         the media driver a certificate, or leave DTLS out of the capabilities"
    )]
    NoCertificate,
    /// The handshake of DTLS cannot begin.
    #[cfg(feature = "webrtc")]
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
}

/// A negotiation with everything that it needs.
pub struct Plan {
    negotiated: Negotiated,
    encoder: Box<dyn Encoder>,
    decoders: Decoders,
    to_hearing: Resampler,
    to_codec: Resampler,
    formats: Formats,
    protection: Protection,
    #[cfg(feature = "webrtc")]
    ice: Option<IceResponder>,
}

impl Plan {
    /// Makes the parts of a call in the clear, or with keys from its SDP.
    ///
    /// # Errors
    /// [`PlanError`] when the codec is not in `codecs`, or samples at a rate that is not converted, or the media is to
    /// be protected by DTLS.
    pub fn new(negotiated: Negotiated, formats: Formats, codecs: &Registry) -> Result<Self, PlanError> {
        let protection = protection(&negotiated.security)?;
        Self::protected(negotiated, formats, codecs, protection)
    }

    /// Makes the parts of a call with a far end that speaks as browsers do, at `now`: `certificate` is the one whose
    /// fingerprint our SDP names.
    ///
    /// # Errors
    /// As [`Plan::new`], but for DTLS.
    #[cfg(feature = "webrtc")]
    pub fn webrtc(
        negotiated: Negotiated,
        formats: Formats,
        codecs: &Registry,
        certificate: &Certificate,
        now: Instant,
    ) -> Result<Self, PlanError> {
        let protection = match &negotiated.security {
            Security::Dtls { fingerprint, role, tls_id } => {
                let agreed = Agreed { fingerprint: *fingerprint, role: *role, tls_id: tls_id.clone() };
                Protection::Dtls(Box::new(Dtls::new(agreed, certificate, now)?))
            }
            other => protection(other)?,
        };
        Self::protected(negotiated, formats, codecs, protection)
    }

    fn protected(
        negotiated: Negotiated,
        formats: Formats,
        codecs: &Registry,
        protection: Protection,
    ) -> Result<Self, PlanError> {
        let (hears, speaks) = (formats.hears.sample_rate(), formats.speaks.sample_rate());
        let settings = Settings {
            fmtp: &negotiated.remote_fmtp,
            ptime_ms: negotiated.ptime_ms,
            sample_rate: speaks,
            channels: 1, // a line is mono
        };
        let encoder = codecs.encoder(&negotiated.codec, &settings)?;
        let decoders = Decoders::new(&negotiated, hears, codecs)?;
        Ok(Self {
            to_hearing: Resampler::new(decoders.sample_rate(), hears)?,
            to_codec: Resampler::new(speaks, encoder.spec().sample_rate)?,
            encoder,
            decoders,
            protection,
            #[cfg(feature = "webrtc")]
            ice: negotiated.local_ice.as_ref().map(|ice| IceResponder::new(&ice.ufrag, &ice.pwd)),
            negotiated,
            formats,
        })
    }
}

fn protection(security: &Security) -> Result<Protection, PlanError> {
    match security {
        Security::Plain => Ok(Protection::Clear),
        Security::Sdes { local, remote } => {
            let mki = remote.mki().map(|mki| mki.value.clone()).unwrap_or_default();
            let srtp = Srtp::new(local.master().clone(), remote.master().clone(), mki);
            Ok(Protection::Srtp(Box::new(srtp)))
        }
        Security::Dtls { .. } => Err(PlanError::NoCertificate),
    }
}

impl Plan {
    pub(super) fn negotiated(&self) -> &Negotiated {
        &self.negotiated
    }

    /// Where RTCP goes when it has a port of its own.
    pub(super) fn control(&self) -> Option<SocketAddr> {
        (!self.negotiated.rtcp_mux).then_some(self.negotiated.remote_rtcp)
    }

    /// Sample rates in Hz of the decoders and the encoder.
    pub(super) fn rates(&self) -> (u32, u32) {
        (self.decoders.sample_rate(), self.encoder.spec().sample_rate)
    }

    /// What each half of the session needs, and what both do.
    pub(super) fn into_halves(self) -> Halves {
        let Self { negotiated, encoder, decoders, to_hearing, to_codec, protection, .. } = self;
        let to_receive = Parts { negotiated: negotiated.clone(), codec: decoders, resampler: to_hearing };
        let to_send = Parts { negotiated, codec: encoder, resampler: to_codec };
        Halves {
            to_receive,
            to_send,
            protection,
            #[cfg(feature = "webrtc")]
            ice: self.ice,
        }
    }
}

/// A plan taken apart.
pub(super) struct Halves {
    pub(super) to_receive: ToReceive,
    pub(super) to_send: ToSend,
    pub(super) protection: Protection,
    #[cfg(feature = "webrtc")]
    pub(super) ice: Option<IceResponder>,
}

/// What one half of the session takes from a plan.
pub(super) struct Parts<C> {
    pub(super) negotiated: Negotiated,
    pub(super) codec: C,
    pub(super) resampler: Resampler,
}

pub(super) type ToReceive = Parts<Decoders>;
pub(super) type ToSend = Parts<Box<dyn Encoder>>;

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("negotiated", &self.negotiated)
            .field("formats", &self.formats)
            .finish_non_exhaustive()
    }
}
