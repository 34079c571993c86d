//! Jitter buffer and loss concealment: packets in as the network gives them, an even and gapless time line out.

mod buffer;
pub mod conceal;
mod ring;

pub use buffer::{Buffer, Config, Counts, Frame, MAX_PAYLOAD, Pushed, WINDOW};
