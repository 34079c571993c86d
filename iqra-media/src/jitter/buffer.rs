//! The jitter buffer: takes packets with their arrival time, gives frames when they are due.
//!
//! **Time line.** The first packet plays [`Config::initial`] after its arrival, and each next one when the previous
//! has ended, by timestamp. From then on the line has no gap: what is missing comes out as `Lost` (conceal it), what
//! the sender left out (silence suppression, key presses) as `Silence`. When nothing came for [`Config::conceal`] the
//! buffer falls silent, and the next packet starts anew with the target delay.
//!
//! **Dry.** Until then nobody knows why nothing came: it comes out as `Dry`. The packet that comes next settles it: where
//! its sequence number goes on without a gap and its timestamp does not, the sender paused, and what was concealed was
//! neither lost nor an underrun.
//!
//! **Target and level.** [`Arrivals`] says how long the fastest packet should wait (the target); the level is how long
//! it would wait with the line as it is. Where they differ, [`Buffer::adjustment`] asks for shorter or longer audio,
//! which [`Stretch`](super::stretch::Stretch) makes out of decoded samples, and [`Buffer::adjusted`] moves the line.
//! Gaps of the sender are made shorter or longer by the buffer itself. The drift of clocks needs nothing else: it shows
//! as a level that wanders.
//!
//! **In need.** A packet that comes after its time was concealed is still played if nothing newer was: the concealed
//! frame then counts as added delay, up to [`Config::max`]. A level beyond that drops whole packets while there are
//! others to play.
//!
//! Positions come from [`Reception`](crate::rtp::reception::Reception), which guards against wraps and strays; call
//! [`Buffer::reset`] when it reports a restart.

mod timeline;

use std::time::{Duration, Instant};

use super::arrivals::{Arrivals, Lateness};
use super::dry::Dry;
use super::model::{Adjustment, Config, Counts, Frame, Pushed};
use super::ring::{CAPACITY, Ring};
use crate::rtp::reception::Position;
use timeline::Step;

/// Longest payload that is stored, in bytes: an Ethernet frame's.
pub const MAX_PAYLOAD: usize = 1500;
/// A timestamp further ahead than this is a jump of the sender, not silence; a tick later than this is a stall.
const MAX_GAP: Duration = Duration::from_secs(1);
/// Gaps are filled in pieces of this length or longer, however short the sender's frames are: a packet of one sample
/// would otherwise be followed by thousands of pieces a second.
const SHORTEST_FILL: Duration = Duration::from_millis(5);
/// The level may be so much above the target before audio is shortened…
const ABOVE: i64 = 10_000_000;
/// …and so much below before it is lengthened, in nanoseconds. Both together are no less than the longest piece that
/// is cut out or put in at once, so that an adjustment is never undone by the next.
const BELOW: i64 = -5_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing came yet.
    Idle,
    /// Audio is due at the cursor, or was concealed a moment ago.
    Playing,
    /// Nothing came for long, or keys came instead of audio: silence until the next packet.
    Silent,
}

/// The jitter buffer of one stream.
///
/// # Contract
/// `push` every packet when it arrives; at any tick call `pop(now)` until it returns `None`.
/// [`poll_timeout`](Self::poll_timeout) says when the next frame is due. Time never goes back. After each `Audio` frame
/// [`adjustment`](Self::adjustment) may ask for another length of it; [`adjusted`](Self::adjusted) tells what was
/// done, before the next `pop`. Who never adjusts has a delay that only grows, up to [`Config::max`].
#[derive(Debug)]
pub struct Buffer {
    config: Config,
    ring: Ring,
    state: State,
    /// Up to here the time line has been given out.
    cursor: Instant,
    /// Silence until here: the delay before a new start.
    hold_until: Instant,
    next: Position,
    highest: u64,
    /// Bit n: sequence number `next - 1 - n` was played.
    history: u64,
    /// Length of the last audio frame in clock units, [`SHORTEST_FILL`] at least.
    frame: u32,
    /// Concealed in a row, in clock units.
    concealed: u32,
    dry: Option<Dry>,
    /// In clock units; see [`Buffer::settle`].
    missing: u32,
    after_other: bool,
    arrivals: Arrivals,
    delay: Duration,
    counts: Counts,
}

impl Buffer {
    /// An empty buffer. Memory for packets is taken with the first one.
    pub fn new(config: Config, now: Instant) -> Self {
        Self {
            config,
            ring: Ring::default(),
            state: State::Idle,
            cursor: now,
            hold_until: now,
            next: Position { sequence: 0, timestamp: 0 },
            highest: 0,
            history: 0,
            frame: config.clock_rate / 50,
            concealed: 0,
            dry: None,
            missing: 0,
            after_other: false,
            arrivals: Arrivals::new(&config, now),
            delay: Duration::ZERO,
            counts: Counts::default(),
        }
    }

    /// Takes an audio packet that plays for `duration` clock units.
    pub fn push(&mut self, now: Instant, position: Position, duration: u32, payload: &[u8]) -> Pushed {
        self.push_format(now, position, duration, 0, payload)
    }

