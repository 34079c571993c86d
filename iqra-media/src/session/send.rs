//! The sending half: what was spoken → resample → encode → RTP, one packet per packet time on a steady clock.
//!
//! With nothing to say it sends silence, which keeps NAT bindings and clients content; or where that is configured and
//! negotiated, comfort noise (`pauses.rs`). A key is sent as
//! telephone-events in place of audio (RFC 4733 §2.5.1), or where none were agreed as its two tones in the audio, in the
//! same rhythm (`keys.rs`). After a stall at most [`MAX_BURST`] packets are made
//! up for, one per half packet time, so that no burst meets the far end's jitter buffer; the time beyond that is left
//! out of the stream, timestamps moving on with it, and no speech is lost.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::keys::{Event, Keys};
use super::pauses::{Pauses, SilenceSuppression, Sound};
use super::plan::{Parts, ToSend};
use super::recording::Tap;
use crate::codec::{CodecSpec, Encoder};
use crate::conversation::LineEnd;
use crate::pcm::Resampler;
use crate::quality::MediaReport;
use crate::rtp::packet::{HEADER_LEN, Header};
use crate::rtp::rtcp::Sent;
use crate::sdp::Negotiated;

/// Packets that may be due at once; what a stall made late beyond that is left out.
pub const MAX_BURST: u32 = 3;
/// The largest payload that is sent, in bytes.
const MAX_PAYLOAD: usize = 1_400;

#[derive(Debug, Default)]
struct Counts {
    packets: u64,
    bytes: u64,
    octets: u64,
    skipped: u64,
    keys: u64,
}

pub(super) struct Sending {
    codec: CodecSpec,
    /// How the far end wants it, by its `a=fmtp`.
    fmtp: String,
    payload_type: u8,
    ptime: Duration,
    ptime_ms: u8,
    encoder: Box<dyn Encoder>,
    to_codec: Resampler,
    keys: Keys,
    suppression: Option<SilenceSuppression>,
    pauses: Option<Pauses>,
    wanted: bool,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    marker: bool,
    next: Instant,
    due: u32,
    /// No packet leaves before: half a packet time after the last one.
    paced: Instant,
    spoken: Vec<i16>,
    pcm: Vec<i16>,
    payload: Vec<u8>,
    first_said: Option<Instant>,
    counts: Counts,
}

impl Sending {
    pub(super) fn new(
        parts: ToSend,
        speaks: u32,
        suppression: Option<SilenceSuppression>,
        seed: u64,
        now: Instant,
    ) -> Self {
        let Parts { negotiated, codec: encoder, resampler: to_codec } = parts;
        let mut random = fastrand::Rng::with_seed(seed);
        let mut sending = Self {
            codec: negotiated.codec,
            fmtp: negotiated.remote_fmtp.clone(),
            payload_type: negotiated.send_payload,
            ptime: Duration::ZERO,
            ptime_ms: 0,
            keys: Keys::new(None, encoder.spec(), 0),
            encoder,
            to_codec,
            suppression,
            pauses: None,
            wanted: false,
            ssrc: random.u32(..),
            // RFC 3550 §5.1: random starts; the upper half of sequence numbers is left out, so that no receiver meets
            // a wrap within the first packets.
            sequence: random.u16(..0x8000),
            timestamp: random.u32(..),
            marker: true,
            next: now,
            due: 0,
            paced: now,
            spoken: Vec::new(),
            pcm: Vec::new(),
            payload: vec![0; MAX_PAYLOAD],
            first_said: None,
            counts: Counts::default(),
        };
        sending.take_over(&negotiated, speaks);
        sending
    }

    /// Takes over a re-INVITE; SSRC, sequence numbers and clock go on.
    pub(super) fn update(&mut self, parts: ToSend, speaks: u32) {
        let Parts { negotiated, codec: encoder, resampler } = parts;
        if negotiated.codec != self.codec || negotiated.remote_fmtp != self.fmtp {
            self.fmtp.clone_from(&negotiated.remote_fmtp);
            self.encoder = encoder;
            self.to_codec = resampler;
            self.marker = true;
        }
        self.take_over(&negotiated, speaks);
    }

