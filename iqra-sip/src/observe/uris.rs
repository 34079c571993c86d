//! Finds the private parts of URIs in text from the wire, malformed text too: the user part, which may be a number, and
//! the password behind it (RFC 3261 §19.1.1, RFC 3966).

use std::ops::Range;

use memchr::memchr_iter;

/// A URI in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// The user part without its password, or the number of a `tel` URI with its parameters. Empty where there is none.
    pub(super) user: Range<usize>,
    /// The password without its colon. Empty where there is none.
    pub(super) password: Range<usize>,
    /// Where the host begins, or the text goes on.
    pub(super) rest: usize,
}

/// The URIs of a text that carry a user or a number.
pub(super) fn uris_in(text: &[u8]) -> impl Iterator<Item = Found> + '_ {
    memchr_iter(b':', text).filter_map(|colon| found(text, colon)).filter(|found| !found.user.is_empty())
}

/// The URI whose scheme ends at this colon.
pub(super) fn found(text: &[u8], colon: usize) -> Option<Found> {
    let scheme = |name: &[u8]| {
        let start = colon.checked_sub(name.len());
        start.is_some_and(|start| text[start..colon].eq_ignore_ascii_case(name))
    };
    if scheme(b"tel") {
        let end = length(text, colon + 1, |octet| ends(octet) || octet == b',');
        return Some(Found { user: colon + 1..end, password: end..end, rest: end });
    }
    (scheme(b"sip") || scheme(b"sips")).then(|| sip(text, colon + 1))
}

fn sip(text: &[u8], start: usize) -> Found {
    let end = length(text, start, |octet| ends(octet) || octet == b'@');
    let next = text[start..end].windows(4).position(|octets| octets.eq_ignore_ascii_case(b"sip:"));
    if text.get(end) != Some(&b'@') || next.is_some() {
        return number_as_host(text, start);
    }
    let user_end = length(&text[..end], start, |octet| octet == b':');
    Found { user: start..user_end, password: (user_end + 1).min(end)..end, rest: end + 1 }
}

/// A number without a host, as some phones write it.
fn number_as_host(text: &[u8], start: usize) -> Found {
    let end = length(text, start, |octet| !(octet.is_ascii_digit() || b"+-()%".contains(&octet)));
    let whole = text.get(end).is_none_or(|octet| ends(*octet) || b";?:,".contains(octet));
    let end = if whole { end } else { start };
    Found { user: start..end, password: end..end, rest: end }
}

/// Where no URI goes on.
fn ends(octet: u8) -> bool {
    octet.is_ascii_whitespace() || matches!(octet, b'<' | b'>' | b'"')
}

fn length(text: &[u8], start: usize, end: impl Fn(u8) -> bool) -> usize {
    text[start..].iter().position(|octet| end(*octet)).map_or(text.len(), |length| start + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// User and password of each URI.
    fn parts(text: &str) -> Vec<(&str, &str)> {
        uris_in(text.as_bytes()).map(|found| (&text[found.user], &text[found.password])).collect()
    }

    #[test]
    fn users_and_passwords_are_found_wherever_a_uri_stands() {
        for (text, expected) in [
            ("INVITE sip:alice:pw@h:5060 SIP/2.0", vec![("alice", "pw")]),
            ("SIPS:a@h;x=1, <sip:b:p,w@[2001:db8::1]:5061>", vec![("a", ""), ("b", "p,w")]),
            ("<tel:+1-555-0001>;x, tel:1,", vec![("+1-555-0001", ""), ("1", "")]),
            ("<sip:+15550001;user=phone>", vec![("+15550001", "")]),
            ("sip:h:5060,sip:b:pw@c", vec![("b", "pw")]),
            ("sip:192.0.2.1:5060, sip:h, sip:, sip:h1", vec![]),
            ("sip:a:@h", vec![("a", "")]),
        ] {
            assert_eq!(parts(text), expected, "{text}");
        }
    }
}
