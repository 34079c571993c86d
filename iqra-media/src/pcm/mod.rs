//! 16-bit samples between codec and conversation: other rates, levels, mixing, automatic gain, test tones, files.

pub mod agc;
pub(crate) mod dot;
pub mod level;
pub mod mix;
mod resample;
pub mod tone;
pub mod wav;

pub use resample::{RATES, Resampler, UnsupportedRate};
