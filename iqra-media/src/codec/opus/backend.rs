//! The seam between Opus as a call uses it and the library that computes it.

use crate::codec::CodecError;

/// A library that encodes and decodes Opus.
///
/// # Contract
/// Encoders and decoders are made at the start of a call and used by one thread. They do not allocate per frame, and
/// no payload makes them panic. Sample rates are 8000, 16000, 24000 or 48000 Hz, channels 1 or 2.
pub trait Backend: Send + Sync {
    /// A fresh encoder.
    ///
    /// # Errors
    /// [`CodecError::Library`] when the library has none of this kind.
    fn encoder(&self, setup: &EncoderSetup) -> Result<Box<dyn BackendEncoder>, CodecError>;
    /// A fresh decoder, whose samples come at this rate in Hz and with this many channels, whatever the far side sends.
    ///
    /// # Errors
    /// [`CodecError::Library`] when the library has none of this kind.
    fn decoder(&self, sample_rate: u32, channels: u8) -> Result<Box<dyn BackendDecoder>, CodecError>;
}

/// How an encoder is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncoderSetup {
    /// Of the samples that come in, in Hz.
    pub sample_rate: u32,
    /// Of the samples that come in, and of what is sent.
    pub channels: u8,
    /// On average, in bit/s.
    pub bitrate: u32,
    /// From 0 to 10.
    pub complexity: u8,
    /// What the far side plays at most, in Hz; a wider band is not encoded.
    pub max_playback_rate: u32,
    /// Whether all packets are of one length.
    pub constant_bitrate: bool,
    /// Whether packets carry a copy of the frame before, as far as loss is expected.
    pub in_band_fec: bool,
    /// Whether silence is left out: packets of up to two octets are then not sent.
    pub dtx: bool,
    /// Packets of a hundred that are lost.
    pub expected_loss: u8,
}

/// An encoder of a [`Backend`].
pub trait BackendEncoder: Send {
    /// Encodes a frame of 10, 20, 40 or 60 ms into a packet that is no longer than `out`.
    ///
    /// # Errors
    /// [`CodecError::Library`] with the library's reason.
    fn encode(&mut self, pcm: &[i16], out: &mut [u8]) -> Result<usize, CodecError>;
    /// Packets of a hundred that are lost, up to 100.
    fn set_expected_loss(&mut self, percent: u8);
}

/// A decoder of a [`Backend`].
pub trait BackendDecoder: Send {
    /// Decodes a packet with sound framing into `out`, which has its length, and gives the samples of all channels.
    ///
    /// # Errors
    /// [`CodecError::Malformed`], after which the stream goes on with the next packet.
    fn decode(&mut self, payload: &[u8], out: &mut [i16]) -> Result<usize, CodecError>;
    /// As [`Decoder::conceal`](crate::codec::Decoder::conceal), of whole pieces of 2.5 ms.
    fn conceal(&mut self, out: &mut [i16]) -> bool;
    /// As [`Decoder::recover`](crate::codec::Decoder::recover).
    fn recover(&mut self, next_payload: &[u8], out: &mut [i16]) -> bool;
    /// Forgets the stream.
    fn reset(&mut self);
    /// The state of the range coder after the last packet, which tells whether every bit was read as it was written
    /// (RFC 8251 §11 compares it); `None` by default, for a library that does not say.
    fn final_range(&mut self) -> Option<u32> {
        None
    }
}
