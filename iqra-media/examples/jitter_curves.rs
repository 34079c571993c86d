//! What a jittery network does to delay and speech: the adaptive buffer with its stretching, and a buffer of fixed
//! 40 ms, for 0 to 100 ms of even jitter and for a Wi-Fi that stalls twenty times a minute.
//!
//! Run: `cargo run --release -p iqra-media --example jitter_curves` (a hum of 20 s), or with a mono WAV file, and then a
//! folder to write what was heard. See docs/quality.md.
#![allow(clippy::print_stdout)] // the result of a program

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use iqra_media::jitter::conceal::Concealer;
use iqra_media::jitter::stretch::Stretch;
use iqra_media::jitter::{Adjustment, Buffer, Config, Counts, Frame};
use iqra_media::pcm::tone::Tone;
use iqra_media::pcm::wav::{self, Wav};
use iqra_media::rtp::reception::Position;

const PACKET: u64 = 20;
const JITTER_MS: [u64; 7] = [0, 10, 20, 40, 60, 80, 100];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (rate, speech) = match arguments.next() {
        Some(path) => {
            let file = wav::read(path)?;
            (file.sample_rate, file.into_mono())
        }
        None => {
            let mut hum = vec![0; 8000 * 20];
            Tone::new(150.0, 8000, 8000).fill(&mut hum);
            (8000, hum)
        }
    };
    let folder = arguments.next();
    println!(
        "{:12}{:>9}{:>9}{:>8}{:>8}{:>9}{:>9}",
        "network", "buffer", "delay", "late %", "lost %", "longer", "shorter"
    );
    for stalls in [false, true] {
        for jitter in JITTER_MS {
            let kind = if stalls { "stalls" } else { "even" };
            for (name, config) in
                [("adaptive", Config { clock_rate: rate, ..Config::default() }), ("fixed", fixed(rate))]
            {
                let mut listener = Listener::new(config);
                listener.run(&speech, jitter, stalls);
                println!("{:12}{name:>9}{}", format!("{kind} {jitter} ms"), listener.row());
                if let Some(folder) = &folder {
                    let heard = Wav { sample_rate: rate, channels: 1, samples: listener.heard };
                    wav::write(folder.join(format!("{name}-{kind}-{jitter}.wav")), &heard)?;
                }
            }
        }
    }
    Ok(())
}

fn fixed(clock_rate: u32) -> Config {
    let delay = Duration::from_millis(40);
    Config { clock_rate, initial: delay, min: delay, max: delay, ..Config::default() }
}

struct Listener {
    buffer: Buffer,
    concealer: Concealer,
    stretch: Stretch,
    adapts: bool,
    rate: u32,
    heard: Vec<i16>,
    delays: Vec<f64>,
}

impl Listener {
    fn new(config: Config) -> Self {
        Self {
            buffer: Buffer::new(config, Instant::now()),
            concealer: Concealer::new(config.clock_rate),
            stretch: Stretch::new(config.clock_rate),
            adapts: config.min < config.max,
            rate: config.clock_rate,
            heard: Vec::new(),
            delays: Vec::new(),
        }
    }

    /// Sends the speech over the network and hears it, in steps of a millisecond.
    fn run(&mut self, speech: &[i16], jitter: u64, stalls: bool) {
        let start = Instant::now();
        let mut random = fastrand::Rng::with_seed(4);
        let length = (self.rate as u64 * PACKET / 1000) as usize;
        let mut stalled = 0;
        let mut network = Vec::new();
        for (n, frame) in speech.chunks_exact(length).enumerate() {
            let sent = n as u64 * PACKET;
            if stalls && random.f64() < 20.0 / 3000.0 {
                stalled = sent + jitter;
            }
            let arrival = if stalls { sent.max(stalled) } else { sent + random.u64(0..=jitter) };
            network.push((arrival, n, frame));
        }
        network.sort_by_key(|&(arrival, n, _)| (arrival, n));
        let mut network = network.into_iter().peekable();
        for ms in 0..(speech.len() / length) as u64 * PACKET + 200 {
            let now = start + Duration::from_millis(ms);
            while let Some((_, n, frame)) = network.next_if(|&(arrival, ..)| arrival <= ms) {
                let payload: Vec<u8> = frame.iter().flat_map(|sample| sample.to_le_bytes()).collect();
                let position = Position { sequence: 1000 + n as u64, timestamp: (n * length) as u64 };
                self.buffer.push(now, position, length as u32, &payload);
            }
            self.play(now);
        }
    }

    fn play(&mut self, now: Instant) {
        let mut pcm = Vec::new();
        while let Some(frame) = self.buffer.pop(now) {
            pcm.clear();
            let mut wanted = Adjustment::Keep;
            match frame {
                Frame::Audio { payload, .. } => {
                    pcm.extend(payload.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])));
                    self.concealer.heard(&mut pcm);
                    self.delays.push(self.buffer.delay().as_secs_f64() * 1000.0);
                    if self.adapts {
                        wanted = self.buffer.adjustment();
                    }
                }
                Frame::Lost { samples } | Frame::Dry { samples } => {
                    pcm.resize(samples as usize, 0);
                    self.concealer.conceal(&mut pcm);
                }
                Frame::Silence { samples } => {
                    pcm.resize(samples as usize, 0);
                    self.concealer.reset();
                }
            }
            self.buffer.adjusted(self.stretch.process(&mut pcm, wanted));
            self.heard.extend_from_slice(&pcm);
        }
    }

    /// Mean wait in the buffer in ms, packets late and frames concealed of 100, ms put in and taken out.
    fn row(&self) -> String {
        let Counts { late, lost, dropped, stretched, shortened, .. } = self.buffer.counts();
        let packets = (self.delays.len() as u64 + late + dropped).max(1) as f64;
        let mean = self.delays.iter().sum::<f64>() / self.delays.len().max(1) as f64;
        let share = |count: u64| 100.0 * count as f64 / packets;
        let (late, lost) = (share(late + dropped), share(lost));
        format!("{mean:>9.1}{late:>8.2}{lost:>8.2}{:>9}{:>9}", stretched.as_millis(), shortened.as_millis())
    }
}
