//! Keys as named telephone events (RFC 4733 §2): the 4-byte payload, and who sends and receives it.
//!
//! ```text
//! |0 1 2 3 4 5 6 7|0|1|2 3 4 5 6 7|0                             15|
//! |     event     |E|R|  volume   |            duration            |
//! ```
//! A key is one [`Digit`]. It may be a card number's: `Debug` hides it.

mod receiver;
mod sender;

pub use receiver::{END_TIMEOUT, KeyPress, MAX_PENDING, Receiver};
pub use sender::{DEFAULT_DURATION_MS, DURATION_RANGE_MS, EventPacket, GAP_MS, MAX_QUEUED, Sender};

use std::fmt;

/// Bytes of an event payload.
pub const PAYLOAD_LEN: usize = 4;

const KEYS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '*', '#', 'A', 'B', 'C', 'D'];

/// One of the sixteen DTMF keys: `0`-`9`, `*`, `#`, `A`-`D`. `Debug` does not show which.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digit(u8);

impl Digit {
    /// The key with this event code (RFC 4733 §3.2), 0-15.
    pub fn from_event(event: u8) -> Option<Self> {
        (event < 16).then_some(Self(event))
    }

    /// The key with this label; `a`-`d` are taken as `A`-`D`.
    pub fn from_char(label: char) -> Option<Self> {
        let label = label.to_ascii_uppercase();
        KEYS.iter().position(|&k| k == label).map(|at| Self(at as u8))
    }

    /// The event code, 0-15.
    pub fn event(self) -> u8 {
        self.0
    }

    /// The label on the key.
    pub fn as_char(self) -> char {
        KEYS[usize::from(self.0)]
    }
}

impl fmt::Debug for Digit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digit(_)")
    }
}

/// The payload, read or to be written.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Payload {
    event: u8,
    end: bool,
    volume: u8,
    duration: u16,
}

impl Payload {
    const END: u8 = 0b1_0_000000;
    const VOLUME: u8 = 0b0_0_111111;

    fn parse(bytes: &[u8]) -> Option<Self> {
        let &[event, flags, high, low] = bytes.first_chunk::<PAYLOAD_LEN>()?;
        Some(Self {
            event,
            end: flags & Self::END != 0,
            volume: flags & Self::VOLUME,
            duration: u16::from_be_bytes([high, low]),
        })
    }

    fn bytes(self) -> [u8; PAYLOAD_LEN] {
        let [high, low] = self.duration.to_be_bytes();
        let end = if self.end { Self::END } else { 0 };
        [self.event, end | (self.volume & Self::VOLUME), high, low]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_code_of_the_rfc() {
        let codes: Vec<_> =
            "0123456789*#ABCD".chars().map(|c| Digit::from_char(c).unwrap().event()).collect();
        assert_eq!(codes, (0..16).collect::<Vec<_>>());
        assert_eq!(Digit::from_char('d'), Digit::from_event(15));
        assert_eq!((Digit::from_char('E'), Digit::from_event(16)), (None, None));
    }

    #[test]
    fn the_payload_is_laid_out_as_the_rfc_draws_it() {
        let payload = Payload { event: 11, end: true, volume: 10, duration: 0x0320 };
        assert_eq!(payload.bytes(), [11, 0b1_0_001010, 0x03, 0x20]);
        assert!(Payload::parse(&payload.bytes()) == Some(payload));
        assert!(Payload::parse(&[1, 2, 3]).is_none());
    }

    #[test]
    fn debug_hides_the_key() {
        assert_eq!(format!("{:?}", Digit::from_char('7').unwrap()), "Digit(_)");
    }
}
