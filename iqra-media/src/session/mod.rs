//! The media of one call, without sockets or clocks: packet in → samples heard, tick → packet out.
//!
//! ```text
//! handle_packet ─▶ SRTP ─▶ source lock ─▶ reception ─▶ jitter buffer ─┐        ┌─▶ Hearing
//! tick ────────────────────────────────────────────▶ decode ─▶ resample ─▶ line
//!                                                    encode ◀─ resample ◀─ line ◀─ Speaking
//! poll_transmit ◀─ SRTP ◀─ RTP header ◀─────────────────┘
//!
//! handle_packet ─▶ SRTCP ─▶ control (RTCP) ─▶ round trip, the far end's view
//! poll_transmit ◀─ SRTCP ◀─ control: reports every five seconds, BYE at the end
//! ```
//! Beside the path of what is heard are the detectors that [`Detect`] names; `detection.rs` says what they hear.
//!
//! # Driving contract
//! One thread hands in time. For each datagram [`MediaSession::handle_packet`]; when
//! [`MediaSession::poll_timeout`] is due, or on any shorter beat, [`MediaSession::tick`]; then
//! [`MediaSession::poll_transmit`] until it gives nothing. Time must not go back, but a datagram is handed in with the time
//! at which it arrived, which is before the present by as long as it waited; only among those of one port that time does
//! not go back either. None of the three allocates, locks or blocks once buffers have grown to the size of the call's
//! frames.

mod control;
mod decoders;
mod detection;
mod discretion;
#[cfg(feature = "webrtc")]
mod handshake;
mod keys;
mod noise;
mod one_way;
mod pauses;
mod plan;
mod protection;
mod receive;
pub mod recording;
mod send;

pub use detection::{Detect, VoiceDetectors};
pub use pauses::SilenceSuppression;
pub use plan::{Plan, PlanError};
pub use send::MAX_BURST;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use control::{Arrived, Control, Known};
#[cfg(feature = "webrtc")]
use handshake::Peer;
use one_way::OneWay;
use protection::Protection;
use receive::Receiving;
use recording::Tap;
use send::Sending;

use crate::codec::CodecSpec;
use crate::conversation::{EndReason, Event, HangUpReason, LineEnd};
use crate::jitter;
use crate::pcm::agc;
use crate::quality::MediaReport;
#[cfg(feature = "webrtc")]
use crate::rtp::ice::{Check, IceResponder};
use crate::rtp::packet::Protocol;
use crate::rtp::rtcp::Farewell;
use crate::rtp::source::SymmetricRtp;
use crate::rtp::telephone_event::Digit;
use crate::sdp::{Direction, Negotiated};

/// How one call's media is handled.
#[derive(Debug, Clone)]
pub struct Config {
    /// How far the address in SDP binds who may send to us. Default [`SymmetricRtp::Auto`].
    pub symmetric_rtp: SymmetricRtp,
    /// The jitter buffer; its clock rate is taken from the codec.
    pub jitter: jitter::Config,
    /// With neither RTP nor RTCP of the far end for this long, a hang-up is asked for: while media flows both ways, and on
    /// hold from a far end that reported at least twice since it began. Default 60 s; zero: never.
    pub media_timeout: Duration,
    /// What is looked for in the audio of the far end. Default: keys alone.
    pub detect: Detect,
    /// Comfort noise instead of audio while nothing is said, where the far end negotiated it. Default `None`: silence is
    /// sent as audio.
    pub silence_suppression: Option<SilenceSuppression>,
    /// Automatic gain on what is heard: by the conversation, a bridge and the detectors of voice. Recordings, and the
    /// search for keys, have the audio as it came. Default `None`: off.
    pub agc: Option<agc::Config>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            symmetric_rtp: SymmetricRtp::Auto,
            jitter: jitter::Config::default(),
            media_timeout: Duration::from_secs(60),
            detect: Detect::default(),
            silence_suppression: None,
            agc: None,
        }
    }
}

impl Config {
    fn jitter_for(&self, codec: CodecSpec) -> jitter::Config {
        jitter::Config { clock_rate: codec.clock_rate, ..self.jitter }
    }
}

/// Which socket of a call's pair a datagram came by or leaves by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Port {
    /// The one that SDP names.
    #[default]
    Rtp,
    /// The one beside it, where RTP and RTCP do not share one.
    Rtcp,
}

/// A datagram to send: the first `length` octets of the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// Octets.
    pub length: usize,
    /// Where it goes.
    pub to: SocketAddr,
    /// The socket that it leaves by.
    pub port: Port,
}

