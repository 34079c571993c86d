//! 16-bit samples between codec and conversation: other rates, levels, test tones, files.

pub mod level;
mod resample;
pub mod tone;
pub mod wav;

pub use resample::{RATES, Resampler, UnsupportedRate};
