//! `Flow-Timer`: after how long a silent flow counts as failed at the server that keeps it (RFC 5626 §4.4, §10).

use std::time::Duration;

use super::number::number_header;

number_header! {
    /// Seconds within which the server wants to hear from us again, by a keep-alive for instance.
    FlowTimer(u32), FLOW_TIMER
}

impl FlowTimer {
    /// The most that signs of life may be apart; `None` for a zero, which no sender can keep.
    #[must_use]
    pub fn limit(self) -> Option<Duration> {
        (self.0 > 0).then(|| Duration::from_secs(self.0.into()))
    }
}
