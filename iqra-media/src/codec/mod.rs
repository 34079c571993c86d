//! Codecs: telephone payload bytes on one side, 16-bit samples on the other.
//!
//! On a call's path a [`Decoder`] stands after the jitter buffer and an [`Encoder`] before the RTP sender. A
//! [`Registry`] lists what this process can do, in preference order; SDP negotiation picks one [`CodecSpec`] from it.
//! What then is left open, the far side's `a=fmtp`, the packet time and the rate that the conversation works at, goes
//! as [`Settings`] into the factory, and [`Decoder::spec`] says what came out of it: an Opus decoder gives samples at
//! the conversation's rate, so that nothing is resampled. Neither direction allocates per frame: the caller owns the
//! buffers.
//!
//! **Gaps.** A lost frame is asked for in this order: [`Decoder::recover`], from the packet after it, where that has
//! come and carries a copy; [`Decoder::conceal`], by the codec's own model of the voice; else the session's
//! [`Concealer`](crate::jitter::conceal::Concealer). An encoder that writes no octets asks that nothing be sent
//! (discontinuous transmission); what the far side leaves out is filled by the decoder's `conceal`, or with
//! [`comfort_noise`] at the level that it described.
//!
//! | module | codec | in [`Registry::default`] |
//! |---|---|---|
//! | [`opus`] | Opus (RFC 6716, RFC 7587), by libopus with feature `opus`, or by a [`Backend`](opus::Backend) of your own | first, with the feature |
//! | [`g722`] | G.722, 16 kHz audio on an 8 kHz RTP clock | yes |
//! | [`g711`] | PCMU, PCMA | yes |
//! | [`l16`] | L16 at 8, 16, 24 and 48 kHz | by [`l16::register`] |
//! | [`comfort_noise`] | CN (RFC 3389) | no: it fills the gaps of another codec |
//!
//! There is no unsafe code here but for the calls into libopus (`opus/libopus.rs`) and into loops that are compiled for
//! newer machines (`simd.rs`). Inner loops are written so that the compiler turns them into vector code, and give the
//! same results on all machines, since nothing in them is rounded.

pub mod comfort_noise;
pub mod g711;
pub mod g722;
pub mod l16;
pub mod opus;
mod registry;
mod simd;

pub use registry::{MadeDecoder, MadeEncoder, Registry};

use thiserror::Error;

/// The longest payload in octets that is sent: with the headers of RTP, UDP and IPv6 it stays within the 1,280 octets
/// that every link has to carry (RFC 8200 §5).
pub const LONGEST_PAYLOAD: usize = 1_200;

/// One codec as SDP names it (RFC 8866 §6.6, RFC 3551 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CodecSpec {
    /// Encoding name as registered, for example `PCMU`; compared without case.
    pub name: &'static str,
    /// The static payload type (0-95), or the dynamic one that we offer (96-127).
    pub payload_type: u8,
    /// RTP clock rate in Hz: what timestamps count (for G.722 this is 8000 although it samples at 16000).
    pub clock_rate: u32,
    /// Sample rate of the PCM side in Hz.
    pub sample_rate: u32,
    /// Channels, interleaved on the PCM side; 1 for telephony.
    pub channels: u8,
    /// What we say of ourselves in `a=fmtp` (RFC 8866 §6.15), without the payload type; empty for no such line.
    pub fmtp: &'static str,
}

impl CodecSpec {
    /// Samples (all channels) of a frame of `ms` milliseconds on the PCM side.
    pub fn samples(&self, ms: u32) -> usize {
        (self.sample_rate / 1000 * ms) as usize * usize::from(self.channels)
    }

    /// RTP timestamp units of a frame of `ms` milliseconds.
    pub fn duration(&self, ms: u32) -> u32 {
        self.clock_rate / 1000 * ms
    }

    /// Whether an `a=rtpmap` with these values means this codec; names compare without case (RFC 8866 §6.6).
    pub fn matches(&self, name: &str, clock_rate: u32, channels: u8) -> bool {
        self.name.eq_ignore_ascii_case(name) && self.clock_rate == clock_rate && self.channels == channels
    }
}

/// Why a codec could not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The caller's output slice is too short.
    #[error("output holds {available} elements but the frame needs {needed}; give a larger buffer")]
    OutputTooSmall {
        /// Elements the frame needs.
        needed: usize,
        /// Elements the caller gave.
        available: usize,
    },
    /// No codec of that name and rate is registered.
    #[error("codec {name}/{clock_rate} is not registered; register it or take it out of the capabilities")]
    Unknown {
        /// Name asked for.
        name: &'static str,
        /// Clock rate asked for.
        clock_rate: u32,
    },
    /// The payload is not of the codec's form: the frame is as good as lost.
    #[error("a {codec} payload is malformed; conceal the frame")]
    Malformed {
        /// Name of the codec.
        codec: &'static str,
    },
    /// The codec has no frames of this length.
    #[error("{codec} encodes no frame of {samples} samples; ask Encoder::packet_time for one that it does")]
    FrameLength {
        /// Name of the codec.
        codec: &'static str,
        /// Samples that were given, all channels.
        samples: usize,
    },
    /// The library behind the codec did not do what it was asked to do.
    #[error("{codec}: {what} failed: {why}")]
    Library {
        /// Name of the codec.
        codec: &'static str,
        /// What was asked of it.
        what: &'static str,
        /// The library's own words.
        why: &'static str,
    },
}

