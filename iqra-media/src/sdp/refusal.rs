//! Why an SDP is refused, and how SIP says it: a status and a Warning (RFC 3261 §20.43, §21.4.26).

use thiserror::Error;

/// An SDP that we cannot take. `Display` is fit for a Warning text and names the remedy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No SDP by RFC 8866.
    #[error("malformed SDP: {0}")]
    Malformed(String),
    /// Longer or with more m-lines than we read.
    #[error("SDP too large: {0}")]
    TooLarge(&'static str),
    /// No `m=audio` line, or all with port 0.
    #[error("no audio stream offered; offer m=audio with a port")]
    NoAudio,
    /// Audio over another transport than plain RTP.
    #[error("audio over {0} is not supported; offer RTP/AVP")]
    Transport(String),
    /// An address that we cannot send to.
    #[error("connection address {address} is not usable: {why}")]
    Address {
        /// The address as written.
        address: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No codec in common.
    #[error("no codec in common: offered {theirs}; supported {ours}")]
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
            Self::NoAudio => 304,
            Self::Transport(_) => 302,
            Self::Address { .. } => 301,
            Self::Codec { .. } => 305,
        };
        let plain = |c: char| if c == '"' || c == '\\' || c.is_control() { '\'' } else { c };
        (code, self.to_string().chars().map(plain).collect())
    }
}
