//! Jitter buffer and loss concealment: packets in as the network gives them, an even and gapless time line out.

mod arrivals;
mod buffer;
pub mod conceal;
mod dry;
mod model;
mod pitch;
mod ring;
pub mod stretch;

pub use arrivals::Lateness;
pub use buffer::{Buffer, MAX_PAYLOAD};
pub use model::{Adjustment, Config, Counts, Frame, Pushed};
