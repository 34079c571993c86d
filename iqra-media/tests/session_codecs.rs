//! What a session makes of what codecs can do: rates, packet times, gaps that are filled, silence that is not sent.
#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used)] // test helpers

mod link;

use std::time::{Duration, Instant, SystemTime};

use iqra_media::codec::g711::PCMU;
use iqra_media::codec::{CodecError, CodecSpec, Decoder, Encoder, Settings, comfort_noise, g711, g722, l16};
use iqra_media::conversation::{AudioFormat, Formats, Heard, Limits, Line, line};
use iqra_media::detect::goertzel;
use iqra_media::pcm::agc;
use iqra_media::pcm::tone::Tone;
use iqra_media::rtp::packet::{Header, Packet};
use iqra_media::sdp::{self, Alternative, Capabilities, Negotiated};
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

#[test]
fn packets_of_the_length_that_our_sdp_asks_for_are_heard() {
    for codec in [l16::HZ_16000, l16::HZ_24000, l16::HZ_48000, PCMU] {
        let side = |host| Capabilities::new(vec![codec, PCMU], [192, 0, 2, host].into(), 4_000, 1);
        let offer = sdp::offer(&side(2));
        let value =
            |name| offer.lines().find_map(|line| line.strip_prefix(name)?.parse::<u8>().ok()).unwrap();
        for ms in [value("a=ptime:"), value("a=maxptime:")] {
            let answer = offer.replace("192.0.2.2", "192.0.2.1");
            let agreed = sdp::accept_answer(&side(2), &offer, answer.as_bytes()).unwrap();
            assert!(agreed.negotiated.ptime_ms <= ms, "{codec:?}");
            let mut end = End::with(agreed.negotiated);
            let length = codec.duration(ms.into()) as usize * if codec == PCMU { 1 } else { 2 };
            for n in 0..50u16 {
                let timestamp = u32::from(n) * codec.duration(ms.into());
                end.take(codec.payload_type, n, timestamp, &vec![0x2a; length]);
                end.pass_for(ms);
            }
            let loud = end.heard.iter().filter(|sample| sample.unsigned_abs() > 1_000).count();
            assert!(loud >= 40 * 8 * usize::from(ms), "{loud} samples of {codec:?} at {ms} ms");
            assert_eq!(end.session.report().overflow, 0);
        }
    }
}

