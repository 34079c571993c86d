//! RTP (RFC 3550): packets, what a receiver knows of its sender, keys as telephone-events, and who may send to us.
//!
//! A datagram goes through [`packet`] (checked view), [`source`] (is it from our peer?), [`reception`] (sequence,
//! timestamps, loss, jitter); then [`telephone_event`] takes the keys and the jitter buffer the audio.

// Bit layouts are written in the groups that the RFCs draw.
#![allow(clippy::unusual_byte_groupings)]

#[cfg(feature = "webrtc")]
pub mod dtls;
#[cfg(feature = "webrtc")]
pub mod ice;
pub mod packet;
pub mod reception;
pub mod rtcp;
pub mod source;
pub mod srtp;
pub mod telephone_event;

/// The 32 bits at this octet, if they are there.
fn word(octets: &[u8], at: usize) -> Option<u32> {
    octets.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}
