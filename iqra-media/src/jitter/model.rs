//! What the jitter buffer is set to, what it gives out, and what it counts.

use std::time::Duration;

/// Settings of a [`Buffer`](super::Buffer).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// RTP clock in Hz. Default 8000.
    pub clock_rate: u32,
    /// Delay from arrival to playout of the first packet. Default 40 ms: two packets, as phones do.
    pub initial: Duration,
    /// The least target delay. Default 20 ms: a packet, and more than what a media thread's beat adds.
    pub min: Duration,
    /// Delay that adaptation may reach. Default 200 ms: more hurts a dialogue more than loss does.
    pub max: Duration,
    /// How long missing audio is concealed before the line falls silent. Default 80 ms.
    pub conceal: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            clock_rate: 8000,
            initial: Duration::from_millis(40),
            min: Duration::from_millis(20),
            max: Duration::from_millis(200),
            conceal: Duration::from_millis(80),
        }
    }
}

/// A piece of the time line; `samples` are RTP clock units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Decode this.
    Audio {
        /// The packet's payload.
        payload: &'a [u8],
        /// What it was pushed as: 0, unless by [`push_format`](super::Buffer::push_format).
        format: u8,
        /// Its extended timestamp.
        timestamp: u64,
    },
    /// Conceal this much: the packet did not come in time.
    Lost {
        /// Length in clock units.
        samples: u32,
    },
    /// Conceal this much: nothing is there. Whether it was lost, is late, or is a pause of the sender shows with the
    /// packet that comes next; [`Buffer::settle`](super::Buffer::settle) tells.
    Dry {
        /// Length in clock units.
        samples: u32,
    },
    /// Nothing was sent for this long.
    Silence {
        /// Length in clock units.
        samples: u32,
    },
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It waits for its time.
    Stored,
    /// Its time is over; dropped.
    Late,
    /// It was there already; dropped.
    Duplicate,
    /// Its payload is too long; dropped.
    TooLong,
}

/// By how much audio should be, or was, made shorter or longer to bring the delay to its target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Adjustment {
    /// Not at all.
    #[default]
    Keep,
    /// Less delay.
    Shorten(Duration),
    /// More delay.
    Lengthen(Duration),
}

/// What happened since the buffer was made. Every packet pushed ends in exactly one of `played`, `late`, `duplicate`,
/// `overflow`, `dropped` or `forgotten`, or waits still; packets without audio are counted only
/// where they are refused or overflow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Audio packets played.
    pub played: u64,
    /// Frames given out as lost, and dry ones that turned out not to be a pause.
    pub lost: u64,
    /// Packets dropped because their time was over.
    pub late: u64,
    /// Packets dropped because they came twice.
    pub duplicate: u64,
    /// Packets that came after a later one.
    pub reordered: u64,
    /// Packets dropped because more than the buffer holds came at once, or their payload was too long.
    pub overflow: u64,
    /// Packets dropped because the delay was beyond its maximum and others waited.
    pub dropped: u64,
    /// Packets that waited when the buffer was reset.
    pub forgotten: u64,
    /// Late packets played after all, each adding delay.
    pub awaited: u64,
    /// How often audio was due and none was there, although it had been sent.
    pub underruns: u64,
    /// Time put in to bring the delay up to its target.
    pub stretched: Duration,
    /// Time taken out to bring the delay down to its target.
    pub shortened: Duration,
    /// Timestamp jumps of the sender.
    pub jumps: u64,
    /// Resets by the caller.
    pub resets: u64,
}
