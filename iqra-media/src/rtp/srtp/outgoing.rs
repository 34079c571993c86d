//! What we send: the index of each packet, and the limit of a key.

use super::cipher::{Cipher, Place};
use super::{Kind, MasterKey, SrtpError, header_len};
use crate::rtp::word;

/// Set in the SRTCP index of a packet that is encrypted (RFC 3711 §3.4).
pub(super) const ENCRYPTED: u32 = 1 << 31;
/// Octets of an RTCP packet that are not encrypted: its head and our SSRC.
pub(super) const RTCP_CLEAR: usize = 8;

/// Protects the RTP and RTCP packets of one sender, whose sequence numbers go up.
pub struct Outgoing {
    rtp: Cipher,
    rtcp: Cipher,
    stream: Option<Stream>,
    rtcp_index: u32,
}

#[derive(Clone, Copy)]
struct Stream {
    ssrc: u32,
    roll_over: u32,
    sequence: u16,
}

impl Outgoing {
    /// For the key that we announced, or that the handshake gave us to write with.
    pub fn new(key: &MasterKey) -> Self {
        let cipher = |kind| Cipher::new(key, kind);
        Self { rtp: cipher(Kind::Rtp), rtcp: cipher(Kind::Rtcp), stream: None, rtcp_index: 0 }
    }

    /// Counts on from where another key's packets ended: neither the roll-over counter nor the SRTCP index begins anew with
    /// a key (RFC 3711 §3.3.1, §3.4).
    pub fn count_on_from(&mut self, before: &Self) {
        self.stream = before.stream;
        self.rtcp_index = before.rtcp_index % ENCRYPTED;
    }

    /// Protects the RTP packet in the first `length` octets of `buffer`, and gives its new length.
    ///
    /// # Errors
    /// [`SrtpError::TooShort`], [`SrtpError::BufferTooSmall`], [`SrtpError::KeyUsedUp`]; the packet is unchanged then.
    pub fn protect(&mut self, buffer: &mut [u8], length: usize) -> Result<usize, SrtpError> {
        let packet = buffer.get(..length).ok_or(SrtpError::TooShort)?;
        let header = header_len(packet).ok_or(SrtpError::TooShort)?;
        let ssrc = word(packet, 8).ok_or(SrtpError::TooShort)?;
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        let total = room(buffer, length + self.rtp.tag_len())?;
        let stream = self.stream.filter(|stream| stream.ssrc == ssrc);
        let roll_over = match stream {
            None => 0,
            // A stream that starts anew under the same SSRC counts on: an index must not come twice.
            Some(stream) if sequence <= stream.sequence => {
                stream.roll_over.checked_add(1).ok_or(SrtpError::KeyUsedUp)?
            }
            Some(stream) => stream.roll_over,
        };
        self.stream = Some(Stream { ssrc, roll_over, sequence });
        let index = u64::from(roll_over) << 16 | u64::from(sequence);
        let (packet, rest) = buffer.split_at_mut(length);
        let tag = self.rtp.seal(Place { ssrc, index }, packet, header, roll_over.to_be_bytes());
        let tag_len = self.rtp.tag_len();
        rest[..tag_len].copy_from_slice(&tag[..tag_len]);
        Ok(total)
    }

    /// Protects the RTCP compound in the first `length` octets of `buffer`, and gives its new length.
    ///
    /// # Errors
    /// As [`Outgoing::protect`].
    pub fn protect_rtcp(&mut self, buffer: &mut [u8], length: usize) -> Result<usize, SrtpError> {
        let ssrc = word(buffer.get(..length).ok_or(SrtpError::TooShort)?, 4).ok_or(SrtpError::TooShort)?;
        let total = room(buffer, length + self.rtcp.tag_len() + 4)?;
        if self.rtcp_index >= ENCRYPTED {
            return Err(SrtpError::KeyUsedUp);
        }
        let place = Place { ssrc, index: self.rtcp_index.into() };
        let tail = (self.rtcp_index | ENCRYPTED).to_be_bytes();
        self.rtcp_index += 1;
        let (packet, rest) = buffer.split_at_mut(length);
        let tag = self.rtcp.seal(place, packet, RTCP_CLEAR, tail);
        self.rtcp.lay_out_rtcp(rest, tail, &tag);
        Ok(total)
    }
}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outgoing").field("rtcp_index", &self.rtcp_index).finish_non_exhaustive()
    }
}

fn room(buffer: &[u8], needed: usize) -> Result<usize, SrtpError> {
    let available = buffer.len();
    if available < needed { Err(SrtpError::BufferTooSmall { needed, available }) } else { Ok(needed) }
}
