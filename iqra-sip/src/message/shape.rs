//! The shapes that nearly all Via, From, To, Contact, Route and Request-URI values have, told by the few octets in them
//! that end a word: `SIP/2.0/UDP host:port;branch=value;rport`, `"Name" <sip:user@host:port;name=value>;tag=value`.
//!
//! One comparison of all octets of a value marks those that are not plain (letters, digits, `-`, `.`). What is left to
//! see is which the marks are, and that no word between them is empty. A value that has the shape is one that the
//! grammar of its header accepts; of any other value nothing is said here, and the grammar is asked
//! (RFC 3261 §20, §25.1). So what is accepted, and with which words it is refused, is decided there alone.

use std::ops::Range;

use super::grammar::{self, Once, USER};
use super::header::via;
use super::uri;
use crate::octets::{self, BLOCK, LANE};

/// Stands for the end of a value among the marks; [`Marks::finished`] tells it from a NUL.
const END: u8 = 0;

/// The octets of a value that are not plain, one after the other.
#[derive(Clone, Copy)]
struct Marks<'a> {
    value: &'a [u8],
    /// A bit for each that was not looked at, and for every place behind the end.
    odd: u64,
    /// Where the word before the next one begins.
    at: usize,
    /// Nothing was found so far that the shape has not.
    fits: bool,
}

/// True for one Via value of the usual shape, with each of the parameters that may stand once standing once.
#[inline]
pub(super) fn is_via(value: &[u8]) -> bool {
    let Some(mut marks) = Marks::of(value).filter(|_| value.starts_with(b"SIP/2.0/")) else { return false };
    marks.skip_to(b"SIP/2.0/".len());
    let mut once = Once::default();
    marks.word() == b' ' && {
        let (_, _, mark) = marks.host();
        marks.params(mark, |name, _| once.is_first(&via::SINGLE, name))
    }
}

/// True for one address in angle brackets, with no tag or one that has a value.
#[inline]
pub(super) fn is_address(value: &[u8]) -> bool {
    let Some(mut marks) = Marks::of(value) else { return false };
    let mut tagged = false;
    marks.display() && marks.value[marks.at..].starts_with(b"<sip:") && {
        marks.skip_to(marks.at + 1);
        let (_, mark) = marks.sip_uri();
        marks.fits &= mark == b'>';
        let behind = marks.at;
        let mark = marks.mark();
        marks.fits &= marks.at == behind + 1;
        marks.params(mark, |name, has_value| {
            !name.eq_ignore_ascii_case(b"tag") || (has_value && !std::mem::replace(&mut tagged, true))
        })
    }
}

/// Where the parts of a whole `sip:` URI of the usual shape are.
#[inline]
pub(super) fn sip_uri(text: &[u8]) -> Option<uri::Parts> {
    let mut marks = Marks::of(text).filter(|_| text.starts_with(b"sip:"))?;
    let (parts, mark) = marks.sip_uri();
    (mark == END && marks.fits && marks.finished()).then_some(parts)
}

impl<'a> Marks<'a> {
    /// `None` for a value that is too short for one lane, or too long for one mask.
    #[inline(always)]
    fn of(value: &'a [u8]) -> Option<Marks<'a>> {
        let last = value.len().checked_sub(LANE).filter(|last| *last <= BLOCK - LANE)?;
        // The last lane ends where the value does; those before it overlap where the value is short.
        let mut odd = u64::MAX.checked_shl(value.len() as u32).unwrap_or(0);
        for at in [0, last.min(LANE), last.min(2 * LANE), last] {
            odd |= u64::from(octets::odd(value[at..].first_chunk()?)) << at;
        }
        Some(Marks { value, odd, at: 0, fits: true })
    }

    /// Steps behind the next mark, whatever stands before it.
    #[inline(always)]
    fn mark(&mut self) -> u8 {
        let end = self.odd.trailing_zeros() as usize;
        self.odd &= self.odd.wrapping_sub(1);
        self.at = end + 1;
        self.value.get(end).copied().unwrap_or(END)
    }

    /// The same behind a word that is not empty.
    #[inline(always)]
    fn word(&mut self) -> u8 {
        let start = self.at;
        let mark = self.mark();
        self.fits &= self.at > start + 1;
        mark
    }

    #[inline(always)]
    fn skip_to(&mut self, at: usize) {
        self.odd &= u64::MAX.checked_shl(at as u32).unwrap_or(0);
        self.at = at;
    }

    /// What stands between `start` and the mark that was stepped over last.
    #[inline(always)]
    fn since(&self, start: usize) -> &'a [u8] {
        self.value.get(start..self.at - 1).unwrap_or_default()
    }

    /// Nothing, or a quoted string without escapes and a space.
    #[inline(always)]
    fn display(&mut self) -> bool {
        if self.value[0] != b'"' {
            return true;
        }
        self.skip_to(1);
        loop {
            match self.mark() {
                b'"' => break,
                b'\\' | END => return false,
                _ => {}
            }
        }
        if self.value.get(self.at) == Some(&b' ') {
            self.skip_to(self.at + 1);
        }
        true
    }

    /// `sip:user@host:port;name=value`, of which only the host has to be there; gives the mark behind it. One parameter
    /// repeats no other.
    #[inline(always)]
    fn sip_uri(&mut self) -> (uri::Parts, u8) {
        let start = self.at;
        self.skip_to(start + b"sip:".len());
        let user = self.user();
        let (host, port, mark) = self.host();
        let params = self.at - 1;
        let mark = if mark == b';' { self.param().2 } else { mark };
        (uri::Parts::sip(start, user, host, port, params..self.at - 1), mark)
    }

