//! Takes phone numbers out of a capsule, so that it can be handed on.
//!
//! In: the text of an entry. Out: the same text with every number ([`numbers`](crate::observe::numbers)) that stands in
//! the user part of a URI, in a display name, or in a header that this stack does not read replaced by another of as many
//! digits: the first number of the capsule by `…001`, the next by `…002`, each wherever and however it is written. So what parsed parses, what was
//! equal stays equal, and nobody can compute the number from what stands there.

use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;

use super::{Capsule, Entry};
use crate::observe::numbers::{Number, numbers_in};
use crate::observe::uris::uris_in;

/// Headers whose digits belong to the protocol; of the rest every number is masked.
const PROTOCOL: [&str; 29] = [
    "via",
    "v",
    "call-id",
    "i",
    "cseq",
    "rack",
    "rseq",
    "route",
    "record-route",
    "path",
    "service-route",
    "www-authenticate",
    "proxy-authenticate",
    "replaces",
    "date",
    "timestamp",
    "expires",
    "session-expires",
    "x",
    "min-se",
    "retry-after",
    "content-length",
    "l",
    "content-type",
    "c",
    "max-forwards",
    "event",
    "o",
    "subscription-state",
];
/// Headers that carry URIs and names: there the digits of tags, hosts and parameters stay.
const ADDRESSES: [&str; 13] = [
    "from",
    "f",
    "to",
    "t",
    "contact",
    "m",
    "refer-to",
    "r",
    "referred-by",
    "b",
    "p-asserted-identity",
    "diversion",
    "history-info",
];

impl Capsule {
    /// The capsule with other phone numbers. It replays as before. What a number is, is guessed: look at it all the same
    /// before you hand it on. Bodies are masked in their URIs only, and Call-IDs stay as they are.
    #[must_use]
    pub fn mask_numbers(mut self) -> Capsule {
        let mut known = Numbers::default();
        for Entry { text, .. } in &mut self.entries {
            *text = known.mask(text);
        }
        self
    }
}

/// Every number that was met and what stands for it.
#[derive(Default)]
struct Numbers(HashMap<Vec<u8>, Vec<u8>>);

impl Numbers {
    fn mask(&mut self, text: &Bytes) -> Bytes {
        let mut masked = Vec::with_capacity(text.len());
        let (mut in_head, mut first) = (true, true);
        for line in text.split_inclusive(|&octet| octet == b'\n') {
            in_head &= !line.trim_ascii().is_empty();
            let name = line.iter().position(|&octet| octet == b':').map(|colon| line[..colon].trim_ascii());
            let is = |names: &[&str]| {
                let name = name.unwrap_or_default();
                names.iter().any(|one| name.eq_ignore_ascii_case(one.as_bytes()))
            };
            let everywhere = in_head && !first && !is(&ADDRESSES) && !finds_uri(line);
            if in_head && !first && is(&PROTOCOL) {
                masked.extend_from_slice(line);
            } else {
                self.mask_line(line, everywhere, in_head, &mut masked);
            }
            first = false;
        }
        masked.into()
    }

    /// Masks what stands in user parts and display names, or everywhere.
    fn mask_line(&mut self, line: &[u8], everywhere: bool, names: bool, masked: &mut Vec<u8>) {
        let start = masked.len();
        masked.extend_from_slice(line);
        let users = uris_in(line).flat_map(|uri| numbers_in(line, uri.user, true));
        let mut found: Vec<Number> = users.collect();
        if everywhere {
            found = numbers_in(line, 0..line.len(), false);
        } else if names {
            let names = quoted(line).into_iter().chain(bare_names(line));
            found.extend(names.flat_map(|name| numbers_in(line, name, true)));
        }
        for Number { digits } in found {
            let number: Vec<u8> = digits.iter().map(|digit| line[*digit]).collect();
            for (digit, other) in digits.iter().zip(self.other(&number)) {
                masked[start + digit] = *other;
            }
        }
    }

    fn other(&mut self, number: &[u8]) -> &[u8] {
        let (next, length) = (self.0.len() + 1, number.len());
        self.0.entry(number.to_vec()).or_insert_with(|| {
            let digits = format!("{next:0length$}").into_bytes();
            digits[digits.len() - length..].to_vec()
        })
    }
}

fn finds_uri(line: &[u8]) -> bool {
    uris_in(line).next().is_some()
}

/// What stands between quotes.
fn quoted(line: &[u8]) -> Vec<Range<usize>> {
    let quotes: Vec<usize> = memchr::memchr_iter(b'"', line).chain([line.len()]).collect();
    quotes.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect()
}

/// What stands before each bracket without quotes: from the header's name or a comma on; all of it before the first.
fn bare_names(line: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let colon = memchr::memchr(b':', line).map_or(0, |colon| colon + 1);
    let mut first = true;
    memchr::memchr_iter(b'<', line).filter_map(move |bracket| {
        let first = std::mem::replace(&mut first, false);
        let start = if first { Some(colon) } else { memchr::memrchr(b',', &line[..bracket]) }?;
        let name = start.min(bracket)..bracket;
        memchr::memchr(b'"', &line[name.clone()]).is_none().then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        let text = Bytes::copy_from_slice(text.as_bytes());
        String::from_utf8(Numbers::default().mask(&text).to_vec()).unwrap()
    }

    #[test]
    fn names_without_quotes_are_names() {
        let text = "OPTIONS sip:h SIP/2.0\r\nFrom: +49 30/7654321, Bell <sip:h>;tag=7654321\r\n\
                    m: <sip:h>;x=7654321, 030 1234567 <sip:h>\r\n\r\n";
        let clean = masked(text);
        assert_eq!(
            clean,
            "OPTIONS sip:h SIP/2.0\r\nFrom: +00 00/0000001, Bell <sip:h>;tag=7654321\r\n\
             m: <sip:h>;x=7654321, 000 0000002 <sip:h>\r\n\r\n"
        );
    }

    #[test]
    fn numbers_of_people_go_and_those_of_the_protocol_stay() {
        let text = "INVITE sip:+4930123456@192.0.2.100:50600;x=123456 SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1234567\r\n\
                    From: \"030 7654321\" <sip:4930123456@h>;tag=1234567\r\nTo: <tel:+4930123456>\r\nCSeq: 1234567 INVITE\r\n\
                    Call-ID: 1234567\r\nX-Caller: 004930123456\r\nX-Dialled: +49 30-12 34 56 at 192.0.2.100\r\nSession-Expires: 1800\r\n\r\no=- 1234567 1 IN IP4 h\r\n\
                    a=x sip:7654321@h\r\n";
        let clean = masked(text);
        assert_eq!(
            clean,
            "INVITE sip:+0000000001@192.0.2.100:50600;x=123456 SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1234567\r\n\
             From: \"000 0000002\" <sip:0000000001@h>;tag=1234567\r\nTo: <tel:+0000000001>\r\nCSeq: 1234567 INVITE\r\n\
             Call-ID: 1234567\r\nX-Caller: 000000000003\r\nX-Dialled: +00 00-00 00 01 at 192.0.2.100\r\nSession-Expires: 1800\r\n\r\no=- 1234567 1 IN IP4 h\r\n\
             a=x sip:0000004@h\r\n"
        );
        assert_eq!(clean.len(), text.len());
    }
}
