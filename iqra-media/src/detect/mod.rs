//! What is in the audio of a call: keys, tones of the network, answering machines, fax, voice.
//!
//! ```text
//!             ┌▶ dtmf::Detector ──── KeyEvent ────┐
//!             │   rtp::telephone_event, INFO ─────┴▶ collector::Collector ──▶ Collected
//!  16-bit ────┼▶ voice::VoiceActivity ── speech from, speech to ──┐
//!  samples    │                                                   ├▶ machine::MachineDetector ──▶ human or machine,
//!             └▶ progress::ProgressDetector ── busy, beep, fax ───┘                               end of the greeting
//! ```
//!
//! # Contract
//! - A detector is made for a sample rate, is fed frames of any length, and tells a closure what it found. How the
//!   stream is cut does not change what is found.
//! - Time is samples: positions count them from the first that the detector was fed, at its rate.
//! - Feeding allocates nothing. A detector holds a few KiB, whatever it hears.

mod bank;
pub mod collector;
pub mod dtmf;
pub mod goertzel;
pub mod machine;
pub mod presses;
pub mod progress;
pub mod voice;

use std::time::Duration;

/// The time that this many samples take.
fn time(samples: u64, rate: u32) -> Duration {
    Duration::from_nanos((u128::from(samples) * 1_000_000_000 / u128::from(rate.max(1))) as u64)
}

/// How many samples a time takes, at most the largest number.
fn samples_in(time: Duration, rate: u32) -> u64 {
    u64::try_from(time.as_nanos() * u128::from(rate) / 1_000_000_000).unwrap_or(u64::MAX)
}
