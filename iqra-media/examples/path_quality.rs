//! What a call as a whole does to speech: a conversation says it on its line, one session resamples, encodes and packs
//! it, a network loses and delays packets, and another session makes of them what its conversation hears. Each codec
//! meets each network, on a virtual clock and with fixed seeds.
//!
//! Run: `cargo run --release -p iqra-media --features opus --example path_quality` (a melody of 4 s), or with a mono WAV
//! file, and then a folder to write what was heard. See docs/quality.md.
#![allow(clippy::print_stdout)] // the result of a program

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use iqra_media::codec::g711::{PCMA, PCMU};
use iqra_media::codec::g722::G722;
use iqra_media::codec::opus::OPUS;
use iqra_media::codec::{CodecSpec, Registry, l16};
use iqra_media::conversation::{AudioFormat, Formats, Heard, Limits, Line, line};
use iqra_media::pcm::Resampler;
use iqra_media::pcm::tone::Tone;
use iqra_media::pcm::wav::{self, Wav};
use iqra_media::quality::MediaReport;
use iqra_media::rtp::packet::Protocol;
use iqra_media::sdp::{CryptoSuite, Negotiated, Security, SrtpKey};
use iqra_media::session::{Config, MediaSession, Plan, Port};

/// A codec, what the far side says of it, and the rate at which both conversations work.
struct Case {
    name: &'static str,
    codec: CodecSpec,
    fmtp: &'static str,
    rate: AudioFormat,
    srtp: bool,
}

const fn case(name: &'static str, codec: CodecSpec, rate: AudioFormat) -> Case {
    Case { name, codec, fmtp: "", rate, srtp: false }
}

const fn with_copies(case: Case) -> Case {
    Case { fmtp: "useinbandfec=1", ..case }
}

const CASES: [Case; 14] = [
    case("pcmu-8", PCMU, AudioFormat::HZ_8000),
    Case { srtp: true, ..case("pcmu-24", PCMU, AudioFormat::HZ_24000) },
    case("pcma-16", PCMA, AudioFormat::HZ_16000),
    case("g722-16", G722, AudioFormat::HZ_16000),
    case("g722-24", G722, AudioFormat::HZ_24000),
    case("opus-16", OPUS, AudioFormat::HZ_16000),
    with_copies(case("opus-16-fec", OPUS, AudioFormat::HZ_16000)),
    case("opus-24", OPUS, AudioFormat::HZ_24000),
    with_copies(case("opus-24-fec", OPUS, AudioFormat::HZ_24000)),
    with_copies(case("opus-48-fec", OPUS, AudioFormat::HZ_48000)),
    case("l16/8-24", l16::HZ_8000, AudioFormat::HZ_24000),
    case("l16/16-24", l16::HZ_16000, AudioFormat::HZ_24000),
    case("l16/24-16", l16::HZ_24000, AudioFormat::HZ_16000),
    case("l16/48-24", l16::HZ_48000, AudioFormat::HZ_24000),
];

/// Packets of a hundred that are lost, and milliseconds by which they are late at most.
const NETWORKS: [(u32, u64); 6] = [(0, 0), (1, 0), (3, 0), (5, 0), (10, 0), (1, 40)];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (rate, speech) = match arguments.next() {
        Some(path) => {
            let file = wav::read(path)?;
            (file.sample_rate, file.into_mono())
        }
        None => (24_000, melody(24_000)),
    };
    let folder = arguments.next();
    println!(
        "{:14}{:>7}{:>8}{:>10}{:>8}{:>12}",
        "case", "loss %", "jitter", "delay ms", "kbit/s", "concealed %"
    );
    for case in CASES {
        let said = resampled(&speech, rate, case.rate.sample_rate())?;
        for (loss, jitter) in NETWORKS {
            let mut call = Call::new(&case, Network::new(loss, jitter))?;
            call.run(&said);
            println!("{:14}{loss:>7}{jitter:>8}{}", case.name, call.row(&said)?);
            if let Some(folder) = &folder {
                let name = format!("path-{}-{loss}-{jitter}.wav", case.name.replace('/', "-"));
                let sample_rate = case.rate.sample_rate();
                wav::write(folder.join(name), &Wav { sample_rate, channels: 1, samples: call.heard })?;
            }
        }
    }
    Ok(())
}