    fn take_over(&mut self, negotiated: &Negotiated, speaks: u32) {
        let ptime_ms = self.encoder.packet_time(negotiated.ptime_ms).max(1);
        self.codec = negotiated.codec;
        self.payload_type = negotiated.send_payload;
        self.keys.update(negotiated.telephone_event, self.encoder.spec(), ptime_ms);
        self.pauses = Pauses::new(self.suppression, negotiated);
        self.ptime_ms = ptime_ms;
        self.ptime = Duration::from_millis(ptime_ms.into());
        let held = negotiated.remote.ip().is_unspecified() && negotiated.ice.is_none();
        self.wanted = negotiated.direction.sends() && !held;
        self.spoken.resize((speaks / 1_000) as usize * usize::from(ptime_ms), 0);
    }

    /// Counts the packets that are due at `now`.
    pub(super) fn tick(&mut self, now: Instant, line: &mut LineEnd) {
        let Some(periods) = self.periods_due(now) else { return };
        if !self.wanted {
            self.due = 0;
            self.pass_over(periods);
            line.clear_silently();
            return;
        }
        let most = MAX_BURST.saturating_sub(self.due);
        if periods > most {
            self.counts.skipped += u64::from(periods - most);
            self.pass_over(periods - most);
        }
        self.due += periods.min(most);
    }

    /// Lets time go by while media cannot flow yet; what was said waits, unless it is taken back.
    pub(super) fn wait(&mut self, now: Instant, line: &mut LineEnd) {
        if let Some(periods) = self.periods_due(now) {
            self.pass_over(periods);
            line.clear_silently();
        }
        self.due = 0;
    }

    /// How many packet times have begun since the last look, at least one; the clock moves on with them.
    fn periods_due(&mut self, now: Instant) -> Option<u32> {
        let late = now.checked_duration_since(self.next)?;
        let periods = u32::try_from(late.as_nanos() / self.ptime.as_nanos()).unwrap_or(u32::MAX - 1) + 1;
        self.next += self.ptime * periods;
        Some(periods)
    }

    /// Lets time go by without packets.
    fn pass_over(&mut self, periods: u32) {
        self.timestamp = self.timestamp.wrapping_add(self.step().wrapping_mul(periods));
        self.marker = true;
    }

    fn step(&self) -> u32 {
        self.codec.duration(self.ptime_ms.into())
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        if self.due > 0 { self.next.min(self.paced) } else { self.next }
    }

    /// Writes the next due packet into `out`; `None` when none is due, or `out` is too short for it. Frames for which
    /// the codec sends nothing are passed over.
    pub(super) fn packet(
        &mut self,
        now: Instant,
        line: &mut LineEnd,
        mut tap: Option<&mut Tap>,
        out: &mut [u8],
    ) -> Option<usize> {
        if now < self.paced {
            return None;
        }
        loop {
            self.due = self.due.checked_sub(1)?;
            match self.frame(now, line, tap.as_deref_mut(), out)? {
                0 => self.marker = true, // of the packet after the gap (RFC 3551 §4.1)
                bytes => {
                    self.paced = now + self.ptime / 2;
                    return Some(bytes);
                }
            }
        }
    }

    /// Writes the packet of one packet time, and gives its length, or 0 where nothing is sent.
    fn frame(
        &mut self,
        now: Instant,
        line: &mut LineEnd,
        tap: Option<&mut Tap>,
        out: &mut [u8],
    ) -> Option<usize> {
        let said = self.next_audio(line);
        if said {
            self.first_said.get_or_insert(now);
        }
        if let Some(tap) = tap {
            // This packet is no longer among those that are due.
            tap.spoken(self.next - self.ptime * (self.due + 1), &self.pcm);
        }
        // The speech before a key may end within this packet, and has to leave in it: the key waits for the next.
        let event = if said { None } else { self.next_key(line) };
        let written = match event {
            Some(event) => self.event_packet(event, out),
            None => self.sound_packet(out),
        };
        self.timestamp = self.timestamp.wrapping_add(self.step());
        let bytes = written?;
        if bytes == 0 {
            return Some(0);
        }
        self.sequence = self.sequence.wrapping_add(1);
        self.counts.packets += 1;
        self.counts.bytes += bytes as u64;
        self.counts.octets += (bytes - HEADER_LEN) as u64;
        Some(bytes)
    }

