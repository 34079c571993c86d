//! Resampling of one frame of 20 ms for the pairs between a telephone line and an AI service, beside the resampler of
//! `audio-codec` and, with feature `native`, speexdsp (quality 3, the one that telephony takes, and 5), soxr (high
//! quality, which delays by tens of milliseconds) and libswresample as it comes; in one run and in turn.
//!
//! ```text
//! cargo bench --features native --bench resample
//! ```
#![allow(clippy::unwrap_used)] // A bench.

use std::hint::black_box;

use audio_codec::BoxedResampler as AudioCodec;
use iqra_benches_published::Race;
#[cfg(feature = "native")]
use iqra_benches_published::native;
use iqra_media::pcm::Resampler;

const PAIRS: [(&str, u32, u32); 8] = [
    ("8 to 16 kHz", 8_000, 16_000),
    ("8 to 24 kHz", 8_000, 24_000),
    ("8 to 48 kHz", 8_000, 48_000),
    ("16 to 24 kHz", 16_000, 24_000),
    ("16 to 8 kHz", 16_000, 8_000),
    ("24 to 8 kHz", 24_000, 8_000),
    ("48 to 8 kHz", 48_000, 8_000),
    ("48 to 16 kHz", 48_000, 16_000),
];

fn main() {
    for (title, from, to) in PAIRS {
        pair(title, from, to);
    }
}

fn pair(title: &'static str, from: u32, to: u32) {
    let input: Vec<i16> = (0..from / 50).map(|n| ((f64::from(n) * 0.3).sin() * 8_000.0) as i16).collect();
    let input = &input[..];
    let mut race = Race::new(title, 101, 500);
    let (mut resampler, mut out) = (Resampler::new(from, to).unwrap(), Vec::with_capacity(1_000));
    race.add("iqra-media", move || {
        out.clear();
        resampler.process(black_box(input), black_box(&mut out));
    });
    let mut resampler = AudioCodec::new(from as usize, to as usize).unwrap();
    race.add("audio-codec", move || resampler.resample(black_box(input)));
    #[cfg(feature = "native")]
    for (name, mut resampler) in [
        ("speexdsp, quality 3", native::Resampler::speexdsp(from, to, 3)),
        ("speexdsp, quality 5", native::Resampler::speexdsp(from, to, 5)),
        ("soxr, high quality", native::Resampler::soxr(from, to)),
        ("libswresample", native::Resampler::swresample(from, to)),
    ] {
        let mut out = [0; 2_000];
        race.add(name, move || resampler.process(black_box(input), black_box(&mut out)));
    }
    race.run();
}