/// Tones of 100 ms that go up and down.
fn melody(rate: u32) -> Vec<i16> {
    let mut said = vec![0; 4 * rate as usize];
    for (n, note) in (0..).zip(said.chunks_mut(rate as usize / 10)) {
        Tone::new(f64::from(180 + n * 77 % 400), rate, 8_000).fill(note);
    }
    said
}

fn resampled(samples: &[i16], from: u32, to: u32) -> Result<Vec<i16>, Box<dyn Error>> {
    let mut out = Vec::new();
    Resampler::new(from, to)?.process(samples, &mut out);
    Ok(out)
}

/// Which packets are lost, how late the others are, and those under way: when they arrive, whether at the listener.
struct Network {
    loss: f64,
    jitter: u64,
    random: fastrand::Rng,
    underway: Vec<(u64, bool, Vec<u8>)>,
}

impl Network {
    fn new(percent: u32, jitter: u64) -> Self {
        let random = fastrand::Rng::with_seed(11);
        Self { loss: f64::from(percent) / 100.0, jitter, random, underway: Vec::new() }
    }

    /// Media to the listener has the network's weather; all else comes through at once.
    fn send(&mut self, ms: u64, to_listener: bool, packet: &[u8]) {
        let mut arrival = ms;
        if to_listener && Protocol::of(packet) == Protocol::Rtp {
            let (chance, late) = (self.random.f64(), self.random.u64(0..=self.jitter));
            if chance < self.loss {
                return;
            }
            arrival += late;
        }
        self.underway.push((arrival, to_listener, packet.to_vec()));
    }

    fn arrived(&mut self, ms: u64) -> Vec<(u64, bool, Vec<u8>)> {
        let (arrived, underway) =
            std::mem::take(&mut self.underway).into_iter().partition(|&(at, ..)| at <= ms);
        self.underway = underway;
        arrived
    }
}

/// Both ends. The speaker's line is the first, the listener's the second.
struct Call {
    sessions: [MediaSession; 2],
    lines: [Line; 2],
    network: Network,
    start: Instant,
    /// From the first millisecond on.
    heard: Vec<i16>,
}

impl Call {
    fn new(case: &Case, network: Network) -> Result<Self, Box<dyn Error>> {
        let start = Instant::now();
        let end = |listens: bool| -> Result<_, Box<dyn Error>> {
            let formats = Formats::both(case.rate);
            let plan = Plan::new(negotiated(case, listens)?, formats, &codecs())?;
            let (line, end, _) = line(formats, &Limits::default());
            let seed = listens.into();
            Ok((
                MediaSession::new(plan, Config::default(), end, None, seed, start, SystemTime::UNIX_EPOCH),
                line,
            ))
        };
        let ((speaker, voice), (listener, ear)) = (end(false)?, end(true)?);
        Ok(Self { sessions: [speaker, listener], lines: [voice, ear], network, start, heard: Vec::new() })
    }

    /// Says it all and hears what comes, in steps of a millisecond.
    fn run(&mut self, said: &[i16]) {
        let format = self.lines[0].formats().speaks;
        let length = said.len() as u64 * 1_000 / u64::from(format.sample_rate());
        let mut queued = 0;
        for ms in 0..length + 300 {
            queued += self.lines[0].speaking().play(&said[queued..]);
            self.step(ms);
            while let Some(heard) = self.lines[1].try_next() {
                if let Heard::Audio(frame) = heard {
                    if self.heard.is_empty() {
                        self.heard.resize(format.samples_in_millis(ms as u32), 0);
                    }
                    self.heard.extend_from_slice(&frame);
                }
            }
            while self.lines[0].try_next().is_some() {}
        }
    }