/// The media session of one call.
pub struct MediaSession {
    config: Config,
    line: LineEnd,
    tap: Option<Tap>,
    receiving: Receiving,
    sending: Sending,
    control: Control,
    protection: Protection,
    #[cfg(feature = "webrtc")]
    ice: Option<IceResponder>,
    random: fastrand::Rng,
    /// Who was last seen to use our SSRC.
    collided: Option<IpAddr>,
    /// The far end's address by its SDP.
    remote: SocketAddr,
    direction: Direction,
    on_hold: bool,
    is_answered: bool,
    one_way: OneWay,
    opened: Instant,
    now: Instant,
}

impl MediaSession {
    /// Starts at `now`, which is `wall` on the wall clock that RTCP names its times by; `seed` makes SSRC and first
    /// sequence number, and so must be random on a network.
    ///
    /// The plan's formats must be the line's. A `tap` records both directions, from `now` on if it need not wait.
    pub fn new(
        plan: Plan,
        config: Config,
        line: LineEnd,
        tap: Option<Tap>,
        seed: u64,
        now: Instant,
        wall: SystemTime,
    ) -> Self {
        let Negotiated { direction, remote, .. } = *plan.negotiated();
        let rates = plan.rates();
        let signalled = plan.control();
        let halves = plan.into_halves();
        let mut random = fastrand::Rng::with_seed(seed);
        let tap = tap.map(|mut tap| {
            tap.set_rates(rates);
            tap.tick(now, line.recording());
            tap
        });
        let mut session = Self {
            receiving: Receiving::new(halves.to_receive, &config, &line, tap.is_some(), now),
            sending: Sending::new(
                halves.to_send,
                line.speaks().sample_rate(),
                config.silence_suppression,
                random.u64(..),
                now,
            ),
            control: Control::new(config.symmetric_rtp, signalled, random.u64(..), now, wall),
            protection: halves.protection,
            #[cfg(feature = "webrtc")]
            ice: halves.ice,
            random,
            collided: None,
            is_answered: !config.detect.early,
            one_way: OneWay::default(),
            config,
            line,
            tap,
            remote,
            direction,
            on_hold: false,
            opened: now,
            now,
        };
        session.follow(direction);
        session
    }

    /// Takes a datagram that arrived at `arrival`; its octets may be changed.
    pub fn handle_packet(&mut self, arrival: Instant, from: SocketAddr, port: Port, datagram: &mut [u8]) {
        self.now = self.now.max(arrival);
        match (Protocol::of(datagram), port) {
            (Protocol::Rtp, Port::Rtp) => self.take_rtp(arrival, from, datagram),
            (Protocol::Rtcp, _) => self.take_rtcp(arrival, from, port, datagram),
            #[cfg(feature = "webrtc")]
            (Protocol::Dtls, Port::Rtp) => self.take_dtls(from, datagram),
            #[cfg(feature = "webrtc")]
            (Protocol::Stun, Port::Rtp) => self.take_check(from, datagram),
            _ => self.receiving.malformed(),
        }
    }

    fn take_rtp(&mut self, arrival: Instant, from: SocketAddr, datagram: &mut [u8]) {
        let Some(length) = self.protection.open(datagram) else { return };
        let (ours, is_authentic) = (self.sending.ssrc(), self.protection.is_protected());
        if self.receiving.packet(arrival, (from, is_authentic), &datagram[..length], ours) {
            self.avoid_collision(from);
        }
    }

    /// Where there is ICE, only who proved by a check that he is the far end has a say in the handshake.
    #[cfg(feature = "webrtc")]
    fn take_dtls(&mut self, from: SocketAddr, datagram: &[u8]) {
        let checked = self.ice.as_ref().map(|ice| ice.knows(from));
        let is_known = checked.unwrap_or(from == self.receiving.target());
        match &mut self.protection {
            Protection::Dtls(dtls) if checked != Some(false) => {
                dtls.handle_packet(self.now, Peer { from, is_known }, datagram);
            }
            _ => self.receiving.malformed(),
        }
    }

    /// A check of ICE that proved itself may turn the media round.
    #[cfg(feature = "webrtc")]
    fn take_check(&mut self, from: SocketAddr, datagram: &[u8]) {
        let check = self.ice.as_mut().map_or(Check::Refused, |ice| ice.handle(from, datagram));
        if check == Check::Nominated {
            self.receiving.nominated(from);
        }
    }

