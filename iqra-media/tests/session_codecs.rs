//! What a session makes of what codecs can do: rates, packet times, gaps that are filled, silence that is not sent.
#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used)] // test helpers

mod link;

use std::time::{Duration, Instant, SystemTime};

use iqra_media::codec::g711::PCMU;
use iqra_media::codec::{CodecError, CodecSpec, Decoder, Encoder, Registry, comfort_noise, g722, l16};
use iqra_media::conversation::{AudioFormat, Formats, Heard, Limits, Line, line};
use iqra_media::detect::goertzel;
use iqra_media::rtp::packet::{Header, Packet};
use iqra_media::session::{Config, MediaSession, Plan, Port, Transmit};
use link::{Call, Setup, address, negotiated};

fn setup(codec: CodecSpec, rate: u32) -> Setup {
    Setup { codec, formats: Formats::both(AudioFormat::new(rate).unwrap()), ..Setup::default() }
}

fn heard_tone(codec: CodecSpec, rate: u32, hz: f64) -> f64 {
    let mut call = Call::new(&setup(codec, rate));
    call.a.hum(hz, 1_500);
    call.talk(1_400);
    let second = &call.b.heard[rate as usize / 2..rate as usize];
    goertzel::purity(second, rate, hz)
}

#[test]
fn g722_brings_what_the_telephone_cuts_off() {
    for rate in [16_000, 24_000, 48_000] {
        assert!(heard_tone(g722::G722, rate, 5_000.0) > 0.95, "at {rate}");
    }
    assert!(heard_tone(g722::G722, 8_000, 1_000.0) > 0.95);
}

#[cfg(feature = "opus")]
#[test]
fn opus_is_heard_at_every_rate() {
    for rate in [8_000, 16_000, 24_000, 48_000] {
        assert!(heard_tone(iqra_media::codec::opus::OPUS, rate, 1_000.0) > 0.95, "at {rate}");
    }
}

#[test]
fn linear_samples_go_in_packets_that_fit_the_path() {
    for (codec, octets) in
        [(l16::HZ_8000, 320), (l16::HZ_16000, 640), (l16::HZ_24000, 960), (l16::HZ_48000, 960)]
    {
        let mut call = Call::new(&setup(codec, codec.sample_rate));
        call.a.hum(1_000.0, 1_500);
        call.talk(1_400);
        let packet = Packet::parse(&call.a.sent[10]).unwrap();
        assert_eq!(packet.payload().len(), octets, "{codec:?}");
        let rate = codec.sample_rate;
        let second = &call.b.heard[rate as usize / 2..rate as usize];
        assert!(goertzel::purity(second, rate, 1_000.0) > 0.99, "{codec:?}");
    }
}

/// A codec for tests, of one octet a packet of 20 ms: the level, with that of the packet before. Level 0 is not sent.
#[derive(Clone, Copy)]
struct Stairs {
    before: u8,
    concealed: i16,
}

const STAIRS: CodecSpec = CodecSpec { name: "STAIRS", payload_type: 98, ..PCMU };

impl Encoder for Stairs {
    fn spec(&self) -> CodecSpec {
        STAIRS
    }

    fn encode(&mut self, pcm: &[i16], out: &mut [u8]) -> Result<usize, CodecError> {
        let level = (pcm[pcm.len() - 1] / 1_000) as u8;
        out[0] = std::mem::replace(&mut self.before, level) << 4 | level;
        Ok(usize::from(level != 0))
    }
}

impl Decoder for Stairs {
    fn spec(&self) -> CodecSpec {
        STAIRS
    }

    fn duration(&self, _: &[u8]) -> u32 {
        160
    }

    fn decode(&mut self, payload: &[u8], out: &mut [i16]) -> Result<usize, CodecError> {
        out.fill(i16::from(payload[0] & 15) * 1_000);
        Ok(160)
    }

    fn conceal(&mut self, out: &mut [i16]) -> bool {
        out.fill(self.concealed);
        true
    }

    fn recover(&mut self, next_payload: &[u8], out: &mut [i16]) -> bool {
        out.fill(i16::from(next_payload[0] >> 4) * 1_000);
        true
    }
}

/// One session with a registry of our own, on a virtual clock.
struct End {
    session: MediaSession,
    line: Line,
    now: Instant,
    heard: Vec<i16>,
}

