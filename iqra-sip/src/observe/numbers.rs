//! Finds phone numbers in text from the wire: five digits or more, also where they are escaped (`%35`) or where visual
//! separators stand between them (RFC 3966 §5.1.1). The one place that says what a number is; a ladder hides what is
//! found here and a capsule puts another number in its place.

use std::net::Ipv4Addr;
use std::ops::Range;

/// Shorter runs of digits are extensions, status codes and the like.
const SHORTEST: usize = 5;
/// Separators from one digit to the next: ` - ` and `) (` are the longest that people write.
const SEPARATORS: usize = 3;

/// The number that begins at `at`: the octets of its digits, the last octet of the escape for one that is escaped.
pub(super) fn number_at(text: &[u8], at: usize) -> Option<Number> {
    let mut digits = Vec::new();
    let (mut next, mut gap) = (at, 0);
    while let Some((octet, length)) = unit(text, next) {
        next += length;
        if octet.is_ascii_digit() {
            digits.push(next - 1);
            gap = 0;
        } else {
            gap += 1;
            let separates = matches!(octet, b'-' | b'.' | b'(' | b')' | b'/' | b' ');
            if digits.is_empty() || !separates || gap > SEPARATORS {
                break;
            }
        }
    }
    (!digits.is_empty()).then_some(Number { digits })
}

/// What was found: a run of digits, long enough for a number or not.
pub(super) struct Number {
    /// Where its digits stand, one at least.
    pub(super) digits: Vec<usize>,
}

impl Number {
    /// Whether it is long enough.
    pub(super) fn is_long(&self) -> bool {
        self.digits.len() >= SHORTEST
    }

    /// Where the text goes on behind it.
    pub(super) fn end(&self) -> usize {
        self.digits.last().map_or(0, |last| last + 1)
    }

    /// Whether it is an address rather than a number.
    fn is_address(&self, text: &[u8]) -> bool {
        let written = self.digits.first().and_then(|first| text.get(*first..self.end()));
        written.is_some_and(|octets| {
            std::str::from_utf8(octets).is_ok_and(|text| text.parse::<Ipv4Addr>().is_ok())
        })
    }
}

/// The numbers in a range of a text. IPv4 addresses are none, except in what names a `user`.
pub(super) fn numbers_in(text: &[u8], range: Range<usize>, user: bool) -> Vec<Number> {
    let (mut found, mut at) = (Vec::new(), range.start);
    let text = &text[..range.end];
    while let Some((_, length)) = unit(text, at) {
        let Some(number) = number_at(text, at) else {
            at += length;
            continue;
        };
        at = number.end();
        if number.is_long() && (user || !number.is_address(text)) {
            found.push(number);
        }
    }
    found
}

/// The text with every digit of its numbers but the last two of each as `x`.
pub(super) fn hidden(text: &str, user: bool) -> String {
    let mut octets = text.as_bytes().to_vec();
    for number in numbers_in(text.as_bytes(), 0..text.len(), user) {
        for digit in &number.digits[..number.digits.len() - 2] {
            octets[*digit] = b'x';
        }
    }
    String::from_utf8_lossy(&octets).into_owned()
}

/// The octet that stands at `at`, an escape decoded, and how many octets it takes.
fn unit(text: &[u8], at: usize) -> Option<(u8, usize)> {
    let octet = *text.get(at)?;
    let escaped = text.get(at + 1..at + 3).filter(|_| octet == b'%');
    let decoded = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
    Some(decoded.map_or((octet, 1), |decoded| (decoded, 3)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_however_they_are_written_and_addresses_are_none() {
        for (text, clean) in [
            ("+1-555-000-1234", "+x-xxx-xxx-xx34"),
            ("+1.555.000.1234", "+x.xxx.xxx.xx34"),
            ("1 (555) 000 1234", "x (xxx) xxx xx34"),
            ("%2B15550001234", "%2Bxxxxxxxxx34"),
            ("1%35550001234", "x%3xxxxxxxx34"),
            ("1555%20000%201234", "xxxx%20xxx%20xx34"),
            ("112", "112"),
            ("room 4711", "room 4711"),
            ("at 192.0.2.100", "at 192.0.2.100"),
            ("%", "%"),
        ] {
            assert_eq!(hidden(text, false), clean);
        }
        assert_eq!(hidden("49.30.12.34", true), "xx.xx.xx.34", "a user part is no address");
    }
}
