//! Why a call cannot be taken, and how SIP says it.

use iqra_media::net::Unavailable;
use iqra_media::sdp;
use iqra_sip::event::Reply;
use iqra_sip::{HeaderName, StatusCode};

/// Why an INVITE is refused by the media half or the conversation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The SDP cannot be read (400) or nothing in it can be taken (488).
    #[error("{0}")]
    Sdp(sdp::Refusal),
    /// The body is not SDP (415, RFC 3261 §21.4.13).
    #[error("body of type {0} instead of application/sdp")]
    BodyType(String),
    /// The number wants only codecs that this build does not have (488).
    #[error("{0}; correct the number's list of codecs")]
    Codecs(String),
    /// The media threads have as much to do as they can (503); the caller may try again later.
    #[error("{0}")]
    Overloaded(String),
    /// No RTP port is free (503).
    #[error("{0}")]
    Ports(String),
    /// The system gave no randomness for the keys of SRTP (500).
    #[error("no keys for SRTP: {0}")]
    Keys(String),
    /// The conversation declined, with the SIP status that it asked for.
    #[error("conversation refused: {reason}")]
    Conversation {
        /// The status to answer with.
        status: u16,
        /// Why.
        reason: String,
    },
}

impl Refused {
    /// The SIP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Sdp(refusal) => refusal.status(),
            Self::BodyType(_) => 415,
            Self::Codecs(_) => 488,
            Self::Overloaded(_) | Self::Ports(_) => 503,
            Self::Keys(_) => 500,
            Self::Conversation { status, .. } => *status,
        }
    }

    /// The final response, with `Accept` for 415 and a `Warning` where SDP is at fault (RFC 3261 §20.43).
    #[must_use]
    pub fn reply(&self) -> Reply {
        let mut reply =
            Reply::new(StatusCode::new(self.status()).unwrap_or(StatusCode::SERVER_INTERNAL_ERROR));
        match self {
            Self::Sdp(refusal) => {
                let (code, text) = refusal.warning();
                reply.headers.push(HeaderName::WARNING, format!("{code} iqra \"{text}\""));
            }
            Self::BodyType(_) => reply.headers.push(HeaderName::ACCEPT, "application/sdp"),
            Self::Codecs(_) => reply.headers.push(HeaderName::WARNING, format!("305 iqra \"{self}\"")),
            Self::Overloaded(_) | Self::Ports(_) | Self::Keys(_) | Self::Conversation { .. } => {}
        }
        reply
    }
}

impl From<Unavailable> for Refused {
    fn from(unavailable: Unavailable) -> Self {
        match unavailable {
            Unavailable::Overloaded(_) => Self::Overloaded(unavailable.to_string()),
            other => Self::Ports(other.to_string()),
        }
    }
}