impl End {
    fn new(codec: CodecSpec) -> Self {
        let mut codecs = Registry::default();
        let stairs = || Box::new(Stairs { before: 0, concealed: 77 });
        codecs.register(STAIRS, move |_| Ok(stairs()), move |_| Ok(stairs()));
        let formats = Formats::both(AudioFormat::HZ_8000);
        let (line, end, _commands) = line(formats, &Limits::default());
        let plan = Plan::new(negotiated(codec, 20, address(1)), formats, &codecs).unwrap();
        let now = Instant::now();
        Self {
            session: MediaSession::new(plan, Config::default(), end, None, 1, now, SystemTime::UNIX_EPOCH),
            line,
            now,
            heard: Vec::new(),
        }
    }

    fn take(&mut self, payload_type: u8, sequence: u16, timestamp: u32, payload: &[u8]) {
        let mut datagram = [0; 200];
        let header = Header { payload_type, marker: false, sequence, timestamp, ssrc: 9 };
        let length = header.write(payload, &mut datagram).unwrap();
        self.session.handle_packet(self.now, address(1), Port::Rtp, &mut datagram[..length]);
    }

    /// Lets 20 ms pass; gives the packets that left.
    fn pass(&mut self) -> Vec<Vec<u8>> {
        self.now += Duration::from_millis(20);
        self.session.tick(self.now);
        let (mut out, mut sent) = ([0; 1_500], Vec::new());
        while let Some(Transmit { length, .. }) = self.session.poll_transmit(&mut out) {
            sent.push(out[..length].to_vec());
        }
        while let Some(heard) = self.line.try_next() {
            if let Heard::Audio(frame) = heard {
                self.heard.extend_from_slice(&frame);
            }
        }
        sent
    }

    /// The levels that were heard, repetitions left out.
    fn levels(&self) -> Vec<i16> {
        let mut levels: Vec<i16> = self.heard.chunks(160).map(|frame| frame[80]).collect();
        levels.dedup();
        levels
    }
}

#[test]
fn a_lost_frame_is_taken_from_the_packet_after_it_or_made_up_by_the_codec() {
    let mut end = End::new(STAIRS);
    let steps = [(1, 0x01), (2, 0x12), (4, 0x34), (5, 0x45), (8, 0x78)];
    for at in 1..14u16 {
        if let Some(&(_, octet)) = steps.iter().find(|(sequence, _)| *sequence == at) {
            end.take(98, at, 160 * u32::from(at), &[octet]);
        }
        end.pass();
    }
    // 3 by its copy; 6 by the codec, since 7 is missing too; 7 by its copy.
    assert!(
        end.levels().starts_with(&[1_000, 2_000, 3_000, 4_000, 5_000, 77, 7_000, 8_000]),
        "{:?}",
        end.levels()
    );
}

#[test]
fn what_the_codec_leaves_out_is_not_sent_and_time_goes_on() {
    let mut end = End::new(STAIRS);
    let mut sent = Vec::new();
    for at in 0..20 {
        if at == 5 || at == 15 {
            end.line.speaking().play(&[3_000; 160]);
        }
        sent.extend(end.pass());
    }
    let packets: Vec<Packet<'_>> = sent.iter().map(|octets| Packet::parse(octets).unwrap()).collect();
    assert_eq!(packets.len(), 2);
    assert!(packets.iter().all(Packet::marker));
    assert_eq!(packets[1].sequence().wrapping_sub(packets[0].sequence()), 1);
    assert_eq!(packets[1].timestamp().wrapping_sub(packets[0].timestamp()), 10 * 160);
    assert_eq!(end.session.report().packets_sent, 2);
}

fn level(pcm: &[i16]) -> u8 {
    comfort_noise::describe(pcm)[0]
}

#[test]
fn a_described_gap_is_filled_with_its_noise_until_audio_comes() {
    let mut end = End::new(PCMU);
    let mut timestamp = 0;
    for sequence in 1..=40u16 {
        timestamp += 160;
        match sequence {
            1..=10 | 31.. => end.take(0, sequence, timestamp, &[0xFF; 160]),
            11 => end.take(comfort_noise::PAYLOAD_TYPE, sequence, timestamp, &[40]),
            _ => {}
        }
        end.pass();
    }
    let frames: Vec<u8> = end.heard.chunks(160).map(level).collect();
    let noisy = frames.iter().filter(|level| level.abs_diff(40) <= 2).count();
    assert!((18..=21).contains(&noisy), "{frames:?}");
    assert!(frames.ends_with(&[127; 5]), "audio ends it: {frames:?}");
}