    /// The same of a stream in which several codecs take turns: `format` comes back with the payload.
    pub fn push_format(
        &mut self,
        now: Instant,
        position: Position,
        duration: u32,
        format: u8,
        payload: &[u8],
    ) -> Pushed {
        if duration == 0 {
            return self.push_other(now, position);
        }
        if payload.len() > MAX_PAYLOAD {
            self.counts.overflow += 1;
            return Pushed::TooLong;
        }
        self.start(now, position);
        let pushed = self.store(now, position, duration, (format, payload));
        if pushed != Pushed::Duplicate {
            self.arrivals.observe(now, position.timestamp);
        }
        pushed
    }

    /// Takes a packet of the same stream that is no audio (a telephone-event): it uses up a sequence number, and no
    /// audio is missing in its place.
    pub fn push_other(&mut self, now: Instant, position: Position) -> Pushed {
        match self.state {
            State::Idle => Pushed::Stored,
            State::Silent if position.sequence >= self.next.sequence => {
                self.end_dry(position);
                self.skip_to(position.sequence + 1);
                Pushed::Stored
            }
            State::Silent => Pushed::Late,
            State::Playing => self.store(now, position, 0, (0, &[])),
        }
    }

    /// The next frame that is due at `now`; `None` when all has been given out.
    pub fn pop(&mut self, now: Instant) -> Option<Frame<'_>> {
        if self.state == State::Idle || self.cursor > now {
            return None;
        }
        if now - self.cursor > MAX_GAP {
            self.cursor = now;
        }
        let step = loop {
            if let Some(step) = self.step() {
                break step;
            }
        };
        Some(match step {
            Step::Audio(position) => {
                let (format, payload) = self.ring.content(position.sequence);
                Frame::Audio { payload, format, timestamp: position.timestamp }
            }
            Step::Lost(samples) => Frame::Lost { samples },
            Step::Dry(samples) => Frame::Dry { samples },
            Step::Silence(samples) => Frame::Silence { samples },
        })
    }

    /// Format and payload that play next, when they are there: after [`Frame::Lost`], what may hold a copy of what was
    /// lost.
    pub fn peek(&self) -> Option<(u8, &[u8])> {
        let slot = self.ring.get(self.next.sequence)?;
        let plays = slot.duration > 0 && slot.position.timestamp == self.next.timestamp;
        plays.then_some((slot.format, &*slot.payload))
    }

    /// How much of the [`Frame::Dry`] given out turned out to have been sent, lost or late, since this was asked last; in
    /// clock units. The rest was a pause, or is open until the next packet.
    pub fn settle(&mut self) -> u32 {
        std::mem::take(&mut self.missing)
    }

    /// By how much the frame just popped should change its length.
    pub fn adjustment(&self) -> Adjustment {
        let Some(excess) =
            self.excess().filter(|_| self.state == State::Playing && self.cursor >= self.hold_until)
        else {
            return Adjustment::Keep;
        };
        let length = Duration::from_nanos(excess.unsigned_abs());
        match excess {
            ABOVE.. => Adjustment::Shorten(length),
            ..=BELOW => Adjustment::Lengthen(length),
            _ => Adjustment::Keep,
        }
    }

    /// The frame just popped plays for this much shorter or longer.
    pub fn adjusted(&mut self, by: Adjustment) {
        match by {
            Adjustment::Keep => {}
            Adjustment::Shorten(length) => {
                self.cursor = self.cursor.checked_sub(length).unwrap_or(self.cursor);
                self.counts.shortened += length;
            }
            Adjustment::Lengthen(length) => {
                self.cursor += length;
                self.counts.stretched += length;
            }
        }
    }

    /// When the next frame is due; `None` before the first packet.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (self.state != State::Idle).then_some(self.cursor)
    }

    /// Forgets the stream: the sender restarted. Counts stay, and what is known of the network.
    pub fn reset(&mut self) {
        self.counts.resets += 1;
        self.counts.forgotten += self.ring.clear();
        self.state = State::Idle;
        self.dry = None;
        self.hold_until = self.cursor;
        self.highest = 0;
        self.history = 0;
        self.next = Position { sequence: 0, timestamp: 0 };
    }

    /// The same for a sender that changed to a codec with another clock, in Hz.
    pub fn change_clock(&mut self, clock_rate: u32) {
        self.reset();
        self.config.clock_rate = clock_rate;
        self.frame = clock_rate / 50;
        self.arrivals.change_clock(clock_rate);
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How long the last packet played had waited.
    pub fn delay(&self) -> Duration {
        self.delay
    }

    /// How long the fastest packets are to wait, as the network is now.
    pub fn target(&self) -> Duration {
        Duration::from_nanos(self.arrivals.target().unsigned_abs())
    }

    /// The delay beyond which packets are dropped while others wait: [`Config::max`].
    pub fn limit(&self) -> Duration {
        self.config.max
    }

    /// How evenly packets came.
    pub fn lateness(&self) -> Lateness {
        self.arrivals.report()
    }

    /// Packets that wait now.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether no packet waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn store(&mut self, now: Instant, position: Position, duration: u32, content: (u8, &[u8])) -> Pushed {
        if position.sequence < self.next.sequence
            && let Err(refused) = self.go_back_to(position)
        {
            return refused;
        }
        self.make_room(position.sequence);
        if !self.ring.put(now, position, duration, content) {
            self.counts.duplicate += 1;
            return Pushed::Duplicate;
        }
        if position.sequence < self.highest {
            self.counts.reordered += 1;
        }
        self.highest = self.highest.max(position.sequence);
        Pushed::Stored
    }

    /// Plays a late packet after all when nothing newer was played and the delay stays in its bounds.
    fn go_back_to(&mut self, position: Position) -> Result<(), Pushed> {
        let behind = self.next.sequence - position.sequence;
        if behind <= 64 && self.history >> (behind - 1) & 1 == 1 {
            self.counts.duplicate += 1;
            return Err(Pushed::Duplicate);
        }
        let level = self.arrivals.lateness(self.cursor, position.timestamp);
        let fits = level.is_none_or(|level| level <= nanos(self.config.max));
        let collides = self.ring.get(position.sequence + CAPACITY).is_some();
        if !self.is_new(position.sequence) || !fits || collides {
            self.counts.late += 1;
            return Err(Pushed::Late);
        }
        self.aim_at(position);
        self.counts.awaited += 1;
        Ok(())
    }

    /// Whether no packet from this sequence number on was played.
    fn is_new(&self, sequence: u64) -> bool {
        let behind = self.next.sequence.saturating_sub(sequence);
        behind <= u64::from(self.history.trailing_zeros())
    }

    /// Drops the oldest packets until this sequence number is within the ring.
    fn make_room(&mut self, sequence: u64) {
        let oldest = (sequence + 1).saturating_sub(CAPACITY);
        if oldest <= self.next.sequence {
            return;
        }
        let dropped = (self.next.sequence..oldest.min(self.next.sequence + CAPACITY))
            .filter(|&n| self.ring.free(n))
            .count();
        self.counts.overflow += dropped as u64;
        self.skip_to(oldest);
    }

    /// Begins a talk spurt, if this packet does: it plays when the fastest one would have waited for the target.
    fn start(&mut self, now: Instant, position: Position) {
        let idle = self.state == State::Idle;
        match self.state {
            State::Idle => self.arrivals.begin(now, position.timestamp),
            State::Silent if self.is_new(position.sequence) => self.arrivals.resume(now, position.timestamp),
            State::Silent | State::Playing => return,
        }
        self.start_at(position);
        let late = self.arrivals.lateness(now, position.timestamp).unwrap_or(0).max(0);
        let wait = Duration::from_nanos((self.arrivals.target() - late).max(0).unsigned_abs());
        self.hold_until = self.cursor.max(now + wait);
        if idle {
            self.cursor = self.hold_until;
        }
    }

    fn start_at(&mut self, position: Position) {
        self.aim_at(position);
        self.highest = self.highest.max(position.sequence);
        self.state = State::Playing;
        self.concealed = 0;
        self.after_other = false;
    }

    /// Takes the packet at `next` out of the ring.
    fn consume(&mut self, sequence: u64) {
        self.ring.free(sequence);
        self.history = self.history << 1 | 1;
        self.next.sequence = sequence + 1;
    }

    /// Moves `next` forward over packets that will not be played.
    fn skip_to(&mut self, sequence: u64) {
        let skipped = sequence.saturating_sub(self.next.sequence);
        self.history = self.history.checked_shl(u32::try_from(skipped).unwrap_or(64)).unwrap_or(0);
        self.next.sequence = self.next.sequence.max(sequence);
    }

    /// Moves `next` to a packet, forward or back.
    fn aim_at(&mut self, position: Position) {
        let back = self.next.sequence.saturating_sub(position.sequence);
        self.history = self.history.checked_shr(u32::try_from(back).unwrap_or(64)).unwrap_or(0);
        self.skip_to(position.sequence);
        self.next = position;
    }

    fn advance(&mut self, samples: u32) {
        self.cursor += self.span(samples);
    }

    /// Level above target, in nanoseconds.
    fn excess(&self) -> Option<i64> {
        Some(self.arrivals.lateness(self.cursor, self.next.timestamp)? - self.arrivals.target())
    }

    /// Whether the level is beyond the maximum by more than the frame that a late packet may add.
    fn is_beyond_bounds(&self) -> bool {
        let level = self.arrivals.lateness(self.cursor, self.next.timestamp);
        level.is_some_and(|level| level > nanos(self.config.max + self.span(self.frame)))
    }

    fn span(&self, samples: u32) -> Duration {
        Duration::from_nanos(u64::from(samples) * 1_000_000_000 / u64::from(self.config.clock_rate))
    }
}

fn units(span: Duration, clock_rate: u32) -> u32 {
    u32::try_from(span.as_nanos() * u128::from(clock_rate) / 1_000_000_000).unwrap_or(u32::MAX)
}

fn nanos(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}