/// What a call leaves open of a codec once it is chosen; read by the factories of a [`Registry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings<'a> {
    /// The far side's `a=fmtp` parameters for this codec, empty where it gave none. Read with [`parameter`]: what is
    /// unknown or out of range counts as not given.
    pub fmtp: &'a str,
    /// Packet time of what we send, in milliseconds.
    pub ptime_ms: u8,
    /// Sample rate in Hz that the conversation works at. A codec with one rate of its own ignores it.
    pub sample_rate: u32,
    /// Channels that the conversation works with, 1 or 2. A codec without stereo ignores it.
    pub channels: u8,
}

impl Default for Settings<'_> {
    /// No parameters, 20 ms, 48 kHz, mono.
    fn default() -> Self {
        Self { fmtp: "", ptime_ms: 20, sample_rate: 48_000, channels: 1 }
    }
}

/// The value of a parameter in the text of an `a=fmtp` (`name=value` with semicolons between, names without case).
pub fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';')
        .filter_map(|part| part.split_once('='))
        .find_map(|(key, value)| key.trim().eq_ignore_ascii_case(name).then(|| value.trim()))
}

/// Turns samples into payload bytes.
///
/// # Contract
/// Called from one thread with consecutive frames of one stream, in order. A frame is a whole number of
/// milliseconds. An implementation keeps its state between frames and does not allocate per frame.
pub trait Encoder: Send {
    /// The codec that this encodes.
    fn spec(&self) -> CodecSpec;
    /// Encodes one frame into `out` and returns the bytes written; none when nothing is to be sent for this frame.
    ///
    /// # Errors
    /// [`CodecError::OutputTooSmall`] when `out` cannot hold the frame, [`CodecError::FrameLength`] when the codec
    /// has no such frame; nothing was consumed then.
    fn encode(&mut self, pcm: &[i16], out: &mut [u8]) -> Result<usize, CodecError>;
    /// The packet time in milliseconds to use where this one is wanted: the longest that is not longer, that the
    /// codec has, and that fits a packet. By default what is wanted.
    fn packet_time(&self, wanted_ms: u8) -> u8 {
        wanted_ms
    }
    /// Tells how many packets of a hundred the far side is missing, for codecs that can send copies. By default
    /// ignored.
    fn set_expected_loss(&mut self, percent: u8) {
        let _ = percent;
    }
}

/// Turns payload bytes into samples.
///
/// # Contract
/// Called from one thread with the payloads that arrived, in playout order; what is missing is asked for by `recover` or `conceal`,
/// or left out. Payloads come from the network: no content may panic. An implementation does not allocate per frame.
pub trait Decoder: Send {
    /// The codec that this decodes.
    fn spec(&self) -> CodecSpec;
    /// How long a payload plays, in RTP clock units; 0 for an empty or unusable one.
    fn duration(&self, payload: &[u8]) -> u32;
    /// Decodes one payload into `out` and returns the samples written: as many as [`duration`](Self::duration) says.
    ///
    /// # Errors
    /// [`CodecError::OutputTooSmall`] when `out` cannot hold the frame, [`CodecError::Malformed`] when it is none.
    fn decode(&mut self, payload: &[u8], out: &mut [i16]) -> Result<usize, CodecError>;
    /// Fills `out` with what may have been said where nothing came, lost or left out by the sender; `false`, with
    /// `out` as it was, when the codec does not know. By default it never does.
    fn conceal(&mut self, out: &mut [i16]) -> bool {
        let _ = out;
        false
    }
    /// Fills `out`, the end of a gap, from a copy of it in the payload that follows; `false`, with `out` as it was,
    /// when there is no copy in it. That payload is decoded afterwards as usual. By default there never is one.
    fn recover(&mut self, next_payload: &[u8], out: &mut [i16]) -> bool {
        let _ = (next_payload, out);
        false
    }
    /// Forgets the stream, as if new: the sender started over.
    fn reset(&mut self) {}
}

/// The first `needed` elements of an output.
fn fitting<T>(out: &mut [T], needed: usize) -> Result<&mut [T], CodecError> {
    let available = out.len();
    out.get_mut(..needed).ok_or(CodecError::OutputTooSmall { needed, available })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_whatever_stands_around_them() {
        let fmtp = "minptime=10; USEINBANDFEC = 1 ;;nonsense;stereo=";
        assert_eq!(parameter(fmtp, "minptime"), Some("10"));
        assert_eq!(parameter(fmtp, "useinbandfec"), Some("1"));
        assert_eq!(parameter(fmtp, "stereo"), Some(""));
        assert_eq!(parameter(fmtp, "nonsense"), None);
        assert_eq!(parameter("", "stereo"), None);
    }
}
