//! The media of one call, without sockets or clocks: packet in → samples heard, tick → packet out.
//!
//! ```text
//! handle_packet ─▶ source lock ─▶ reception ─▶ jitter buffer ─┐           ┌─▶ Hearing
//! tick ─────────────────────────────────────────▶ decode ─▶ resample ─▶ line
//!                                                 encode ◀─ resample ◀─ line ◀─ Speaking
//! poll_transmit ◀─ RTP header ◀──────────────────────┘
//! ```
//!
//! # Driving contract
//! One thread hands in time. For each datagram [`MediaSession::handle_packet`]; when
//! [`MediaSession::poll_timeout`] is due, or on any shorter beat, [`MediaSession::tick`]; then
//! [`MediaSession::poll_transmit`] until it gives nothing. Time must not go back. None of the three allocates, locks
//! or blocks once buffers have grown to the size of the call's frames.

mod noise;
mod plan;
mod receive;
pub mod recording;
mod send;

pub use plan::{Plan, PlanError};
pub use send::MAX_BURST;

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use receive::Receiving;
use recording::Tap;
use send::Sending;

use crate::codec::CodecSpec;
use crate::conversation::{EndReason, Event, HangUpReason, LineEnd};
use crate::jitter;
use crate::report::MediaReport;
use crate::rtp::source::SymmetricRtp;
use crate::sdp::Direction;

/// How one call's media is handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How far the address in SDP binds who may send to us. Default [`SymmetricRtp::Auto`].
    pub symmetric_rtp: SymmetricRtp,
    /// The jitter buffer; its clock rate is taken from the codec.
    pub jitter: jitter::Config,
    /// Without packets for this long while media flows both ways, a hang-up is asked for. Default 60 s; zero: never.
    pub media_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            symmetric_rtp: SymmetricRtp::Auto,
            jitter: jitter::Config::default(),
            media_timeout: Duration::from_secs(60),
        }
    }
}

impl Config {
    fn jitter_for(&self, codec: CodecSpec) -> jitter::Config {
        jitter::Config { clock_rate: codec.clock_rate, ..self.jitter }
    }
}

/// The media session of one call.
pub struct MediaSession {
    config: Config,
    line: LineEnd,
    tap: Option<Tap>,
    receiving: Receiving,
    sending: Sending,
    direction: Direction,
    on_hold: bool,
    opened: Instant,
    now: Instant,
}

impl MediaSession {
    /// Starts at `now`; `seed` makes SSRC and first sequence number, and so must be random on a network.
    ///
    /// The plan's formats must be the line's. A `tap` records both directions.
    pub fn new(plan: Plan, config: Config, line: LineEnd, tap: Option<Tap>, seed: u64, now: Instant) -> Self {
        let direction = plan.negotiated().direction;
        let rates = plan.rates();
        let (to_receive, to_send) = plan.into_halves();
        let mut session = Self {
            receiving: Receiving::new(to_receive, &config, now),
            sending: Sending::new(to_send, line.speaks().sample_rate(), seed, now),
            config,
            line,
            tap: tap.map(|tap| tap.started(rates, now)),
            direction,
            on_hold: false,
            opened: now,
            now,
        };
        session.follow(direction);
        session
    }

    /// Takes a datagram that arrived at `now`.
    pub fn handle_packet(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        self.now = now;
        self.receiving.packet(now, from, datagram);
    }

    /// Lets the conversation hear what is due, and counts the packets that are due.
    pub fn tick(&mut self, now: Instant) {
        self.now = now;
        self.receiving.play(now, &mut self.line, self.tap.as_mut());
        self.sending.tick(now, &mut self.line);
        if let Some(tap) = &mut self.tap {
            tap.keep_up(now);
        }
        self.watch_silence(now);
    }

    /// Writes the next due packet into `out` (1500 bytes always suffice) and says where it goes.
    pub fn poll_transmit(&mut self, out: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let target = self.receiving.target();
        let length = self.sending.packet(self.now, &mut self.line, self.tap.as_mut(), out)?;
        send::is_reachable(target).then_some((length, target))
    }

    /// When [`tick`](Self::tick) has something to do.
    pub fn poll_timeout(&self) -> Instant {
        let sending = self.sending.poll_timeout();
        self.receiving.poll_timeout().map_or(sending, |receiving| receiving.min(sending))
    }

    /// Takes over a re-INVITE or UPDATE (RFC 3264 §8): direction, address, packet time, codec. The conversation's
    /// formats stay, so the plan must be made with the same ones.
    pub fn update(&mut self, now: Instant, plan: Plan) {
        let direction = plan.negotiated().direction;
        let rates = plan.rates();
        let (to_receive, to_send) = plan.into_halves();
        self.receiving.update(to_receive, &self.config, now);
        self.sending.update(to_send, self.line.speaks().sample_rate());
        if let Some(tap) = &mut self.tap {
            tap.set_rates(rates);
        }
        self.follow(direction);
    }

    /// Ends the line; the conversation hears why.
    pub fn end(&mut self, reason: EndReason) {
        self.line.end(reason);
    }

    /// The quality so far.
    pub fn report(&self) -> MediaReport {
        let mut report = MediaReport::default();
        self.receiving.report(self.opened, &mut report);
        self.sending.report(self.opened, &mut report);
        let unheard = self.line.hearing_counts().dropped_samples;
        report.unheard = receive::span(unheard, self.line.hears().sample_rate());
        report
    }

    /// On hold is who may not send: the far end does not want to hear us (RFC 3264 §8.4).
    fn follow(&mut self, direction: Direction) {
        self.direction = direction;
        let hold = !direction.sends();
        if hold != self.on_hold {
            self.on_hold = hold;
            self.line.give_event(if hold { Event::Hold } else { Event::Resume });
        }
    }

    fn watch_silence(&mut self, now: Instant) {
        let limit = self.config.media_timeout;
        let expected = self.direction == Direction::SendRecv && !limit.is_zero();
        if expected && self.receiving.silent_for(now) >= limit {
            self.line.hang_up(HangUpReason::MediaTimeout);
        }
    }
}

impl fmt::Debug for MediaSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediaSession")
            .field("direction", &self.direction)
            .field("report", &self.report())
            .finish_non_exhaustive()
    }
}
