//! The receiving half: datagram → source lock → reception → jitter buffer → decode or conceal → stretch → resample →
//! gain → hearing.
//!
//! The far end may change among the codecs of its answer (`decoders.rs`): packets wait with the number of their codec,
//! and where clock rates differ the time line begins anew.
//!
//! Telephone-events leave the path after the reception and become key presses (RFC 4733 §2.5.2).

mod play;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Config;
use super::decoders::Decoders;
use super::detection::Ears;
use super::discretion::Discretion;
use super::noise::Noise;
use super::plan::{Parts, ToReceive};
use crate::codec::CodecSpec;
use crate::conversation::LineEnd;
use crate::detect::dtmf;
use crate::detect::presses::{MERGE, Presses};
use crate::jitter::Buffer;
use crate::jitter::conceal::Concealer;
use crate::jitter::stretch::Stretch;
use crate::pcm::Resampler;
use crate::pcm::agc::Agc;
use crate::quality::MediaReport;
use crate::quality::bursts::Bursts;
use crate::rtp::packet::Packet;
use crate::rtp::reception::{Position, Reception, Verdict};
use crate::rtp::rtcp::Heard;
use crate::rtp::source::{Claim, Source, SourceLock};
use crate::rtp::telephone_event::Receiver;
use crate::sdp::{RemoteIce, TelephoneEvent};

/// What is counted here and nowhere below.
#[derive(Debug, Default)]
struct Counts {
    bytes: u64,
    malformed: u64,
    /// Packets of payload types that nobody agreed on.
    unknown: u64,
    keys: u64,
    /// Frames of which a copy came.
    recovered: u64,
    /// Audio made up for packets that were missing.
    concealed: Duration,
}

pub(super) struct Receiving {
    decoders: Decoders,
    /// Units of the stream's timestamps in Hz.
    clock_rate: u32,
    noise: Noise,
    events: Option<(u8, Receiver)>,
    /// Listens for keys in the audio, where the far end has no other way to send them.
    tones: Option<dtmf::Detector>,
    /// Whether a key came since the last frame.
    key_came: bool,
    /// Listens for everything else, where anything is wanted.
    ears: Option<Box<Ears>>,
    is_recorded: bool,
    discretion: Discretion,
    to_hearing: Resampler,
    agc: Option<Agc>,
    source: SourceLock,
    /// The far end's side of ICE by its SDP.
    ice: Option<RemoteIce>,
    reception: Reception,
    jitter: Buffer,
    concealer: Concealer,
    bursts: Bursts,
    /// The length of the last packet in clock units.
    packet_units: u32,
    stretch: Stretch,
    pcm: Vec<i16>,
    heard: Vec<i16>,
    wanted: bool,
    last_packet: Instant,
    /// The last packet described the noise of a pause.
    is_resting: bool,
    first_played: Option<Instant>,
    /// Keys of every source, each told once.
    presses: Presses,
    counts: Counts,
}

impl Receiving {
    pub(super) fn new(
        parts: ToReceive,
        config: &Config,
        line: &LineEnd,
        is_recorded: bool,
        now: Instant,
    ) -> Self {
        let Parts { negotiated, codec: decoders, resampler: to_hearing } = parts;
        let (codec, decoded) = (negotiated.codec, decoders.decoded());
        let tones = listener(config, negotiated.telephone_event, decoded);
        Self {
            decoders,
            clock_rate: codec.clock_rate,
            noise: Noise::new(codec, decoded, negotiated.comfort_noise),
            discretion: Discretion::new(guard(is_recorded, tones.is_some(), decoded)),
            tones,
            key_came: false,
            ears: Ears::new(&config.detect, line),
            is_recorded,
            events: negotiated.telephone_event.map(|te| (te.receive_payload, Receiver::new(te.clock_rate))),
            to_hearing,
            agc: config.agc.map(|agc| Agc::new(line.hears().sample_rate(), agc)),
            source: SourceLock::new(config.symmetric_rtp, negotiated.remote),
            ice: negotiated.ice,
            reception: Reception::new(codec.clock_rate),
            jitter: Buffer::new(config.jitter_for(codec), now),
            concealer: Concealer::new(decoded.sample_rate),
            bursts: Bursts::default(),
            packet_units: codec.duration(negotiated.ptime_ms.into()),
            stretch: Stretch::new(decoded.sample_rate),
            pcm: Vec::new(),
            heard: Vec::new(),
            wanted: negotiated.direction.receives(),
            last_packet: now,
            is_resting: false,
            first_played: None,
            presses: Presses::new(MERGE),
            counts: Counts::default(),
        }
    }