    /// A user part and its `@`, or nothing.
    #[inline(always)]
    fn user(&mut self) -> Range<usize> {
        let before = *self;
        let mark = loop {
            match self.mark() {
                mark if grammar::is(mark, USER) => {}
                mark => break mark,
            }
        };
        if mark == b'@' {
            self.fits &= self.at > before.at + 1;
            return before.at..self.at - 1;
        }
        *self = before;
        self.at..self.at
    }

    /// `host` or `host:port`, and the mark behind it.
    #[inline(always)]
    fn host(&mut self) -> (Range<usize>, Option<u16>, u8) {
        let start = self.at;
        let mark = self.word();
        let host = start..self.at - 1;
        if mark != b':' {
            return (host, None, mark);
        }
        let start = self.at;
        let mark = self.mark();
        let port = grammar::number(self.since(start), u16::MAX.into());
        self.fits &= port.is_ok();
        (host, Some(port.unwrap_or(0) as u16), mark)
    }

    /// `name` or `name=value`: the name, whether it has a value, and the mark behind.
    #[inline(always)]
    fn param(&mut self) -> (&'a [u8], bool, u8) {
        let start = self.at;
        let mark = self.word();
        let name = self.since(start);
        if mark == b'=' { (name, true, self.word()) } else { (name, false, mark) }
    }

    /// Parameters from `mark` to the end of the value; `note` judges each name, and whether it has a value.
    #[inline(always)]
    fn params(&mut self, mut mark: u8, mut note: impl FnMut(&'a [u8], bool) -> bool) -> bool {
        while mark == b';' {
            let (name, has_value, behind) = self.param();
            self.fits &= note(name, has_value);
            mark = behind;
        }
        self.fits && mark == END && self.finished()
    }

    /// The end was the last mark.
    #[inline(always)]
    fn finished(&self) -> bool {
        self.at == self.value.len() + 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::name_addr;

    /// What values are made of: the parts of the shapes, and what makes others of them.
    const PIECES: &str = "SIP/2.0/UDP|SIP/2.0/|sip/2.0/tcp|sip:|<sip:|sips:|tel:|\"|\"A b\" |Alice |alice@|user-1|+1555|198.51.100.24|\
        h.example.org|[2001:db8::1]|:5060|:65536|:|;branch=z9hG4bK7c2a|;rport|;received=192.0.2.1|;maddr=a|;tag=1|;tag|;TAG=|;lr|\
        ;transport=udp|;a=b|;|=|?a=b|@|<|>|,| |\t|\r\n |\\|%41|%|_|*|#|/|é|\0";

    /// A usual value with some octets taken out, put in or put at another place.
    fn values(usual: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
        let pieces: Vec<&'static str> = PIECES.split('|').collect();
        let piece = proptest::sample::select(pieces);
        let change = (any::<prop::sample::Index>(), 0..4_usize, prop::option::of(piece));
        let changes = proptest::collection::vec(change, 0..4);
        (proptest::sample::select(usual), changes).prop_map(|(usual, changes)| {
            let mut value = usual.as_bytes().to_vec();
            for (at, taken, piece) in changes {
                let at = at.index(value.len() + 1);
                let end = value.len().min(at + taken);
                value.splice(at..end, piece.unwrap_or_default().bytes());
            }
            value
        })
    }

    const VIAS: &[&str] = &[
        "SIP/2.0/UDP 198.51.100.24:5060;branch=z9hG4bK7c2a91e04b6d;rport",
        "SIP/2.0/TLS h.example.org;branch=z9hG4bK7c2a;received=192.0.2.1",
        "SIP/2.0/TCP host-1:65535",
    ];
    const ADDRESSES: &[&str] = &[
        "\"Front Desk\" <sip:+15550123@carrier.example.org>;tag=8f31c7aa02",
        "<sip:alice@198.51.100.24:5060;transport=udp>",
        "<sip:h.example.org:5060;lr>;a;b=c",
        "\"\"<sip:a;b=c/d@h>;tag=1",
    ];
    const URIS: &[&str] = &[
        "sip:+15550199@voice.example.net:5060;transport=udp",
        "sip:198.51.100.24;lr",
        "sip:h.example.org:0",
    ];

    #[test]
    fn the_usual_values_have_their_shape() {
        VIAS.iter().for_each(|value| assert!(is_via(value.as_bytes()), "{value}"));
        ADDRESSES.iter().for_each(|value| assert!(is_address(value.as_bytes()), "{value}"));
        URIS.iter().for_each(|text| assert!(sip_uri(text.as_bytes()).is_some(), "{text}"));
    }

    #[test]
    fn what_stands_behind_a_nul_is_looked_at() {
        assert!(!is_via(b"SIP/2.0/UDP h.example.org\0,"));
        assert!(!is_address(b"<sip:a@h.example.org>\0"));
        assert!(sip_uri(b"sip:a@h.example.org\0>").is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn what_has_the_shape_of_a_via_is_one(value in values(VIAS)) {
            prop_assert!(!is_via(&value) || via::check(&value, true).is_ok());
        }

        #[test]
        fn what_has_the_shape_of_an_address_is_one(value in values(ADDRESSES)) {
            let accepted = name_addr::check_party(&value).is_ok() && name_addr::check_list(&value) == Ok(1);
            prop_assert!(!is_address(&value) || accepted);
        }

        #[test]
        fn what_has_the_shape_of_a_sip_uri_has_the_same_parts(text in values(URIS)) {
            if let Some(parts) = sip_uri(&text) {
                prop_assert!(uri::scan(&text) == Ok(parts));
            }
        }
    }
}
