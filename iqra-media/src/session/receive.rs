//! The receiving half: datagram → source lock → reception → jitter buffer → decode or conceal → stretch → resample →
//! gain → hearing.
//!
//! The far end may change among the codecs of its answer (`decoders.rs`): packets wait with the number of their codec,
//! and where clock rates differ the time line begins anew.
//!
//! Telephone-events leave the path after the reception and become key presses (RFC 4733 §2.5.2).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Config;
use super::detection::Ears;
use super::discretion::Discretion;
use super::noise::Noise;
use super::plan::{Parts, ToReceive};
use super::recording::Tap;
use crate::codec::{CodecSpec, Decoder};
use crate::conversation::{Event, LineEnd};
use crate::detect::dtmf::{self, KeyEvent};
use crate::detect::presses::{self, MERGE, Presses};
use crate::jitter::conceal::Concealer;
use crate::jitter::stretch::Stretch;
use crate::jitter::{Adjustment, Buffer, Frame};
use crate::pcm::Resampler;
use crate::pcm::agc::Agc;
use crate::quality::MediaReport;
use crate::quality::bursts::Bursts;
use crate::rtp::packet::Packet;
use crate::rtp::reception::{Position, Reception, Verdict};
use crate::rtp::rtcp::Heard;
use crate::rtp::source::{Source, SourceLock};
use crate::rtp::telephone_event::{Digit, Receiver};
use crate::sdp::{RemoteIce, TelephoneEvent};

/// The longest frame that is decoded: 120 ms of stereo at 48 kHz.
const MAX_FRAME: usize = 11_520;

/// The most packets that one stretch of made-up audio counts as; a stretch is no longer than a frame.
const MAX_MISSING: u32 = 12;

/// What is counted here and nowhere below.
#[derive(Debug, Default)]
struct Counts {
    bytes: u64,
    malformed: u64,
    keys: u64,
    concealed: u64,
}

