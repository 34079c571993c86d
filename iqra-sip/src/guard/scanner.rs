//! Signatures of scanners: what they say of themselves, or how they ask.

use std::time::Duration;

use super::glance::{Glance, finds};
use crate::message::grammar::is_space;

/// Names that scanners give in User-Agent. Each is what a tool sends by default; whoever scans in earnest renames it,
/// so this list takes away noise and is no defence.
const KNOWN: [&str; 10] = [
    "friendly-scanner",
    "friendly-request",
    "sipvicious",
    "sipcli",
    "sip-scan",
    "sundayddr",
    "iwar",
    "sivus",
    "vaxsipuseragent",
    "pplsip",
];

/// What part of a message a signature looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The value of User-Agent; where there are several, from the first to the last.
    UserAgent,
    /// The first line: method and Request-URI.
    StartLine,
    /// The whole head.
    Head,
}

/// What is done with a message that a rule refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing is answered: a scanner learns nothing, not even that somebody is there.
    Drop,
    /// A request is answered 403, without state: for peers that should learn why.
    Forbid,
    /// Dropped, and everything of that source for this long.
    Ban(Duration),
}

/// A pattern of scanners, and what to do with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    part: Part,
    lower: Vec<u8>,
    /// What is done.
    pub action: Action,
}

impl Signature {
    /// Matches where this part contains `text`, whatever the case of either and however much white space, a fold among
    /// it, stands where `text` has some. An empty text matches nothing.
    #[must_use]
    pub fn new(part: Part, text: &str, action: Action) -> Self {
        let mut lower: Vec<u8> =
            text.bytes().map(|b| if is_space(b) { b' ' } else { b.to_ascii_lowercase() }).collect();
        lower.dedup_by(|b, before| *b == b' ' && *before == b' ');
        Self { part, lower, action }
    }

    /// The names of well-known scanners, dropped in silence.
    #[must_use]
    pub fn known() -> Vec<Signature> {
        KNOWN.iter().map(|name| Self::new(Part::UserAgent, name, Action::Drop)).collect()
    }

    pub(super) fn matches(&self, glance: &Glance<'_>) -> bool {
        let text = match self.part {
            Part::UserAgent => glance.user_agent,
            Part::StartLine => glance.start_line,
            Part::Head => glance.head,
        };
        !self.lower.is_empty() && finds(text, &self.lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_look_at_their_part_alone_and_at_no_case() {
        let message =
            b"REGISTER sip:100@x SIP/2.0\r\nuser-agent: Friendly-Scanner\r\nX: odd\r\n\r\nsipvicious";
        let glance = Glance::at(message);
        let matches = |part, text| Signature::new(part, text, Action::Drop).matches(&glance);
        assert!(matches(Part::UserAgent, "friendly-SCANNER"));
        assert!(matches(Part::StartLine, "register sip:100@"));
        assert!(matches(Part::Head, "x: odd"));
        assert!(!matches(Part::StartLine, "friendly"));
        assert!(!matches(Part::Head, "sipvicious"), "bodies are not looked at");
        assert!(!matches(Part::Head, ""));
        assert!(Signature::known().iter().any(|signature| signature.matches(&glance)));
        let phone = Glance::at(b"REGISTER sip:x SIP/2.0\r\nUser-Agent: baresip v3.1.0\r\n\r\n");
        assert!(!Signature::known().iter().any(|signature| signature.matches(&phone)));
    }
}
