//! What must hold of every decoder for any octets. Shared by the fuzz targets, which choose the octets, and by the
//! property tests.
#![allow(dead_code)] // Each user runs some of it.

use iqra_media::codec::{CodecError, CodecSpec, Decoder, Registry, Settings, comfort_noise, g722, l16};

/// Samples of 120 ms of stereo at 48 kHz, and of the longest payload there is.
const ROOM: usize = 11_520;
const UNTOUCHED: i16 = -12_345;

/// All codecs of this build.
pub(crate) fn registry() -> Registry {
    let mut registry = Registry::default();
    l16::register(&mut registry);
    registry
}

/// The first octet chooses the decoder, the rest are steps: packets, losses, copies, restarts.
pub(crate) fn decoders(data: &[u8]) {
    let Some((&choice, mut steps)) = data.split_first() else { return };
    let mut decoder = chosen(choice);
    let mut noise = comfort_noise::Generator::new();
    let mut out = vec![UNTOUCHED; ROOM];
    while let [step, length, rest @ ..] = steps {
        let (payload, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        steps = rest;
        out.fill(UNTOUCHED);
        match step % 8 {
            0..4 => packet(&mut *decoder, payload, &mut out),
            4 => gap(&mut out[..8 * usize::from(*length)], |gap| decoder.conceal(gap)),
            5 => gap(&mut out[..960], |gap| decoder.recover(payload, gap)),
            6 => decoder.reset(),
            _ => {
                noise.describe(payload);
                noise.fill(&mut out[..160]);
            }
        }
    }
}

fn chosen(choice: u8) -> Box<dyn Decoder> {
    let registry = registry();
    let specs = registry.specs();
    let index = usize::from(choice) % (specs.len() + 2);
    let Some(spec) = specs.get(index) else {
        let mode = if index == specs.len() { g722::Mode::Kbit56 } else { g722::Mode::Kbit48 };
        return Box::new(g722::G722Decoder::new(mode));
    };
    let sample_rate = [8_000, 16_000, 24_000, 48_000][usize::from(choice >> 5 & 3)];
    let settings = Settings { sample_rate, channels: 1 + (choice >> 7), ..Settings::default() };
    registry.decoder(spec, &settings).expect("what is registered can be made")
}

/// What is decoded lasts as long as was said, and what is not sound is an error.
fn packet(decoder: &mut dyn Decoder, payload: &[u8], out: &mut [i16]) {
    let expected = samples(decoder.spec(), decoder.duration(payload));
    if expected > out.len() {
        return;
    }
    match decoder.decode(payload, out) {
        Ok(decoded) => assert_eq!(decoded, expected, "{:?}", decoder.spec()),
        Err(CodecError::Malformed { .. }) => {}
        Err(other) => panic!("{other}"),
    }
    assert!(out[expected..].iter().all(|&s| s == UNTOUCHED), "wrote beyond {expected}");
}

fn samples(spec: CodecSpec, units: u32) -> usize {
    (u64::from(units) * u64::from(spec.sample_rate) / u64::from(spec.clock_rate)) as usize
        * usize::from(spec.channels)
}

fn gap(out: &mut [i16], fill: impl FnOnce(&mut [i16]) -> bool) {
    if !fill(out) {
        assert!(out.iter().all(|&s| s == UNTOUCHED), "a gap that was not filled was written to");
    }
}
