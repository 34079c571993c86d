//! How large a message may be. Every limit is a field with a default; nothing that a peer sends grows past them.

/// Limits of one message, checked while it is framed and parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Octets of a whole message, head and body. Default 65,536: what a UDP datagram can hold, for streams too.
    /// More is answered 513.
    pub message_bytes: usize,
    /// Octets from the start line to the empty line. Default 32,768. More is answered 513.
    pub head_bytes: usize,
    /// Header lines, folded lines counting as one. Default 256. More is answered 400.
    pub headers: usize,
    /// Octets of the Request-URI. Default 4,096. More is answered 414.
    pub uri_bytes: usize,
}

impl Limits {
    /// The defaults, as a constant.
    pub const DEFAULT: Limits =
        Limits { message_bytes: 65_536, head_bytes: 32_768, headers: 256, uri_bytes: 4_096 };

    /// For messages that this process has worded.
    pub(crate) const NONE: Limits = Limits {
        message_bytes: usize::MAX,
        head_bytes: usize::MAX,
        headers: usize::MAX,
        uri_bytes: usize::MAX,
    };
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::DEFAULT
    }
}
