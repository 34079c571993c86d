//! Codecs behind their traits, per frame of 20 ms: G.722, L16, Opus both ways, and comfort noise. Prints samples per
//! second. Beside other libraries: `benches/published`.
//!
//! ```text
//! cargo bench -p iqra-benches --bench codecs
//! ```

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use iqra_media::codec::{CodecSpec, Decoder, Encoder, Registry, Settings, comfort_noise, g722, l16, opus};

/// Codecs with the rate that the conversation works at.
const CODECS: [(&str, CodecSpec, u32); 5] = [
    ("G722", g722::G722, 16_000),
    ("L16 at 16 kHz", l16::HZ_16000, 16_000),
    ("Opus at 8 kHz", opus::OPUS, 8_000),
    ("Opus at 16 kHz", opus::OPUS, 16_000),
    ("Opus at 48 kHz", opus::OPUS, 48_000),
];
/// Frames that are gone through in turn.
const FRAMES: usize = 50;

fn main() {
    divan::main();
}

fn made(name: &str) -> (Box<dyn Encoder>, Box<dyn Decoder>) {
    let &(_, spec, sample_rate) = CODECS.iter().find(|(known, ..)| *known == name).expect("a listed codec");
    let mut registry = Registry::default();
    l16::register(&mut registry);
    let settings = Settings { sample_rate, ..Settings::default() };
    let encoder = registry.encoder(&spec, &settings).expect("an encoder");
    (encoder, registry.decoder(&spec, &settings).expect("a decoder"))
}

/// A second of a pitch that glides, with overtones.
fn voice(rate: u32) -> Vec<i16> {
    let sample = |n: u32| {
        let t = f64::from(n) / f64::from(rate);
        let phase = std::f64::consts::TAU * (120.0 * t + 15.0 * t * t);
        let tone: f64 = (1..20).map(|h| (phase * f64::from(h)).sin() / f64::from(h)).sum();
        (tone * (1.2 - (t * 25.0).cos()) * 4_000.0) as i16
    };
    (0..rate).map(sample).collect()
}

fn names() -> [&'static str; 5] {
    CODECS.map(|(name, ..)| name)
}

#[divan::bench(args = names())]
fn encode(bencher: Bencher<'_, '_>, name: &str) {
    let (mut encoder, _) = made(name);
    let (pcm, frame) = (voice(encoder.spec().sample_rate), encoder.spec().samples(20));
    let (mut out, mut at) = ([0; 2_000], 0);
    bencher.counter(ItemsCount::new(frame)).bench_local(|| {
        at = (at + 1) % FRAMES;
        encoder.encode(black_box(&pcm[at * frame..][..frame]), black_box(&mut out))
    });
}

#[divan::bench(args = names())]
fn decode(bencher: Bencher<'_, '_>, name: &str) {
    let (mut encoder, mut decoder) = made(name);
    let pcm = voice(encoder.spec().sample_rate);
    let mut octets = [0; 2_000];
    let frames = pcm.chunks(encoder.spec().samples(20));
    let packets: Vec<Vec<u8>> = frames
        .map(|frame| encoder.encode(frame, &mut octets).map(|length| octets[..length].to_vec()))
        .collect::<Result<_, _>>()
        .expect("a frame of 20 ms");
    let (mut out, mut at) = (vec![0; decoder.spec().samples(20)], 0);
    bencher.counter(ItemsCount::new(out.len())).bench_local(|| {
        at = (at + 1) % FRAMES;
        decoder.decode(black_box(&packets[at]), black_box(&mut out))
    });
}

#[divan::bench]
fn noise(bencher: Bencher<'_, '_>) {
    let (mut generator, mut out) = (comfort_noise::Generator::new(), [0; 160]);
    generator.describe(&[40, 100, 150, 127, 130]);
    bencher.counter(ItemsCount::new(out.len())).bench_local(|| generator.fill(black_box(&mut out)));
}