    /// Puts one packet time of speech, or silence, into `pcm`, mono at the codec's rate.
    fn next_audio(&mut self, line: &mut LineEnd) -> bool {
        let pulled = line.take_audio(&mut self.spoken);
        self.pcm.clear();
        self.to_codec.process(&self.spoken, &mut self.pcm);
        let frame = self.encoder.spec().sample_rate as usize / 1_000 * usize::from(self.ptime_ms);
        self.pcm.resize(frame, 0);
        pulled > 0
    }

    /// Audio; in a pause comfort noise or nothing.
    fn sound_packet(&mut self, out: &mut [u8]) -> Option<usize> {
        let Some(pauses) = &mut self.pauses else { return self.audio_packet(out) };
        let payload_type = pauses.payload_type();
        match pauses.judge(&self.pcm, self.ptime) {
            Sound::Audio => self.audio_packet(out),
            Sound::Nothing => Some(0),
            Sound::Noise(level) => {
                let header = self.header(payload_type, false, self.timestamp);
                self.marker = true;
                header.write(&level, out).ok()
            }
        }
    }

    fn audio_packet(&mut self, out: &mut [u8]) -> Option<usize> {
        spread(&mut self.pcm, self.encoder.spec().channels);
        let encoded = self.encoder.encode(&self.pcm, &mut self.payload).ok()?;
        if encoded == 0 {
            return Some(0);
        }
        let marker = std::mem::take(&mut self.marker);
        let header = self.header(self.payload_type, marker, self.timestamp);
        header.write(&self.payload[..encoded], out).ok()
    }

    /// What a key that is down sounds like in this packet time: an event in place of audio, or tones in the audio.
    fn next_key(&mut self, line: &mut LineEnd) -> Option<Event> {
        let (event, sent) = self.keys.next(line.digit(), self.timestamp, &mut self.pcm);
        if sent {
            self.counts.keys += 1;
            line.digit_sent();
        }
        event
    }

    fn event_packet(&mut self, event: Event, out: &mut [u8]) -> Option<usize> {
        self.marker = true;
        if let Some(pauses) = &mut self.pauses {
            pauses.end();
        }
        let Event { payload_type, packet } = event;
        let header = self.header(payload_type, packet.marker, packet.timestamp);
        header.write(&packet.payload(), out).ok()
    }

    /// The far end told how many of our packets it misses, 0 to 1.
    pub(super) fn expect_loss(&mut self, share: f32) {
        self.encoder.set_expected_loss((share * 100.0).round() as u8);
    }

    pub(super) fn packets(&self) -> u64 {
        self.counts.packets
    }

    pub(super) fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Another name for our stream, since the far end goes by the same (RFC 3550 §8.2).
    pub(super) fn rename(&mut self, ssrc: u32) {
        self.ssrc = ssrc;
        self.marker = true;
    }

    /// What was sent, for RTCP; its timestamp is that of `now`.
    pub(super) fn sent(&self, now: Instant) -> Sent {
        let at_next = self.timestamp.wrapping_add(self.step().wrapping_mul(self.due));
        let until = self.next.saturating_duration_since(now).as_micros() * u128::from(self.codec.clock_rate);
        Sent {
            ssrc: self.ssrc,
            packets: self.counts.packets,
            octets: self.counts.octets,
            timestamp: at_next.wrapping_sub((until / 1_000_000) as u32),
        }
    }

    fn header(&self, payload_type: u8, marker: bool, timestamp: u32) -> Header {
        Header { payload_type, marker, sequence: self.sequence, timestamp, ssrc: self.ssrc }
    }

    pub(super) fn report(&self, opened: Instant, report: &mut MediaReport) {
        report.packets_sent = self.counts.packets;
        report.bytes_sent = self.counts.bytes;
        report.skipped = self.counts.skipped;
        report.dtmf_sent = self.counts.keys;
        report.first_audio_out = self.first_said.map(|first| first.saturating_duration_since(opened));
    }
}

/// Whether a packet can be sent there at all.
pub(super) fn is_reachable(target: SocketAddr) -> bool {
    !target.ip().is_unspecified() && target.port() != 0
}

/// Mono to the codec's channels.
fn spread(pcm: &mut Vec<i16>, channels: u8) {
    if channels == 2 {
        let frames = pcm.len();
        pcm.resize(2 * frames, 0);
        for at in (0..frames).rev() {
            (pcm[2 * at], pcm[2 * at + 1]) = (pcm[at], pcm[at]);
        }
    }
}
