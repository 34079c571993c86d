//! Speech of a synthesiser (24 kHz) on its way to a telephone and back: resample, G.711, and how good it still is.
//!
//! Run: `cargo run -p iqra-media --example g711`. Expected:
//! ```text
//! 500 ms at 24000 Hz are 4000 samples at 8000 Hz
//! PCMU: 25 packets of 160 bytes, the 1000 Hz tone at 100 % of its level, purity 1.000
//! PCMA: 25 packets of 160 bytes, the 1000 Hz tone at 100 % of its level, purity 1.000
//! ```
#![allow(clippy::print_stdout)] // What it prints is what it is for.

use iqra_media::codec::{CodecSpec, Registry, Settings, g711};
use iqra_media::detect::goertzel::{amplitude, purity};
use iqra_media::pcm::Resampler;
use iqra_media::pcm::tone::Tone;

const FRAME_MS: u32 = 20;
const LEVEL: i16 = 10_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut spoken = vec![0; 12_000];
    Tone::new(1000.0, 24_000, LEVEL).fill(&mut spoken);

    // Frames of any length go in; the filter's state is kept between them.
    let mut resampler = Resampler::new(24_000, 8_000)?;
    let mut telephone = Vec::new();
    for frame in spoken.chunks(480) {
        resampler.process(frame, &mut telephone);
    }
    println!("500 ms at 24000 Hz are {} samples at 8000 Hz", telephone.len());

    // Every codec of the registry behind the same two traits.
    let mut registry = Registry::empty();
    g711::register(&mut registry);
    for spec in registry.specs() {
        let (heard, packets) = through(&registry, &spec, &telephone)?;
        let settled = &heard[160..];
        println!(
            "{}: {packets} packets of {} bytes, the 1000 Hz tone at {:.0} % of its level, purity {:.3}",
            spec.name,
            spec.samples(FRAME_MS),
            amplitude(settled, 8_000, 1000.0) / f64::from(LEVEL) * 100.0,
            purity(settled, 8_000, 1000.0),
        );
    }
    Ok(())
}

/// Encodes and decodes frame by frame, into buffers that are ours.
fn through(
    registry: &Registry,
    spec: &CodecSpec,
    pcm: &[i16],
) -> Result<(Vec<i16>, usize), iqra_media::codec::CodecError> {
    let settings = Settings::default();
    let (mut encoder, mut decoder) = (registry.encoder(spec, &settings)?, registry.decoder(spec, &settings)?);
    let (mut payload, mut decoded) = ([0; 160], [0; 160]);
    let (mut heard, mut packets) = (Vec::new(), 0);
    for frame in pcm.chunks(spec.samples(FRAME_MS)) {
        let bytes = encoder.encode(frame, &mut payload)?;
        let samples = decoder.decode(&payload[..bytes], &mut decoded)?;
        heard.extend_from_slice(&decoded[..samples]);
        packets += 1;
    }
    Ok((heard, packets))
}