    fn take_rtcp(&mut self, arrival: Instant, from: SocketAddr, port: Port, datagram: &mut [u8]) {
        let (peer, own_port) = (self.receiving.target(), port == Port::Rtcp);
        if !self.control.accepts(from, peer, own_port) {
            return;
        }
        let Some(length) = self.protection.open_rtcp(datagram) else { return };
        let is_authentic = self.protection.is_protected();
        let arrived = Arrived { now: arrival, from, own_port, is_authentic, compound: &datagram[..length] };
        let heard = self.receiving.heard().map(|heard| heard.ssrc);
        let told = self.control.receive(arrived, heard, self.sending.ssrc());
        if let Some(share) = self.control.far_loss() {
            self.sending.expect_loss(share);
        }
        if told.sender.is_some() {
            self.one_way.reported(arrival, told.highest_sequence, self.sending.packets());
        }
        if told.collision {
            self.avoid_collision(from);
        }
    }

    /// The far end goes by our SSRC, or somebody sends our packets back to us. Who does so again under the new SSRC is
    /// an echo, from which there is no getting away: it is heard as any far end (RFC 3550 §8.2).
    fn avoid_collision(&mut self, from: SocketAddr) {
        if self.collided.replace(from.ip()) == Some(from.ip()) {
            return;
        }
        let known = self.known();
        self.control.bid_farewell(Farewell::Collision, known);
        self.sending.rename(self.random.u32(..));
    }

    /// Lets the conversation hear what is due, and counts the packets that are due.
    pub fn tick(&mut self, now: Instant) {
        self.now = now;
        if let Some(tap) = &mut self.tap {
            tap.tick(now, self.line.recording());
        }
        self.receiving.play(now, &mut self.line, self.tap.as_mut());
        self.shake_hands();
        match self.is_set_up() {
            true => self.sending.tick(now, &mut self.line),
            false => self.sending.wait(now, &mut self.line),
        }
        self.watch_silence(now);
        self.watch_directions(now);
    }

    fn watch_directions(&mut self, now: Instant) {
        let expected = self.direction == Direction::SendRecv && self.is_answered && self.is_set_up();
        let silent =
            if self.receiving.is_resting() { Duration::ZERO } else { self.receiving.silent_for(now) };
        self.one_way.tick(now, expected, silent, self.sending.packets());
    }

    /// Whether the keys and the far end's address are there.
    fn is_set_up(&self) -> bool {
        self.protection.is_ready() && !self.awaits_address()
    }

    /// Whether ICE has still to find out where the far end is (RFC 8839 §4.3.1).
    fn awaits_address(&self) -> bool {
        self.receiving.has_ice() && !send::is_reachable(self.receiving.target())
    }

    /// Goes on with the handshake that media waits for, if there is one; a call whose media cannot be protected ends.
    fn shake_hands(&mut self) {
        #[cfg(feature = "webrtc")]
        if let Protection::Dtls(dtls) = &mut self.protection {
            dtls.handle_timeout(self.now);
            if let Some(failure) = dtls.failure() {
                self.line.hang_up(HangUpReason::MediaSecurity(failure.to_string()));
            }
        }
    }

    /// Answers to checks and flights of the handshake.
    #[cfg(feature = "webrtc")]
    fn poll_setup(&mut self, out: &mut [u8]) -> Option<Transmit> {
        let peer = self.receiving.target();
        let answer = self.ice.as_mut().and_then(|ice| ice.poll_transmit(out));
        let flight = || match &mut self.protection {
            Protection::Dtls(dtls) => dtls.poll_transmit(self.now, peer, out),
            _ => None,
        };
        let (length, to) = answer.or_else(flight).filter(|(_, to)| send::is_reachable(*to))?;
        Some(Transmit { length, to, port: Port::Rtp })
    }

    /// Writes the next due datagram into `out` (1500 bytes always suffice) and says where it goes.
    pub fn poll_transmit(&mut self, out: &mut [u8]) -> Option<Transmit> {
        #[cfg(feature = "webrtc")]
        if let Some(setup) = self.poll_setup(out) {
            return Some(setup);
        }
        while let Some(length) = self.sending.packet(self.now, &mut self.line, self.tap.as_mut(), out) {
            let to = self.receiving.target();
            let length = self.protection.protect(out, length).filter(|_| send::is_reachable(to));
            if let Some(length) = length {
                return Some(Transmit { length, to, port: Port::Rtp });
            }
        }
        self.poll_control(out)
    }

    fn poll_control(&mut self, out: &mut [u8]) -> Option<Transmit> {
        if !self.control.is_due(self.now) {
            return None;
        }
        let known = self.known();
        let length = self.control.poll(self.now, known, out)?;
        let (to, port) = self.control.target(self.receiving.target())?;
        let length = self.protection.protect_rtcp(out, length).filter(|_| send::is_reachable(to))?;
        Some(Transmit { length, to, port })
    }

    fn known(&self) -> Known {
        let quality = self.halves_report();
        Known { heard: self.receiving.heard(), sent: self.sending.sent(self.now), quality }
    }