#[test]
fn packets_that_are_longer_than_an_ethernet_frame_are_counted() {
    let mut end = End::new(l16::HZ_48000);
    end.take(115, 1, 0, &[0; 1_920]);
    assert_eq!(end.session.report().overflow, 1);
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
        Self::with(negotiated(codec, 20, address(1)))
    }

    fn with(negotiated: Negotiated) -> Self {
        let mut codecs = link::codecs();
        let stairs = || Box::new(Stairs { before: 0, concealed: 77 });
        codecs.register(STAIRS, move |_| Ok(stairs()), move |_| Ok(stairs()));
        let formats = Formats::both(AudioFormat::HZ_8000);
        let (line, end, _commands) = line(formats, &Limits::default());
        let plan = Plan::new(negotiated, formats, &codecs).unwrap();
        let now = Instant::now();
        Self {
            session: MediaSession::new(plan, Config::default(), end, None, 1, now, SystemTime::UNIX_EPOCH),
            line,
            now,
            heard: Vec::new(),
        }
    }

    fn take(&mut self, payload_type: u8, sequence: u16, timestamp: u32, payload: &[u8]) {
        let mut datagram = [0; 2_000];
        let header = Header { payload_type, marker: false, sequence, timestamp, ssrc: 9 };
        let length = header.write(payload, &mut datagram).unwrap();
        self.session.handle_packet(self.now, address(1), Port::Rtp, &mut datagram[..length]);
    }

    /// Lets 20 ms pass; gives the packets that left.
    fn pass(&mut self) -> Vec<Vec<u8>> {
        self.pass_for(20)
    }

    fn pass_for(&mut self, millis: u8) -> Vec<Vec<u8>> {
        self.now += Duration::from_millis(millis.into());
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
    let report = end.session.report();
    assert_eq!((report.recovered, report.concealed), (2, Duration::from_millis(20)), "{report}");
    assert!((report.missing - 1.0 / 8.0).abs() < 1e-9, "{}", report.missing);
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

/// The next `packets` of a far end that sends a tone of 1 kHz in this codec.
fn hum(end: &mut End, codec: CodecSpec, stream: &mut (u16, u32), packets: u32) {
    let codecs = link::codecs();
    let mut encoder =
        codecs.encoder(&codec, &Settings { sample_rate: 16_000, ..Settings::default() }).unwrap();
    let spec = encoder.spec();
    let mut tone = Tone::new(1_000.0, spec.sample_rate, 8_000);
    for _ in 0..packets {
        let (mut pcm, mut payload) = (vec![0; spec.samples(20) / usize::from(spec.channels)], [0; 1_200]);
        tone.fill(&mut pcm);
        let length = encoder.encode(&pcm, &mut payload).unwrap();
        end.take(codec.payload_type, stream.0, stream.1, &payload[..length]);
        *stream = (stream.0.wrapping_add(1), stream.1.wrapping_add(codec.duration(20)));
        end.pass();
    }
}

/// An end whose far end answered with PCMU first, and these codecs beside it.
fn with_alternatives(codecs: &[CodecSpec]) -> End {
    let alternative = |codec: &CodecSpec| Alternative {
        codec: *codec,
        receive_payload: codec.payload_type,
        remote_fmtp: String::new(),
    };
    let alternatives = codecs.iter().map(alternative).collect();
    End::with(Negotiated { alternatives, ..negotiated(PCMU, 20, address(1)) })
}

#[test]
fn a_far_end_may_change_to_whatever_its_answer_lists() {
    let mut codecs = vec![g711::PCMA, g722::G722, l16::HZ_16000];
    if cfg!(feature = "opus") {
        codecs.push(iqra_media::codec::opus::OPUS);
    }
    let mut end = with_alternatives(&codecs);
    let mut stream = (1, 0);
    for codec in codecs.iter().flat_map(|codec| [PCMU, *codec]) {
        let before = end.heard.len();
        hum(&mut end, codec, &mut stream, 75);
        let last = &end.heard[end.heard.len() - 8_000..];
        assert!(goertzel::purity(last, 8_000, 1_000.0) > 0.95, "{codec:?}");
        let heard = end.heard.len() - before;
        assert!(heard >= 11_000, "{heard} samples of 12000 with {codec:?}");
        let report = end.session.report();
        assert_eq!((report.codec, report.unknown, report.lost), (codec.name, 0, 0));
        assert!(report.jitter < Duration::from_millis(1), "{:?} with {codec:?}", report.jitter);
    }
}

#[test]
fn a_change_within_one_clock_costs_no_sample() {
    let mut end = with_alternatives(&[g711::PCMA]);
    let mut stream = (1, 0);
    for n in 0..30 {
        hum(&mut end, [PCMU, g711::PCMA][n % 2], &mut stream, 7);
    }
    let report = end.session.report();
    assert_eq!((report.concealed, report.late, report.underruns), (Duration::ZERO, 0, 0), "{report}");
}

#[test]
fn a_codec_that_the_answer_does_not_list_is_counted_and_not_heard() {
    let mut end = with_alternatives(&[]);
    hum(&mut end, g711::PCMA, &mut (1, 0), 50);
    assert!(end.heard.iter().all(|sample| *sample == 0));
    assert_eq!(end.session.report().unknown, 50);
}

#[test]
fn a_re_invite_leads_back_to_its_first_codec() {
    let mut end = with_alternatives(&[l16::HZ_16000]);
    let mut stream = (1, 0);
    hum(&mut end, l16::HZ_16000, &mut stream, 30);
    let formats = Formats::both(AudioFormat::HZ_8000);
    let plan = Plan::new(negotiated(PCMU, 20, address(1)), formats, &link::codecs()).unwrap();
    end.session.update(end.now, plan);
    hum(&mut end, PCMU, &mut stream, 75);
    assert!(goertzel::purity(&end.heard[end.heard.len() - 8_000..], 8_000, 1_000.0) > 0.95);
    hum(&mut end, l16::HZ_16000, &mut stream, 5);
    assert_eq!(end.session.report().unknown, 5);
}

/// The payload types and fmtp of a far end that leaves out what it does not say.
#[cfg(feature = "opus")]
fn with_dtx() -> End {
    let remote_fmtp = "usedtx=1".to_owned();
    End::with(Negotiated { remote_fmtp, ..negotiated(iqra_media::codec::opus::OPUS, 20, address(1)) })
}

/// Speech for 2 s and then for one of six seconds, over a soft noise.
#[cfg(feature = "opus")]
#[test]
fn pauses_of_opus_have_no_holes_and_are_not_loss() {
    let mut end = with_dtx();
    let settings = Settings { fmtp: "usedtx=1", sample_rate: 8_000, ..Settings::default() };
    let opus = iqra_media::codec::opus::OPUS;
    let mut encoder = link::codecs().encoder(&opus, &settings).unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    let (mut sequence, mut unsent, mut tone) = (0, 0, Tone::new(300.0, 8_000, 6_000));
    for n in 0..1_500u32 {
        let (mut pcm, mut payload) = ([0; 160], [0; 1_200]);
        if n < 100 || n / 50 % 6 == 0 {
            tone.fill(&mut pcm);
        }
        pcm.iter_mut().for_each(|sample| *sample += random.i16(-60..60));
        match encoder.encode(&pcm, &mut payload).unwrap() {
            0 => unsent += 1,
            length => {
                end.take(111, sequence, n * 960, &payload[..length]);
                sequence += 1;
            }
        }
        end.pass();
    }
    assert!(unsent > 500, "{unsent} frames were left out");
    let hole = end.heard[16_000..].split(|sample| *sample != 0).map(<[i16]>::len).max();
    assert!(hole < Some(16), "{hole:?} samples of nothing");
    let report = end.session.report();
    assert_eq!((report.lost, report.underruns, report.concealed), (0, 0, Duration::ZERO), "{report}");
    assert!(report.missing == 0.0 && report.mos_in > 4.3, "{report}");
}

#[test]
fn what_is_lost_before_a_pause_is_missing_and_the_pause_is_not() {
    let mut end = End::new(PCMU);
    for n in 0..200u16 {
        if n % 50 < 20 && n != 119 {
            let before = n / 50 * 30;
            end.take(0, n - before, u32::from(n) * 160, &[0x2a; 160]);
        }
        end.pass();
    }
    let report = end.session.report();
    assert_eq!(
        (report.lost, report.underruns, report.concealed),
        (1, 1, Duration::from_millis(20)),
        "{report}"
    );
    assert!((report.missing - 1.0 / 80.0).abs() < 1e-9, "{}", report.missing);
}

#[test]
fn gain_brings_a_soft_voice_to_its_level_where_it_is_wanted() {
    let loudest = |agc| {
        let config = Config { agc, ..Config::default() };
        let mut call = Call::new(&Setup { config, ..Setup::default() });
        let mut soft = vec![0; 8_000 * 3];
        Tone::new(440.0, 8_000, 400).fill(&mut soft);
        assert_eq!(call.a.line.speaking().play(&soft), soft.len());
        call.talk(3_000);
        call.b.heard[16_000..].iter().map(|sample| sample.unsigned_abs()).max().unwrap()
    };
    let (off, on) = (loudest(Config::default().agc), loudest(Some(agc::Config::default())));
    assert!((380..420).contains(&off) && (1_600..3_600).contains(&on), "{off} and {on}");
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