    fn step(&mut self, ms: u64) {
        let now = self.start + Duration::from_millis(ms);
        for (arrival, to_listener, mut packet) in self.network.arrived(ms) {
            let arrival = self.start + Duration::from_millis(arrival);
            let session = &mut self.sessions[usize::from(to_listener)];
            session.handle_packet(arrival, address(!to_listener), Port::Rtp, &mut packet);
        }
        let mut packet = [0; 1_500];
        for (session, to_listener) in self.sessions.iter_mut().zip([true, false]) {
            session.tick(now);
            while let Some(transmit) = session.poll_transmit(&mut packet) {
                self.network.send(ms, to_listener, &packet[..transmit.length]);
            }
        }
    }

    /// Delay in ms, kbit/s of payload, and how much of what was heard is made up.
    fn row(&self, said: &[i16]) -> Result<String, Box<dyn Error>> {
        let rate = self.lines[0].formats().speaks.sample_rate();
        let delay = delay(&resampled(said, rate, 8_000)?, &resampled(&self.heard, rate, 8_000)?);
        let MediaReport { packets_sent, bytes_sent, .. } = self.sessions[0].report();
        let MediaReport { concealed, .. } = self.sessions[1].report();
        let seconds = self.heard.len() as f64 / f64::from(rate);
        let kilobits = (bytes_sent - 12 * packets_sent) as f64 * 8.0 / 1_000.0 / seconds;
        let made_up = 100.0 * concealed.as_secs_f64() / seconds;
        Ok(format!("{delay:>10.1}{kilobits:>8.1}{made_up:>12.2}"))
    }
}

fn codecs() -> Registry {
    let mut codecs = Registry::default();
    l16::register(&mut codecs);
    codecs
}

/// What the SDP of both sides would have come to, as the speaker or the listener has it. RTCP shares the port.
fn negotiated(case: &Case, listens: bool) -> Result<Negotiated, Box<dyn Error>> {
    let far = address(!listens);
    let key =
        |octet| SrtpKey::new(CryptoSuite::AesCm128HmacSha1_80, &[octet; 30]).ok_or("a key of no length");
    let security = match case.srtp {
        true => Security::Sdes { local: key(1 + u8::from(listens))?, remote: key(2 - u8::from(listens))? },
        false => Security::Plain,
    };
    let remote_fmtp = case.fmtp.to_owned();
    Ok(Negotiated {
        remote_fmtp,
        security,
        rtcp_mux: true,
        remote_rtcp: far,
        ..Negotiated::new(case.codec, far)
    })
}

/// Documentation addresses.
fn address(listens: bool) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1 + u8::from(listens)], 4_000))
}

/// How much later what was said is heard, in ms: the mean over loud windows of 400 ms of where they are found best.
fn delay(said: &[i16], heard: &[i16]) -> f64 {
    const WINDOW: usize = 3_200;
    const LATEST: usize = 2_400;
    let mut found = Vec::new();
    for (n, window) in said.chunks_exact(WINDOW).enumerate() {
        let Some(later) = heard.get(n * WINDOW..(n + 1) * WINDOW + LATEST) else { break };
        if product(window, window) > 1_000.0_f64.powi(2) * WINDOW as f64 {
            let alike = |lag: usize| {
                let heard = &later[lag..lag + WINDOW];
                product(window, heard) / (product(heard, heard) + 1.0).sqrt()
            };
            let best = (0..=LATEST).map(|lag| (alike(lag), lag)).max_by(|a, b| a.0.total_cmp(&b.0));
            found.extend(best.map(|(_, lag)| lag as f64 / 8.0));
        }
    }
    found.iter().sum::<f64>() / found.len().max(1) as f64
}

fn product(a: &[i16], b: &[i16]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| i64::from(a) * i64::from(b)).sum::<i64>() as f64
}
