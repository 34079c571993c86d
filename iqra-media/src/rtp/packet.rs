//! RTP packets (RFC 3550 §5.1): a checked view of a datagram, and a header that writes itself.
//!
//! Parsing checks version, lengths, CSRC list, extension and padding once; no accessor can panic afterwards.

use std::fmt;

use rtp_types::{RtpPacket, RtpPacketBuilder, RtpParseError};
use thiserror::Error;

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 12;

/// Why bytes are no RTP packet, or a packet could not be written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PacketError {
    /// The datagram is no well-formed RTP packet.
    #[error("not an RTP packet: {0}; drop it")]
    Malformed(&'static str),
    /// RTCP on the RTP port: payload types 64-95 with the marker are RTCP types 192-223 (RFC 5761 §4).
    #[error("an RTCP packet, not RTP")]
    Rtcp,
    /// A payload type above 127.
    #[error("payload type {0} is above 127")]
    PayloadType(u8),
    /// The caller's buffer is too short.
    #[error("the packet needs {needed} bytes but the buffer holds {available}")]
    BufferTooSmall {
        /// Bytes needed.
        needed: usize,
        /// Bytes given.
        available: usize,
    },
}

/// What a datagram on a media port is by its first octets (RFC 7983 §7, RFC 5761 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// STUN, as ICE uses it.
    Stun,
    /// DTLS, which agrees on the keys of SRTP.
    Dtls,
    /// RTP or SRTP.
    Rtp,
    /// RTCP or SRTCP.
    Rtcp,
    /// None of them.
    Unknown,
}

impl Protocol {
    /// Of a datagram.
    pub fn of(datagram: &[u8]) -> Self {
        match (datagram.first(), datagram.get(1)) {
            (Some(0..=3), _) => Self::Stun,
            (Some(20..=63), _) => Self::Dtls,
            (Some(128..=191), Some(192..=223)) => Self::Rtcp,
            (Some(128..=191), _) => Self::Rtp,
            _ => Self::Unknown,
        }
    }
}

/// A checked RTP packet, borrowed from a datagram.
#[derive(Clone, Copy)]
pub struct Packet<'a> {
    header: Header,
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Checks a datagram.
    ///
    /// # Errors
    /// [`PacketError::Malformed`] for anything that RFC 3550 §5.1 does not allow, [`PacketError::Rtcp`] for RTCP.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, PacketError> {
        if datagram.get(1).is_some_and(|byte| (192..=223).contains(byte)) {
            return Err(PacketError::Rtcp);
        }
        let packet = RtpPacket::parse(datagram).map_err(|e| PacketError::Malformed(fault(&e)))?;
        let start = packet.payload_offset();
        let payload = datagram.get(start..start + packet.payload_len()).unwrap_or_default();
        Ok(Self { header: Header::of(&packet), payload })
    }

    /// Payload type, 0-127.
    pub fn payload_type(&self) -> u8 {
        self.header.payload_type
    }

    /// The marker bit: for audio the first packet of a talk spurt (RFC 3551 §4.1).
    pub fn marker(&self) -> bool {
        self.header.marker
    }

    /// Sequence number, wraps.
    pub fn sequence(&self) -> u16 {
        self.header.sequence
    }

    /// Timestamp in clock units, wraps.
    pub fn timestamp(&self) -> u32 {
        self.header.timestamp
    }

    /// Synchronisation source: names one stream of one sender.
    pub fn ssrc(&self) -> u32 {
        self.header.ssrc
    }

    /// The payload without header, extension and padding.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

impl fmt::Debug for Packet<'_> {
    /// Without the payload: it may be a key press.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packet").field("header", &self.header).field("bytes", &self.payload.len()).finish()
    }
}

/// What we put into the fixed header of a packet that we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Payload type, 0-127.
    pub payload_type: u8,
    /// Marker bit.
    pub marker: bool,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp in clock units.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
}

impl Header {
    fn of(packet: &RtpPacket<'_>) -> Self {
        Self {
            payload_type: packet.payload_type(),
            marker: packet.marker_bit(),
            sequence: packet.sequence_number(),
            timestamp: packet.timestamp(),
            ssrc: packet.ssrc(),
        }
    }

    /// Writes header and payload into `out` and returns the bytes written.
    ///
    /// # Errors
    /// [`PacketError::BufferTooSmall`], [`PacketError::PayloadType`].
    pub fn write(&self, payload: &[u8], out: &mut [u8]) -> Result<usize, PacketError> {
        let (needed, available) = (HEADER_LEN + payload.len(), out.len());
        if self.payload_type > 127 {
            return Err(PacketError::PayloadType(self.payload_type));
        }
        RtpPacketBuilder::<&[u8], &[u8]>::new()
            .payload_type(self.payload_type)
            .marker_bit(self.marker)
            .sequence_number(self.sequence)
            .timestamp(self.timestamp)
            .ssrc(self.ssrc)
            .payload(payload)
            .write_into(out)
            .map_err(|_| PacketError::BufferTooSmall { needed, available })
    }
}

