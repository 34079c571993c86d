//! What comes: which index a packet has, whether it is authentic, and whether it came before (RFC 3711 §3.3).
//!
//! The index is guessed from the highest one of its stream; a packet that was guessed wrong does not prove itself. A
//! stream is remembered from its first packet that did, so who has no key makes none.
//!
//! A new key of the far end changes no index (RFC 3711 §3.3.1), but some begin anew with it: a stream of the key before
//! is tried with both until one proves itself.

use super::cipher::{Cipher, Place};
use super::outgoing::{ENCRYPTED, RTCP_CLEAR};
use super::{Kind, MasterKey, SrtpError, header_len};
use crate::rtp::word;

/// Streams of a call that are remembered: the far end's, and those after changes of its SSRC. Of one more, the oldest
/// is forgotten, and with it what came of it: who recorded packets of that one could play them again.
pub const MAX_STREAMS: usize = 32;
/// Packets that the replay window reaches back, at least 64 (RFC 3711 §3.3.2).
const WINDOW: u64 = 128;

/// Opens the RTP and RTCP packets of one sender.
pub struct Incoming {
    rtp: Cipher,
    rtcp: Cipher,
    pub(super) streams: [Option<Stream>; MAX_STREAMS],
    rtcp_streams: [Option<Stream>; MAX_STREAMS],
    /// What names the key in each packet (RFC 3711 §8.1); mostly nothing.
    mki: Box<[u8]>,
    refused: u64,
}

/// The highest index that proved itself, and which below it came: bit n is the packet n below.
#[derive(Clone, Copy)]
pub(super) struct Stream {
    ssrc: u32,
    highest: u64,
    came: u128,
    /// It was counted under the key before, and nothing came under this one.
    is_carried: bool,
}

impl Incoming {
    /// For the key that the far end announced, or that the handshake gave it to write with.
    pub fn new(key: &MasterKey) -> Self {
        Self::with_mki(key, &[])
    }

    /// The same for a key that each packet names by this identifier (RFC 3711 §8.1).
    pub fn with_mki(key: &MasterKey, mki: &[u8]) -> Self {
        Self {
            rtp: Cipher::new(key, Kind::Rtp),
            rtcp: Cipher::new(key, Kind::Rtcp),
            streams: [None; MAX_STREAMS],
            rtcp_streams: [None; MAX_STREAMS],
            mki: mki.into(),
            refused: 0,
        }
    }

    /// Counts on from where the key before this one ended.
    pub fn count_on_from(&mut self, before: &Self) {
        let carried = |stream: Stream| Stream { came: 0, is_carried: true, ..stream };
        self.streams = before.streams.map(|stream| stream.map(carried));
        self.refused = before.refused;
    }

    /// Opens a protected RTP packet in place, and gives the length of what it was.
    ///
    /// # Errors
    /// [`SrtpError::TooShort`], [`SrtpError::NotAuthentic`], [`SrtpError::Replayed`]: the packet is to be dropped, and
    /// nothing was learnt from it.
    pub fn open(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let opened = self.try_open(packet);
        self.refused += u64::from(opened.is_err());
        opened
    }

    /// The same for a protected RTCP compound.
    ///
    /// # Errors
    /// As [`Incoming::open`], and [`SrtpError::InClear`].
    pub fn open_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let opened = self.try_open_rtcp(packet);
        self.refused += u64::from(opened.is_err());
        opened
    }

    /// Packets that were not opened.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn try_open(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let packet = self.rtp.without_mki(packet, &self.mki)?;
        let end = packet.len().checked_sub(self.rtp.tag_len()).ok_or(SrtpError::TooShort)?;
        let (packet, tag) = packet.split_at_mut(end);
        let header = header_len(packet).ok_or(SrtpError::TooShort)?;
        let ssrc = word(packet, 8).ok_or(SrtpError::TooShort)?;
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        let stream = find(&self.streams, ssrc).copied();
        let index = stream.map_or(u64::from(sequence), |stream| stream.index_of(sequence));
        let mut open = |index: u64| {
            let roll_over = ((index >> 16) as u32).to_be_bytes();
            self.rtp.open(Place { ssrc, index }, packet, header, roll_over, tag)
        };
        let opened = check_new(stream.as_ref(), index).and_then(|()| open(index));
        if opened.is_err() && stream.is_some_and(|stream| stream.is_carried && index >> 16 != 0) {
            open(sequence.into())?;
            begin(&mut self.streams, ssrc, sequence.into());
            return Ok(end);
        }
        opened?;
        remember(&mut self.streams, ssrc, index);
        Ok(end)
    }

    fn try_open_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let packet = self.rtcp.without_mki(packet, &self.mki)?;
        let (end, tail, tag) = self.rtcp.take_apart_rtcp(packet).ok_or(SrtpError::TooShort)?;
        let body =
            packet.get_mut(..end).filter(|body| body.len() >= RTCP_CLEAR).ok_or(SrtpError::TooShort)?;
        let ssrc = word(body, 4).ok_or(SrtpError::TooShort)?;
        let index = u32::from_be_bytes(tail);
        if index & ENCRYPTED == 0 {
            return Err(SrtpError::InClear);
        }
        let index = u64::from(index & !ENCRYPTED);
        check_new(find(&self.rtcp_streams, ssrc), index)?;
        self.rtcp.open(Place { ssrc, index }, body, RTCP_CLEAR, tail, &tag[..self.rtcp.tag_len()])?;
        remember(&mut self.rtcp_streams, ssrc, index);
        Ok(end)
    }
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("refused", &self.refused).finish_non_exhaustive()
    }
}

impl Stream {
    /// The index next to the highest one that ends in this sequence number (RFC 3711 appendix A).
    fn index_of(&self, sequence: u16) -> u64 {
        let ahead = sequence.wrapping_sub(self.highest as u16) as i16;
        self.highest.checked_add_signed(ahead.into()).unwrap_or(u64::from(sequence))
    }

    fn has(&self, index: u64) -> bool {
        match self.highest.checked_sub(index) {
            None => false,
            Some(below) => below >= WINDOW || self.came & 1 << below != 0,
        }
    }

    fn note(&mut self, index: u64) {
        self.is_carried = false;
        match self.highest.checked_sub(index) {
            Some(below) => self.came |= 1 << below,
            None => {
                let ahead = index - self.highest;
                self.came = if ahead < WINDOW { self.came << ahead } else { 0 } | 1;
                self.highest = index;
            }
        }
    }
}

fn find(streams: &[Option<Stream>; MAX_STREAMS], ssrc: u32) -> Option<&Stream> {
    streams.iter().flatten().find(|stream| stream.ssrc == ssrc)
}

fn check_new(stream: Option<&Stream>, index: u64) -> Result<(), SrtpError> {
    if stream.is_some_and(|stream| stream.has(index)) { Err(SrtpError::Replayed) } else { Ok(()) }
}

fn remember(streams: &mut [Option<Stream>; MAX_STREAMS], ssrc: u32, index: u64) {
    if let Some(stream) = streams.iter_mut().flatten().find(|stream| stream.ssrc == ssrc) {
        return stream.note(index);
    }
    begin(streams, ssrc, index);
}

/// A stream that begins with this packet, in place of one of the same name.
fn begin(streams: &mut [Option<Stream>; MAX_STREAMS], ssrc: u32, index: u64) {
    let known = streams.iter().position(|stream| stream.is_some_and(|stream| stream.ssrc == ssrc));
    streams[..=known.unwrap_or(MAX_STREAMS - 1)].rotate_right(1);
    streams[0] = Some(Stream { ssrc, highest: index, came: 1, is_carried: false });
}
