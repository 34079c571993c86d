//! Whose word for the caller's identity goes on to a target (RFC 3325): a proxy at the edge of a trust domain takes
//! P-Asserted-Identity off, or puts its own in its place.

use super::Target;
use crate::message::header::Privacy;
use crate::message::{HeaderName, Headers};

/// Which neighbours of this proxy are nodes of its trust domain: known to it, over a secure way, and bound to keep what it
/// keeps (RFC 3324 §2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trusted {
    /// The one that the request came from.
    pub caller: bool,
    /// The target.
    pub target: bool,
}

impl Target {
    /// Lets go on what may of who the caller is, `received` being the headers of the request that is relayed:
    ///
    /// - P-Asserted-Identity of a caller that is not trusted is taken off (RFC 3325 §5). One among
    ///   [`headers`](Self::headers) stands in for it: that of the identity which the program has authenticated.
    /// - Towards a target that is not trusted none goes, that of `headers` included, where Privacy asks for `id` (§7) or
    ///   `header` (RFC 5379 §5.1.8) or cannot be read. With any other Privacy, and without one, it goes.
    /// - P-Preferred-Identity is a hint for this proxy and goes to nobody (§6).
    ///
    /// Privacy itself goes on. From stays as it is: a caller who wants to be nobody there writes so (RFC 3323 §4.1).
    #[must_use]
    pub fn guarding_identity(mut self, received: &Headers, trusted: Trusted) -> Self {
        let hidden = !trusted.target && hides_identity(received);
        if hidden {
            self.headers.remove(HeaderName::P_ASSERTED_IDENTITY);
        }
        if hidden || !trusted.caller {
            self.without.push(HeaderName::P_ASSERTED_IDENTITY);
        }
        self.without.push(HeaderName::P_PREFERRED_IDENTITY);
        self
    }
}

/// What cannot be read hides: to tell is what cannot be taken back.
fn hides_identity(headers: &Headers) -> bool {
    let hides = |privacy: Privacy| privacy.hides_identity() || privacy.contains("header");
    headers.typed_all::<Privacy>().any(|privacy| privacy.map_or(true, hides))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privacy_of_any_line_counts_and_what_cannot_be_read_hides() {
        for (lines, hidden) in [
            (&[][..], false),
            (&["none"], false),
            (&["user;critical"], false),
            (&["id"], true),
            (&["user", "ID;critical"], true),
            (&["header"], true),
            (&["id;;"], true),
        ] {
            let mut headers = Headers::new();
            lines.iter().for_each(|line| headers.push(HeaderName::PRIVACY, *line));
            assert_eq!(hides_identity(&headers), hidden, "{lines:?}");
        }
    }
}