pub(super) struct Receiving {
    /// As negotiated.
    codec: CodecSpec,
    /// What the far end says of it, by its `a=fmtp`.
    fmtp: String,
    /// What the decoder gives.
    decoded: CodecSpec,
    noise: Noise,
    payload_type: u8,
    events: Option<(u8, Receiver)>,
    /// Listens for keys in the audio, where the far end has no other way to send them.
    tones: Option<dtmf::Detector>,
    /// Whether a key came since the last frame.
    key_came: bool,
    /// Listens for everything else, where anything is wanted.
    ears: Option<Box<Ears>>,
    is_recorded: bool,
    discretion: Discretion,
    decoder: Box<dyn Decoder>,
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
        let Parts { negotiated, codec: decoder, resampler: to_hearing } = parts;
        let (codec, decoded) = (negotiated.codec, decoder.spec());
        let tones = listener(config, negotiated.telephone_event, decoded);
        Self {
            codec,
            fmtp: negotiated.remote_fmtp,
            decoded,
            noise: Noise::new(codec, decoded, negotiated.comfort_noise),
            discretion: Discretion::new(guard(is_recorded, tones.is_some(), decoded)),
            tones,
            key_came: false,
            ears: Ears::new(&config.detect, line),
            is_recorded,
            payload_type: negotiated.receive_payload,
            events: negotiated.telephone_event.map(|te| (te.receive_payload, Receiver::new(te.clock_rate))),
            decoder,
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
            first_played: None,
            presses: Presses::new(MERGE),
            counts: Counts::default(),
        }
    }

    /// Takes over a re-INVITE. Another codec starts the jitter buffer's counts over, and another clock rate those of
    /// the stream.
    pub(super) fn update(&mut self, parts: ToReceive, config: &Config, now: Instant) {
        let negotiated = parts.negotiated;
        self.payload_type = negotiated.receive_payload;
        let receiver = |te: TelephoneEvent| (te.receive_payload, Receiver::new(te.clock_rate));
        self.events = match (self.events.take(), negotiated.telephone_event) {
            (Some((_, running)), Some(te)) if negotiated.codec == self.codec => {
                Some((te.receive_payload, running))
            }
            (_, offered) => offered.map(receiver),
        };
        if negotiated.ice.is_some() && same_side(negotiated.ice.as_ref(), self.ice.as_ref()) {
            self.source.renegotiated_within_ice(negotiated.remote);
        } else {
            self.source.renegotiated(negotiated.remote);
        }
        self.ice = negotiated.ice;
        self.wanted = negotiated.direction.receives();
        self.last_packet = now;
        self.noise.renumbered(negotiated.comfort_noise);
        if negotiated.codec != self.codec || negotiated.remote_fmtp != self.fmtp {
            if negotiated.codec.clock_rate != self.codec.clock_rate {
                self.reception = Reception::new(negotiated.codec.clock_rate);
            }
            self.codec = negotiated.codec;
            self.fmtp = negotiated.remote_fmtp;
            self.decoder = parts.codec;
            self.decoded = self.decoder.spec();
            self.noise = Noise::new(self.codec, self.decoded, negotiated.comfort_noise);
            self.to_hearing = parts.resampler;
            self.jitter = Buffer::new(config.jitter_for(self.codec), now);
            self.concealer = Concealer::new(self.decoded.sample_rate);
            self.stretch = Stretch::new(self.decoded.sample_rate);
        }
        self.tones = listener(config, negotiated.telephone_event, self.decoded);
        self.discretion.set_guard(guard(self.is_recorded, self.tones.is_some(), self.decoded));
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

    /// Takes a packet that is in the clear; tells whether its sender calls itself as we do (RFC 3550 §8.2).
    pub(super) fn packet(&mut self, now: Instant, from: SocketAddr, datagram: &[u8], ours: u32) -> bool {
        let Ok(packet) = Packet::parse(datagram) else {
            self.counts.malformed += 1;
            return false;
        };
        if self.source.check(now, from) == Source::Refuse {
            return false;
        }
        self.last_packet = now;
        self.counts.bytes += datagram.len() as u64;
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
        let payload_type = packet.payload_type();
        if payload_type == self.payload_type && self.wanted {
            let duration = self.decoder.duration(packet.payload());
            if duration > 0 {
                self.packet_units = duration;
            }
            self.jitter.push(now, position, duration, packet.payload());
            return;
        }
        if let Some((events, receiver)) = &mut self.events
            && payload_type == *events
        {
            receiver.receive(now, packet.timestamp(), packet.payload());
        }
        if self.noise.is_described_by(payload_type) {
            self.noise.describe(position.timestamp, packet.payload());
        }
        self.jitter.push_other(now, position);
    }

    fn restart(&mut self) {
        self.jitter.reset();
        self.concealer.reset();
        self.decoder.reset();
        self.noise.stop();
        if let Some((_, receiver)) = &mut self.events {
            receiver.restart();
        }
    }

    /// Gives the conversation all that is due: keys, then audio.
    pub(super) fn play(&mut self, now: Instant, line: &mut LineEnd, tap: Option<&mut Tap>) {
        self.give_keys(now, line);
        let mut tap = tap;
        while let Some(concealed) = self.next_frame(now) {
            if !concealed {
                self.give_tones(now, line);
            }
            let key_down = self.key_down();
            let hidden = self.discretion.judge(now, line.is_secret(), key_down, &self.pcm);
            self.stretch(concealed);
            if !self.wanted {
                continue;
            }
            if let Some(tap) = tap.as_deref_mut() {
                tap.heard(now, &self.pcm, hidden.from_recording);
            }
            line.keep_back(hidden.from_bridge);
            self.heard.clear();
            self.to_hearing.process(&self.pcm, &mut self.heard);
            if let Some(agc) = &mut self.agc {
                agc.process(&mut self.heard);
            }
            line.give_audio(&self.heard, concealed);
            if let Some(ears) = &mut self.ears {
                ears.hear(&self.heard, line);
            }
        }
    }

    /// The call is answered.
    pub(super) fn answered(&mut self, line: &LineEnd) {
        if let Some(ears) = &mut self.ears {
            ears.answered(line);
        }
    }

    /// Nothing is heard from here on, or for now.
    pub(super) fn pause(&mut self, line: &mut LineEnd) {
        if let Some(ears) = &mut self.ears {
            ears.pause(line);
        }
    }

    fn give_keys(&mut self, now: Instant, line: &mut LineEnd) {
        let Some((_, receiver)) = &mut self.events else { return };
        receiver.handle_timeout(now);
        while let Some(press) = receiver.poll() {
            self.key_came = true;
            pressed(&mut self.presses, &mut self.counts, line, now, press.digit, presses::Source::Event);
        }
    }

    /// A key that came beside the media.
    pub(super) fn press(&mut self, now: Instant, digit: Digit, line: &mut LineEnd) {
        pressed(&mut self.presses, &mut self.counts, line, now, digit, presses::Source::Info);
    }

    /// Whether a key is down, or was since the last frame.
    fn key_down(&mut self) -> bool {
        let event = self.events.as_ref().is_some_and(|(_, receiver)| receiver.is_pressed());
        let tone = self.tones.as_ref().is_some_and(|tones| tones.pressed().is_some());
        std::mem::take(&mut self.key_came) || event || tone
    }

    fn give_tones(&mut self, now: Instant, line: &mut LineEnd) {
        let Some(tones) = &mut self.tones else { return };
        tones.process(&self.pcm, |event| {
            if let KeyEvent::Down { digit, .. } = event {
                pressed(&mut self.presses, &mut self.counts, line, now, digit, presses::Source::Audio);
            }
        });
    }

    /// Puts the next due frame into `pcm`, mono; tells whether it was made up.
    fn next_frame(&mut self, now: Instant) -> Option<bool> {
        let lost = match self.jitter.pop(now)? {
            Frame::Audio { payload, timestamp } => {
                let length = self.decoder.duration(payload);
                if decode(self.decoder.as_mut(), self.decoded, payload, &mut self.pcm) {
                    self.noise.stop_at(timestamp);
                    self.concealer.heard(&mut self.pcm);
                    self.first_played.get_or_insert(now);
                    self.bursts.came();
                    return Some(false);
                }
                length
            }
            Frame::Lost { samples } => samples,
            Frame::Silence { samples } => {
                self.be_silent(samples);
                return Some(false);
            }
        };
        self.conceal(lost);
        self.count_missing(lost);
        Some(true)
    }

    /// Makes the frame in `pcm` as long as the jitter buffer wants it; what was made up stays as it is.
    fn stretch(&mut self, made_up: bool) {
        let wanted = if made_up { Adjustment::Keep } else { self.jitter.adjustment() };
        self.jitter.adjusted(self.stretch.process(&mut self.pcm, wanted));
    }

    /// Audio that was made up stands for as many packets as are as long.
    fn count_missing(&mut self, clock_units: u32) {
        let packets = clock_units.div_ceil(self.packet_units.max(1)).clamp(1, MAX_MISSING);
        (0..packets).for_each(|_| self.bursts.missing());
    }

    /// What was lost: by the copy in the packet that follows, else as the codec does it, else from the last frame.
    fn conceal(&mut self, clock_units: u32) {
        self.make_frame(clock_units);
        let next = self.jitter.peek();
        let known = next.is_some_and(|payload| self.decoder.recover(payload, &mut self.pcm))
            || self.decoder.conceal(&mut self.pcm);
        mix_down(&mut self.pcm, self.decoded.channels);
        if known {
            self.concealer.heard(&mut self.pcm);
        } else {
            self.concealer.conceal(&mut self.pcm);
        }
        self.counts.concealed += self.pcm.len() as u64;
    }

    /// What the sender left out: comfort noise as it described it, else as its codec does it, else silence.
    fn be_silent(&mut self, clock_units: u32) {
        self.make_frame(clock_units);
        if !self.noise.fill(&mut self.pcm) {
            self.decoder.conceal(&mut self.pcm);
        }
        mix_down(&mut self.pcm, self.decoded.channels);
        self.concealer.reset();
    }

    /// An empty frame of this length, with all channels of the decoder.
    fn make_frame(&mut self, clock_units: u32) {
        let samples = samples_of(self.decoded, clock_units);
        self.pcm.clear();
        self.pcm.resize(samples.min(MAX_FRAME), 0);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let keys = self.events.as_ref().and_then(|(_, receiver)| receiver.poll_timeout());
        [self.jitter.poll_timeout(), keys].into_iter().flatten().min()
    }

    pub(super) fn report(&self, opened: Instant, report: &mut MediaReport) {
        let jitter = self.jitter.counts();
        report.codec = self.codec.name;
        report.packets_received = self.reception.received();
        report.bytes_received = self.counts.bytes;
        report.lost = self.reception.lost();
        report.late = jitter.late + jitter.dropped;
        report.duplicate = jitter.duplicate;
        report.reordered = jitter.reordered;
        report.malformed = self.counts.malformed;
        report.refused = self.source.refused();
        report.jitter = self.reception.jitter();
        report.lateness = self.jitter.lateness();
        report.delay = self.jitter.delay();
        report.packet_time = span(self.packet_units.into(), self.codec.clock_rate);
        report.missing = self.bursts.missing_share();
        report.burst_ratio = self.bursts.burst_ratio();
        report.bursts = self.bursts.counts();
        report.concealed = span(self.counts.concealed, self.decoded.sample_rate);
        report.target_delay = self.jitter.target();
        report.delay_limit = self.jitter.limit();
        report.stretched = jitter.stretched;
        report.shortened = jitter.shortened;
        report.underruns = jitter.underruns;
        report.dtmf_received = self.counts.keys;
        report.first_audio_in = self.first_played.map(|first| first.saturating_duration_since(opened));
    }
}

