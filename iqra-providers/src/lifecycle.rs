//! The life of a call, in the same words for every provider.
//!
//! A provider turns its own states (SIP responses, status callbacks) into these; the rest of a program reads no
//! provider's dialect.

use std::fmt;

/// Where a call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallState {
    /// Asked of the provider; nothing heard yet.
    Dialling,
    /// The far end rings (SIP 180, or 183 with early media).
    Ringing,
    /// Answered: audio flows both ways.
    Answered,
    /// Over, for this cause.
    Ended(EndCause),
}

/// Why a call is over, normalised over providers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndCause {
    /// The far end hung up after the answer.
    CallerHungUp,
    /// Our side hung up after the answer: the conversation was done or asked for it.
    AgentHungUp,
    /// Given up before the answer (SIP CANCEL).
    Cancelled,
    /// The far end is busy (486, 600).
    Busy,
    /// Nobody answered in time (408, 480, the ring limit).
    NoAnswer,
    /// The far end refused (other 4xx to 6xx); the SIP status where there was one.
    Rejected(u16),
    /// The call reached its maximum duration.
    DurationLimit,
    /// No media came for the media time-out.
    MediaTimeout,
    /// The media could not be protected as was agreed.
    MediaSecurity,
    /// The conversation failed or panicked.
    ConversationFailed,
    /// The 2xx was never acknowledged, or the transport failed.
    Signalling,
    /// The program was told to stop and its limit for calls in progress passed.
    Shutdown,
}

impl fmt::Display for EndCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CallerHungUp => f.write_str("caller hung up"),
            Self::AgentHungUp => f.write_str("agent hung up"),
            Self::Cancelled => f.write_str("cancelled before answer"),
            Self::Busy => f.write_str("busy"),
            Self::NoAnswer => f.write_str("no answer"),
            Self::Rejected(status) => write!(f, "rejected with {status}"),
            Self::DurationLimit => f.write_str("maximum duration reached"),
            Self::MediaTimeout => f.write_str("no media received"),
            Self::MediaSecurity => f.write_str("media could not be protected"),
            Self::ConversationFailed => f.write_str("conversation failed"),
            Self::Signalling => f.write_str("signalling failed"),
            Self::Shutdown => f.write_str("program stopped"),
        }
    }
}

impl EndCause {
    /// The Q.850 cause for a `Reason` header (RFC 3326, RFC 6432).
    #[must_use]
    pub fn q850(self) -> u8 {
        match self {
            Self::CallerHungUp | Self::AgentHungUp | Self::Cancelled | Self::DurationLimit => 16,
            Self::Busy => 17,
            Self::NoAnswer => 19,
            Self::Rejected(_) => 21,
            Self::MediaTimeout | Self::Signalling => 102,
            Self::MediaSecurity => 127,
            Self::ConversationFailed => 41,
            Self::Shutdown => 31,
        }
    }
}
