//! Codecs: telephone payload bytes on one side, 16-bit samples on the other.
//!
//! On a call's path a [`Decoder`] stands after the jitter buffer and an [`Encoder`] before the RTP sender. A
//! [`Registry`] lists what this process can do, in preference order; SDP negotiation picks one [`CodecSpec`] from it.
//! Neither direction allocates per frame: the caller owns the buffers.

pub mod g711;

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

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
}

/// Turns samples into payload bytes.
///
/// # Contract
/// Called from one thread with consecutive frames of one stream, in order. A frame is a whole number of
/// milliseconds. An implementation keeps its state between frames and does not allocate per frame.
pub trait Encoder: Send {
    /// The codec that this encodes.
    fn spec(&self) -> CodecSpec;
    /// Encodes one frame into `out` and returns the bytes written.
    ///
    /// # Errors
    /// [`CodecError::OutputTooSmall`] when `out` cannot hold the frame; nothing was consumed then.
    fn encode(&mut self, pcm: &[i16], out: &mut [u8]) -> Result<usize, CodecError>;
}

/// Turns payload bytes into samples.
///
/// # Contract
/// Called from one thread with the payloads that arrived, in playout order; lost ones are left out. Payloads come
/// from the network: no content may panic. An implementation does not allocate per frame.
pub trait Decoder: Send {
    /// The codec that this decodes.
    fn spec(&self) -> CodecSpec;
    /// How long a payload plays, in RTP clock units; 0 for an empty or unusable one.
    fn duration(&self, payload: &[u8]) -> u32;
    /// Decodes one payload into `out` and returns the samples written.
    ///
    /// # Errors
    /// [`CodecError::OutputTooSmall`] when `out` cannot hold the frame; nothing was consumed then.
    fn decode(&mut self, payload: &[u8], out: &mut [i16]) -> Result<usize, CodecError>;
}

type MakeEncoder = Arc<dyn Fn() -> Box<dyn Encoder> + Send + Sync>;
type MakeDecoder = Arc<dyn Fn() -> Box<dyn Decoder> + Send + Sync>;

#[derive(Clone)]
struct Entry {
    spec: CodecSpec,
    encoder: MakeEncoder,
    decoder: MakeDecoder,
}

/// The codecs of this process in preference order. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    entries: Vec<Entry>,
}

impl Default for Registry {
    /// PCMU, then PCMA.
    fn default() -> Self {
        let mut registry = Self::empty();
        registry.register(g711::PCMU, || Box::new(g711::G711::ulaw()), || Box::new(g711::G711::ulaw()));
        registry.register(g711::PCMA, || Box::new(g711::G711::alaw()), || Box::new(g711::G711::alaw()));
        registry
    }
}

impl Registry {
    /// A registry without codecs.
    pub fn empty() -> Self {
        Self { entries: Vec::new() }
    }

    /// Adds a codec at the end of the preference order, or replaces the one of that name, rate and channels.
    pub fn register(
        &mut self,
        spec: CodecSpec,
        encoder: impl Fn() -> Box<dyn Encoder> + Send + Sync + 'static,
        decoder: impl Fn() -> Box<dyn Decoder> + Send + Sync + 'static,
    ) {
        let entry = Entry { spec, encoder: Arc::new(encoder), decoder: Arc::new(decoder) };
        match self.entries.iter_mut().find(|e| same(&e.spec, &spec)) {
            Some(old) => *old = entry,
            None => self.entries.push(entry),
        }
    }

    /// All codecs in preference order, ready for `sdp::Capabilities`.
    pub fn specs(&self) -> Vec<CodecSpec> {
        self.entries.iter().map(|e| e.spec).collect()
    }

    /// A fresh encoder.
    ///
    /// # Errors
    /// [`CodecError::Unknown`] when no such codec is registered.
    pub fn encoder(&self, spec: &CodecSpec) -> Result<Box<dyn Encoder>, CodecError> {
        self.entry(spec).map(|e| (e.encoder)())
    }

    /// A fresh decoder.
    ///
    /// # Errors
    /// [`CodecError::Unknown`] when no such codec is registered.
    pub fn decoder(&self, spec: &CodecSpec) -> Result<Box<dyn Decoder>, CodecError> {
        self.entry(spec).map(|e| (e.decoder)())
    }

    fn entry(&self, spec: &CodecSpec) -> Result<&Entry, CodecError> {
        self.entries
            .iter()
            .find(|e| same(&e.spec, spec))
            .ok_or(CodecError::Unknown { name: spec.name, clock_rate: spec.clock_rate })
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries.iter().map(|e| e.spec.name)).finish()
    }
}

fn same(a: &CodecSpec, b: &CodecSpec) -> bool {
    a.matches(b.name, b.clock_rate, b.channels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_registry_prefers_ulaw_over_alaw() {
        let names: Vec<_> = Registry::default().specs().iter().map(|s| s.name).collect();
        assert_eq!(names, ["PCMU", "PCMA"]);
    }

    #[test]
    fn registering_again_replaces_in_place() {
        let mut registry = Registry::default();
        let renumbered = CodecSpec { payload_type: 97, ..g711::PCMU };
        registry.register(renumbered, || Box::new(g711::G711::ulaw()), || Box::new(g711::G711::ulaw()));
        assert_eq!(registry.specs(), [renumbered, g711::PCMA]);
    }

    #[test]
    fn an_unknown_codec_is_an_error_that_names_it() {
        let spec = CodecSpec { name: "G729", payload_type: 18, ..g711::PCMU };
        let error = Registry::default().encoder(&spec).err().expect("G729 is not there");
        assert!(error.to_string().contains("G729/8000"), "{error}");
    }
}
