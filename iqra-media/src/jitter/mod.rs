//! Jitter buffer and loss concealment: packets in as the network gives them, an even and gapless time line out.

mod arrivals;
mod buffer;
pub mod conceal;
mod pitch;
mod ring;
pub mod stretch;

pub use arrivals::Lateness;
pub use buffer::{Adjustment, Buffer, Config, Counts, Frame, MAX_PAYLOAD, Pushed};
