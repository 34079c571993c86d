//! The codecs of a process, by preference.

use std::fmt;
use std::sync::Arc;

use super::{CodecError, CodecSpec, Decoder, Encoder, Settings, g711, g722};

/// What a factory of encoders gives.
pub type MadeEncoder = Result<Box<dyn Encoder>, CodecError>;
/// What a factory of decoders gives.
pub type MadeDecoder = Result<Box<dyn Decoder>, CodecError>;

type MakeEncoder = Arc<dyn Fn(&Settings<'_>) -> MadeEncoder + Send + Sync>;
type MakeDecoder = Arc<dyn Fn(&Settings<'_>) -> MadeDecoder + Send + Sync>;

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
    /// Opus (with feature `opus`), G.722, PCMU, PCMA: the best voice first. Nothing is made until a call asks for it.
    fn default() -> Self {
        let mut registry = Self::empty();
        #[cfg(feature = "opus")]
        super::opus::register(&mut registry, super::opus::Libopus, super::opus::Config::default());
        g722::register(&mut registry);
        g711::register(&mut registry);
        registry
    }
}

impl Registry {
    /// A registry without codecs.
    pub fn empty() -> Self {
        Self { entries: Vec::new() }
    }

    /// Adds a codec at the end of the preference order, or replaces the one of that name, rate and channels. The
    /// factories run at the start of a call and at a re-INVITE, never on a media thread.
    pub fn register(
        &mut self,
        spec: CodecSpec,
        encoder: impl Fn(&Settings<'_>) -> MadeEncoder + Send + Sync + 'static,
        decoder: impl Fn(&Settings<'_>) -> MadeDecoder + Send + Sync + 'static,
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
    /// [`CodecError::Unknown`] when no such codec is registered, and what its factory says.
    pub fn encoder(&self, spec: &CodecSpec, settings: &Settings<'_>) -> MadeEncoder {
        self.entry(spec).and_then(|e| (e.encoder)(settings))
    }

    /// A fresh decoder.
    ///
    /// # Errors
    /// [`CodecError::Unknown`] when no such codec is registered, and what its factory says.
    pub fn decoder(&self, spec: &CodecSpec, settings: &Settings<'_>) -> MadeDecoder {
        self.entry(spec).and_then(|e| (e.decoder)(settings))
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
    use crate::codec::g711::{G711, PCMU};

    #[test]
    fn the_default_registry_prefers_the_better_voice() {
        let names: Vec<_> = Registry::default().specs().iter().map(|s| s.name).collect();
        let telephone = ["G722", "PCMU", "PCMA"];
        assert!(names.ends_with(&telephone), "{names:?}");
        assert_eq!(names.contains(&"opus"), cfg!(feature = "opus"));
        assert_eq!(names.len(), telephone.len() + usize::from(cfg!(feature = "opus")));
    }

    #[test]
    fn registering_again_replaces_in_place() {
        let mut registry = Registry::empty();
        g711::register(&mut registry);
        let renumbered = CodecSpec { payload_type: 97, ..PCMU };
        registry.register(renumbered, |_| Ok(Box::new(G711::ulaw())), |_| Ok(Box::new(G711::ulaw())));
        assert_eq!(registry.specs(), [renumbered, g711::PCMA]);
    }

    #[test]
    fn an_unknown_codec_is_an_error_that_names_it() {
        let spec = CodecSpec { name: "G729", payload_type: 18, ..PCMU };
        let error =
            Registry::default().encoder(&spec, &Settings::default()).err().expect("G729 is not there");
        assert!(error.to_string().contains("G729/8000"), "{error}");
    }

    #[test]
    fn a_factory_reads_what_the_far_side_asked_for() {
        let mut registry = Registry::empty();
        registry.register(
            PCMU,
            |settings| match super::super::parameter(settings.fmtp, "law") {
                Some("a") => Ok(Box::new(G711::alaw())),
                _ => Ok(Box::new(G711::ulaw())),
            },
            |_| Err(CodecError::Library { codec: "PCMU", what: "opening", why: "busy" }),
        );
        let settings = Settings { fmtp: "law=a", ..Settings::default() };
        assert_eq!(registry.encoder(&PCMU, &settings).expect("an encoder").spec(), g711::PCMA);
        assert!(registry.decoder(&PCMU, &settings).is_err_and(|e| e.to_string().contains("busy")));
    }
}