/// The conversation hears of a press, unless it has by another source.
fn pressed(
    presses: &mut Presses,
    counts: &mut Counts,
    line: &mut LineEnd,
    now: Instant,
    digit: Digit,
    source: presses::Source,
) {
    if !presses.is_repeat(now, digit, source) {
        counts.keys += 1;
        line.give_event(Event::Dtmf(digit));
    }
}

/// Whether ICE goes on: other credentials begin it anew (RFC 8839 §4.4.1.1.1).
fn same_side(now: Option<&RemoteIce>, before: Option<&RemoteIce>) -> bool {
    let credentials = |ice: &RemoteIce| (ice.ufrag.clone(), ice.pwd.clone());
    now.map(credentials) == before.map(credentials)
}

/// Listens to the audio of a far end that sends no telephone-events, if that is wanted.
fn listener(config: &Config, events: Option<TelephoneEvent>, decoded: CodecSpec) -> Option<dtmf::Detector> {
    (config.detect.keys && events.is_none()).then(|| dtmf::Detector::new(decoded.sample_rate))
}

/// Hears keys for the sake of secrets in a recording, where nobody else listens.
fn guard(is_recorded: bool, is_listened: bool, decoded: CodecSpec) -> Option<dtmf::Detector> {
    (is_recorded && !is_listened).then(|| dtmf::Detector::new(decoded.sample_rate))
}