    /// The quality as far as it is known without RTCP.
    fn halves_report(&self) -> MediaReport {
        let mut report = MediaReport::default();
        self.receiving.report(self.opened, &mut report);
        self.sending.report(self.opened, &mut report);
        report
    }

    /// When [`tick`](Self::tick) has something to do.
    pub fn poll_timeout(&self) -> Instant {
        let sending = self.sending.poll_timeout().min(self.control.poll_timeout());
        #[cfg(feature = "webrtc")]
        let sending = match &self.protection {
            Protection::Dtls(dtls) => dtls.poll_timeout().map_or(sending, |at| at.min(sending)),
            _ => sending,
        };
        self.receiving.poll_timeout().map_or(sending, |receiving| receiving.min(sending))
    }

    /// Takes over a re-INVITE or UPDATE (RFC 3264 §8): direction, address, packet time, codec. The conversation's
    /// formats stay, so the plan must be made with the same ones.
    pub fn update(&mut self, now: Instant, plan: Plan) {
        let Negotiated { direction, remote, .. } = *plan.negotiated();
        let rates = plan.rates();
        self.control.update(plan.control());
        let halves = plan.into_halves();
        self.receiving.update(halves.to_receive, &self.config, now);
        self.sending.update(halves.to_send, self.line.speaks().sample_rate());
        let moved = std::mem::replace(&mut self.remote, remote) != remote;
        self.protection.update(halves.protection, moved);
        #[cfg(feature = "webrtc")]
        {
            self.ice = match (self.ice.take(), halves.ice) {
                (Some(before), Some(now)) => Some(before.followed_by(now)),
                (_, now) => now,
            };
        }
        if let Some(tap) = &mut self.tap {
            tap.set_rates(rates);
        }
        self.follow(direction);
    }

    /// The call is answered, where [`Detect::early`] said that it was not yet. Media flows on.
    pub fn answered(&mut self) {
        self.is_answered = true;
        self.receiving.answered(&self.line);
    }

    /// A key of the far end that came beside the media: in the body of an INFO, or by a provider's message. Where it came in
    /// the media too, within [`MERGE`](crate::detect::presses::MERGE), the conversation hears it once.
    pub fn press(&mut self, now: Instant, digit: Digit) {
        self.receiving.press(now, digit, &mut self.line);
    }

    /// Ends the line; the conversation hears why.
    pub fn end(&mut self, reason: EndReason) {
        self.receiving.pause(&mut self.line);
        self.line.end(reason);
    }

    /// Whether RTCP has a port of its own, so that [`Port::Rtcp`] is to be listened to.
    pub fn has_rtcp_port(&self) -> bool {
        self.control.has_own_port()
    }

    /// Ends the stream: what [`poll_transmit`](Self::poll_transmit) gives next holds the BYE of RTCP. Ask it once more
    /// before the session is dropped, so that the far end knows.
    pub fn close(&mut self) {
        let known = self.known();
        self.control.bid_farewell(Farewell::Over, known);
    }

    /// The quality so far.
    pub fn report(&self) -> MediaReport {
        let mut report = self.halves_report();
        self.control.report(&mut report);
        (report.nothing_came, report.nothing_arrived) =
            (self.one_way.nothing_came, self.one_way.nothing_arrived);
        report.not_authentic = self.protection.refused();
        let unheard = self.line.hearing_counts().dropped_samples;
        report.unheard = receive::span(unheard, self.line.hears().sample_rate());
        let spoken = self.line.speaking_counts();
        report.playout_underruns = spoken.underruns;
        report.playout_gaps = receive::span(spoken.missing_samples, self.line.speaks().sample_rate());
        report
    }

    /// On hold is who may not send: the far end does not want to hear us (RFC 3264 §8.4).
    fn follow(&mut self, direction: Direction) {
        if direction != self.direction {
            self.direction = direction;
            self.control.turned();
        }
        if !direction.receives() {
            self.receiving.pause(&mut self.line);
        }
        let hold = !direction.sends();
        if hold != self.on_hold {
            self.on_hold = hold;
            self.line.give_event(if hold { Event::Hold } else { Event::Resume });
        }
    }

    /// On hold RTP is not to be expected; RTCP is, where the far end sends any (RFC 3550 §6.3.5).
    fn watch_silence(&mut self, now: Instant) {
        let limit = self.config.media_timeout;
        let watched = self.direction == Direction::SendRecv || self.control.reports_on();
        let silent =
            self.control.silent_for(now).unwrap_or(Duration::MAX).min(self.receiving.silent_for(now));
        if watched && !limit.is_zero() && silent >= limit {
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
