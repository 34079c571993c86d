//! `Content-Length` (RFC 3261 §20.14). For reading only: where a message ends is decided in [`crate::framing`],
//! and what is printed is always the length of the body at hand.

use super::number::number_header;

number_header! {
    /// Octets of the body, as the sender stated it.
    ContentLength(u32), CONTENT_LENGTH
}