/// A word for the fault; static, because a flood of junk must not cost allocations.
fn fault(error: &RtpParseError) -> &'static str {
    match error {
        RtpParseError::UnsupportedVersion(_) => "the version is not 2",
        RtpParseError::Truncated { .. } => "shorter than its header says",
        RtpParseError::PaddingInvalid(_) => "padding of length 0",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: Header =
        Header { payload_type: 8, marker: true, sequence: 65535, timestamp: 0xDEAD_BEEF, ssrc: 0x0102_0304 };

    fn written(payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 1500];
        let len = HEADER.write(payload, &mut bytes).unwrap();
        bytes.truncate(len);
        bytes
    }

    #[test]
    fn a_written_packet_is_laid_out_as_the_rfc_draws_it() {
        let expected = [0b10_0_0_0000, 0b1_0001000, 0xFF, 0xFF, 0xDE, 0xAD, 0xBE, 0xEF, 1, 2, 3, 4, 9, 8, 7];
        assert_eq!(written(&[9, 8, 7]), expected);
    }

    #[test]
    fn a_written_packet_reads_back() {
        let bytes = written(&[1, 2, 3]);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!((packet.payload(), packet.header), (&[1u8, 2, 3][..], HEADER));
    }

    #[test]
    fn csrcs_extension_and_padding_are_no_payload() {
        let mut bytes = vec![0b10_1_1_0001, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        bytes.extend([0, 0, 0, 4]); // one CSRC
        bytes.extend([0xBE, 0xDE, 0, 1, 0xAA, 0xBB, 0xCC, 0xDD]); // extension of one word
        bytes.extend([7, 7, 7, 0, 2]); // payload, padding of 2
        assert_eq!(Packet::parse(&bytes).unwrap().payload(), [7, 7, 7]);
    }

    #[test]
    fn malformed_datagrams_are_refused() {
        let good = written(&[0; 4]);
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            bytes
        };
        let cases = [
            ("short", good[..11].to_vec()),
            ("version 1", with(0, 0b01_0_0_0000)),
            ("CSRCs beyond the end", with(0, 0b10_0_0_1111)),
            ("padding of 0", with(0, 0b10_1_0_0000)),
            ("extension beyond the end", [&with(0, 0b10_0_1_0000)[..12], &[0xBE, 0xDE, 0xFF, 0xFF]].concat()),
        ];
        for (name, bytes) in cases {
            assert!(matches!(Packet::parse(&bytes), Err(PacketError::Malformed(_))), "{name}");
        }
    }

    #[test]
    fn rtcp_is_told_apart() {
        let receiver_report = [0x80, 201, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0];
        assert_eq!(Packet::parse(&receiver_report).unwrap_err(), PacketError::Rtcp);
    }

    #[test]
    fn protocols_on_one_port_are_told_apart() {
        let of = |octets: &[u8]| Protocol::of(octets);
        assert_eq!(of(&[0, 1, 0, 0]), Protocol::Stun);
        assert_eq!([of(&[20, 0]), of(&[22, 254]), of(&[63, 0])], [Protocol::Dtls; 3]);
        assert_eq!([of(&[0x80, 0]), of(&[0x80, 0x80]), of(&[0xbf, 191])], [Protocol::Rtp; 3]);
        assert_eq!([of(&[0x80, 192]), of(&[0x81, 200]), of(&[0x80, 223])], [Protocol::Rtcp; 3]);
        assert_eq!([of(&[]), of(&[64, 1]), of(&[255, 0])], [Protocol::Unknown; 3]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(
            HEADER.write(&[0; 160], &mut [0; 100]),
            Err(PacketError::BufferTooSmall { needed: 172, available: 100 })
        );
        let header = Header { payload_type: 128, ..HEADER };
        assert_eq!(header.write(&[], &mut [0; 100]), Err(PacketError::PayloadType(128)));
    }

    #[test]
    fn debug_does_not_show_the_payload() {
        let text = format!("{:?}", Packet::parse(&written(&[5, 0xE, 3, 0x20])).unwrap());
        assert!(text.contains("bytes: 4") && !text.contains("payload:"), "{text}");
    }

    proptest! {
        #[test]
        fn no_datagram_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(packet) = Packet::parse(&bytes) {
                prop_assert!(packet.payload().len() + HEADER_LEN <= bytes.len());
            }
        }

        #[test]
        fn no_flag_byte_panics(flags in any::<u8>(), tail in proptest::collection::vec(any::<u8>(), 11..48)) {
            let bytes = [&[flags | 0x80][..], &tail].concat();
            let _ = Packet::parse(&bytes);
        }
    }
}
