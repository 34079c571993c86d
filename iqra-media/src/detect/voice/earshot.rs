//! The default detector: the recurrent network of the package `earshot`, 75 KiB of weights, in plain Rust.

use super::VoiceDetector;

/// Tells speech by a small network. 16 kHz, frames of 16 ms; 8 KiB for each stream.
pub struct Earshot(Box<earshot::Detector>);

impl Earshot {
    /// One for each stream.
    pub fn new() -> Self {
        Self(earshot::Detector::default_boxed())
    }
}

impl Default for Earshot {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Earshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Earshot").finish_non_exhaustive()
    }
}

impl VoiceDetector for Earshot {
    fn rate(&self) -> u32 {
        16_000
    }

    fn frame(&self) -> usize {
        256
    }

    fn probability(&mut self, frame: &[i16]) -> f32 {
        self.0.predict_i16(frame).clamp(0.0, 1.0)
    }

    fn reset(&mut self) {
        self.0.reset();
    }
}