    /// Takes over a re-INVITE. Another codec starts the jitter buffer's counts over, and another clock rate those of
    /// the stream.
    pub(super) fn update(&mut self, parts: ToReceive, config: &Config, now: Instant) {
        let negotiated = parts.negotiated;
        let before = self.decoders.first_codec();
        let receiver = |te: TelephoneEvent| (te.receive_payload, Receiver::new(te.clock_rate));
        self.events = match (self.events.take(), negotiated.telephone_event) {
            (Some((_, running)), Some(te)) if negotiated.codec == before => {
                Some((te.receive_payload, running))
            }
            (_, offered) => offered.map(receiver),
        };
        // Also over a restart media goes where ICE chose before, until it chooses anew (RFC 8839 §4.4.3.2).
        let checks = |ice: &Option<RemoteIce>| ice.as_ref().is_some_and(|far_end| !far_end.lite);
        if checks(&negotiated.ice) && checks(&self.ice) {
            self.source.renegotiated_within_ice(negotiated.remote);
        } else {
            self.source.renegotiated(negotiated.remote);
        }
        self.ice = negotiated.ice;
        self.wanted = negotiated.direction.receives();
        self.last_packet = now;
        self.noise.renumbered(negotiated.comfort_noise);
        if !self.decoders.is_first() {
            self.jitter.reset();
            self.use_clock(before.clock_rate);
        }
        if self.decoders.update(parts.codec) {
            let (codec, decoded) = (negotiated.codec, self.decoders.decoded());
            if codec.clock_rate != before.clock_rate {
                self.reception = Reception::new(codec.clock_rate);
            }
            self.clock_rate = codec.clock_rate;
            self.noise = Noise::new(codec, decoded, negotiated.comfort_noise);
            self.to_hearing = parts.resampler;
            self.jitter = Buffer::new(config.jitter_for(codec), now);
            self.concealer = Concealer::new(decoded.sample_rate);
            self.stretch = Stretch::new(decoded.sample_rate);
        }
        let decoded = self.decoders.decoded();
        self.tones = listener(config, negotiated.telephone_event, decoded);
        self.discretion.set_guard(guard(self.is_recorded, self.tones.is_some(), decoded));
    }

    /// Where packets go: to whom we listen, else to the signalled address.
    pub(super) fn target(&self) -> SocketAddr {
        self.source.target()
    }

    /// Whether ICE finds the address of the far end.
    pub(super) fn has_ice(&self) -> bool {
        self.ice.is_some()
    }

    /// The far end proved by ICE that it is there.
    #[cfg(feature = "webrtc")]
    pub(super) fn nominated(&mut self, address: SocketAddr) {
        self.source.nominated(address);
    }