/// Decodes into `pcm`, mono; `false` when the payload was no good.
fn decode(decoder: &mut dyn Decoder, spec: CodecSpec, payload: &[u8], pcm: &mut Vec<i16>) -> bool {
    pcm.resize(samples_of(spec, decoder.duration(payload)).min(MAX_FRAME), 0);
    let decoded = decoder.decode(payload, pcm).unwrap_or(0);
    pcm.truncate(decoded);
    mix_down(pcm, spec.channels);
    decoded > 0
}

/// Samples, all channels, that last as long as this many RTP clock units.
fn samples_of(spec: CodecSpec, units: u32) -> usize {
    let per_channel = u64::from(units) * u64::from(spec.sample_rate) / u64::from(spec.clock_rate.max(1));
    usize::try_from(per_channel).unwrap_or(usize::MAX).saturating_mul(spec.channels.max(1).into())
}

fn mix_down(pcm: &mut Vec<i16>, channels: u8) {
    if channels == 2 {
        let frames = pcm.len() / 2;
        for at in 0..frames {
            pcm[at] = i16::midpoint(pcm[2 * at], pcm[2 * at + 1]);
        }
        pcm.truncate(frames);
    }
}

pub(super) fn span(samples: u64, rate: u32) -> Duration {
    Duration::from_nanos(samples.saturating_mul(1_000_000_000) / u64::from(rate.max(1)))
}
