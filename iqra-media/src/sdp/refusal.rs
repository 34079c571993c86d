//! Why an SDP is refused, and how SIP says it: a status and a Warning (RFC 3261 §20.43, §21.4.26).

use thiserror::Error;

/// Longest piece of the peer's words that a text repeats, in characters.
const MAX_QUOTED: usize = 120;

/// An SDP that we cannot take. `Display` is fit for a Warning text and names the remedy; it holds no keys.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No SDP by RFC 8866.
    #[error("malformed SDP: {}", brief(.0))]
    Malformed(String),
    /// More than we read; see [`Limits`](super::Limits).
    #[error("SDP too large: {0}; leave out what the call does not need")]
    TooLarge(String),
    /// No `m=audio` line, or all with port 0.
    #[error("no audio stream offered; offer m=audio with a port")]
    NoAudio,
    /// The answer has port 0, or no line, where our offer had audio.
    #[error("our audio stream was refused; answer its m=audio with a port")]
    Declined,
    /// Audio over a transport that we do not speak, or that the policy forbids.
    #[error("audio over {} is not supported; offer {takes}", brief(.offered))]
    Transport {
        /// The m-line's transport.
        offered: String,
        /// What we take.
        takes: String,
    },
    /// Only plain RTP where encryption is required.
    #[error("audio over {} is not encrypted; offer {takes}", brief(.offered))]
    Unencrypted {
        /// The m-line's transport.
        offered: String,
        /// What we take.
        takes: String,
    },
    /// SRTP without keys that we can use.
    #[error("no usable keys for SRTP: offered {}; supported {takes}", brief(.offered))]
    Keys {
        /// What is there, without the keys themselves.
        offered: String,
        /// What we take.
        takes: String,
    },
    /// An address that we cannot send to.
    #[error("connection address {} is not usable: {why}", brief(.address))]
    Address {
        /// The address as written.
        address: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No codec in common.
    #[error("no codec in common: offered {}; supported {ours}", brief(.theirs))]
    Codec {
        /// What the peer listed.
        theirs: String,
        /// What we can do.
        ours: String,
    },
}

impl Refusal {
    /// The SIP status: 400 for what cannot be read, 488 (Not Acceptable Here) for what cannot be taken.
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) | Self::TooLarge(_) => 400,
            _ => 488,
        }
    }

    /// Warning code (RFC 3261 §20.43) and text, free of quotes and line breaks.
    pub fn warning(&self) -> (u16, String) {
        let code = match self {
            Self::Malformed(_) | Self::TooLarge(_) => 399,
            Self::NoAudio | Self::Declined => 304,
            Self::Transport { .. } | Self::Unencrypted { .. } => 302,
            Self::Keys { .. } => 306,
            Self::Address { .. } => 301,
            Self::Codec { .. } => 305,
        };
        let plain = |c: char| if c == '"' || c == '\\' || c.is_control() { '\'' } else { c };
        (code, self.to_string().chars().map(plain).collect())
    }

    /// How close the stream came to being taken: of several refused ones the closest says why.
    pub(super) fn closeness(&self) -> u8 {
        match self {
            Self::Codec { .. } => 4,
            Self::Address { .. } => 3,
            Self::Keys { .. } => 2,
            Self::Transport { .. } | Self::Unencrypted { .. } => 1,
            _ => 0,
        }
    }
}

/// The peer's words, cut where they are endless.
fn brief(text: &str) -> &str {
    text.char_indices().nth(MAX_QUOTED).map_or(text, |(end, _)| &text[..end])
}
