//! What may be said of a message in a log: method or status, and its size; no number, no secret.

use std::fmt;

/// The longest method that is shown. A longer one may be anything.
const LONGEST_METHOD: usize = 16;

/// Shows a message, malformed or not, by its kind and size: `INVITE, 512 octets`.
pub(crate) struct Outline<'a>(pub(crate) &'a [u8]);

impl fmt::Debug for Outline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = self.0.trim_ascii_start().splitn(3, |octet| *octet == b' ');
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let status = first == b"SIP/2.0" && second.len() == 3 && second.iter().all(u8::is_ascii_digit);
        let method = first.len() <= LONGEST_METHOD && first.iter().all(u8::is_ascii_uppercase);
        match std::str::from_utf8(if status { second } else { first }) {
            Ok(kind) if status || (method && !kind.is_empty()) => {
                write!(f, "{kind}, {} octets", self.0.len())
            }
            _ => write!(f, "{} octets", self.0.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_shows_its_kind_and_size_alone() {
        for (message, shown) in [
            ("INVITE sip:+15550100@h SIP/2.0\r\n\r\n", "INVITE, 34 octets"),
            ("SIP/2.0 486 +15550100 is busy\r\n\r\n", "486, 33 octets"),
            ("15550100 sip:a@h SIP/2.0", "24 octets"),
            ("SIP/2.0 15550100", "16 octets"),
            ("", "0 octets"),
        ] {
            assert_eq!(format!("{:?}", Outline(message.as_bytes())), shown);
        }
    }
}