    pub(super) fn silent_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last_packet)
    }

    /// Whether the far end said that it pauses.
    pub(super) fn is_resting(&self) -> bool {
        self.is_resting
    }

    /// Takes a packet that is in the clear by now, and `is_authentic` where SRTP vouches for it; tells whether its sender
    /// calls itself as we do (RFC 3550 §8.2).
    pub(super) fn packet(
        &mut self,
        now: Instant,
        (from, is_authentic): (SocketAddr, bool),
        datagram: &[u8],
        ours: u32,
    ) -> bool {
        let Ok(packet) = Packet::parse(datagram) else {
            self.counts.malformed += 1;
            return false;
        };
        if self.source.check(now, from, Claim::of(&packet, is_authentic)) == Source::Refuse {
            return false;
        }
        self.last_packet = now;
        self.counts.bytes += datagram.len() as u64;
        if let Some(format) = self.decoders.find(packet.payload_type()) {
            self.use_clock(self.decoders.codec_of(format).clock_rate);
        }
        match self.reception.receive(now, &packet) {
            Verdict::Accepted(position) => self.accept(now, position, &packet),
            Verdict::Restarted(position) => {
                self.restart();
                self.accept(now, position, &packet);
            }
            Verdict::Probation => {}
        }
        packet.ssrc() == ours
    }

    /// A datagram that is neither RTP nor RTCP.
    pub(super) fn malformed(&mut self) {
        self.counts.malformed += 1;
    }

    /// What was heard of the far end's stream, for RTCP.
    pub(super) fn heard(&self) -> Option<Heard> {
        self.reception.heard()
    }

    fn accept(&mut self, now: Instant, position: Position, packet: &Packet<'_>) {
        self.is_resting = self.noise.is_described_by(packet.payload_type());
        match self.decoders.find(packet.payload_type()) {
            Some(format) if self.wanted => {
                let duration = self.decoders.duration(format, packet.payload());
                if duration > 0 {
                    self.packet_units = duration;
                }
                self.jitter.push_format(now, position, duration, format, packet.payload());
                return;
            }
            Some(_) => {}
            None => self.accept_other(now, position, packet),
        }
        self.jitter.push_other(now, position);
    }

    /// Keys, comfort noise, or what nobody agreed on.
    fn accept_other(&mut self, now: Instant, position: Position, packet: &Packet<'_>) {
        let payload_type = packet.payload_type();
        if let Some((events, receiver)) = &mut self.events
            && payload_type == *events
        {
            receiver.receive(now, packet.timestamp(), packet.payload());
        } else if self.noise.is_described_by(payload_type) {
            self.noise.describe(position.timestamp, packet.payload());
        } else {
            self.counts.unknown += 1;
        }
    }

    /// The far end changed to a codec whose clock may be another one. What waits in other units is left out.
    fn use_clock(&mut self, rate: u32) {
        if rate != self.clock_rate {
            self.packet_units =
                (u64::from(self.packet_units) * u64::from(rate) / u64::from(self.clock_rate.max(1))) as u32;
            self.clock_rate = rate;
            self.reception.change_clock(rate);
            self.jitter.change_clock(rate);
        }
    }

    fn restart(&mut self) {
        self.jitter.reset();
        self.concealer.reset();
        self.decoders.reset();
        self.noise.stop();
        if let Some((_, receiver)) = &mut self.events {
            receiver.restart();
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let keys = self.events.as_ref().and_then(|(_, receiver)| receiver.poll_timeout());
        [self.jitter.poll_timeout(), keys].into_iter().flatten().min()
    }

    pub(super) fn report(&self, opened: Instant, report: &mut MediaReport) {
        let jitter = self.jitter.counts();
        report.codec = self.decoders.codec().name;
        report.packets_received = self.reception.received();
        report.bytes_received = self.counts.bytes;
        report.lost = self.reception.lost();
        report.recovered = self.counts.recovered;
        report.late = jitter.late + jitter.dropped;
        report.overflow = jitter.overflow;
        report.duplicate = jitter.duplicate;
        report.reordered = jitter.reordered;
        report.malformed = self.counts.malformed;
        report.unknown = self.counts.unknown;
        report.refused = self.source.refused();
        report.jitter = self.reception.jitter();
        report.lateness = self.jitter.lateness();
        report.delay = self.jitter.delay();
        report.packet_time = span(self.packet_units.into(), self.clock_rate);
        report.missing = self.bursts.missing_share();
        report.burst_ratio = self.bursts.burst_ratio();
        report.bursts = self.bursts.counts();
        report.concealed = self.counts.concealed;
        report.target_delay = self.jitter.target();
        report.delay_limit = self.jitter.limit();
        report.stretched = jitter.stretched;
        report.shortened = jitter.shortened;
        report.underruns = jitter.underruns;
        report.dtmf_received = self.counts.keys;
        report.first_audio_in = self.first_played.map(|first| first.saturating_duration_since(opened));
    }
}

/// Whether ICE goes on: other credentials begin it anew (RFC 8839 §4.4.1.1.1).
/// Listens to the audio of a far end that sends no telephone-events, if that is wanted.
fn listener(config: &Config, events: Option<TelephoneEvent>, decoded: CodecSpec) -> Option<dtmf::Detector> {
    (config.detect.keys && events.is_none()).then(|| dtmf::Detector::new(decoded.sample_rate))
}

/// Hears keys for the sake of secrets in a recording, where nobody else listens.
fn guard(is_recorded: bool, is_listened: bool, decoded: CodecSpec) -> Option<dtmf::Detector> {
    (is_recorded && !is_listened).then(|| dtmf::Detector::new(decoded.sample_rate))
}

pub(super) fn span(samples: u64, rate: u32) -> Duration {
    Duration::from_nanos(samples.saturating_mul(1_000_000_000) / u64::from(rate.max(1)))
}
