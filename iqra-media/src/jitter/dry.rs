//! What was given out while no packet was there, and what it turns out to have been: loss, lateness, or a pause of the
//! sender.

use crate::rtp::reception::Position;

/// A stretch with no packet to play, in clock units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dry {
    /// What should have been played.
    pub(super) from: Position,
    pub(super) frames: u32,
    pub(super) samples: u32,
}

impl Dry {
    pub(super) fn at(from: Position) -> Self {
        Self { from, frames: 0, samples: 0 }
    }

    /// How much of it had been sent, by the packet that comes next: a sender that pauses goes on in sequence, but not in
    /// time. `frame` is the length of a packet.
    pub(super) fn missing(&self, next: Position, frame: u32) -> u32 {
        let packets = next.sequence.saturating_sub(self.from.sequence);
        let sent = packets.saturating_mul(frame.into());
        let pause = next.timestamp.saturating_sub(self.from.timestamp).saturating_sub(sent);
        // What was sent and lost counts first: it may have come at any place of the stretch.
        let room = u64::from(self.samples).saturating_sub(sent);
        self.samples - pause.min(room) as u32
    }

    /// The frames that so much of it was.
    pub(super) fn frames_of(&self, missing: u32) -> u64 {
        (u64::from(self.frames) * u64::from(missing)).div_ceil(self.samples.max(1).into())
    }
}
